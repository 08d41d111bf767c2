//! The store's vocabulary: requests, answers and events in etcd v3's terms.
//!
//! Why etcd's: its semantics (revisions, versions, half-open ranges, compares) are what
//! every client expects, so the protocol in front is a translation and not a dialect.
//! Source: etcd API v3 (`rpc.proto`, `kv.proto`).
//!
//! Ranges: `range_end` empty means the single key; `[0]` means every key from `key` on;
//! otherwise the half-open interval `[key, range_end)`.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A point in the store's history; the first write makes revision 2, as in etcd.
pub type Revision = i64;

/// One key at one point of its history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyValue {
    pub key: Bytes,
    pub value: Bytes,
    /// Revision at which the key was last created.
    pub create_revision: Revision,
    /// Revision of the last change.
    pub mod_revision: Revision,
    /// Changes since creation; 1 after creation, 0 for a deleted key.
    pub version: i64,
    /// Attached lease, 0 for none.
    pub lease: i64,
}

/// The end of the range that holds every key starting with `prefix`.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return Bytes::from(end);
        }
    }
    Bytes::from_static(&[0])
}

/// What to read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeRequest {
    pub key: Bytes,
    pub range_end: Bytes,
    /// 0 reads the newest state; otherwise that revision's.
    pub revision: Revision,
    /// 0 is no limit.
    pub limit: i64,
    pub keys_only: bool,
    pub count_only: bool,
    /// A local read without the linearizable barrier; may be stale.
    pub serializable: bool,
    /// Order of the answer; [`SortOrder::None`] is by key, unless a target other than the
    /// key is named, which then sorts upwards (as in etcd).
    pub sort_order: SortOrder,
    pub sort_target: SortTarget,
    /// Bounds on what is answered, inclusive; 0 is no bound. `count` is not affected.
    pub min_mod_revision: Revision,
    pub max_mod_revision: Revision,
    pub min_create_revision: Revision,
    pub max_create_revision: Revision,
}

/// Direction of a sorted answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SortOrder {
    #[default]
    None,
    Ascend,
    Descend,
}

/// What an answer is sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SortTarget {
    #[default]
    Key,
    Version,
    Create,
    Mod,
    Value,
}

impl RangeRequest {
    /// Reads one key, linearizably, at the newest revision.
    pub fn key(key: impl Into<Bytes>) -> Self {
        Self { key: key.into(), ..Self::default() }
    }

    /// Reads all keys with a prefix, linearizably, at the newest revision.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let key = prefix.into();
        let range_end = prefix_end(&key);
        Self { key, range_end, ..Self::default() }
    }
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeResponse {
    /// The store's revision when the answer was made.
    pub revision: Revision,
    /// In key order.
    pub kvs: Vec<KeyValue>,
    /// Keys exist beyond `limit`.
    pub more: bool,
    /// Keys in the range, regardless of `limit`.
    pub count: i64,
}

/// How a compare relates what is stored to what is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompareOp {
    Equal,
    NotEqual,
    Greater,
    Less,
}

/// What a compare looks at. A missing key has version, revisions and lease 0; a
/// `Value` compare on a missing key is false.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompareTarget {
    Version(i64),
    CreateRevision(Revision),
    ModRevision(Revision),
    Value(Bytes),
    Lease(i64),
}

/// One guard of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compare {
    pub key: Bytes,
    /// Empty for one key; otherwise the guard must hold for every key of the range.
    pub range_end: Bytes,
    pub op: CompareOp,
    pub target: CompareTarget,
}

impl Compare {
    /// The key was last changed at exactly this revision; 0 says that it must not exist.
    pub fn mod_revision(key: impl Into<Bytes>, revision: Revision) -> Self {
        Self {
            key: key.into(),
            range_end: Bytes::new(),
            op: CompareOp::Equal,
            target: CompareTarget::ModRevision(revision),
        }
    }
}

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    Range(RangeRequest),
    Put(PutRequest),
    DeleteRange(DeleteRangeRequest),
    Txn(Box<TxnRequest>),
}

impl Op {
    pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Op::Put(PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() })
    }

    pub fn delete(key: impl Into<Bytes>) -> Self {
        Op::DeleteRange(DeleteRangeRequest { key: key.into(), ..DeleteRangeRequest::default() })
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutRequest {
    pub key: Bytes,
    pub value: Bytes,
    pub lease: i64,
    pub prev_kv: bool,
    pub ignore_value: bool,
    pub ignore_lease: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteRangeRequest {
    pub key: Bytes,
    pub range_end: Bytes,
    pub prev_kv: bool,
}

/// If all compares hold run `success`, else `failure`; one revision for all writes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxnRequest {
    pub compare: Vec<Compare>,
    pub success: Vec<Op>,
    pub failure: Vec<Op>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpResponse {
    Range(RangeResponse),
    /// `revision` is the one that the transaction makes.
    Put {
        revision: Revision,
        prev_kv: Option<KeyValue>,
    },
    /// `revision` is the one that the transaction makes, if it has written by now.
    DeleteRange {
        revision: Revision,
        deleted: i64,
        prev_kvs: Vec<KeyValue>,
    },
    Txn(Box<TxnResponse>),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxnResponse {
    /// The store's revision after the transaction; unchanged if it wrote nothing.
    pub revision: Revision,
    pub succeeded: bool,
    pub responses: Vec<OpResponse>,
}

/// What to watch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchRequest {
    pub key: Bytes,
    pub range_end: Bytes,
    /// First revision to deliver; 0 is the next change. May lie in the future.
    pub start_revision: Revision,
    pub prev_kv: bool,
    /// Leave out puts.
    pub no_put: bool,
    /// Leave out deletions.
    pub no_delete: bool,
    /// Say from time to time how far the watch is while nothing matches.
    pub progress_notify: bool,
}

impl WatchRequest {
    /// All changes to keys with a prefix, from `start_revision` on.
    pub fn prefix(prefix: impl Into<Bytes>, start_revision: Revision) -> Self {
        let key = prefix.into();
        let range_end = prefix_end(&key);
        Self { key, range_end, start_revision, progress_notify: true, ..Self::default() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    Put,
    Delete,
}

/// One change. For a deletion `kv` carries the key and the deletion's revision only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub kind: EventKind,
    pub kv: KeyValue,
    pub prev_kv: Option<KeyValue>,
}

/// What a watcher receives, in revision order, each revision whole and once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchItem {
    /// All matching events of one revision.
    Events { revision: Revision, events: Vec<Event> },
    /// Everything up to and including this revision has been delivered.
    Progress(Revision),
    /// The watch starts below what compaction kept; nothing follows.
    Compacted { compact_revision: Revision },
}

#[cfg(test)]
mod tests {
    use super::prefix_end;

    #[test]
    fn prefix_end_carries_over_0xff() {
        assert_eq!(&prefix_end(b"ab")[..], b"ac");
        assert_eq!(&prefix_end(&[b'a', 0xff])[..], b"b");
        assert_eq!(&prefix_end(&[0xff, 0xff])[..], &[0]);
    }
}
