//! Leases: what the log says of them, and when the leader lets them end.
//!
//! ```text
//!  log ──grant, revoke, mark──► LeaseBook (the same on every member, no time in it)
//!                                   │ promote, granted, revoked, marked
//!                                   ▼
//!  keepalives, ticks ─────────► LeaseClock (the leader's; monotonic milliseconds)
//!                                   │ expire these, mark those
//!                                   ▼
//!                                  log
//! ```
//!
//! Why two: a keepalive must cost no log entry, so only the leader knows it; what another
//! leader must know about it is that *no old remainder holds any more*, and that is in
//! the log before the keepalive is answered.
//!
//! Invariants:
//! - A lease never ends earlier than its time to live after its holder *sent* the last
//!   keepalive that was answered, or the grant, whoever led meanwhile and whoever paused
//!   (`lease/model.rs` explores this).
//! - After a change of leader a lease has at least its marked remainder, its full time
//!   where none is marked.
//! - A mark counts only in the epoch it was made in; each logged renewal starts a new one.
//! - A proposal names the term its clock ran in and is void in any other, so one that was
//!   stuck on its way does nothing later.
//!
//! Not here: attached keys (`store/state`), who leads and what time it is (`store/`).

mod clock;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use clock::{Due, LeaseClock, Renewal};

use crate::base::limits::LEASE_TTL_MIN_S;
use crate::model::lease::{LEASE_TTL_MAX_S, LeaseGranted, LeaseId};
use crate::model::refusal::Refusal;

/// One lease as the log knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LeaseRecord {
    /// Seconds granted.
    pub ttl_s: i64,
    /// Seconds that were left when the leader last noted it, if that still holds.
    pub remaining_s: Option<i64>,
    /// How many renewals were logged.
    pub epoch: u64,
}

/// A note about one lease for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LeaseMark {
    pub id: LeaseId,
    /// The epoch in which the note was made.
    pub epoch: u64,
    /// Seconds left; `None` says that the lease is renewed and no remainder holds.
    pub remaining_s: Option<i64>,
}

/// All leases as the log knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LeaseBook {
    leases: BTreeMap<LeaseId, LeaseRecord>,
}

/// Refuses times to live that etcd refuses.
pub fn check_ttl(ttl_s: i64) -> Result<(), Refusal> {
    if ttl_s > LEASE_TTL_MAX_S { Err(Refusal::LeaseTtlTooLarge) } else { Ok(()) }
}

impl LeaseBook {
    /// The book as it was stored.
    pub fn load(leases: impl IntoIterator<Item = (LeaseId, LeaseRecord)>) -> Self {
        Self { leases: leases.into_iter().collect() }
    }

    /// What a grant would make; times to live below the minimum are raised to it.
    pub fn grant(&self, id: LeaseId, ttl_s: i64) -> Result<(LeaseGranted, LeaseRecord), Refusal> {
        if id == 0 {
            return Err(Refusal::LeaseNotFound);
        }
        check_ttl(ttl_s)?;
        if self.leases.contains_key(&id) {
            return Err(Refusal::LeaseExists);
        }
        let ttl_s = ttl_s.max(LEASE_TTL_MIN_S);
        let record = LeaseRecord { ttl_s, remaining_s: None, epoch: 0 };
        Ok((LeaseGranted { id, ttl_s }, record))
    }

    /// What a note would make of its lease; nothing if the lease is gone or the note is of
    /// an older epoch.
    pub fn mark(&self, mark: &LeaseMark) -> Option<LeaseRecord> {
        let mut record = self.get(mark.id).filter(|known| known.epoch == mark.epoch)?;
        record.remaining_s = mark.remaining_s;
        if mark.remaining_s.is_none() {
            record.epoch += 1;
        }
        Some(record)
    }

    /// Takes up what a grant or a note made; `None` ends the lease.
    pub fn set(&mut self, id: LeaseId, record: Option<LeaseRecord>) {
        match record {
            Some(record) => self.leases.insert(id, record),
            None => self.leases.remove(&id),
        };
    }

    pub fn get(&self, id: LeaseId) -> Option<LeaseRecord> {
        self.leases.get(&id).copied()
    }

    /// All leases in order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (LeaseId, LeaseRecord)> {
        self.leases.iter().map(|(id, record)| (*id, *record))
    }
}
