//! What the cluster says of its nodes (`/holdfast/v1/nodes`), and what comes of removing one.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::base::ids::MemberId;
use crate::model::node_config::Role;

/// A member of the store as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberSeat {
    pub id: MemberId,
    pub name: String,
    /// `host:port` of the peer listener.
    pub address: String,
    pub voter: bool,
    pub leader: bool,
    /// It answered the leader a moment ago.
    pub answers: bool,
    /// Log entries behind the leader; absent for one that has not answered this leader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_entries: Option<u64>,
}

/// Where a node stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Admitted by a token; its services have not answered yet.
    Joining,
    Joined,
    /// Its removal has begun and is not finished.
    Leaving,
    /// It is in the store's group or in the API, but was never admitted, or its removal
    /// left something behind.
    Stray,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeItem {
    pub name: String,
    pub stage: Stage,
    pub roles: Vec<Role>,
    pub site: String,
    pub center: String,
    pub address: Option<IpAddr>,
    pub pod_range: Option<IpNet>,
    /// Given to control nodes when they are admitted; never given twice.
    pub member_id: Option<MemberId>,
    pub ready: bool,
    /// Why not, in the node's or the node controller's words.
    pub reason: String,
    /// Its seat in the store's group, where it has one.
    pub member: Option<MemberSeat>,
}

/// The answer of `holdfast node list -o json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeList {
    /// The node that answered.
    pub answered_by: String,
    pub nodes: Vec<NodeItem>,
}

/// What a removal did; the answer of `holdfast node remove -o json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Removed {
    pub name: String,
    /// An earlier command had done everything.
    pub already_done: bool,
    /// The ids that were taken out of the store's group; they are never used again.
    pub members: Vec<MemberId>,
    /// Pods that were deleted with it, for controllers to replace.
    pub pods: u32,
    /// Absent where an earlier command had done everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<VotersLeft>,
}

/// What a departure leaves of the store's group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VotersLeft {
    pub voters: usize,
    /// How many more of those that answer may fail before the majority is gone.
    pub tolerates: usize,
}

/// A node says that it wants to go (`POST /holdfast/v1/leave`, by its certificate).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LeaveRequest {
    pub node_name: String,
}

/// Kept for ever for the key of a node that was removed, so that its certificate, which is
/// still valid, opens nothing (`/holdfast/removed/<fingerprint>`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemovedKey {
    pub node_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_id: Option<MemberId>,
    pub at: Timestamp,
}
