//! What every part of the agent shares.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::account_tokens::AccountTokens;
use super::events::EventSink;
use super::ports::{ImageSource, PodNetwork};
use super::pressure_board::PressureBoard;
use super::references::References;
use super::usage_board::UsageBoard;
use crate::client::api::SharedApi;
use crate::engine::Engine;
use crate::model::node_config::NodeConfig;
use crate::sys::host_facts::HostFacts;

/// How the agent runs.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    pub node: NodeConfig,
    /// Cgroup that holds all pods, e.g. `/holdfast-a1/pods`; `None` takes the engine's.
    pub cgroup_parent: Option<String>,
    /// The host's resolver file, for pods with `dnsPolicy: Default`.
    pub host_resolv_conf: PathBuf,
}

impl AgentConfig {
    /// The defaults for a node.
    pub fn new(node: NodeConfig) -> Self {
        Self { node, cgroup_parent: None, host_resolv_conf: "/etc/resolv.conf".into() }
    }

    /// Where the agent keeps its copies of API objects.
    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.node.paths.data.join("agent")
    }
}

/// One pod as the agent last saw it, for status screens that must work without the API.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalPod {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub phase: String,
    pub pod_ip: Option<String>,
    pub ready: bool,
    /// Sum over its containers.
    pub restarts: u32,
    /// The pod is being ended.
    pub ending: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Context {
    pub config: AgentConfig,
    pub api: SharedApi,
    pub engine: Arc<dyn Engine>,
    pub network: Arc<dyn PodNetwork>,
    pub images: Arc<dyn ImageSource>,
    pub events: EventSink,
    pub references: References,
    pub tokens: AccountTokens,
    pub http: reqwest::Client,
    pub host: HostFacts,
    pub local: Mutex<BTreeMap<String, LocalPod>>,
    pub usage: UsageBoard,
    pub pressure: PressureBoard,
}

impl Context {
    pub(crate) fn node_name(&self) -> &str {
        &self.config.node.node_name
    }

    pub(crate) fn host_ip(&self) -> String {
        self.config.node.address.to_string()
    }

    pub(crate) fn note_local(&self, pod: LocalPod) {
        let mut local = self.local.lock().unwrap_or_else(PoisonError::into_inner);
        local.insert(pod.uid.clone(), pod);
    }

    pub(crate) fn forget_local(&self, uid: &str) {
        self.local.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
        self.tokens.forget(uid);
        self.pressure.forget(uid);
    }
}
