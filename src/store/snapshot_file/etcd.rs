//! etcd's snapshot: a bbolt file, padded to 512 bytes, with the SHA-256 of all before it.
//!
//! ```text
//!  bucket key   revision u64 │ '_' │ number u64 (│ 't' for a deletion)  →  mvccpb.KeyValue
//!  bucket meta  consistent_index, term: u64    scheduledCompactRev, finishedCompactRev:
//!               revision u64 │ '_' │ number u64                            all big-endian
//! ```
//! What we write holds the live keys with their own revisions, compacted at the store's
//! revision: a member of etcd that was made from it answers reads and watches from there
//! on. What we read may hold history; its newest records count. Leases, users and
//! alarms of etcd are not taken over.
//! Sources: etcd's `mvcc/kvstore.go`, `mvcc/revision.go`, `mvcc/mvccpb/kv.proto`,
//! `etcdctl/snapshot/v3_snapshot.go`.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom, Write};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{HASH_BYTES, SnapshotError, SnapshotHeader, access};
use crate::base::ids::{ClusterId, Generation, MemberId};
use crate::model::kv::{KeyValue, Revision};
use crate::store::bolt::{BoltError, BoltFile, Bucket, Item, write_bolt};
use crate::store::log::Identity;
use crate::store::state::DiskView;

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

fn revision_key(main: Revision, number: u64) -> [u8; REVISION_BYTES] {
    let mut key = [0; REVISION_BYTES];
    key[..8].copy_from_slice(&main.to_be_bytes());
    key[8] = b'_';
    key[9..].copy_from_slice(&number.to_be_bytes());
    key
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// mvccpb.KeyValue; fields that are zero are left out, as everywhere in protobuf 3.
fn message(kv: &KeyValue) -> Vec<u8> {
    let mut out = Vec::with_capacity(kv.key.len() + kv.value.len() + 48);
    let bytes = |out: &mut Vec<u8>, field: u8, content: &[u8]| {
        if !content.is_empty() {
            out.push(field << 3 | 2);
            varint(out, content.len() as u64);
            out.extend(content);
        }
    };
    bytes(&mut out, 1, &kv.key);
    for (field, number) in [(2, kv.create_revision), (3, kv.mod_revision), (4, kv.version)] {
        if number != 0 {
            out.push(field << 3);
            varint(&mut out, number as u64);
        }
    }
    bytes(&mut out, 5, &kv.value);
    if kv.lease != 0 {
        out.push(6 << 3);
        varint(&mut out, kv.lease as u64);
    }
    out
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn parse(mut bytes: &[u8]) -> Option<KeyValue> {
    let mut kv = KeyValue::default();
    while !bytes.is_empty() {
        let tag = read_varint(&mut bytes)?;
        match tag & 7 {
            0 => {
                let number = read_varint(&mut bytes)? as i64;
                match tag >> 3 {
                    2 => kv.create_revision = number,
                    3 => kv.mod_revision = number,
                    4 => kv.version = number,
                    6 => kv.lease = number,
                    _ => {}
                }
            }
            2 => {
                let length = usize::try_from(read_varint(&mut bytes)?).ok()?;
                let content = bytes.get(..length)?;
                bytes = &bytes[length..];
                match tag >> 3 {
                    1 => kv.key = Bytes::copy_from_slice(content),
                    5 => kv.value = Bytes::copy_from_slice(content),
                    _ => {}
                }
            }
            _ => return None,
        }
    }
    Some(kv)
}

/// The bbolt file alone, without padding and hash, from a view; never seeks.
pub(crate) fn write_etcd_db(view: &DiskView, out: &mut impl Write) -> Result<(), SnapshotError> {
    let marks = view.image_marks()?;
    // By revision, with what each record will take; the records are read again in order.
    let mut order: Vec<(Revision, Bytes, usize)> = Vec::new();
    view.each_live::<SnapshotError>(|kv| {
        order.push((kv.mod_revision, kv.key.clone(), message(&kv).len()));
        Ok(())
    })?;
    order.sort();
    let (mut last, mut number) = (0, 0);
    let keys = order.iter().map(|(revision, _, value_bytes)| {
        number = if *revision == last { number + 1 } else { 0 };
        last = *revision;
        Item { key: revision_key(*revision, number).into(), value_bytes: *value_bytes }
    });
    let keys: Vec<Item> = keys.collect();
    let index = marks.applied.map_or(0, |applied| applied.index);
    let term = marks.applied.map_or(0, |applied| applied.leader_id.term);
    let compacted = revision_key(marks.revision, 0).to_vec();
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
            "meta" => {
                let item = |(name, value): &(&str, Vec<u8>)| Item {
                    key: name.as_bytes().into(),
                    value_bytes: value.len(),
                };
                bucket.items = meta.iter().map(item).collect();
            }
            _ => {}
        }
    }
    drop(keys);
    write_bolt(out, &buckets, |bucket, index| {
        if bucket.name == "meta" {
            return Ok(meta[index].1.clone());
        }
        let found = view.get(&order[index].1)?;
        let kv = found.ok_or_else(|| SnapshotError::Damaged {
            reason: "a key went away while it was read".into(),
        })?;
        Ok(message(&kv))
    })
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
            let kv = parse(value).ok_or_else(damaged)?;
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
        Ok(Self { header, bytes, hash: found, live })
    }

    /// The live records in key order, once. Leases are not taken over, so nothing is
    /// attached.
    pub(super) fn take_records(&mut self) -> impl Iterator<Item = KeyValue> + use<> {
        std::mem::take(&mut self.live).into_values().map(|kv| KeyValue { lease: 0, ..kv })
    }
}

#[cfg(test)]
#[path = "etcd_tests.rs"]
mod tests;
