//! The store as a simple list of what every key was, to compare answers with.
//!
//! Why not the product's own rules: a mistake in them would be on both sides. This one
//! keeps whole histories in a map, reads by looking at all keys and knows no limits.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use bytes::Bytes;
use holdfast::model::kv::{
    Compare, CompareOp, CompareTarget, Event, EventKind, KeyValue, Op, OpResponse, RangeRequest,
    RangeResponse, Revision, SortOrder, SortTarget, TxnRequest, TxnResponse,
};

/// The store at every revision up to the newest.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) revision: Revision,
    /// What each key was, oldest first; version 0 is a deletion.
    keys: BTreeMap<Bytes, Vec<KeyValue>>,
}

/// What a transaction answers, and what it changes.
pub(crate) struct Ran {
    pub(crate) answer: TxnResponse,
    pub(crate) events: Vec<Event>,
}

fn within(key: &[u8], start: &[u8], end: &[u8]) -> bool {
    match end {
        [] => key == start,
        [0] => key >= start,
        end => key >= start && key < end,
    }
}

impl Model {
    pub(crate) fn new() -> Self {
        Self { revision: 1, keys: BTreeMap::new() }
    }

    /// The key as of a revision.
    pub(crate) fn get(&self, key: &[u8], at: Revision) -> Option<&KeyValue> {
        let versions = self.keys.get(key)?;
        let newest = versions.iter().rev().find(|kv| kv.mod_revision <= at)?;
        (newest.version > 0).then_some(newest)
    }

    /// All that lives in a range as of a revision.
    pub(crate) fn live(&self, start: &[u8], end: &[u8], at: Revision) -> Vec<KeyValue> {
        let all = self.keys.keys().filter(|key| within(key, start, end));
        all.filter_map(|key| self.get(key, at).cloned()).collect()
    }

    /// Keys that hang on a lease as of a revision.
    pub(crate) fn attached(&self, lease: i64, at: Revision) -> Vec<Bytes> {
        let all = self.live(&[0], &[0], at).into_iter();
        all.filter(|kv| kv.lease == lease).map(|kv| kv.key).collect()
    }

    /// What a range read answers at a revision.
    pub(crate) fn range(&self, request: &RangeRequest, at: Revision) -> RangeResponse {
        Run { model: self, at, changed: BTreeMap::new(), events: Vec::new() }.range(request)
    }

    /// Runs a transaction on the state of a revision; nothing if it is refused.
    pub(crate) fn run(&self, txn: &TxnRequest, at: Revision) -> Option<Ran> {
        let mut run = Run { model: self, at, changed: BTreeMap::new(), events: Vec::new() };
        let mut answer = run.txn(txn)?;
        answer.revision = run.revision();
        Some(Ran { answer, events: run.events })
    }

    /// Makes the next revision.
    pub(crate) fn commit(&mut self, events: &[Event]) {
        self.revision += 1;
        for event in events {
            let mut kv = event.kv.clone();
            kv.mod_revision = self.revision;
            self.keys.entry(kv.key.clone()).or_default().push(kv);
        }
    }

    /// Undoes everything after a revision.
    pub(crate) fn rewind(&mut self, to: Revision) {
        self.revision = to;
        for versions in self.keys.values_mut() {
            while versions.last().is_some_and(|kv| kv.mod_revision > to) {
                versions.pop();
            }
        }
        self.keys.retain(|_, versions| !versions.is_empty());
    }
}

struct Run<'a> {
    model: &'a Model,
    at: Revision,
    changed: BTreeMap<Bytes, Option<KeyValue>>,
    events: Vec<Event>,
}

