//! What a joining node and the cluster say to each other (`POST /holdfast/v1/join`).
//!
//! The token proves the right to join, the CA pin inside it proves the server; the
//! private key never leaves the joining host: it sends a certificate request.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::base::ids::{ClusterId, Generation, MemberId};
use crate::model::node_config::{ClusterNetwork, Role};
use crate::model::secret_keys::SecretKey;
use crate::model::threshold::EvictionThresholds;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JoinRequest {
    /// `<id>.<secret>` part of the token.
    pub token: String,
    pub node_name: String,
    pub address: IpAddr,
    /// Empty takes what the cluster file says for this node name.
    #[serde(default)]
    pub roles: Vec<Role>,
    /// PEM PKCS#10 request, subject ignored: the server sets names itself.
    pub certificate_request: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JoinAnswer {
    pub cluster_name: String,
    pub cluster_id: ClusterId,
    pub generation: Generation,
    pub node_name: String,
    pub site: String,
    pub center: String,
    pub roles: Vec<Role>,
    /// Set for control nodes: the id this node's store member starts with.
    pub member_id: Option<MemberId>,
    pub pod_range: IpNet,
    pub network: ClusterNetwork,
    pub servers: Vec<SocketAddr>,
    #[serde(default, skip_serializing_if = "EvictionThresholds::is_default")]
    pub eviction: EvictionThresholds,
    pub pause_image: String,
    /// PEM.
    pub ca_certificate: String,
    /// PEM; for control nodes only, because each of them must be able to admit others.
    pub ca_key: Option<String>,
    /// PEM, signed for the request's key.
    pub certificate: String,
    /// PEM pair of the cluster administrator; for control nodes only.
    pub admin_certificate: Option<String>,
    pub admin_key: Option<String>,
    /// The keys that secrets are encrypted with; for control nodes only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_keys: Option<Vec<SecretKey>>,
}

/// Asks for a new certificate for a node's key (`POST /holdfast/v1/renew`). The request proves
/// the key, so no certificate is shown: the node's own may have ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RenewRequest {
    pub node_name: String,
    /// PEM PKCS#10 request, as in [`JoinRequest`].
    pub certificate_request: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RenewAnswer {
    /// PEM, signed for the request's key.
    pub certificate: String,
}

/// A node says that its services answer (`POST /holdfast/v1/joined`, node certificate).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JoinedRequest {
    pub node_name: String,
}

/// Asks for a join token (`POST /holdfast/v1/tokens`, administrator's certificate).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenRequest {
    pub role: Role,
    /// Lets a node join that the cluster file does not list, in this center.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub center: Option<String>,
    /// Absent takes the default of one hour.
    #[serde(default)]
    pub ttl_seconds: Option<u64>,
}

/// A token as lists show it; the secret is not part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenInfo {
    pub id: String,
    pub role: Role,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub center: Option<String>,
    pub created_at: jiff::Timestamp,
    pub expires_at: jiff::Timestamp,
    /// `open`, `used by NAME`, `expired`.
    pub state: String,
}

/// A new token, shown this once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenAnswer {
    pub token: String,
    pub info: TokenInfo,
}
