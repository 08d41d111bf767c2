//! The Raft log: entries, vote, commit mark and the member's identity, durable.
//!
//! ```text
//!  Raft ──append/vote/truncate/purge──► LogStore ──one queue──► owner task
//!                                          │                       │ one commit, one fsync
//!            reads: recent entries ◄───────┘                       ▼
//!                   from memory, older ones from the ──────────► LogFile (segments)
//! ```
//!
//! Why one queue: Raft needs its writes in order, votes among the entries; a queue keeps
//! the order and lets one fsync carry all that waits.
//! Invariants: nothing is acknowledged before the commit that holds it has returned; the
//! log has no hole; after a failed commit nothing is ever acknowledged again.

mod frame;
mod head;
mod identity;
mod noted_starts;
mod owner;
mod scan;
mod segment_log;
mod storage;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::io;

use bytes::Bytes;
pub(crate) use identity::{Claim, Identity};
pub(crate) use noted_starts::NotedStarts;
pub(crate) use owner::LogStore;
pub(crate) use segment_log::SegmentLog;
use serde::{Deserialize, Serialize};

use crate::store::codec::CodecError;
use crate::store::types::{Entry, LogId, Vote};

/// Why the log cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("cannot {action} the log")]
    Access {
        action: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("cannot decode {what} of the log")]
    Decode {
        what: String,
        #[source]
        source: CodecError,
    },
    /// What was whole once is not any more, so the member has forgotten what it
    /// acknowledged.
    #[error(
        "the log is damaged: {what}; this member may have forgotten what it acknowledged and \
         must rejoin under a new id"
    )]
    Damaged { what: String },
    #[error("the log is in use by another process")]
    InUse,
    #[error("the log belongs to {what} {found}, but this member is configured as {expected}")]
    Foreign { what: &'static str, found: String, expected: String },
}

fn access(action: &'static str) -> impl FnOnce(io::Error) -> LogError {
    move |source| LogError::Access { action, source }
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

/// The single values of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Marks {
    pub(crate) vote: Option<Vote>,
    pub(crate) committed: Option<LogId>,
    pub(crate) purged: Option<LogId>,
}

/// One change; a batch of them is made durable at once and in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum LogChange {
    Append {
        index: u64,
        record: Bytes,
    },
    /// Removes this entry and all after it.
    TruncateFrom(u64),
    /// Removes this entry and all before it.
    Purge(LogId),
    Vote(Vote),
    Committed(Option<LogId>),
    /// Repeats all marks at the start of a segment.
    Marks(Marks),
}

impl LogChange {
    /// About how many bytes it takes.
    fn bytes(&self) -> usize {
        match self {
            LogChange::Append { record, .. } => record.len() + 32,
            _ => 64,
        }
    }

    /// What the index needs of it.
    fn without_record(&self) -> Self {
        match self {
            LogChange::Append { index, .. } => {
                LogChange::Append { index: *index, record: Bytes::new() }
            }
            change => change.clone(),
        }
    }
}

/// Durable storage of the log.
pub(crate) trait LogFile: Send + Sync + Debug + 'static {
    fn head(&self) -> Result<LogHead, LogError>;

    /// Durable when it returns; true if there is something to tidy.
    fn commit(&self, changes: Vec<LogChange>) -> Result<bool, LogError>;

    /// Gives up what was purged and makes ready what the next commits need. May take long
    /// and goes on beside commits; an error is as fatal as a commit's.
    fn tidy(&self) -> Result<(), LogError>;

    /// The entries of `from..to` that exist.
    fn read(&self, from: u64, to: u64) -> Result<Vec<Entry>, LogError>;

    /// Bytes that it takes on disk.
    fn bytes(&self) -> u64;
}
