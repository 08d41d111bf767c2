//! What a transaction must satisfy before it is proposed or applied.
//!
//! Why twice: the proposer refuses early to keep garbage out of the log, the state
//! machine refuses again because a log entry may come from another version.
//! Source: etcd `server/etcdserver/api/v3rpc/key.go`, `checkTxnRequest` and
//! `checkIntervals`.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{KeyRange, MvccError};
use crate::base::limits::STORE_TXN_MAX_OPS;
use crate::model::kv::{Op, TxnRequest};
use crate::model::refusal::Refusal;

/// Refuses malformed transactions and keys that would change twice in one revision.
pub fn check_txn<E>(txn: &TxnRequest) -> Result<(), MvccError<E>> {
    check_shape(txn)?;
    check_intervals(&txn.success)?;
    check_intervals(&txn.failure)?;
    Ok(())
}

/// Whether the transaction cannot write, whatever its guards say.
pub fn is_read_only(txn: &TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).all(|op| match op {
        Op::Range(_) => true,
        Op::Put(_) | Op::DeleteRange(_) => false,
        Op::Txn(nested) => is_read_only(nested),
    })
}

fn check_shape<E>(txn: &TxnRequest) -> Result<(), MvccError<E>> {
    let most = txn.compare.len().max(txn.success.len()).max(txn.failure.len());
    if most > STORE_TXN_MAX_OPS {
        return Err(Refusal::TooManyOps.into());
    }
    if txn.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Refusal::EmptyKey.into());
    }
    for op in txn.success.iter().chain(&txn.failure) {
        match op {
            Op::Range(range) if range.key.is_empty() => return Err(Refusal::EmptyKey.into()),
            Op::DeleteRange(delete) if delete.key.is_empty() => {
                return Err(Refusal::EmptyKey.into());
            }
            Op::Put(put) if put.key.is_empty() => return Err(Refusal::EmptyKey.into()),
            Op::Put(put) if put.ignore_value && !put.value.is_empty() => {
                return Err(Refusal::ValueProvided.into());
            }
            Op::Put(put) if put.ignore_lease && put.lease != 0 => {
                return Err(Refusal::LeaseProvided.into());
            }
            Op::Txn(nested) => check_shape(nested)?,
            Op::Range(_) | Op::Put(_) | Op::DeleteRange(_) => {}
        }
    }
    Ok(())
}

type Touched = (BTreeSet<Bytes>, Vec<KeyRange>);

/// Puts of one branch and the ranges it deletes; an error if a put meets another put or
/// a delete, in whatever order. The two branches of a nested transaction exclude each other, so they may
/// put the same key.
fn check_intervals<E>(ops: &[Op]) -> Result<Touched, MvccError<E>> {
    let mut deletes: Vec<KeyRange> = ops
        .iter()
        .filter_map(|op| match op {
            Op::DeleteRange(delete) => {
                Some(KeyRange::new(delete.key.clone(), delete.range_end.clone()))
            }
            _ => None,
        })
        .collect();
    let deleted = |deletes: &[KeyRange], key: &Bytes| deletes.iter().any(|d| d.contains(key));
    let mut puts = BTreeSet::new();
    for op in ops {
        let Op::Txn(nested) = op else { continue };
        let (then_puts, then_deletes) = check_intervals(&nested.success)?;
        let (else_puts, else_deletes) = check_intervals(&nested.failure)?;
        for key in then_puts.union(&else_puts) {
            if puts.contains(key) || deleted(&deletes, key) {
                return Err(Refusal::DuplicateKey.into());
            }
        }
        // What an earlier nested transaction puts a later one may not delete: etcd lets it,
        // but then the key changes twice in one revision.
        let later = [&then_deletes, &else_deletes];
        if later.into_iter().any(|deletes| puts.iter().any(|key| deleted(deletes, key))) {
            return Err(Refusal::DuplicateKey.into());
        }
        puts.extend(then_puts);
        puts.extend(else_puts);
        deletes.extend(then_deletes);
        deletes.extend(else_deletes);
    }
    for op in ops {
        let Op::Put(put) = op else { continue };
        if deleted(&deletes, &put.key) || !puts.insert(put.key.clone()) {
            return Err(Refusal::DuplicateKey.into());
        }
    }
    Ok((puts, deletes))
}
