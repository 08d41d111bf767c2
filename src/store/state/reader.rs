//! Reads that see layers and file of one moment.
//!
//! How: under the lock a reader copies what the layers say about its range (records share
//! their bytes) and takes the file's view of that moment; the file is read after the lock
//! is gone.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::disk_view::{DiskView, decode_kv};
use super::store::{Inner, RevisionEvents, StateStore};
use super::{StateError, access};
use crate::logic::mvcc::{
    KeyRange, MvccError, MvccView, Outcome, Revisions, Scan, run_range, run_txn,
};
use crate::model::kv::{
    Event, EventKind, KeyValue, RangeRequest, RangeResponse, Revision, TxnRequest,
};
use crate::model::lease::LeaseId;

type Overlay = BTreeMap<Bytes, Option<KeyValue>>;

/// The matching events of one revision.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) revision: Revision,
    pub(crate) events: Vec<Event>,
}

/// What a watcher's read found.
#[derive(Debug)]
pub(crate) enum Reader {
    /// Everything below `next` that matches; `next` is where to go on.
    Changes {
        changes: Vec<Change>,
        next: Revision,
    },
    Compacted {
        compact_revision: Revision,
    },
}

impl Inner {
    pub(super) fn layers(&self) -> impl Iterator<Item = &super::layer::Layer> {
        self.frozen.as_deref().into_iter().chain(std::iter::once(&self.active))
    }

    fn overlay(&self, range: &KeyRange, at: Option<Revision>) -> Overlay {
        let mut overlay = Overlay::new();
        if range.is_empty() {
            return overlay;
        }
        for layer in self.layers() {
            match at {
                None => layer.overlay_current(range, &mut overlay),
                Some(at) => layer.overlay_at(range, at, &mut overlay),
            }
        }
        overlay
    }

    fn overlay_key(&self, key: &[u8]) -> Option<Option<KeyValue>> {
        let layers = self.frozen.as_deref().into_iter().chain(std::iter::once(&self.active));
        let mut found = None;
        for layer in layers {
            if let Some(changed) = layer.current.get(key) {
                found = Some(changed.clone());
            }
        }
        found
    }
}

/// Merges layers over the file; what does not fit is only counted.
struct Merge {
    overlay: std::iter::Peekable<std::collections::btree_map::IntoIter<Bytes, Option<KeyValue>>>,
    take: usize,
    /// Bytes after which it has enough; `None` goes on counting to the end.
    room: Option<usize>,
    scan: Scan,
}

impl Merge {
    fn new(overlay: Overlay, take: usize, room: Option<usize>) -> Self {
        Self { overlay: overlay.into_iter().peekable(), take, room, scan: Scan::default() }
    }

    fn wants_more(&self) -> bool {
        self.room.is_none_or(|room| room > 0 && self.scan.kvs.len() < self.take)
    }

    fn push(
        &mut self,
        kv: impl FnOnce() -> Result<KeyValue, StateError>,
    ) -> Result<(), StateError> {
        if !self.wants_more() {
            return Ok(());
        }
        self.scan.count += 1;
        if self.scan.kvs.len() < self.take {
            let kv = kv()?;
            if let Some(room) = &mut self.room {
                *room = room.saturating_sub(kv.key.len() + kv.value.len() + 64);
            }
            self.scan.kvs.push(kv);
        }
        Ok(())
    }

    /// Takes the file's next record, unless a layer has a newer word on the key.
    fn disk(
        &mut self,
        key: &[u8],
        kv: impl FnOnce() -> Result<KeyValue, StateError>,
    ) -> Result<(), StateError> {
        while let Some((_, value)) = self.overlay.next_if(|(changed, _)| changed[..] < *key) {
            if let Some(value) = value {
                self.push(|| Ok(value))?;
            }
        }
        if let Some((_, value)) = self.overlay.next_if(|(changed, _)| changed[..] == *key) {
            return match value {
                Some(value) => self.push(|| Ok(value)),
                None => Ok(()),
            };
        }
        self.push(kv)
    }

    fn finish(mut self) -> Result<Scan, StateError> {
        while let Some((_, value)) = self.overlay.next() {
            if let Some(value) = value {
                self.push(|| Ok(value))?;
            }
        }
        Ok(self.scan)
    }
}

fn scan_merged(
    overlay: Overlay,
    view: &DiskView,
    range: &KeyRange,
    at: Option<Revision>,
    take: usize,
    room: Option<usize>,
) -> Result<Scan, StateError> {
    if range.is_empty() {
        return Ok(Scan::default());
    }
    let mut merge = Merge::new(overlay, take, room);
    match at {
        None => view.each_current(range, |key, bytes| {
            merge.disk(key, || decode_kv(key, bytes))?;
            Ok(merge.wants_more())
        })?,
        Some(at) => view.each_at(range, at, |kv| {
            // A layer's newer record of a deleted key is pushed in its turn all the same.
            if kv.version > 0 {
                let key = kv.key.clone();
                merge.disk(&key, || Ok(kv))?;
            }
            Ok(merge.wants_more())
        })?,
    }
    merge.finish()
}

