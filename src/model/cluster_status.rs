//! The answer of `holdfast status -o json` and of the status page: one stable document.
//!
//! Served by every node from what it holds itself, so it also answers without quorum;
//! `quorum` and `problems` then say so. Times are RFC 3339, sizes bytes.

use serde::{Deserialize, Serialize};

use crate::base::ids::{BootCount, ClusterId, Generation, MemberId};
use crate::model::node_config::Role;

/// The whole screen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    pub cluster: String,
    pub cluster_id: ClusterId,
    pub generation: Generation,
    /// The node whose view this is.
    pub answered_by: String,
    /// Whether a majority answered a linearizable read just now.
    pub quorum: bool,
    pub store: StoreView,
    pub members: Vec<MemberView>,
    pub nodes: Vec<NodeView>,
    pub pods: PodCounts,
    pub certificates: Vec<CertificateView>,
    pub disks: Vec<DiskView>,
    /// What an operator should look at, one sentence each; empty when all is well.
    pub problems: Vec<String>,
}

/// The answering node's own store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreView {
    pub member: Option<MemberId>,
    pub boot: BootCount,
    pub term: u64,
    pub revision: i64,
    pub committed_index: u64,
    pub applied_index: u64,
    pub log_bytes: u64,
    pub state_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberView {
    pub id: MemberId,
    pub name: String,
    pub address: String,
    pub voter: bool,
    pub leader: bool,
    /// Log entries this member is behind the leader; only the leader knows.
    pub lag_entries: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeView {
    pub name: String,
    pub center: String,
    pub roles: Vec<Role>,
    pub address: String,
    pub ready: bool,
    /// Why not, in the node's or the node controller's words.
    pub reason: String,
    pub pods: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodCounts {
    pub total: u32,
    pub ready: u32,
    pub pending: u32,
    pub failed: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateView {
    pub name: String,
    pub expires: String,
    pub days_left: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiskView {
    pub path: String,
    pub total_bytes: u64,
    pub free_bytes: u64,
}
