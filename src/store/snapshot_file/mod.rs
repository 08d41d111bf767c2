//! A snapshot as a file: a consistent view of the state that outlives the cluster.
//!
//! ```text
//!  0 magic "HFSNAP\0\x01"    8 header's length u32    12 header, JSON
//!  then one zstd stream of records, then SHA-256 (32 bytes) of all before it
//!
//!  record:  1 │ key │ create i64 │ change i64 │ version i64 │ lease i64 │ value     live key
//!           2 │ table │ key │ value, JSON                    leases, users, alarms; before the keys
//!           0 │ records u64                                  the end
//!  key, value and table are a length u32 and the bytes; all numbers are little-endian.
//! ```
//!
//! Why keys in plain fields and not as the state's own records: the file must be readable
//! by releases whose state looks different.
//! Invariants: nothing of a file is used before its SHA-256 was found right; a file without
//! the end record is not whole.
//! Not here: etcd's format (`etcd`), which both sides read and write as well.

mod any;
mod etcd;
mod etcd_proto;
mod read;
mod rest;
mod write;

use std::io;

use serde::{Deserialize, Serialize};

use crate::base::ids::{ClusterId, Generation, MemberId};
use crate::model::kv::Revision;

pub use any::{AnySnapshot, LiveRecords};
pub use etcd::EtcdSnapshot;
pub(crate) use etcd::{write_etcd_db, write_etcd_snapshot};
pub use read::{Records, SnapshotFile};
pub(crate) use write::write_snapshot;

const MAGIC: [u8; 8] = *b"HFSNAP\0\x01";
const HASH_BYTES: u64 = 32;
/// Largest header, bytes; a larger length is garbage.
const HEADER_MAX_BYTES: u32 = 64 * 1024;
/// Largest key, value or name, bytes; a larger length is garbage.
const FIELD_MAX_BYTES: u32 = 256 * 1024 * 1024;
const KIND_END: u8 = 0;
const KIND_LIVE: u8 = 1;
const KIND_EXTRA: u8 = 2;

/// What a snapshot says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotHeader {
    pub cluster: ClusterId,
    pub generation: Generation,
    /// Whose state it was.
    pub member: MemberId,
    pub revision: Revision,
    /// Oldest revision that the state still had; 0 if none was compacted.
    pub compacted: Revision,
    /// The last log entry in it.
    pub term: u64,
    pub index: u64,
    /// Live keys in it.
    pub keys: u64,
    /// The program that wrote it.
    pub program: String,
}

/// What a snapshot is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotFormat {
    /// This module's own.
    Holdfast,
    /// A bbolt file with its SHA-256, as `etcdctl snapshot save` leaves it.
    Etcd,
    /// The bbolt file alone, to which etcd's protocol adds the hash itself.
    EtcdDb,
}

/// Why a snapshot cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("cannot {action} the snapshot")]
    Access {
        action: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("this is no snapshot of a store")]
    Foreign,
    #[error("the snapshot is damaged: {reason}")]
    Damaged { reason: String },
    #[error("cannot read the state for the snapshot")]
    State(#[from] crate::store::state::StateError),
}

fn access(action: &'static str) -> impl FnOnce(io::Error) -> SnapshotError {
    move |source| SnapshotError::Access { action, source }
}
