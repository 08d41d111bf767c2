//! Runs one transaction over a view and says what it changed.
//!
//! Why a buffer: operations of a transaction see the writes before them, while the view
//! stays as it was, so a refused transaction leaves no trace.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use bytes::Bytes;

use super::{KeyRange, MvccError, MvccView, Revisions, Scan, check_txn, run_range};
use crate::model::kv::{
    Compare, CompareOp, CompareTarget, DeleteRangeRequest, Event, EventKind, KeyValue, Op,
    OpResponse, PutRequest, Revision, TxnRequest, TxnResponse,
};
use crate::model::lease::LeaseId;
use crate::model::refusal::Refusal;

/// What a transaction answered and changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub response: TxnResponse,
    /// In the order of the operations, each with the record before it; empty if nothing
    /// was written.
    pub events: Vec<Event>,
}

/// Evaluates guards and operations; the events all carry revision `current + 1`.
pub fn run_txn<V: MvccView>(
    view: &V,
    revisions: Revisions,
    txn: &TxnRequest,
) -> Result<Outcome, MvccError<V::Error>> {
    check_txn(txn)?;
    let mut run = Run {
        view,
        revisions,
        next: revisions.current + 1,
        changed: BTreeMap::new(),
        events: vec![],
    };
    let mut response = run.branch(txn)?;
    response.revision = run.revision();
    Ok(Outcome { response, events: run.events })
}

struct Run<'a, V: MvccView> {
    view: &'a V,
    revisions: Revisions,
    next: Revision,
    /// Writes of this transaction; `None` is deleted.
    changed: BTreeMap<Bytes, Option<KeyValue>>,
    events: Vec<Event>,
}

impl<V: MvccView> MvccView for Run<'_, V> {
    type Error = V::Error;

    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, V::Error> {
        match self.changed.get(key) {
            Some(changed) => Ok(changed.clone()),
            None => self.view.get(key),
        }
    }

    fn scan(&self, range: &KeyRange, at: Option<Revision>, take: usize) -> Result<Scan, V::Error> {
        if at.is_some() || self.changed.is_empty() || range.is_empty() {
            return self.view.scan(range, at, take);
        }
        // Rare (reading a range after writing in one transaction), so simple and whole.
        let base = self.view.scan(range, None, usize::MAX)?;
        let mut live: BTreeMap<Bytes, KeyValue> =
            base.kvs.into_iter().map(|kv| (kv.key.clone(), kv)).collect();
        for (key, changed) in self.changed.iter().filter(|(key, _)| range.contains(key)) {
            match changed {
                Some(kv) => live.insert(key.clone(), kv.clone()),
                None => live.remove(key),
            };
        }
        let count = live.len() as u64;
        Ok(Scan { kvs: live.into_values().take(take).collect(), count })
    }

    fn has_lease(&self, id: LeaseId) -> bool {
        self.view.has_lease(id)
    }
}

impl<V: MvccView> Run<'_, V> {
    fn revision(&self) -> Revision {
        if self.events.is_empty() { self.revisions.current } else { self.next }
    }

    fn branch(&mut self, txn: &TxnRequest) -> Result<TxnResponse, MvccError<V::Error>> {
        let mut succeeded = true;
        for compare in &txn.compare {
            if !self.holds(compare)? {
                succeeded = false;
                break;
            }
        }
        let ops = if succeeded { &txn.success } else { &txn.failure };
        let mut responses = Vec::with_capacity(ops.len());
        for op in ops {
            responses.push(match op {
                Op::Range(range) => {
                    let mut answer = run_range(self, self.revisions, range)?;
                    answer.revision = self.revision();
                    OpResponse::Range(answer)
                }
                Op::Put(put) => self.put(put)?,
                Op::DeleteRange(delete) => self.delete(delete)?,
                Op::Txn(nested) => OpResponse::Txn(Box::new(self.branch(nested)?)),
            });
        }
        Ok(TxnResponse { revision: self.revision(), succeeded, responses })
    }

    fn holds(&self, compare: &Compare) -> Result<bool, MvccError<V::Error>> {
        let range = KeyRange::new(compare.key.clone(), compare.range_end.clone());
        if range.single().is_some() {
            let found = self.get(&compare.key).map_err(MvccError::View)?;
            return Ok(match found {
                Some(kv) => relates(compare, &kv),
                // A missing key has no value; everything else about it is 0.
                None => match compare.target {
                    CompareTarget::Value(_) => false,
                    _ => relates(compare, &KeyValue::default()),
                },
            });
        }
        let found = self.scan(&range, None, usize::MAX).map_err(MvccError::View)?;
        if found.kvs.is_empty() {
            // etcd compares an empty range like one missing key.
            return Ok(match compare.target {
                CompareTarget::Value(_) => false,
                _ => relates(compare, &KeyValue::default()),
            });
        }
        Ok(found.kvs.iter().all(|kv| relates(compare, kv)))
    }

    fn put(&mut self, put: &PutRequest) -> Result<OpResponse, MvccError<V::Error>> {
        if put.lease != 0 && !self.view.has_lease(put.lease) {
            return Err(Refusal::LeaseNotFound.into());
        }
        let old = self.get(&put.key).map_err(MvccError::View)?;
        if old.is_none() && (put.ignore_value || put.ignore_lease) {
            return Err(Refusal::KeyNotFound.into());
        }
        let (create_revision, version) =
            old.as_ref().map_or((self.next, 1), |old| (old.create_revision, old.version + 1));
        let kept = old.as_ref();
        let kv = KeyValue {
            key: put.key.clone(),
            value: match kept {
                Some(old) if put.ignore_value => old.value.clone(),
                _ => put.value.clone(),
            },
            create_revision,
            mod_revision: self.next,
            version,
            lease: match kept {
                Some(old) if put.ignore_lease => old.lease,
                _ => put.lease,
            },
        };
        self.changed.insert(put.key.clone(), Some(kv.clone()));
        let prev_kv = if put.prev_kv { old.clone() } else { None };
        let answer = OpResponse::Put { revision: self.next, prev_kv };
        self.events.push(Event { kind: EventKind::Put, kv, prev_kv: old });
        Ok(answer)
    }

    fn delete(&mut self, delete: &DeleteRangeRequest) -> Result<OpResponse, MvccError<V::Error>> {
        let range = KeyRange::new(delete.key.clone(), delete.range_end.clone());
        let gone = if range.single().is_some() {
            self.get(&delete.key).map_err(MvccError::View)?.into_iter().collect()
        } else if range.is_empty() {
            Vec::new()
        } else {
            self.scan(&range, None, usize::MAX).map_err(MvccError::View)?.kvs
        };
        for old in &gone {
            self.changed.insert(old.key.clone(), None);
            let kv =
                KeyValue { key: old.key.clone(), mod_revision: self.next, ..KeyValue::default() };
            self.events.push(Event { kind: EventKind::Delete, kv, prev_kv: Some(old.clone()) });
        }
        Ok(OpResponse::DeleteRange {
            revision: self.revision(),
            deleted: gone.len() as i64,
            prev_kvs: if delete.prev_kv { gone } else { Vec::new() },
        })
    }
}

fn relates(compare: &Compare, kv: &KeyValue) -> bool {
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
}