/// The newest state, for the apply path: nobody else changes it meanwhile.
pub(super) struct Newest<'a>(pub(super) &'a StateStore);

impl MvccView for Newest<'_> {
    type Error = StateError;

    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, StateError> {
        let view = {
            let inner = self.0.read();
            if let Some(found) = inner.overlay_key(key) {
                return Ok(found);
            }
            inner.view.clone()
        };
        view.get(key)
    }

    fn scan(
        &self,
        range: &KeyRange,
        at: Option<Revision>,
        take: usize,
    ) -> Result<Scan, StateError> {
        let (overlay, view) = {
            let inner = self.0.read();
            (inner.overlay(range, at), inner.view.clone())
        };
        scan_merged(overlay, &view, range, at, take, None)
    }

    fn has_lease(&self, id: LeaseId) -> bool {
        self.0.lease(id).is_some()
    }
}

/// The state as of one revision, for transactions that only read.
struct AsOf<'a> {
    store: &'a StateStore,
    at: Revision,
}

impl MvccView for AsOf<'_> {
    type Error = StateError;

    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, StateError> {
        let range = KeyRange::new(Bytes::copy_from_slice(key), Bytes::new());
        Ok(self.scan(&range, None, 1)?.kvs.pop())
    }

    fn scan(
        &self,
        range: &KeyRange,
        at: Option<Revision>,
        take: usize,
    ) -> Result<Scan, StateError> {
        Newest(self.store).scan(range, Some(at.unwrap_or(self.at)), take)
    }

    fn has_lease(&self, id: LeaseId) -> bool {
        self.store.lease(id).is_some()
    }
}

/// A moment of the state with one range of the layers.
#[derive(Debug)]
pub(crate) struct Moment {
    revisions: Revisions,
    /// At which revision the overlay was taken; none is the newest.
    shown: Option<Revision>,
    overlay: Overlay,
    view: Arc<DiskView>,
}

impl MvccView for Moment {
    type Error = StateError;

    fn get(&self, _key: &[u8]) -> Result<Option<KeyValue>, StateError> {
        unreachable!("a range read only scans")
    }

    fn scan(
        &self,
        range: &KeyRange,
        at: Option<Revision>,
        take: usize,
    ) -> Result<Scan, StateError> {
        let at = at.or(self.shown);
        scan_merged(self.overlay.clone(), &self.view, range, at, take, None)
    }

    fn has_lease(&self, _id: LeaseId) -> bool {
        unreachable!("a range read attaches nothing")
    }
}

impl Moment {
    pub(crate) fn revision(&self) -> Revision {
        self.revisions.current
    }

    pub(crate) fn revisions(&self) -> Revisions {
        self.revisions
    }

    /// Answers the range that the moment was taken for; blocks on the disk.
    pub(crate) fn range(
        &self,
        request: &RangeRequest,
    ) -> Result<RangeResponse, MvccError<StateError>> {
        run_range(self, self.revisions, request)
    }

    /// The first records of a part of the moment's range, up to a number and about so many
    /// bytes; blocks on the disk.
    pub(crate) fn page(
        &self,
        range: &KeyRange,
        at: Revision,
        take: usize,
        bytes: usize,
    ) -> Result<Vec<KeyValue>, StateError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let at = (at > 0 && at < self.revisions.current).then_some(at).or(self.shown);
        let part = self.overlay.range::<[u8], _>(range.bounds());
        let overlay = part.map(|(key, kv)| (key.clone(), kv.clone())).collect();
        Ok(scan_merged(overlay, &self.view, range, at, take, Some(bytes))?.kvs)
    }

    /// How many keys a part of the moment's range has; blocks on the disk.
    pub(crate) fn count(&self, range: &KeyRange, at: Revision) -> Result<u64, StateError> {
        if range.is_empty() {
            return Ok(0);
        }
        let at = (at > 0 && at < self.revisions.current).then_some(at).or(self.shown);
        let part = self.overlay.range::<[u8], _>(range.bounds());
        let overlay = part.map(|(key, kv)| (key.clone(), kv.clone())).collect();
        Ok(scan_merged(overlay, &self.view, range, at, 0, None)?.count)
    }
}

impl StateStore {
    /// The state of this moment, for reading one range.
    pub(crate) fn moment(&self, request: &RangeRequest) -> Moment {
        let range = KeyRange::new(request.key.clone(), request.range_end.clone());
        let inner = self.read();
        let applied = inner.revisions();
        let revisions = Revisions { current: inner.shown().revision, ..applied };
        let at = (request.revision > 0 && request.revision < revisions.current)
            .then_some(request.revision);
        let shown = at.or_else(|| inner.held_back(&range, revisions.current));
        let overlay = inner.overlay(&range, shown);
        Moment { revisions, shown, overlay, view: inner.view.clone() }
    }

    /// Answers a range from this member's state; blocks on the disk.
    pub(crate) fn range(
        &self,
        request: &RangeRequest,
    ) -> Result<RangeResponse, MvccError<StateError>> {
        self.moment(request).range(request)
    }

