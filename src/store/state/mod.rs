//! The replicated state: keys, their history, and what else every member must agree on.
//!
//! ```text
//!  apply ──► active layer (memory) ──freeze──► frozen layer ──one transaction──► state.redb
//!                 ▲                                 ▲                                ▲
//!  reads ─────────┴─────────────────────────────────┴────────────────────────────────┘
//! ```
//!
//! Why layers: an answer waits for no disk but the log's. The memory holds only what is
//! not flushed; history stays on disk.
//! Invariants: `applied` is flushed in the same transaction as what was applied; a reader
//! sees layers and file of one moment; a flush fails whole or not at all.

mod apply;
mod apply_ask;
mod check;
mod damage;
mod defragment;
mod disk_view;
mod flush;
mod hash;
mod image;
mod layer;
mod machine;
mod reader;
mod record_walk;
mod requests;
mod rest;
mod shown;
mod snapshot;
mod store;
#[cfg(test)]
mod tests;
mod timer;
mod tokens;

pub(crate) use check::{ScrubStep, StateCheck, check_pages};
pub(crate) use damage::{forget_damage, is_noted_damaged, note_damage};
pub(crate) use disk_view::DiskView;
pub(crate) use hash::{row_key, row_value};
pub(crate) use image::{Beginning, ImageMarks, begin_state};
pub(crate) use machine::Machine;
pub(crate) use reader::{Moment, Reader};
pub use rest::StateRest;
pub(crate) use snapshot::{Incoming, Row, SnapshotData, rows_after};
pub(crate) use store::{RevisionEvents, STATE_FILE, StateStore};
pub(crate) use tokens::index_of;

use crate::store::codec::CodecError;

/// Why the state cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("cannot open the state")]
    Open(#[source] redb::DatabaseError),
    #[error("cannot {action} the state")]
    Access {
        action: &'static str,
        #[source]
        source: redb::Error,
    },
    #[error("cannot decode {what} in the state")]
    Decode {
        what: &'static str,
        #[source]
        source: CodecError,
    },
    #[error("cannot {action} a state file")]
    File {
        action: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("the received snapshot is not usable: {reason}")]
    Snapshot { reason: String },
}

impl From<StateError> for std::io::Error {
    fn from(error: StateError) -> Self {
        std::io::Error::other(crate::base::chain::chain(&error))
    }
}

/// Names what was tried on the state when redb says no.
fn access<E: Into<redb::Error>>(action: &'static str) -> impl FnOnce(E) -> StateError {
    move |source| StateError::Access { action, source: source.into() }
}
