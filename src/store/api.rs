//! What the floors above may ask of the store, and what it asks of the one who wires it.
//!
//! Invariants: an `Ok` from [`Kv::txn`] is durable on a majority and visible to every
//! later linearizable read; an error of kind *unknown* may or may not have happened.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::quorum_loss::QuorumLoss;
use crate::base::ids::MemberId;
use crate::model::auth::Caller;
use crate::model::kv::{
    DeleteRangeRequest, Event, KeyValue, PutRequest, RangeRequest, RangeResponse, Revision,
    TxnRequest, TxnResponse, WatchItem, WatchRequest,
};
use crate::model::refusal::Refusal;

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
    /// The request breaks a rule of the protocol or of who may do what; etcd's words.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The request can never be done, for a reason that etcd has no word for.
    #[error("bad request: {reason}")]
    BadRequest { reason: String },
    /// The leader's disk, or those of too many others, are nearly full; nothing was proposed. It ends by itself when
    /// there is space again, which takes people or deletions, so repeating is no use.
    #[error("the write was refused for want of space: {reason}")]
    NoSpace { reason: String },
    /// The commit mode waits for the remote center, which does not confirm; nothing was
    /// proposed.
    #[error("held back: {reason}")]
    HeldBack { reason: String },
    /// The value must be encrypted, and no key for that is in use yet; nothing was proposed.
    #[error("a secret cannot be encrypted yet: {reason}")]
    NoKey { reason: String },
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
            StoreError::NoLeader { .. }
            | StoreError::NoQuorum(_)
            | StoreError::HeldBack { .. }
            | StoreError::NoKey { .. } => true,
            StoreError::Unknown { .. }
            | StoreError::Compacted { .. }
            | StoreError::Future { .. }
            | StoreError::Refused(_)
            | StoreError::BadRequest { .. }
            | StoreError::NoSpace { .. }
            | StoreError::Removed
            | StoreError::ShuttingDown
            | StoreError::Fatal { .. } => false,
        }
    }
}

/// One value of whatever stands at a key, by which many watches of one range differ.
pub trait Facet: Send + Sync + std::fmt::Debug + 'static {
    /// Facets of the same name give the same values.
    fn name(&self) -> &str;

    /// The values before and after the change; `None` if that cannot be told.
    fn values(&self, event: &Event) -> Option<Vec<String>>;
}

/// What a watch needs of its range.
#[derive(Clone, Debug)]
pub struct Interest {
    pub facet: Arc<dyn Facet>,
    pub value: String,
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

    /// The same, but changes that have another value of the facet, before and after, may be
    /// left out.
    async fn watch_value(
        &self,
        request: WatchRequest,
        _interest: Interest,
    ) -> Result<mpsc::Receiver<WatchItem>, StoreError> {
        self.watch(request).await
    }
}

/// What stands in the header of every answer to an etcd client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswerHeader {
    pub cluster_id: u64,
    pub member_id: u64,
    /// This member's newest revision; an answer that names a revision itself knows better.
    pub revision: Revision,
    pub raft_term: u64,
}

/// What a put answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutAnswer {
    pub revision: Revision,
    /// Only if it was asked for.
    pub prev_kv: Option<KeyValue>,
}

/// What a deletion answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteAnswer {
    pub revision: Revision,
    pub deleted: i64,
    /// Only if they were asked for.
    pub prev_kvs: Vec<KeyValue>,
}

/// The same as [`Kv`] for etcd's clients: on somebody's behalf, with etcd's checks and
/// refusals, and with what only they need.
#[async_trait]
pub trait EtcdKv: Send + Sync + std::fmt::Debug + 'static {
    fn header(&self) -> AnswerHeader;

    async fn range_as(
        &self,
        caller: &Caller,
        request: RangeRequest,
    ) -> Result<RangeResponse, StoreError>;

    /// Answers in chunks that are all of one revision. Each chunk's `kvs` go on where the
    /// last one's ended; `count` and `more` are those of the whole answer and stand in the
    /// last chunk, the others have 0 and false. At least one chunk comes. The channel ends
    /// after the last chunk or an error.
    async fn range_stream(
        &self,
        caller: &Caller,
        request: RangeRequest,
    ) -> Result<mpsc::Receiver<Result<RangeResponse, StoreError>>, StoreError>;

    async fn put_as(&self, caller: &Caller, request: PutRequest) -> Result<PutAnswer, StoreError>;

    async fn delete_as(
        &self,
        caller: &Caller,
        request: DeleteRangeRequest,
    ) -> Result<DeleteAnswer, StoreError>;

    async fn txn_as(&self, caller: &Caller, request: TxnRequest)
    -> Result<TxnResponse, StoreError>;

    /// Forgets history below `revision`; with `physical` it returns only when this member
    /// has removed it from its disk. Answers the newest revision.
    async fn compact_as(
        &self,
        caller: &Caller,
        revision: Revision,
        physical: bool,
    ) -> Result<Revision, StoreError>;

    /// Opens a stream of watches.
    async fn watch_stream(&self, caller: &Caller) -> Result<Box<dyn WatchStream>, StoreError>;
}

/// What [`WatchStream::next`] names a note that is about all watches of the stream.
pub const WHOLE_STREAM: i64 = -1;

/// Several watches that share one way out, as in etcd's `Watch` call. Dropping it ends
/// them all.
#[async_trait]
pub trait WatchStream: Send + std::fmt::Debug {
    /// Adds a watch under an id that is not in use on this stream. Its first item comes
    /// after this returns. Refused where the caller may not read the range.
    async fn add(&mut self, id: i64, request: WatchRequest) -> Result<(), StoreError>;

    /// Ends a watch; false if there is none of this id. None of its items is returned by
    /// [`WatchStream::next`] after this.
    fn cancel(&mut self, id: i64) -> bool;

    /// Asks for one [`WatchItem::Progress`] of the [`WHOLE_STREAM`], which comes when all
    /// its watches have been given everything up to that revision, after all of it.
    fn request_progress(&mut self);

    /// The next item and the watch it is for; `None` when the member stops. Waiting for it
    /// may be given up without loss.
    async fn next(&mut self) -> Option<(i64, WatchItem)>;
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
