//! What the store keeps about the cluster itself, outside the API objects.
//!
//! ```text
//!  /holdfast/cluster          ClusterRecord
//!  /holdfast/nodes/<name>     NodeRecord
//!  /holdfast/members/next     the next member id, a JSON number
//!  /holdfast/tokens/<id>      TokenRecord
//!  /holdfast/removed/<key>    RemovedKey, by the key's fingerprint
//!  /holdfast/admin-password   PHC string (argon2id)
//! ```
//! JSON, because people read it with any etcd client when things are bad.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::base::ids::{ClusterId, Generation, MemberId};
use crate::model::cluster::Cluster;
use crate::model::node_config::Role;

pub const CLUSTER_KEY: &str = "/holdfast/cluster";
pub const NODES_PREFIX: &str = "/holdfast/nodes/";
pub const NEXT_MEMBER_KEY: &str = "/holdfast/members/next";
pub const TOKENS_PREFIX: &str = "/holdfast/tokens/";
pub const REMOVED_PREFIX: &str = "/holdfast/removed/";
pub const ADMIN_PASSWORD_KEY: &str = "/holdfast/admin-password";

/// The cluster as it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterRecord {
    pub cluster_id: ClusterId,
    pub generation: Generation,
    pub cluster: Cluster,
    pub pause_image: String,
}

/// A node that was admitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeRecord {
    pub name: String,
    pub address: IpAddr,
    pub site: String,
    pub center: String,
    pub roles: Vec<Role>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_id: Option<MemberId>,
    pub pod_range: IpNet,
    /// Of the key that the node's certificate was signed for.
    pub key_fingerprint: String,
    /// Its services have answered once and its member is part of the group.
    pub joined: bool,
    /// Its removal has begun; only the removal may go on from here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
}

/// Who used a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Redemption {
    pub node_name: String,
    pub key_fingerprint: String,
    pub at: Timestamp,
}

/// A join token without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenRecord {
    pub id: String,
    /// SHA-256 of the secret.
    pub secret_hash: String,
    pub role: Role,
    /// Admits a node that the cluster file does not list, into this center.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub center: Option<String>,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redeemed: Option<Redemption>,
}

/// What `init` hands to the store of the first node (`PUT /holdfast/v1/cluster`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterBootstrap {
    pub record: ClusterRecord,
    pub node: NodeRecord,
    /// PHC string; the plain text never leaves the host.
    pub admin_password_hash: String,
}
