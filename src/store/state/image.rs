//! The state's content without its history: what snapshots hold and new stores begin with.
//!
//! Why no history: a store that begins with an image counts everything before it as
//! compacted, so nobody could ask for it.
//! Invariants: an image is of one moment; the file that is made from one is complete and
//! durable or not there; its revision is never below that of any record in it.

use std::collections::HashMap;
use std::ops::Bound;

use redb::ReadableTable;

use super::damage::is_told_by_its_error;
use super::disk_view::{
    ATTACHED, CHANGES, CURRENT, DiskView, Marks, create_tables, decode_kv, encode_kv,
};
use super::flush::begin;
use super::rest::StateRest;
use super::store::{CACHE_BYTES, Progress, STATE_FILE, StateStore};
use super::{StateError, access};
use crate::model::kv::{KeyValue, Revision};
use crate::store::disk::{StoreDisk, open_database};
use crate::store::types::{Entry, LogId, StoredMembership};

/// Records in one transaction while a state file is filled.
const FILL_RECORDS: usize = 4_096;

/// Where an image stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ImageMarks {
    pub(crate) applied: Option<LogId>,
    pub(crate) revision: Revision,
    pub(crate) compacted: Revision,
    /// Live keys.
    pub(crate) keys: u64,
}

/// How the state of a new member begins.
#[derive(Clone, Debug)]
pub(crate) struct Beginning {
    pub(crate) applied: LogId,
    pub(crate) membership: StoredMembership,
    /// The newest revision; everything below it counts as compacted.
    pub(crate) revision: Revision,
}

impl DiskView {
    pub(crate) fn image_marks(&self) -> Result<ImageMarks, StateError> {
        let marks = self.marks()?;
        let keys = redb::ReadableTableMetadata::len(&self.current).map_err(access("count"))?;
        Ok(ImageMarks {
            applied: marks.applied,
            revision: marks.revision,
            compacted: marks.compacted,
            keys,
        })
    }

    /// Up to `count` live records behind `after`, in key order.
    pub(crate) fn live_after(
        &self,
        after: Option<&[u8]>,
        count: usize,
    ) -> Result<Vec<KeyValue>, StateError> {
        let from = match after {
            Some(after) => Bound::Excluded(after),
            None => Bound::Unbounded,
        };
        let rows = self.current.range::<&[u8]>((from, Bound::Unbounded)).map_err(access("read"))?;
        rows.take(count)
            .map(|row| {
                let (key, bytes) = row.map_err(access("read"))?;
                decode_kv(key.value(), bytes.value())
            })
            .collect()
    }

    /// Calls `each` with every live record in key order.
    pub(crate) fn each_live<E: From<StateError>>(
        &self,
        mut each: impl FnMut(KeyValue) -> Result<(), E>,
    ) -> Result<(), E> {
        for row in self.current.iter().map_err(access("read"))? {
            let (key, bytes) = row.map_err(access("read"))?;
            each(decode_kv(key.value(), bytes.value())?)?;
        }
        Ok(())
    }
}

/// Makes the state file of a new member; durable when it returns. A key whose lease is not
/// in `rest` is attached to none.
pub(crate) fn begin_state(
    disk: &dyn StoreDisk,
    beginning: &Beginning,
    rest: &StateRest,
    records: &mut dyn Iterator<Item = Result<KeyValue, StateError>>,
) -> Result<u64, StateError> {
    let db = open_database(disk, STATE_FILE, CACHE_BYTES, is_told_by_its_error())
        .map_err(StateError::Open)?;
    let txn = begin(&db)?;
    create_tables(&txn)?;
    rest.write(&txn)?;
    txn.commit().map_err(access("commit to"))?;
    let mut numbers: HashMap<Revision, u32> = HashMap::new();
    let mut keys = 0;
    loop {
        let mut batch: Vec<KeyValue> = records.take(FILL_RECORDS).collect::<Result<_, _>>()?;
        if batch.is_empty() {
            break;
        }
        let txn = begin(&db)?;
        {
            let mut current = txn.open_table(CURRENT).map_err(access("open a table of"))?;
            let mut changes = txn.open_table(CHANGES).map_err(access("open a table of"))?;
            let mut attached = txn.open_table(ATTACHED).map_err(access("open a table of"))?;
            for kv in &mut batch {
                check(kv, beginning.revision)?;
                if rest.leases.contains_key(&kv.lease) {
                    attached.insert((kv.lease, &kv.key[..]), ()).map_err(access("write"))?;
                } else {
                    kv.lease = 0;
                }
                let number = numbers.entry(kv.mod_revision).or_default();
                let record = encode_kv(kv, *number);
                current.insert(&kv.key[..], &record[..]).map_err(access("write"))?;
                let id = (kv.mod_revision, *number);
                changes.insert(id, &kv.key[..]).map_err(access("write"))?;
                *number += 1;
            }
        }
        txn.commit().map_err(access("commit to"))?;
        keys += batch.len() as u64;
    }
    let txn = begin(&db)?;
    let marks = Marks {
        applied: Some(beginning.applied),
        membership: beginning.membership.clone(),
        revision: beginning.revision,
        compacted: beginning.revision,
        trimmed: beginning.revision,
        forgotten: beginning.applied.index,
        shown: Progress { applied: beginning.applied.index, revision: beginning.revision },
    };
    marks.write(&txn)?;
    txn.commit().map_err(access("commit to"))?;
    Ok(keys)
}

fn check(kv: &KeyValue, newest: Revision) -> Result<(), StateError> {
    let sound = kv.version > 0
        && 0 < kv.create_revision
        && kv.create_revision <= kv.mod_revision
        && kv.mod_revision <= newest
        && !kv.key.is_empty();
    if sound {
        return Ok(());
    }
    let reason = format!(
        "key {:?} has version {}, was created at {} and changed at {}, with {newest} the newest",
        String::from_utf8_lossy(&kv.key),
        kv.version,
        kv.create_revision,
        kv.mod_revision
    );
    Err(StateError::Snapshot { reason })
}

impl StateStore {
    /// Applies entries of the log whose member is stopped; nobody waits for the answers.
    pub(crate) fn replay(&self, entries: Vec<Entry>) -> Result<(), StateError> {
        for entry in entries {
            let step = super::machine::step_of(entry.log_id, entry.payload);
            self.apply(entry.log_id, step)?;
        }
        Ok(())
    }
}
