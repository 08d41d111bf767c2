//! What nodes use, asked of their agents; kept for a moment, in memory.
//!
//! Why asked and not sent: nobody pays for numbers that nobody looks at, and what comes is
//! as fresh as the node has it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::StreamExt;
use tokio::time::Instant;

use super::node_address::node_address;
use crate::agent::Agent;
use crate::api::node_usage::{NodeUsages, USAGE_PATH};
use crate::base::chain::chain;
use crate::base::limits::{USAGE_ASK_DEADLINE, USAGE_ASKED_AT_ONCE, USAGE_KEPT, USAGE_MAX_BYTES};
use crate::client::usage::{NodeReport, UsageReader};
use crate::model::node_config::NodeConfig;
use crate::objects::Objects;

/// Asks all nodes, this one like any other.
#[derive(Debug)]
pub(super) struct NodesUsage {
    config: Arc<NodeConfig>,
    objects: Arc<Objects>,
    http: reqwest::Client,
    kept: Mutex<HashMap<String, (Instant, Arc<NodeReport>)>>,
}

impl NodesUsage {
    pub(super) fn new(
        config: Arc<NodeConfig>,
        objects: Arc<Objects>,
        http: reqwest::Client,
    ) -> Self {
        Self { config, objects, http, kept: Mutex::default() }
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<String, (Instant, Arc<NodeReport>)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why a node tells nothing is for the log only: to others it is the same as no usage.
    async fn ask(&self, node: &str) -> Result<NodeReport, String> {
        let address = if node == self.config.node_name {
            self.config.address.to_string()
        } else {
            node_address(&self.objects, node).await.map_err(|status| status.message)?
        };
        let url = format!("https://{address}:{}{USAGE_PATH}", self.config.ports.api);
        let asked = async {
            let mut answer = self.http.get(url).send().await?.error_for_status()?;
            let mut body = Vec::new();
            while let Some(piece) = answer.chunk().await? {
                body.extend_from_slice(&piece);
                if body.len() > USAGE_MAX_BYTES {
                    return Ok(None);
                }
            }
            Ok(Some(body))
        };
        let body = tokio::time::timeout(USAGE_ASK_DEADLINE, asked)
            .await
            .map_err(|_| "no answer in time".to_owned())?
            .map_err(|error: reqwest::Error| chain(&error))?
            .ok_or_else(|| format!("it says more than {USAGE_MAX_BYTES} bytes"))?;
        serde_json::from_slice(&body).map_err(|error| error.to_string())
    }

    async fn report(&self, node: String) -> Option<(String, Arc<NodeReport>)> {
        let held = self.kept().get(&node).cloned();
        if let Some((_, report)) = held.filter(|(at, _)| at.elapsed() < USAGE_KEPT) {
            return Some((node, report));
        }
        match self.ask(&node).await {
            Ok(report) => {
                let report = Arc::new(report);
                self.kept().insert(node.clone(), (Instant::now(), Arc::clone(&report)));
                Some((node, report))
            }
            Err(error) => {
                tracing::debug!(node, error, "a node does not tell what it uses");
                None
            }
        }
    }
}

#[async_trait]
impl UsageReader for NodesUsage {
    async fn reports(&self, nodes: &[String]) -> BTreeMap<String, Arc<NodeReport>> {
        self.kept().retain(|_, (at, _)| at.elapsed() < USAGE_KEPT);
        futures::stream::iter(nodes.to_vec())
            .map(|node| self.report(node))
            .buffer_unordered(USAGE_ASKED_AT_ONCE)
            .filter_map(std::future::ready)
            .collect()
            .await
    }
}

/// This node's own.
#[derive(Debug)]
pub(super) struct AgentUsage(pub(super) Arc<Agent>);

impl NodeUsages for AgentUsage {
    fn report(&self) -> NodeReport {
        self.0.usage()
    }
}
