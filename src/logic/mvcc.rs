//! etcd's multi-version semantics: revisions, ranges, compares, nested transactions.
//!
//! Why pure: every replica must come to the same answer from the same log entry, so the
//! rules read through [`MvccView`] only, and the same code is tested against a naive model
//! and run over overlay and disk by the state machine.
//!
//! Invariants:
//! - An empty store has revision 1; each writing transaction adds exactly one.
//! - A key changes at most once in one revision (the duplicate check refuses the rest).
//! - A transaction that is refused changes nothing, on every replica alike.
//!
//! Not here: where records lie (`store/state`), who may write (`store/`).

mod answer;
mod check;
mod range;
#[cfg(test)]
mod tests;
mod txn;

pub use answer::run_range;
pub use check::{check_txn, is_read_only};
pub use range::KeyRange;
pub use txn::{Outcome, run_txn};

use crate::model::kv::{KeyValue, Revision};
use crate::model::lease::LeaseId;
use crate::model::refusal::Refusal;

/// The revision of a store that was never written.
pub const FIRST_REVISION: Revision = 1;

/// Where the store stands between two transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revisions {
    /// Newest revision.
    pub current: Revision,
    /// Oldest revision that can still be read; 0 if nothing was ever compacted.
    pub compacted: Revision,
}

/// What a scan found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// The first live records of the range, in key order.
    pub kvs: Vec<KeyValue>,
    /// All live records of the range, also those not returned.
    pub count: u64,
}

/// What the rules need to read. Deleted keys never appear.
pub trait MvccView {
    /// Why a read failed.
    type Error;

    /// The newest record of a key.
    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Self::Error>;

    /// Up to `take` live records of `range`, newest or as of a past revision, and the
    /// number of all of them.
    fn scan(
        &self,
        range: &KeyRange,
        at: Option<Revision>,
        take: usize,
    ) -> Result<Scan, Self::Error>;

    /// Whether a key can be attached to the lease.
    fn has_lease(&self, id: LeaseId) -> bool;
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MvccError<E> {
    #[error("revision {requested} has been compacted; the oldest kept is {compacted}")]
    Compacted { requested: Revision, compacted: Revision },
    #[error("revision {requested} is in the future; the newest is {current}")]
    Future { requested: Revision, current: Revision },
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("cannot read the state")]
    View(E),
}

/// Refuses revisions that were compacted away or do not exist yet.
pub fn check_revision<E>(revisions: Revisions, requested: Revision) -> Result<(), MvccError<E>> {
    if requested > revisions.current {
        return Err(MvccError::Future { requested, current: revisions.current });
    }
    if requested > 0 && requested < revisions.compacted {
        return Err(MvccError::Compacted { requested, compacted: revisions.compacted });
    }
    Ok(())
}

/// Refuses compaction to a revision that is gone already or does not exist yet.
pub fn check_compaction<E>(revisions: Revisions, requested: Revision) -> Result<(), MvccError<E>> {
    if requested > revisions.current {
        return Err(MvccError::Future { requested, current: revisions.current });
    }
    if requested <= revisions.compacted {
        return Err(MvccError::Compacted { requested, compacted: revisions.compacted });
    }
    Ok(())
}
