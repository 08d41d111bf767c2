//! The Raft log: entries, vote, commit mark and the member's identity, durable.
//!
//! ```text
//!  Raft ──append/vote/truncate/purge──► LogStore ──one queue──► owner task
//!                                          │                       │ one commit, one fsync
//!            reads: recent entries ◄───────┘                       ▼
//!                   from memory, older ones from the ──────────► LogFile (log.redb)
//! ```
//!
//! Why one queue: Raft needs its writes in order, votes among the entries; a queue keeps
//! the order and lets one fsync carry all that waits.
//! Invariants: nothing is acknowledged before the commit that holds it has returned; the
//! log has no hole; after a failed commit nothing is ever acknowledged again.

mod owner;
mod redb_log;
mod storage;

use std::fmt::Debug;

pub(crate) use owner::LogStore;
pub(crate) use redb_log::{Identity, LOG_FILE, RedbLog};

use crate::base::ids::{ClusterId, Generation, MemberId};
use crate::store::codec::CodecError;
use crate::store::types::{Entry, LogId, Vote};

/// Why the log cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("cannot open the log")]
    Open(#[source] redb::DatabaseError),
    #[error("cannot {action} the log")]
    Access {
        action: &'static str,
        #[source]
        source: redb::Error,
    },
    #[error("cannot decode {what} in the log")]
    Decode {
        what: String,
        #[source]
        source: CodecError,
    },
    #[error("the log belongs to {what} {found}, but this member is configured as {expected}")]
    Foreign { what: &'static str, found: String, expected: String },
}

/// Who the member is configured to be; checked against what the log says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    pub(crate) cluster: ClusterId,
    pub(crate) generation: Generation,
    pub(crate) member: MemberId,
}

/// What the log holds when it is opened.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogHead {
    pub(crate) vote: Option<Vote>,
    pub(crate) committed: Option<LogId>,
    pub(crate) purged: Option<LogId>,
    /// The last entry, or the purge mark if there is none.
    pub(crate) last: Option<LogId>,
}

/// One change; a batch of them is made durable at once and in order.
#[derive(Clone, Debug)]
pub(crate) enum LogChange {
    Append {
        index: u64,
        record: Vec<u8>,
    },
    /// Removes this entry and all after it.
    TruncateFrom(u64),
    /// Removes this entry and all before it.
    Purge(LogId),
    Vote(Vote),
    Committed(Option<LogId>),
}

/// Durable storage of the log; a segment log can take redb's place.
pub(crate) trait LogFile: Send + Sync + Debug + 'static {
    fn head(&self) -> Result<LogHead, LogError>;

    /// Durable when it returns.
    fn commit(&self, changes: &[LogChange]) -> Result<(), LogError>;

    /// The entries of `from..to` that exist.
    fn read(&self, from: u64, to: u64) -> Result<Vec<Entry>, LogError>;
}
