//! The records of a view at any revision, over the two tables that hold them.
//!
//! ```text
//! current:  key             → its newest record, if the key lives
//! history:  (key, revision) → what was superseded, and deletions
//! ```
//!
//! Why two: a record is written once when it comes and once more only if it is superseded,
//! and who reads what is newest passes nothing else.
//! Invariants: a record stands in one of them; a key's current record is newer than all of
//! its history.

use bytes::Bytes;
use redb::{AccessGuard, Key, Range};

use super::disk_view::{DiskView, decode_record, mod_revision};
use super::layer::Record;
use super::{StateError, access};
use crate::logic::mvcc::KeyRange;
use crate::model::kv::{KeyValue, Revision};

/// A record's bytes.
pub(super) type Found = AccessGuard<'static, &'static [u8]>;

/// A table's rows, of which the next one is looked at before it is taken.
struct Rows<K: Key + 'static> {
    behind: Range<'static, K, &'static [u8]>,
    next: Option<(AccessGuard<'static, K>, Found)>,
}

impl<K: Key + 'static> Rows<K> {
    fn begin(behind: Range<'static, K, &'static [u8]>) -> Result<Self, StateError> {
        let mut rows = Self { behind, next: None };
        rows.take()?;
        Ok(rows)
    }

    fn take(&mut self) -> Result<Option<(AccessGuard<'static, K>, Found)>, StateError> {
        let next = self.behind.next().transpose().map_err(access("read"))?;
        Ok(std::mem::replace(&mut self.next, next))
    }
}

/// Goes through both tables together, key by key.
pub(super) struct RecordWalk {
    current: Rows<&'static [u8]>,
    history: Rows<(&'static [u8], i64)>,
}

impl DiskView {
    /// Begins at a key.
    pub(super) fn walk(&self, from: &[u8]) -> Result<RecordWalk, StateError> {
        let current = self.current.range(from..).map_err(access("read"))?;
        let history = self.history.range((from, 0)..).map_err(access("read"))?;
        Ok(RecordWalk { current: Rows::begin(current)?, history: Rows::begin(history)? })
    }

    /// The record that a key got at exactly this revision.
    pub(super) fn record(
        &self,
        key: &[u8],
        revision: Revision,
    ) -> Result<Option<Record>, StateError> {
        if let Some(bytes) = self.current.get(key).map_err(access("read"))?
            && mod_revision(bytes.value())? == revision
        {
            return decode_record(key, bytes.value()).map(Some);
        }
        let found = self.history.get((key, revision)).map_err(access("read"))?;
        found.map(|bytes| decode_record(key, bytes.value())).transpose()
    }

    /// The newest record of a key at or below a revision; a deletion has version 0.
    pub(super) fn get_at(&self, key: &[u8], at: Revision) -> Result<Option<KeyValue>, StateError> {
        if let Some(bytes) = self.current.get(key).map_err(access("read"))?
            && mod_revision(bytes.value())? <= at
        {
            return Ok(Some(decode_record(key, bytes.value())?.kv));
        }
        let mut rows = self.history.range((key, 0)..=(key, at)).map_err(access("read"))?;
        match rows.next_back() {
            Some(row) => {
                let (_, bytes) = row.map_err(access("read"))?;
                Ok(Some(decode_record(key, bytes.value())?.kv))
            }
            None => Ok(None),
        }
    }

    /// Calls `each` with the record that was newest at a revision, for each key of the
    /// range in order, until it says that it has enough; deletions are passed too.
    pub(super) fn each_at(
        &self,
        range: &KeyRange,
        at: Revision,
        mut each: impl FnMut(KeyValue) -> Result<bool, StateError>,
    ) -> Result<(), StateError> {
        let mut walk = self.walk(range.start())?;
        while let Some(key) = walk.next_key() {
            if !range.contains(&key) {
                break;
            }
            let mut newest = None;
            while let Some((revision, bytes)) = walk.history_of(&key)? {
                if revision <= at {
                    newest = Some(bytes);
                }
            }
            if let Some(bytes) = walk.current_of(&key)?
                && mod_revision(bytes.value())? <= at
            {
                newest = Some(bytes);
            }
            if let Some(bytes) = newest
                && !each(decode_record(&key, bytes.value())?.kv)?
            {
                break;
            }
        }
        Ok(())
    }
}

impl RecordWalk {
    /// The smallest key with a record that has not been taken.
    pub(super) fn next_key(&self) -> Option<Bytes> {
        let current = self.current.next.as_ref().map(|(key, _)| key.value());
        let history = self.history.next.as_ref().map(|(id, _)| id.value().0);
        let smallest = match (current, history) {
            (Some(current), Some(history)) => Some(current.min(history)),
            (current, history) => current.or(history),
        };
        smallest.map(Bytes::copy_from_slice)
    }

    /// Takes the key's next record of history, the oldest first.
    pub(super) fn history_of(
        &mut self,
        key: &[u8],
    ) -> Result<Option<(Revision, Found)>, StateError> {
        if self.history.next.as_ref().is_none_or(|(id, _)| id.value().0 != key) {
            return Ok(None);
        }
        Ok(self.history.take()?.map(|(id, bytes)| (id.value().1, bytes)))
    }

    /// Takes the key's current record.
    pub(super) fn current_of(&mut self, key: &[u8]) -> Result<Option<Found>, StateError> {
        if self.current.next.as_ref().is_none_or(|(found, _)| found.value() != key) {
            return Ok(None);
        }
        Ok(self.current.take()?.map(|(_, bytes)| bytes))
    }
}
