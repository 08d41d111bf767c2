//! What nodes, pods and containers use: what an agent measures, and the port to all agents.
//!
//! Why a port of its own and not objects: what changes every few seconds for every container
//! has no place in a replicated log. Whoever wants to know asks the nodes, and what a node
//! does not tell is not known.
//! Invariant: a reader gives nothing that is older than a node's own bound.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What something uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// CPU, in thousand-millionths of a processor.
    pub cpu_nano: u64,
    /// Memory that the kernel could not just take back.
    pub memory_bytes: u64,
}

/// When that was, and over how long CPU time was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Measured {
    /// By the node's clock.
    pub time: Timestamp,
    pub window_ms: u64,
}

/// A node as a whole, with what is no pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeUsage {
    #[serde(flatten)]
    pub measured: Measured,
    pub usage: Usage,
}

/// A pod's containers that run and were measured twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodUsage {
    pub uid: String,
    #[serde(flatten)]
    pub measured: Measured,
    pub containers: BTreeMap<String, Usage>,
}

/// All that a node tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    pub node: Option<NodeUsage>,
    pub pods: Vec<PodUsage>,
}

/// Asks nodes.
#[async_trait]
pub trait UsageReader: Send + Sync + std::fmt::Debug + 'static {
    /// The reports of those nodes that answer, by name.
    async fn reports(&self, nodes: &[String]) -> BTreeMap<String, Arc<NodeReport>>;
}

pub type SharedUsage = Arc<dyn UsageReader>;
