//! A node that only runs pods: no member, no API of its own, no registry.
//!
//! ```text
//!  agent, network ──► API of any control node      engine ──► registry of one that answers
//!  control nodes  ──► health, pod logs, commands in pods, their ports: here
//! ```
//! Invariant: holds nothing that the cluster could lose; what it needs to go on without
//! the API, agent and network keep on this disk.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::Node;

use super::config;
use super::control_nodes::{ControlNodes, node_api, registries};
use super::node::{NodeError, agent_routes, bind, http_client, pods, start_listener};
use super::pod_logs;
use super::remote_images::RemoteImages;
use super::renewal::Renewal;
use super::supervise::Supervisor;
use crate::agent::Agent;
use crate::api::kube::{LogOptions, LogStream, WorkerServices, worker_router};
use crate::base::chain::chain;
use crate::base::limits::SHUTDOWN_DEADLINE;
use crate::client::{ResourceRef, SharedApi};
use crate::install::remote::HttpsRemote;
use crate::model::node_config::NodeConfig;
use crate::model::status::Status;
use crate::sys::tls::TlsIdentity;

const NODES: ResourceRef = ResourceRef::of::<Node>(false);
/// How long the API may take to say whether this node is ready.
const READY_DEADLINE: Duration = Duration::from_secs(3);

/// Runs it until `stop` resolves.
pub(super) async fn run(
    config: Arc<NodeConfig>,
    stop: impl Future<Output = ()>,
) -> Result<(), NodeError> {
    let mut supervisor = Supervisor::default();
    let identity = TlsIdentity::load(config::tls_files(&config))?;
    let renewal = Renewal {
        config: config.clone(),
        identity: identity.clone(),
        remote: Arc::new(HttpsRemote),
    };
    supervisor.start("certificates", move |cancel| renewal.run(cancel));
    let api = node_api(&config, &identity)?;
    let http = http_client(&identity)?;
    let registries = Arc::new(ArcSwap::from_pointee(registries(&config)));
    let images = RemoteImages { http, registries: registries.clone() };
    let following = ControlNodes { config: config.clone(), api: api.clone(), registries };
    supervisor.start("control nodes", move |cancel| following.run(cancel));
    let api: SharedApi = Arc::new(api);
    let pods = pods(&config, api.clone(), Arc::new(images))?;
    let any = std::net::Ipv4Addr::UNSPECIFIED.into();
    let socket = bind("health and logs", SocketAddr::new(any, config.ports.api)).await?;
    let services = Services { node_name: config.node_name.clone(), api, agent: pods.agent.clone() };
    let router = worker_router(Arc::new(services)).merge(agent_routes(pods.agent.clone()));
    start_listener(&mut supervisor, "health and logs", socket, identity.server()?, router);
    pods.start(&mut supervisor);
    Ok(supervisor.run(stop, SHUTDOWN_DEADLINE).await?)
}

/// What others ask of this node.
#[derive(Debug)]
struct Services {
    node_name: String,
    api: SharedApi,
    agent: Arc<Agent>,
}

#[async_trait]
impl WorkerServices for Services {
    /// As the cluster sees it: this node has reported, and is fit.
    async fn ready(&self) -> Result<(), String> {
        let ask = self.api.get(&NODES, None, &self.node_name);
        let node = tokio::time::timeout(READY_DEADLINE, ask)
            .await
            .map_err(|_| "no control node answers in time".to_owned())?
            .map_err(|error| chain(&error))?;
        let conditions = node.pointer("/status/conditions").and_then(|all| all.as_array());
        let ready = conditions.into_iter().flatten().find(|one| one["type"] == "Ready");
        match ready {
            Some(ready) if ready["status"] == "True" => Ok(()),
            Some(ready) => Err(ready["message"].as_str().unwrap_or("not ready").to_owned()),
            None => Err("the node has not reported yet".to_owned()),
        }
    }

    async fn log(
        &self,
        namespace: &str,
        pod: &str,
        options: LogOptions,
    ) -> Result<LogStream, Status> {
        pod_logs::local(&self.agent, namespace, pod, options).await
    }
}
