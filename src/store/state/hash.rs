//! Hashes of the state: etcd's HashKV, and one of everything for comparing members.
//!
//! HashKV is CRC-32C over the bucket's name `key` and then over the rows of etcd's bucket
//! in order, up to the asked revision:
//!
//! ```text
//!  row key:    revision, 8 bytes big-endian │ '_' │ number in the revision, 8 bytes │ 't' if deleted
//!  row value:  mvccpb.KeyValue: 1 key, 2 create, 3 mod, 4 version, 5 value, 6 lease; zeros left out
//! ```
//!
//! Rows at or below the compacted revision count only if they are the newest of a key that
//! lives at the asked revision. So the hash does not depend on how far compaction has come
//! to remove rows, with one exception that etcd has too: where no key lives at all, the
//! rows that are there count.
//! Source: etcd 3.6 `server/storage/mvcc/hash.go`, `key_index.go` (`keep`); 3.4 and 3.5
//! give the same hash, except where no key lives and the last deletion is at the compacted
//! revision, and refuse to hash at the compacted revision itself.

use super::disk_view::{DiskView, Marks};
use super::snapshot::{Row, rows_after};
use super::store::StateStore;
use super::{StateError, access};
use crate::logic::mvcc::{MvccError, Revisions, check_revision};
use crate::model::kv::{KeyValue, Revision};
use crate::store::codec::encode;

/// Rows of the state that are hashed at a time, bytes.
const PAGE_BYTES: usize = 1024 * 1024;

/// What was hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hashed {
    pub(crate) hash: u32,
    pub(crate) upto: Revision,
    pub(crate) revisions: Revisions,
}

impl StateStore {
    /// etcd's HashKV; `upto` 0 is the newest revision.
    pub(crate) async fn hash_kv(&self, upto: Revision) -> Result<Hashed, MvccError<StateError>> {
        // The hash is of what is in the file, so all must be in it.
        self.flush().await.map_err(MvccError::View)?;
        let view = self.view();
        self.disk_work(move || {
            let Marks { revision: current, compacted, .. } = view.marks()?;
            let revisions = Revisions { current, compacted };
            if let Err(error) = check_revision::<StateError>(revisions, upto) {
                return Ok(Err(error));
            }
            let upto = if upto == 0 { current } else { upto };
            Ok(Ok(Hashed { hash: hash_kv(&view, compacted, upto)?, upto, revisions }))
        })
        .await
        .map_err(MvccError::View)?
    }

    /// A hash of all rows that members share, with the newest revision.
    pub(crate) async fn hash_all(&self) -> Result<(u32, Revision), StateError> {
        self.flush().await?;
        let view = self.view();
        self.disk_work(move || {
            let mut hash = 0;
            let mut after: Option<Row> = None;
            loop {
                let rows = rows_after(&view, after.as_ref(), PAGE_BYTES)?;
                let Some(last) = rows.last().cloned() else {
                    return Ok((hash, view.marks()?.revision));
                };
                // What was removed of the compacted differs between members.
                let shared = rows.iter().filter(|row| {
                    matches!(row, Row::Current(..) | Row::Lease(..) | Row::Attached(..))
                });
                for row in shared {
                    hash = crc32c::crc32c_append(hash, &encode(row));
                }
                after = Some(last);
            }
        })
        .await
    }
}

fn hash_kv(view: &DiskView, compacted: Revision, upto: Revision) -> Result<u32, StateError> {
    let mut hash = crc32c::crc32c(b"key");
    // Nothing is left out below the compacted revision if nothing is to be kept there.
    let keeps = compacted > 0 && any_lives(view, upto)?;
    for row in view.changes.range(..=(upto, u32::MAX)).map_err(access("read"))? {
        let (id, key) = row.map_err(access("read"))?;
        let (revision, number) = id.value();
        if keeps && revision <= compacted {
            let newest = view.get_at(key.value(), upto)?;
            if newest.is_none_or(|newest| newest.version == 0 || newest.mod_revision != revision) {
                continue;
            }
        }
        let Some(record) = view.record(key.value(), revision)? else { continue };
        hash = crc32c::crc32c_append(hash, &row_key(revision, number, record.kv.version == 0));
        hash = crc32c::crc32c_append(hash, &row_value(&record.kv));
    }
    Ok(hash)
}

/// Whether any key lives at a revision.
fn any_lives(view: &DiskView, upto: Revision) -> Result<bool, StateError> {
    let mut found = false;
    let all =
        crate::logic::mvcc::KeyRange::new(bytes::Bytes::new(), bytes::Bytes::from_static(&[0]));
    view.each_at(&all, upto, |kv| {
        found |= kv.version > 0;
        Ok(!found)
    })?;
    Ok(found)
}

/// The key of a record in etcd's database.
pub(crate) fn row_key(revision: Revision, number: u32, deleted: bool) -> Vec<u8> {
    let mut key = revision.to_be_bytes().to_vec();
    key.push(b'_');
    key.extend(i64::from(number).to_be_bytes());
    if deleted {
        key.push(b't');
    }
    key
}

/// The record as etcd's protobuf.
pub(crate) fn row_value(kv: &KeyValue) -> Vec<u8> {
    fn varint(into: &mut Vec<u8>, mut value: u64) {
        while value >= 0x80 {
            into.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        into.push(value.to_le_bytes()[0]);
    }
    let mut out = Vec::with_capacity(kv.key.len() + kv.value.len() + 48);
    let bytes = |out: &mut Vec<u8>, tag: u8, bytes: &[u8]| {
        if !bytes.is_empty() {
            out.push((tag << 3) | 2);
            varint(out, bytes.len() as u64);
            out.extend_from_slice(bytes);
        }
    };
    let number = |out: &mut Vec<u8>, tag: u8, number: i64| {
        if number != 0 {
            out.push(tag << 3);
            varint(out, number.cast_unsigned());
        }
    };
    bytes(&mut out, 1, &kv.key);
    // etcd's deletions hold the key alone.
    if kv.version > 0 {
        number(&mut out, 2, kv.create_revision);
        number(&mut out, 3, kv.mod_revision);
        number(&mut out, 4, kv.version);
        bytes(&mut out, 5, &kv.value);
        number(&mut out, 6, kv.lease);
    }
    out
}