impl Run<'_> {
    fn revision(&self) -> Revision {
        if self.events.is_empty() { self.at } else { self.at + 1 }
    }

    fn get(&self, key: &[u8]) -> Option<KeyValue> {
        match self.changed.get(key) {
            Some(changed) => changed.clone(),
            None => self.model.get(key, self.at).cloned(),
        }
    }

    fn live(&self, start: &[u8], end: &[u8]) -> Vec<KeyValue> {
        let mut found: BTreeMap<Bytes, KeyValue> = self
            .model
            .live(start, end, self.at)
            .into_iter()
            .map(|kv| (kv.key.clone(), kv))
            .collect();
        for (key, changed) in &self.changed {
            match changed {
                Some(kv) if within(key, start, end) => drop(found.insert(key.clone(), kv.clone())),
                _ => drop(found.remove(key)),
            }
        }
        found.into_values().collect()
    }

    fn txn(&mut self, txn: &TxnRequest) -> Option<TxnResponse> {
        let succeeded = txn.compare.iter().all(|compare| self.holds(compare));
        let mut responses = Vec::new();
        for op in if succeeded { &txn.success } else { &txn.failure } {
            responses.push(match op {
                Op::Range(range) => OpResponse::Range(self.range(range)),
                Op::Put(put) => {
                    let old = self.get(&put.key);
                    if old.is_none() && (put.ignore_value || put.ignore_lease) {
                        return None;
                    }
                    let mut kv = KeyValue {
                        key: put.key.clone(),
                        value: put.value.clone(),
                        create_revision: self.at + 1,
                        mod_revision: self.at + 1,
                        version: 1,
                        lease: put.lease,
                    };
                    if let Some(old) = &old {
                        kv.create_revision = old.create_revision;
                        kv.version = old.version + 1;
                        if put.ignore_value {
                            kv.value = old.value.clone();
                        }
                        if put.ignore_lease {
                            kv.lease = old.lease;
                        }
                    }
                    self.changed.insert(put.key.clone(), Some(kv.clone()));
                    let event = Event { kind: EventKind::Put, kv, prev_kv: old.clone() };
                    self.events.push(event);
                    let prev_kv = old.filter(|_| put.prev_kv);
                    OpResponse::Put { revision: self.at + 1, prev_kv }
                }
                Op::DeleteRange(delete) => {
                    let gone = self.live(&delete.key, &delete.range_end);
                    for old in &gone {
                        self.changed.insert(old.key.clone(), None);
                        let (key, mod_revision) = (old.key.clone(), self.at + 1);
                        let kv = KeyValue { key, mod_revision, ..KeyValue::default() };
                        let prev_kv = Some(old.clone());
                        self.events.push(Event { kind: EventKind::Delete, kv, prev_kv });
                    }
                    let deleted = gone.len() as i64;
                    let prev_kvs = if delete.prev_kv { gone } else { Vec::new() };
                    OpResponse::DeleteRange { revision: self.revision(), deleted, prev_kvs }
                }
                Op::Txn(nested) => OpResponse::Txn(Box::new(self.txn(nested)?)),
            });
        }
        Some(TxnResponse { revision: self.revision(), succeeded, responses })
    }

    fn holds(&self, compare: &Compare) -> bool {
        let mut found = self.live(&compare.key, &compare.range_end);
        if found.is_empty() {
            if matches!(compare.target, CompareTarget::Value(_)) {
                return false;
            }
            found.push(KeyValue::default());
        }
        found.iter().all(|kv| {
            let order = match &compare.target {
                CompareTarget::Version(given) => kv.version.cmp(given),
                CompareTarget::CreateRevision(given) => kv.create_revision.cmp(given),
                CompareTarget::ModRevision(given) => kv.mod_revision.cmp(given),
                CompareTarget::Value(given) => kv.value.cmp(given),
                CompareTarget::Lease(given) => kv.lease.cmp(given),
            };
            match compare.op {
                CompareOp::Equal => order == Ordering::Equal,
                CompareOp::NotEqual => order != Ordering::Equal,
                CompareOp::Greater => order == Ordering::Greater,
                CompareOp::Less => order == Ordering::Less,
            }
        })
    }

    fn range(&self, request: &RangeRequest) -> RangeResponse {
        let past = request.revision > 0 && request.revision < self.at;
        let mut kvs = if past {
            self.model.live(&request.key, &request.range_end, request.revision)
        } else {
            self.live(&request.key, &request.range_end)
        };
        let count = kvs.len() as i64;
        let between = |is: Revision, from: Revision, to: Revision| {
            (from == 0 || from <= is) && (to == 0 || is <= to)
        };
        kvs.retain(|kv| {
            between(kv.mod_revision, request.min_mod_revision, request.max_mod_revision)
                && between(
                    kv.create_revision,
                    request.min_create_revision,
                    request.max_create_revision,
                )
        });
        kvs.sort_by(|a, b| match request.sort_target {
            SortTarget::Key => a.key.cmp(&b.key),
            SortTarget::Version => a.version.cmp(&b.version),
            SortTarget::Create => a.create_revision.cmp(&b.create_revision),
            SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
            SortTarget::Value => a.value.cmp(&b.value),
        });
        if request.sort_order == SortOrder::Descend {
            // Equal ones stay in the order of their keys.
            let target = request.sort_target;
            kvs.sort_by(|a, b| match target {
                SortTarget::Key => b.key.cmp(&a.key),
                SortTarget::Version => b.version.cmp(&a.version).then(a.key.cmp(&b.key)),
                SortTarget::Create => {
                    b.create_revision.cmp(&a.create_revision).then(a.key.cmp(&b.key))
                }
                SortTarget::Mod => b.mod_revision.cmp(&a.mod_revision).then(a.key.cmp(&b.key)),
                SortTarget::Value => b.value.cmp(&a.value).then(a.key.cmp(&b.key)),
            });
        }
        let limit = usize::try_from(request.limit).unwrap_or(0);
        let more = !request.count_only && limit > 0 && kvs.len() > limit;
        if more {
            kvs.truncate(limit);
        }
        if request.count_only {
            kvs.clear();
        }
        if request.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        RangeResponse { revision: self.revision(), kvs, more, count }
    }
}