    /// Evaluates a transaction that cannot write; blocks on the disk.
    pub(crate) fn read_txn(&self, request: &TxnRequest) -> Result<Outcome, MvccError<StateError>> {
        loop {
            let revisions = self.revisions();
            let outcome = run_txn(&AsOf { store: self, at: revisions.current }, revisions, request);
            // A compaction past the revision may have removed records under the reader.
            if self.revisions().compacted <= revisions.current {
                return outcome;
            }
        }
    }

    /// Up to `limit` revisions of `from..=upto`, if memory has them from `from` on.
    pub(crate) fn recent_from(
        &self,
        from: Revision,
        upto: Revision,
        limit: usize,
    ) -> Option<Vec<Arc<RevisionEvents>>> {
        let recent = self.recent();
        let first = recent.front()?.revision;
        let skip = usize::try_from(from.checked_sub(first)?).ok()?;
        let span = recent.iter().skip(skip).take_while(|one| one.revision <= upto);
        let span: Vec<_> = span.take(limit).cloned().collect();
        (!span.is_empty()).then_some(span)
    }

    /// The changes from `from` on, if memory still has all of them.
    pub(crate) fn recent_changes(
        &self,
        range: &KeyRange,
        from: Revision,
        prev_kv: bool,
    ) -> Option<Reader> {
        let upto = self.progress.borrow().revision;
        let span: Vec<_> = {
            let recent = self.recent();
            let first = recent.front()?.revision;
            if first > from {
                return None;
            }
            let skip = usize::try_from(from - first).ok()?;
            recent.iter().skip(skip).take_while(|one| one.revision <= upto).cloned().collect()
        };
        let next = span.last()?.revision + 1;
        let changes = span
            .iter()
            .map(|one| Change {
                revision: one.revision,
                events: one
                    .events
                    .iter()
                    .filter(|event| range.contains(&event.kv.key))
                    .map(|event| Event {
                        prev_kv: if prev_kv { event.prev_kv.clone() } else { None },
                        ..event.clone()
                    })
                    .collect(),
            })
            .filter(|change| !change.events.is_empty())
            .collect();
        Some(Reader::Changes { changes, next })
    }

    /// The changes from `from` on, at most `limit` revisions; blocks on the disk.
    pub(crate) fn changes(
        &self,
        range: &KeyRange,
        from: Revision,
        prev_kv: bool,
        limit: usize,
    ) -> Result<Reader, StateError> {
        let upto = self.progress.borrow().revision;
        let (layers, view, compacted) = {
            let inner = self.read();
            let keys: BTreeMap<Revision, Vec<Bytes>> = inner
                .layers()
                .flat_map(|layer| layer.changes.range(from..=upto))
                .map(|(revision, keys)| (*revision, keys.clone()))
                .collect();
            (keys, inner.view.clone(), inner.marks.compacted)
        };
        if from < compacted {
            return Ok(Reader::Compacted { compact_revision: compacted });
        }
        let mut keys: BTreeMap<Revision, Vec<Bytes>> = BTreeMap::new();
        let mut next = upto + 1;
        for row in view.changes.range((from, 0)..=(upto, u32::MAX)).map_err(access("read"))? {
            let (id, key) = row.map_err(access("read"))?;
            let (revision, _) = id.value();
            if keys.len() >= limit && !keys.contains_key(&revision) {
                next = revision;
                break;
            }
            keys.entry(revision).or_default().push(Bytes::copy_from_slice(key.value()));
        }
        for (revision, changed) in layers {
            if revision >= next || keys.len() >= limit {
                next = next.min(revision);
                break;
            }
            keys.insert(revision, changed);
        }
        let mut changes = Vec::new();
        for (revision, changed) in keys {
            let matching = changed.iter().filter(|key| range.contains(key));
            let events = matching
                .map(|key| self.event_at(key, revision, prev_kv))
                .collect::<Result<Vec<_>, _>>()?;
            if !events.is_empty() {
                changes.push(Change { revision, events });
            }
        }
        // Compaction may have begun to remove this span after it was looked up.
        let compacted = self.revisions().compacted;
        if from < compacted {
            return Ok(Reader::Compacted { compact_revision: compacted });
        }
        Ok(Reader::Changes { changes, next })
    }

    fn event_at(
        &self,
        key: &Bytes,
        revision: Revision,
        prev_kv: bool,
    ) -> Result<Event, StateError> {
        let kv = self.record_at(key, revision)?.unwrap_or_default();
        let before = if prev_kv { self.record_at(key, revision - 1)? } else { None };
        Ok(Event {
            kind: if kv.version > 0 { EventKind::Put } else { EventKind::Delete },
            kv,
            prev_kv: before.filter(|kv| kv.version > 0),
        })
    }

    /// The record of a key at or below a revision; a deletion has version 0.
    fn record_at(&self, key: &Bytes, at: Revision) -> Result<Option<KeyValue>, StateError> {
        let view = {
            let inner = self.read();
            let newest = inner.layers().filter_map(|layer| layer.get_at(key, at)).last();
            if let Some(kv) = newest {
                return Ok(Some(kv.clone()));
            }
            inner.view.clone()
        };
        view.get_at(key, at)
    }
}
