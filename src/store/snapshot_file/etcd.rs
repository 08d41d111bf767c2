//! etcd's snapshot: a bbolt file, padded to 512 bytes, with the SHA-256 of all before it.
//!
//! ```text
//!  bucket key   revision u64 │ '_' │ number u64 (│ 't' for a deletion)  →  mvccpb.KeyValue
//!  bucket lease id u64                                           →  leasepb.Lease
//!  bucket meta  consistent_index, term: u64    scheduledCompactRev, finishedCompactRev:
//!               revision u64 │ '_' │ number u64                            all big-endian
//! ```
//! What we write holds the live keys with their own revisions, compacted at the store's
//! revision: a member of etcd that was made from it answers reads and watches from there
//! on. What we read may hold history; its newest records count. Leases go both ways; users
//! do not, since the two hash passwords differently, nor do alarms.
//! Sources: etcd's `mvcc/kvstore.go`, `mvcc/revision.go`, `lease/lessor.go`,
//! `etcdctl/snapshot/v3_snapshot.go`.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom, Write};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::etcd_proto::{lease_message, parse_lease, parse_record};
use super::{HASH_BYTES, SnapshotError, SnapshotHeader, access};
use crate::base::ids::{ClusterId, Generation, MemberId};
use crate::model::kv::{KeyValue, Revision};
use crate::store::bolt::{BoltError, BoltFile, Bucket, Item, write_bolt};
use crate::store::log::Identity;
use crate::store::state::{DiskView, StateRest, row_key, row_value};

/// Length of a revision as a key.
const REVISION_BYTES: usize = 17;
/// What the file without its hash is padded to.
const SECTOR: u64 = 512;
/// All buckets that etcd makes, in their order; those not named below stay empty.
const BUCKETS: [&str; 10] = [
    "alarm",
    "auth",
    "authRoles",
    "authUsers",
    "cluster",
    "key",
    "lease",
    "members",
    "members_removed",
    "meta",
];

/// The bbolt file alone, without padding and hash, from a view; never seeks.
pub(crate) fn write_etcd_db(view: &DiskView, out: &mut impl Write) -> Result<(), SnapshotError> {
    let marks = view.image_marks()?;
    // By revision, with what each record will take; the records are read again in order.
    let mut order: Vec<(Revision, Bytes, usize)> = Vec::new();
    let leases = lease_rows(&view.rest()?);
    view.each_live::<SnapshotError>(|kv| {
        order.push((kv.mod_revision, kv.key.clone(), row_value(&kv).len()));
        Ok(())
    })?;
    order.sort();
    let (mut last, mut number) = (0, 0_u32);
    let keys = order.iter().map(|(revision, _, value_bytes)| {
        number = if *revision == last { number + 1 } else { 0 };
        last = *revision;
        Item { key: row_key(*revision, number, false).into(), value_bytes: *value_bytes }
    });
    let keys: Vec<Item> = keys.collect();
    let index = marks.applied.map_or(0, |applied| applied.index);
    let term = marks.applied.map_or(0, |applied| applied.leader_id.term);
    let compacted = row_key(marks.revision, 0, false);
    let meta: [(&str, Vec<u8>); 4] = [
        ("consistent_index", index.to_be_bytes().to_vec()),
        ("finishedCompactRev", compacted.clone()),
        ("scheduledCompactRev", compacted),
        ("term", term.to_be_bytes().to_vec()),
    ];
    let mut buckets: Vec<Bucket> =
        BUCKETS.iter().map(|name| Bucket { name, items: Vec::new() }).collect();
    for bucket in &mut buckets {
        match bucket.name {
            "key" => bucket.items.clone_from(&keys),
            "lease" => bucket.items = leases.iter().map(|(id, row)| item(id, row)).collect(),
            "meta" => {
                bucket.items = meta.iter().map(|(name, row)| item(name.as_bytes(), row)).collect();
            }
            _ => {}
        }
    }
    drop(keys);
    write_bolt(out, &buckets, |bucket, index| {
        match bucket.name {
            "meta" => return Ok(meta[index].1.clone()),
            "lease" => return Ok(leases[index].1.clone()),
            _ => {}
        }
        let found = view.get(&order[index].1)?;
        let kv = found.ok_or_else(|| SnapshotError::Damaged {
            reason: "a key went away while it was read".into(),
        })?;
        Ok(row_value(&kv))
    })
}

fn item(key: &[u8], value: &[u8]) -> Item {
    Item { key: key.into(), value_bytes: value.len() }
}

/// The rows of the bucket of leases, in its order.
fn lease_rows(rest: &StateRest) -> Vec<([u8; 8], Vec<u8>)> {
    let mut rows: Vec<_> = rest
        .leases
        .iter()
        .map(|(id, record)| (id.to_be_bytes(), lease_message(*id, record)))
        .collect();
    rows.sort();
    rows
}

