//! Why the cluster did not do what a joiner, a node or the administrator asked.
//!
//! Invariant: each refusal says what to do about it, because it is read at night.

use jiff::Timestamp;

use crate::base::chain::chain;
use crate::logic::departure::MustStay;
use crate::model::status::Status;
use crate::pki::PkiError;
use crate::registry::RegistryError;
use crate::store::StoreError;

/// The refusal; [`JoinRefused::status`] is how the API says it.
#[derive(Debug, thiserror::Error)]
pub enum JoinRefused {
    #[error(
        "the token is not one of this cluster, or it was revoked; make one with `holdfast token \
         create` on a control node"
    )]
    TokenUnknown,
    #[error(
        "the token has been used by node {node_name}; make a new one with `holdfast token create`"
    )]
    TokenUsed { node_name: String },
    #[error("the token expired at {expired_at}; make a new one with `holdfast token create`")]
    TokenExpired { expired_at: Timestamp },
    #[error(
        "the token is for the role {allowed}, the node asks for {asked}; make one with `holdfast \
         token create --role {asked}`"
    )]
    TokenRole { allowed: &'static str, asked: &'static str },
    #[error(
        "the cluster file has no node named {node_name}; it lists {known}. For a node beside \
         these make a token with `holdfast token create --role ROLE --center CENTER`"
    )]
    NodeUnknown { node_name: String, known: String },
    #[error(
        "the cluster file gives node {node_name} the address {listed}, not {asked}; give \
         --address {listed}, or make a token that names the place with `holdfast token create \
         --role ROLE --center CENTER`"
    )]
    NodeAddress { node_name: String, listed: String, asked: String },
    #[error(
        "the cluster file gives node {node_name} other roles than it asks for; leave --role out, \
         or make a token that names the place with `holdfast token create --role ROLE --center \
         CENTER`"
    )]
    NodeRoles { node_name: String },
    #[error(
        "{node_name:?} is no name for a node: at most 63 of a-z, 0-9 and -, a letter or digit at both ends"
    )]
    NodeName { node_name: String },
    #[error("the address {address} cannot be a node's: {reason}")]
    AddressUnfit { address: String, reason: String },
    #[error("the address {address} is that of node {node_name}; give --address another one")]
    AddressTaken { address: String, node_name: String },
    #[error("the cluster has no center {center}; it has {known}")]
    CenterUnknown { center: String, known: String },
    #[error(
        "the token is for center {allowed}, but the cluster file puts node {node_name} into \
         center {listed}; make a token with `holdfast token create --center {listed}`"
    )]
    CenterOther { node_name: String, allowed: String, listed: String },
    #[error(
        "a node named {node_name} is already part of the cluster with another key. If that one \
         is lost, wiped or was reset: run `holdfast node remove {node_name}` on a control node, \
         then give this command again"
    )]
    NodeTaken { node_name: String },
    #[error(
        "the removal of node {node_name} has begun and is not finished: run `holdfast node \
         remove {node_name}` on a control node, then give this command again"
    )]
    NodeLeaving { node_name: String },
    #[error(
        "this node was removed from the cluster at {at}; run `holdfast reset`, then `holdfast \
         join` with a new token"
    )]
    NodeRemoved { at: Timestamp },
    #[error("the cluster has no node {node_name}; it has {known}")]
    NodeAbsent { node_name: String, known: String },
    #[error(
        "node {node_name} is still there: {why}. Run `holdfast reset` on it, which takes it out \
         of the cluster first; or, if it must go without, give --force"
    )]
    NodeAlive { node_name: String, why: String },
    #[error("{0}")]
    MustStay(#[source] MustStay),
    #[error(
        "node {node_name} cannot take itself out, and none of the others has done it: {reason}"
    )]
    OwnNode { node_name: String, reason: String },
    #[error(
        "the removal of node {node_name} is not finished: {step}: {reason}; give the same command \
         again"
    )]
    Unfinished { node_name: String, step: &'static str, reason: String },
    #[error("no pod range is free in center {center}; remove a node there, or use another center")]
    NoRange { center: String },
    #[error("bad request: {reason}")]
    BadRequest { reason: String },
    #[error("{reason}")]
    Forbidden { reason: String },
    #[error("the cluster has not been recorded yet; try again")]
    NotReady,
    #[error("the host holds another cluster, {found}")]
    OtherCluster { found: String },
    #[error("too many writers at once; try again")]
    Contended,
    #[error("the store holds something unreadable under {key}: {reason}")]
    Damaged { key: String, reason: String },
    #[error("the store refused")]
    Store(#[from] StoreError),
    #[error("the registry's records cannot be changed")]
    Registry(#[from] RegistryError),
    #[error("cannot sign, or keep a key")]
    Pki(#[source] PkiError),
    #[error("cannot reach the store's group: {reason}")]
    Membership { reason: String },
}

impl JoinRefused {
    /// How the API says it. `reason` is stable and what clients match on.
    pub fn status(&self) -> Status {
        let (code, reason) = match self {
            Self::TokenUnknown => (401, "TokenUnknown"),
            Self::TokenUsed { .. } => (403, "TokenUsed"),
            Self::TokenExpired { .. } => (403, "TokenExpired"),
            Self::TokenRole { .. } => (403, "TokenRole"),
            Self::NodeUnknown { .. } => (403, "NodeUnknown"),
            Self::NodeAddress { .. } => (403, "NodeAddress"),
            Self::NodeRoles { .. } => (403, "NodeRoles"),
            Self::NodeName { .. } => (400, "NodeName"),
            Self::AddressUnfit { .. } => (400, "AddressUnfit"),
            Self::AddressTaken { .. } => (409, "AddressTaken"),
            Self::CenterUnknown { .. } => (400, "CenterUnknown"),
            Self::CenterOther { .. } => (403, "CenterOther"),
            Self::NodeTaken { .. } => (409, "NodeTaken"),
            Self::NodeLeaving { .. } => (409, "NodeLeaving"),
            Self::NodeRemoved { .. } => (403, NODE_REMOVED),
            Self::NodeAbsent { .. } => (404, "NodeAbsent"),
            Self::NodeAlive { .. } => (409, "NodeAlive"),
            Self::MustStay(MustStay::NoMajority { .. }) => (503, "NoMajority"),
            Self::MustStay(MustStay::Needed { .. }) => (409, "LosesMajority"),
            Self::MustStay(MustStay::Last { .. }) => (409, "LastControlNode"),
            Self::OwnNode { .. } => (503, "OwnNode"),
            Self::Unfinished { .. } => (503, UNFINISHED),
            Self::NoRange { .. } => (409, "NoRange"),
            Self::BadRequest { .. } => (400, "BadRequest"),
            Self::Forbidden { .. } => (403, "Forbidden"),
            Self::NotReady => (503, "ServiceUnavailable"),
            Self::OtherCluster { .. } => (409, "OtherCluster"),
            Self::Contended => (503, "ServiceUnavailable"),
            Self::Damaged { .. } | Self::Pki(_) => (500, "InternalError"),
            Self::Store(_) | Self::Registry(_) | Self::Membership { .. } => {
                (503, "ServiceUnavailable")
            }
        };
        Status::failure(code, reason, chain(self))
    }
}

/// The code by which a node learns that it was removed.
pub const NODE_REMOVED: &str = "NodeRemoved";
/// The code of a removal that the same command continues.
pub const UNFINISHED: &str = "Unfinished";
