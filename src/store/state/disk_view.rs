//! The state file: its tables, its records, and a consistent view for reading.
//!
//! ```text
//! current:  key                → Stored            newest record of each live key
//! history:  (key, revision)    → Stored            superseded records; version 0 is a deletion
//! changes:  (revision, number) → key               what each revision changed, in order
//! requests: last log index     → [(log index, (id, reply))]   answered requests, for
//!                                                  repeated ones; one row for a flush
//! boots:    member             → StartNote
//! leases:   lease              → LeaseRecord
//! attached: (lease, key)       → nothing           keys that go with the lease
//! meta:     name               → versioned value   "applied" "membership" "revision"
//!                                                  "compacted" "trimmed" "forgotten"
//!                                                  "auth" "alarms" "commitment" "shown"
//! ```
//!
//! Invariant: a view is one redb read transaction, so all its tables are of one moment.
//! Not here: reading records at a revision (`record_walk`).

use std::sync::Arc;

use bytes::Bytes;
use redb::{
    Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTableMetadata,
    TableDefinition, TableError, WriteTransaction,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::layer::Record;
use super::store::Progress;
use super::{StateError, access};
use crate::logic::mvcc::{FIRST_REVISION, KeyRange};
use crate::model::kv::{KeyValue, Revision};
use crate::store::codec::{decode, encode};
use crate::store::types::{LogId, StoredMembership};

pub(super) const CURRENT: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("current");
pub(super) const HISTORY: TableDefinition<'_, (&[u8], i64), &[u8]> =
    TableDefinition::new("history");
pub(super) const CHANGES: TableDefinition<'_, (i64, u32), &[u8]> = TableDefinition::new("changes");
pub(super) const REQUESTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("requests");
pub(super) const BOOTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("boots");
pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

pub(super) const LEASES: TableDefinition<'_, i64, &[u8]> = TableDefinition::new("leases");
pub(super) const ATTACHED: TableDefinition<'_, (i64, &[u8]), ()> = TableDefinition::new("attached");

/// A key's record without the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    value: Bytes,
    create_revision: Revision,
    mod_revision: Revision,
    version: i64,
    lease: i64,
    /// Which change of its revision it is, from 0.
    number: u32,
}

/// Encodes a record; a deletion has version 0.
pub(super) fn encode_kv(kv: &KeyValue, number: u32) -> Vec<u8> {
    encode(&Stored {
        value: kv.value.clone(),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
        number,
    })
}

pub(super) fn decode_kv(key: &[u8], bytes: &[u8]) -> Result<KeyValue, StateError> {
    Ok(decode_record(key, bytes)?.kv)
}

pub(super) fn decode_record(key: &[u8], bytes: &[u8]) -> Result<Record, StateError> {
    let stored: Stored =
        decode(bytes).map_err(|source| StateError::Decode { what: "a record", source })?;
    let kv = KeyValue {
        key: Bytes::copy_from_slice(key),
        value: stored.value,
        create_revision: stored.create_revision,
        mod_revision: stored.mod_revision,
        version: stored.version,
        lease: stored.lease,
    };
    Ok(Record { kv, number: stored.number })
}

/// What of a record can be told without taking it apart.
#[derive(Deserialize)]
struct Glance<'a> {
    #[serde(borrow)]
    _value: &'a [u8],
    _create_revision: Revision,
    mod_revision: Revision,
}

/// The revision that a record is of.
pub(super) fn mod_revision(bytes: &[u8]) -> Result<Revision, StateError> {
    let glance: Glance<'_> =
        decode(bytes).map_err(|source| StateError::Decode { what: "a record", source })?;
    Ok(glance.mod_revision)
}

/// The single values of the state.
#[derive(Clone, Debug)]
pub(super) struct Marks {
    pub(super) applied: Option<LogId>,
    pub(super) membership: StoredMembership,
    pub(super) revision: Revision,
    pub(super) compacted: Revision,
    /// Compaction has removed everything up to here; differs between members.
    pub(super) trimmed: Revision,
    /// Log index of the newest request that is no longer remembered.
    pub(super) forgotten: u64,
    /// What this member knew that it might show; differs between members.
    pub(super) shown: Progress,
}

impl Default for Marks {
    fn default() -> Self {
        Self {
            applied: None,
            membership: StoredMembership::default(),
            revision: FIRST_REVISION,
            compacted: 0,
            trimmed: 0,
            forgotten: 0,
            shown: Progress::default(),
        }
    }
}

impl Marks {
    pub(super) fn write(&self, txn: &WriteTransaction) -> Result<(), StateError> {
        let mut meta = txn.open_table(META).map_err(access("open the marks of"))?;
        let mut put = |name: &str, record: Vec<u8>| {
            meta.insert(name, &record[..]).map(drop).map_err(access("write the marks of"))
        };
        put("applied", encode(&self.applied))?;
        put("membership", encode(&self.membership))?;
        put("revision", encode(&self.revision))?;
        put("compacted", encode(&self.compacted))?;
        put("forgotten", encode(&self.forgotten))?;
        put("shown", encode(&self.shown))?;
        put("trimmed", encode(&self.trimmed))
    }
}