/// Writes what `etcdctl snapshot` reads.
pub(crate) fn write_etcd_snapshot(
    view: &DiskView,
    of: &Identity,
    out: &mut impl Write,
) -> Result<SnapshotHeader, SnapshotError> {
    let mut hashing = super::write::Hashing::new(out);
    write_etcd_db(view, &mut hashing)?;
    // Whole pages are whole sectors, so there is no padding.
    hashing.finish().map_err(access("write"))?;
    let marks = view.image_marks()?;
    Ok(super::write::header_of(&marks, of))
}

impl From<BoltError> for SnapshotError {
    fn from(error: BoltError) -> Self {
        match error {
            BoltError::NoMeta => SnapshotError::Foreign,
            BoltError::Read(source) => SnapshotError::Access { action: "read", source },
            error @ BoltError::Page { .. } => SnapshotError::Damaged { reason: error.to_string() },
        }
    }
}

impl From<io::Error> for SnapshotError {
    fn from(source: io::Error) -> Self {
        SnapshotError::Access { action: "write", source }
    }
}

/// A snapshot of etcd's, or a copy of its database, read into memory.
#[derive(Debug)]
pub struct EtcdSnapshot {
    pub header: SnapshotHeader,
    /// Size of the file, bytes.
    pub bytes: u64,
    /// Of what is before the hash, also where the file carries none.
    pub hash: [u8; 32],
    /// Leases; users and alarms are not taken over.
    pub rest: StateRest,
    live: BTreeMap<Bytes, KeyValue>,
}

impl EtcdSnapshot {
    /// Checks the hash, where there is one, and reads the newest record of every key.
    pub fn open<F: Read + Seek>(mut file: F) -> Result<Self, SnapshotError> {
        let bytes = file.seek(SeekFrom::End(0)).map_err(access("measure"))?;
        file.rewind().map_err(access("read"))?;
        let hashed = bytes % SECTOR == HASH_BYTES;
        let end = if hashed { bytes - HASH_BYTES } else { bytes };
        let mut hash = Sha256::new();
        io::copy(&mut (&mut file).take(end), &mut super::read::HashOnly(&mut hash))
            .map_err(access("read"))?;
        let found: [u8; 32] = hash.finalize().into();
        let mut expected = found;
        if hashed {
            file.read_exact(&mut expected).map_err(access("read"))?;
        }
        let mut bolt = BoltFile::open(file)?;
        if found != expected {
            let reason = "its SHA-256 is not the one at its end".into();
            return Err(SnapshotError::Damaged { reason });
        }
        let (mut live, mut revision) = (BTreeMap::new(), 1);
        let there = bolt.each::<SnapshotError>(b"key", |key, value| {
            let damaged = || SnapshotError::Damaged { reason: format!("the record {key:02x?}") };
            let main = key.get(..8).ok_or_else(damaged)?;
            let main = i64::from_be_bytes(main.try_into().expect("a slice of eight bytes"));
            let kv = parse_record(value).ok_or_else(damaged)?;
            revision = revision.max(main);
            if key.len() > REVISION_BYTES {
                live.remove(&kv.key);
            } else {
                live.insert(kv.key.clone(), kv);
            }
            Ok(())
        })?;
        if !there {
            return Err(SnapshotError::Foreign);
        }
        let mut rest = StateRest::default();
        bolt.each::<SnapshotError>(b"lease", |key, value| {
            let damaged = || SnapshotError::Damaged { reason: format!("the lease {key:02x?}") };
            let (id, record) = parse_lease(value).ok_or_else(damaged)?;
            rest.leases.insert(id, record);
            Ok(())
        })?;
        let (mut compacted, mut index, mut term) = (0, 0, 0);
        bolt.each::<SnapshotError>(b"meta", |key, value| {
            let number = value.get(..8).map_or(0, |eight| {
                u64::from_be_bytes(eight.try_into().expect("a slice of eight bytes"))
            });
            match key {
                b"finishedCompactRev" => compacted = number as i64,
                b"consistent_index" => index = number,
                b"term" => term = number,
                _ => {}
            }
            Ok(())
        })?;
        let header = SnapshotHeader {
            cluster: ClusterId(uuid::Uuid::nil()),
            generation: Generation(0),
            member: MemberId(0),
            revision: revision.max(compacted),
            compacted,
            term,
            index,
            keys: live.len() as u64,
            program: "etcd's format".into(),
        };
        Ok(Self { header, bytes, hash: found, rest, live })
    }

    /// The live records in key order, once.
    pub(super) fn take_records(&mut self) -> impl Iterator<Item = KeyValue> + use<> {
        std::mem::take(&mut self.live).into_values()
    }
}
