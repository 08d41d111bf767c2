//! Whether the tables of a state file agree with each other.
//!
//! Invariant: every row is read and decoded; the walk holds one key's history at a time.

use bytes::Bytes;
use redb::{ReadableTable, ReadableTableMetadata};

use super::damage::is_told_by_its_error;
use super::disk_view::{DiskView, decode_kv};
use super::store::{CACHE_BYTES, STATE_FILE};
use super::{StateError, access};
use crate::model::kv::KeyValue;
use crate::store::disk::{StoreDisk, open_database};

/// What a walk through the tables saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StateCheck {
    pub(crate) keys: u64,
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
    /// Rows of history and current records.
    pub(crate) fn rows(&self) -> Result<u64, StateError> {
        let history = self.history.len().map_err(access("count"))?;
        Ok(history + self.current.len().map_err(access("count"))?)
    }

    /// Reads the history of the keys behind `after`, at least `rows` rows if there are so
    /// many, and compares it with their current records.
    pub(crate) fn scrub(&self, after: Option<&[u8]>, rows: usize) -> Result<ScrubStep, StateError> {
        let mut found = None;
        let mut problem = |what: String| {
            let _first = found.get_or_insert(what);
        };
        // The smallest key after another is that key and a zero byte.
        let from = after.map_or_else(Vec::new, |after| [after, &[0]].concat());
        let mut newest: Option<KeyValue> = None;
        let mut more = false;
        let history = self.history.range((&from[..], 0)..).map_err(access("read"))?;
        for (seen, row) in history.enumerate() {
            let (id, bytes) = row.map_err(access("read"))?;
            let (key, revision) = id.value();
            let moved = newest.as_ref().is_some_and(|newest| newest.key != key);
            if moved && seen >= rows {
                more = true;
                break;
            }
            let record = decode_kv(key, bytes.value())?;
            if record.mod_revision != revision {
                problem(format!("history of {} at {revision} is of another", name(key)));
            }
            if let Some(last) = newest.replace(record).filter(|_| moved) {
                self.check_newest(&last, &mut problem)?;
            }
        }
        let last = newest.as_ref().map(|newest| newest.key.clone());
        if let Some(newest) = &newest {
            self.check_newest(newest, &mut problem)?;
        }
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
        let mut newest: Option<KeyValue> = None;
        // Records behind what was trimmed, each of which must have its change.
        let (mut recent, mut changes) = (0_u64, 0_u64);
        for row in self.history.iter().map_err(access("read"))? {
            let (id, bytes) = row.map_err(access("read"))?;
            let (key, revision) = id.value();
            let record = decode_kv(key, bytes.value())?;
            seen.history += 1;
            if record.mod_revision != revision || revision > marks.revision {
                let found = record.mod_revision;
                problem(format!("history of {} at {revision} says {found}", name(key)));
            }
            let moved = newest.as_ref().is_some_and(|newest| newest.key != record.key);
            if let Some(last) = newest.replace(record).filter(|_| moved) {
                self.check_newest(&last, problem)?;
            }
            recent += u64::from(revision > marks.trimmed);
        }
        if let Some(last) = newest {
            self.check_newest(&last, problem)?;
        }
        for row in self.current.iter().map_err(access("read"))? {
            let (key, bytes) = row.map_err(access("read"))?;
            let record = decode_kv(key.value(), bytes.value())?;
            seen.keys += 1;
            let (lease, id) = ((record.lease, key.value()), (key.value(), record.mod_revision));
            if record.lease != 0 && self.attached.get(lease).map_err(access("read"))?.is_none() {
                problem(format!("{} is not attached to its lease", name(key.value())));
            }
            if self.history.get(id).map_err(access("read"))?.is_none() {
                let at = record.mod_revision;
                problem(format!("the history of {} at {at} is missing", name(key.value())));
            }
        }
        self.check_attached(problem)?;
        for row in self.changes.range((marks.trimmed + 1, 0)..).map_err(access("read"))? {
            let (id, key) = row.map_err(access("read"))?;
            let (revision, _) = id.value();
            changes += 1;
            let id = (key.value(), revision);
            if self.history.get(id).map_err(access("read"))?.is_none() {
                problem(format!("{} changed at {revision} to nothing", name(key.value())));
            }
        }
        if changes != recent {
            problem(format!("{recent} records of history have {changes} changes"));
        }
        Ok(seen)
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

    /// The newest history record of a key must be its current one, or a deletion.
    fn check_newest(
        &self,
        newest: &KeyValue,
        problem: &mut dyn FnMut(String),
    ) -> Result<(), StateError> {
        let current = self.get(&newest.key)?;
        let agrees = match &current {
            Some(current) => current == newest,
            None => newest.version == 0,
        };
        if !agrees {
            let (key, at) = (name(&newest.key), newest.mod_revision);
            problem(format!("{key} is not what its history says it became at {at}"));
        }
        Ok(())
    }
}
