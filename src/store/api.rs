//! What the floors above may ask of the store, and what it asks of the one who wires it.
//!
//! Invariants: an `Ok` from [`Kv::txn`] is durable on a majority and visible to every
//! later linearizable read; an error of kind *unknown* may or may not have happened.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::quorum::QuorumLoss;
use crate::base::ids::MemberId;
use crate::model::kv::{
    RangeRequest, RangeResponse, Revision, TxnRequest, TxnResponse, WatchItem, WatchRequest,
};

/// Why the store did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// No leader could be reached in time; nothing was proposed.
    #[error("the store has no leader: {reason}")]
    NoLeader { reason: String },
    /// Too few members answer; nothing was proposed.
    #[error(transparent)]
    NoQuorum(#[from] QuorumLoss),
    /// The proposal was sent but its fate is not known; it may have been applied.
    #[error("the outcome of the write is not known: {reason}")]
    Unknown { reason: String },
    /// The revision was compacted away.
    #[error("revision {requested} has been compacted; the oldest kept is {compacted}")]
    Compacted { requested: Revision, compacted: Revision },
    /// The revision does not exist yet.
    #[error("revision {requested} is in the future; the newest is {current}")]
    Future { requested: Revision, current: Revision },
    /// The request breaks a rule of the protocol.
    #[error("bad request: {reason}")]
    BadRequest { reason: String },
    /// The leader's disk is nearly full; nothing was proposed. It ends by itself when
    /// there is space again, which takes people or deletions, so repeating is no use.
    #[error("the write was refused for want of space: {reason}")]
    NoSpace { reason: String },
    /// The others took this member out of the group; it never takes part again.
    #[error(
        "this node was removed from the cluster; run `holdfast reset`, then `holdfast join` \
         with a new token"
    )]
    Removed,
    /// The member is stopping.
    #[error("the store is shutting down")]
    ShuttingDown,
    /// The member's disk or log failed; it answers nothing any more.
    #[error("the store has failed: {reason}")]
    Fatal { reason: String },
}

impl StoreError {
    /// Whether the same request may simply be repeated.
    pub fn is_retryable(&self) -> bool {
        match self {
            StoreError::NoLeader { .. } | StoreError::NoQuorum(_) => true,
            StoreError::Unknown { .. }
            | StoreError::Compacted { .. }
            | StoreError::Future { .. }
            | StoreError::BadRequest { .. }
            | StoreError::NoSpace { .. }
            | StoreError::Removed
            | StoreError::ShuttingDown
            | StoreError::Fatal { .. } => false,
        }
    }
}

/// Reads, transactions and watches; the same on every member, wherever the leader is.
#[async_trait]
pub trait Kv: Send + Sync + std::fmt::Debug + 'static {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError>;

    /// Runs the transaction on the leader, forwarding to it if need be.
    async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, StoreError>;

    /// Forgets history below `revision`.
    async fn compact(&self, revision: Revision) -> Result<(), StoreError>;

    /// Delivers matching changes until the receiver is dropped. A slow receiver is fed
    /// from disk; it never loses an event silently.
    async fn watch(&self, request: WatchRequest) -> Result<mpsc::Receiver<WatchItem>, StoreError>;
}

/// Whom a peer message is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerTarget {
    pub member: MemberId,
    /// `host:port` of the member's peer listener.
    pub address: String,
}

/// Why a peer did not answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PeerError {
    /// Nothing was delivered.
    #[error("peer {member} at {address} is unreachable: {reason}")]
    Unreachable { member: MemberId, address: String, reason: String },
    /// It may have been delivered, but no answer came in time.
    #[error("peer {member} at {address} did not answer: {reason}")]
    NoAnswer { member: MemberId, address: String, reason: String },
}

/// Carries opaque store messages between members; wired to mTLS HTTP/2 in the product
/// and to the simulated network in tests.
#[async_trait]
pub trait PeerNetwork: Send + Sync + std::fmt::Debug + 'static {
    /// Delivers `message` to the target's `Store::receive` and brings its answer back.
    async fn call(
        &self,
        target: &PeerTarget,
        message: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, PeerError>;
}
