//! Whether the tables of a state file agree with each other.
//!
//! Invariant: every row is read and decoded; the walk holds two records at a time.

use bytes::Bytes;
use redb::{ReadableTable, ReadableTableMetadata};

use super::damage::is_told_by_its_error;
use super::disk_view::{DiskView, decode_record};
use super::layer::Record;
use super::record_walk::RecordWalk;
use super::store::{CACHE_BYTES, STATE_FILE};
use super::{StateError, access};
use crate::model::kv::KeyValue;
use crate::store::disk::{StoreDisk, open_database};

/// What a walk through the tables saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StateCheck {
    /// Live keys.
    pub(crate) keys: u64,
    /// Records of all kept revisions.
    pub(crate) history: u64,
}

/// Has redb check every page of the state file. It repairs what it can, so `disk` must be
/// one that keeps writes to itself.
pub(crate) fn check_pages(disk: &dyn StoreDisk) -> Result<bool, StateError> {
    if disk.size(STATE_FILE).map_err(|source| StateError::File { action: "measure", source })? == 0
    {
        return Ok(true);
    }
    let mut db = open_database(disk, STATE_FILE, CACHE_BYTES, is_told_by_its_error())
        .map_err(StateError::Open)?;
    db.check_integrity().map_err(StateError::Open)
}

fn name(key: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(key))
}

/// How a piece of the scrub ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ScrubStep {
    /// All is well up to this key.
    More(Bytes),
    /// All is well and there is no more.
    End,
    Problem(String),
}

impl DiskView {
    /// Records, superseded and current.
    pub(crate) fn rows(&self) -> Result<u64, StateError> {
        let history = self.history.len().map_err(access("count"))?;
        Ok(history + self.current.len().map_err(access("count"))?)
    }

    /// Reads the records of the keys behind `after`, at least `rows` if there are so many,
    /// and compares them with each other and with their changes.
    pub(crate) fn scrub(&self, after: Option<&[u8]>, rows: usize) -> Result<ScrubStep, StateError> {
        let mut found = None;
        let mut problem = |what: String| {
            let _first = found.get_or_insert(what);
        };
        // The smallest key after another is that key and a zero byte.
        let from = after.map_or_else(Vec::new, |after| [after, &[0]].concat());
        let mut walk = self.walk(&from)?;
        let (mut seen, mut last) = (0, None);
        while let Some(key) = walk.next_key() {
            if seen >= rows {
                break;
            }
            let key_seen = self.check_key(&key, &mut walk, &mut problem)?;
            seen += key_seen.history as usize;
            last = Some(key);
        }
        let more = walk.next_key().is_some();
        Ok(match (found, last) {
            (Some(what), _) => ScrubStep::Problem(what),
            (None, Some(last)) if more => ScrubStep::More(last),
            (None, _) => ScrubStep::End,
        })
    }

    /// Compares current records, history and changes; `problem` is told what cannot be.
    pub(crate) fn check(&self, problem: &mut dyn FnMut(String)) -> Result<StateCheck, StateError> {
        let marks = self.marks()?;
        let mut seen = StateCheck::default();
        let mut walk = self.walk(&[])?;
        while let Some(key) = walk.next_key() {
            let key_seen = self.check_key(&key, &mut walk, problem)?;
            seen.keys += key_seen.keys;
            seen.history += key_seen.history;
        }
        self.check_attached(problem)?;
        // Every record is a change, and every change a record: so many of both.
        let mut changes = 0_u64;
        for row in self.changes.iter().map_err(access("read"))? {
            let (id, key) = row.map_err(access("read"))?;
            let (revision, _) = id.value();
            changes += 1;
            if revision > marks.revision {
                problem(format!("{} changed at {revision}, in the future", name(key.value())));
            }
            if self.record(key.value(), revision)?.is_none() {
                problem(format!("{} changed at {revision} to nothing", name(key.value())));
            }
        }
        if changes != seen.history {
            problem(format!("{} records have {changes} changes", seen.history));
        }
        Ok(seen)
    }

    /// Takes all records of the key and compares them: each must be one of the changes of
    /// its revision, and what follows a record must have come of it.
    fn check_key(
        &self,
        key: &Bytes,
        walk: &mut RecordWalk,
        problem: &mut dyn FnMut(String),
    ) -> Result<StateCheck, StateError> {
        let mut seen = StateCheck::default();
        let mut before: Option<KeyValue> = None;
        while let Some((revision, bytes)) = walk.history_of(key)? {
            let record = decode_record(key, bytes.value())?;
            if record.kv.mod_revision != revision {
                let found = record.kv.mod_revision;
                problem(format!("history of {} at {revision} says {found}", name(key)));
            }
            self.check_record(&record, before.as_ref(), problem)?;
            before = Some(record.kv);
            seen.history += 1;
        }
        match walk.current_of(key)? {
            Some(bytes) => {
                let record = decode_record(key, bytes.value())?;
                if record.kv.version == 0 {
                    problem(format!("{} is deleted and lives", name(key)));
                }
                self.check_record(&record, before.as_ref(), problem)?;
                self.check_lease(&record.kv, problem)?;
                seen.keys += 1;
                seen.history += 1;
            }
            None if before.as_ref().is_some_and(|newest| newest.version > 0) => {
                problem(format!("{} was superseded by nothing", name(key)));
            }
            None => {}
        }
        Ok(seen)
    }

    /// Compares a record with its change and with the record before it.
    fn check_record(
        &self,
        record: &Record,
        before: Option<&KeyValue>,
        problem: &mut dyn FnMut(String),
    ) -> Result<(), StateError> {
        let (kv, number) = (&record.kv, record.number);
        let change = self.changes.get((kv.mod_revision, number)).map_err(access("read"))?;
        if change.is_none_or(|change| change.value() != kv.key) {
            let (key, at) = (name(&kv.key), kv.mod_revision);
            problem(format!("{key} is not what changed at {at} as number {number}"));
        }
        let Some(before) = before else { return Ok(()) };
        let follows = match (before.version, kv.version) {
            (_, 0) => before.version > 0,
            (0, version) => version == 1 && kv.create_revision == kv.mod_revision,
            (last, version) => version == last + 1 && kv.create_revision == before.create_revision,
        };
        if !follows || before.mod_revision >= kv.mod_revision {
            let (key, at) = (name(&kv.key), kv.mod_revision);
            problem(format!("{key} is not what its history says it became at {at}"));
        }
        Ok(())
    }

    /// A key with a lease must be attached to it.
    fn check_lease(
        &self,
        kv: &KeyValue,
        problem: &mut dyn FnMut(String),
    ) -> Result<(), StateError> {
        let id = (kv.lease, &kv.key[..]);
        if kv.lease != 0 && self.attached.get(id).map_err(access("read"))?.is_none() {
            problem(format!("{} is not attached to its lease", name(&kv.key)));
        }
        Ok(())
    }

    /// Whatever is attached must be a key that says so, and its lease must be there.
    fn check_attached(&self, problem: &mut dyn FnMut(String)) -> Result<(), StateError> {
        for row in self.attached.iter().map_err(access("read"))? {
            let (id, _) = row.map_err(access("read"))?;
            let (lease, key) = id.value();
            let known = self.leases.get(lease).map_err(access("read"))?.is_some();
            if !known || self.get(key)?.is_none_or(|record| record.lease != lease) {
                problem(format!("{} is attached to lease {lease:x} in vain", name(key)));
            }
        }
        Ok(())
    }
}
