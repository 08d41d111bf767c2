//! Changes that are applied but not flushed.
//!
//! Invariant: a layer holds all changes of its span of revisions, so a key that is not in
//! it did not change in that span.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::requests::Answered;
use crate::logic::auth::AuthState;
use crate::logic::lease::LeaseRecord;
use crate::logic::mvcc::KeyRange;
use crate::model::kv::{Event, KeyValue, Revision};
use crate::model::lease::LeaseId;
use crate::store::admin_api::Alarm;
use crate::store::commitment::Commitment;
use crate::store::types::StartNote;

/// One record and which change of its revision it is.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) kv: KeyValue,
    pub(super) number: u32,
}

/// What one span of applied entries changed.
#[derive(Debug, Default)]
pub(super) struct Layer {
    /// Newest record of each changed key; `None` is deleted.
    pub(super) current: BTreeMap<Bytes, Option<KeyValue>>,
    /// Every record of the span; a deletion has version 0.
    pub(super) history: BTreeMap<(Bytes, Revision), Record>,
    /// Keys that each revision changed, in order.
    pub(super) changes: BTreeMap<Revision, Vec<Bytes>>,
    pub(super) requests: BTreeMap<u64, Answered>,
    pub(super) boots: BTreeMap<u64, StartNote>,
    /// Leases that changed; `None` is gone.
    pub(super) leases: BTreeMap<LeaseId, Option<LeaseRecord>>,
    /// Keys that were attached (true) or are attached no more.
    pub(super) lease_keys: BTreeMap<(LeaseId, Bytes), bool>,
    /// Users and roles, if they changed.
    pub(super) auth: Option<Arc<AuthState>>,
    /// The alarms that stand, if they changed.
    pub(super) alarms: Option<BTreeSet<Alarm>>,
    /// What answers wait for, if it changed.
    pub(super) commitment: Option<Arc<Commitment>>,
    /// Something was applied, if only a blank entry.
    pub(super) dirty: bool,
    pub(super) bytes: usize,
}

impl Layer {
    /// Takes up the events of one transaction.
    pub(super) fn record(&mut self, revision: Revision, events: &[Event]) {
        let keys = self.changes.entry(revision).or_default();
        for (number, event) in (0_u32..).zip(events) {
            let kv = &event.kv;
            // Key and record stand in two maps; the value is shared between them.
            self.bytes += 3 * kv.key.len() + kv.value.len() + 256;
            let live = (kv.version > 0).then(|| kv.clone());
            self.current.insert(kv.key.clone(), live);
            self.history.insert((kv.key.clone(), revision), Record { kv: kv.clone(), number });
            keys.push(kv.key.clone());
            let before = event.prev_kv.as_ref().map_or(0, |before| before.lease);
            if before != kv.lease {
                if before != 0 {
                    self.lease_keys.insert((before, kv.key.clone()), false);
                }
                if kv.lease != 0 {
                    self.lease_keys.insert((kv.lease, kv.key.clone()), true);
                }
            }
        }
    }

    /// Puts this layer's newest records of the range over those of an older layer.
    pub(super) fn overlay_current(
        &self,
        range: &KeyRange,
        into: &mut BTreeMap<Bytes, Option<KeyValue>>,
    ) {
        for (key, changed) in self.current.range::<[u8], _>(range.bounds()) {
            into.insert(key.clone(), changed.clone());
        }
    }

    /// The same as of a revision.
    pub(super) fn overlay_at(
        &self,
        range: &KeyRange,
        at: Revision,
        into: &mut BTreeMap<Bytes, Option<KeyValue>>,
    ) {
        for ((key, revision), record) in self.history.range((range.start().clone(), 0)..) {
            if !range.contains(key) {
                break;
            }
            if *revision <= at {
                let kv = &record.kv;
                into.insert(key.clone(), (kv.version > 0).then(|| kv.clone()));
            }
        }
    }

    /// The newest record of a key at or below a revision; a deletion has version 0.
    pub(super) fn get_at(&self, key: &Bytes, at: Revision) -> Option<&KeyValue> {
        let span = (key.clone(), 0)..=(key.clone(), at);
        self.history.range(span).next_back().map(|(_, record)| &record.kv)
    }
}