/// Makes all tables, so that a view can open them.
pub(super) fn create_tables(txn: &WriteTransaction) -> Result<(), StateError> {
    txn.open_table(CURRENT).map_err(access("create a table of"))?;
    txn.open_table(HISTORY).map_err(access("create a table of"))?;
    txn.open_table(CHANGES).map_err(access("create a table of"))?;
    txn.open_table(REQUESTS).map_err(access("create a table of"))?;
    txn.open_table(BOOTS).map_err(access("create a table of"))?;
    txn.open_table(META).map_err(access("create a table of"))?;
    txn.open_table(LEASES).map_err(access("create a table of"))?;
    txn.open_table(ATTACHED).map_err(access("create a table of"))?;
    Ok(())
}

/// The state file at one moment.
pub(crate) struct DiskView {
    pub(super) current: ReadOnlyTable<&'static [u8], &'static [u8]>,
    pub(super) history: ReadOnlyTable<(&'static [u8], i64), &'static [u8]>,
    pub(super) changes: ReadOnlyTable<(i64, u32), &'static [u8]>,
    pub(super) requests: ReadOnlyTable<u64, &'static [u8]>,
    pub(super) boots: ReadOnlyTable<u64, &'static [u8]>,
    pub(super) meta: ReadOnlyTable<&'static str, &'static [u8]>,
    pub(super) leases: ReadOnlyTable<i64, &'static [u8]>,
    pub(super) attached: ReadOnlyTable<(i64, &'static [u8]), ()>,
    /// Keeps the pages of the tables from being reused.
    _txn: ReadTransaction,
    /// Keeps the file open while it is read, also after another has taken its place.
    _db: Arc<Database>,
}

impl std::fmt::Debug for DiskView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DiskView")
    }
}

impl DiskView {
    pub(super) fn open(db: &Arc<Database>) -> Result<Self, StateError> {
        let txn = db.begin_read().map_err(access("begin a read of"))?;
        let fail = |error: TableError| access("open a table of")(error);
        Ok(Self {
            current: txn.open_table(CURRENT).map_err(fail)?,
            history: txn.open_table(HISTORY).map_err(fail)?,
            changes: txn.open_table(CHANGES).map_err(fail)?,
            requests: txn.open_table(REQUESTS).map_err(fail)?,
            boots: txn.open_table(BOOTS).map_err(fail)?,
            meta: txn.open_table(META).map_err(fail)?,
            leases: txn.open_table(LEASES).map_err(fail)?,
            attached: txn.open_table(ATTACHED).map_err(fail)?,
            _txn: txn,
            _db: db.clone(),
        })
    }

    pub(super) fn marks(&self) -> Result<Marks, StateError> {
        let fresh = Marks::default();
        Ok(Marks {
            applied: self.mark("applied")?.unwrap_or(fresh.applied),
            membership: self.mark("membership")?.unwrap_or(fresh.membership),
            revision: self.mark("revision")?.unwrap_or(fresh.revision),
            compacted: self.mark("compacted")?.unwrap_or(fresh.compacted),
            trimmed: self.mark("trimmed")?.unwrap_or(fresh.trimmed),
            forgotten: self.mark("forgotten")?.unwrap_or(fresh.forgotten),
            shown: self.mark("shown")?.unwrap_or(fresh.shown),
        })
    }

    pub(super) fn mark<T: DeserializeOwned>(
        &self,
        name: &'static str,
    ) -> Result<Option<T>, StateError> {
        let record = self.meta.get(name).map_err(access("read the marks of"))?;
        record
            .map(|bytes| decode(bytes.value()))
            .transpose()
            .map_err(|source| StateError::Decode { what: name, source })
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, StateError> {
        let found = self.current.get(key).map_err(access("read"))?;
        found.map(|bytes| decode_kv(key, bytes.value())).transpose()
    }

    /// Bytes that the tables take, records and tree; walks all of them.
    pub(super) fn used_bytes(&self) -> Result<u64, StateError> {
        let stats = [
            self.current.stats(),
            self.history.stats(),
            self.changes.stats(),
            self.requests.stats(),
            self.boots.stats(),
            self.meta.stats(),
            self.leases.stats(),
            self.attached.stats(),
        ];
        let mut used = 0;
        for table in stats {
            let table = table.map_err(access("count"))?;
            used += table.stored_bytes() + table.metadata_bytes() + table.fragmented_bytes();
        }
        Ok(used)
    }

    /// Calls `each` with the newest live records of the range, in key order, undecoded,
    /// until it says that it has enough.
    pub(super) fn each_current(
        &self,
        range: &KeyRange,
        mut each: impl FnMut(&[u8], &[u8]) -> Result<bool, StateError>,
    ) -> Result<(), StateError> {
        for row in self.current.range::<&[u8]>(range.bounds()).map_err(access("read"))? {
            let (key, bytes) = row.map_err(access("read"))?;
            if !each(key.value(), bytes.value())? {
                break;
            }
        }
        Ok(())
    }
}
