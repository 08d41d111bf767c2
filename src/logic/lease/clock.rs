//! The leader's clock over all leases: when each ends, and what must be noted before.
//!
//! Times are milliseconds of one monotonic clock of this member.
//!
//! Invariants: a renewal is granted only while nothing in the log or on its way to it says
//! less than the full time; a lease whose end was proposed is renewed no more in this
//! term; nothing is due while this member does not lead.

use std::collections::{BTreeMap, BTreeSet};

use super::{LeaseBook, LeaseMark, LeaseRecord};
use crate::base::limits::{LEASE_EXPIRED_PER_TICK, LEASE_MARK_EVERY_S, LEASE_RETRY_MS};
use crate::model::lease::LeaseId;

/// One lease on the leader's clock.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Timed {
    ttl_s: i64,
    epoch: u64,
    ends_ms: u64,
    /// The log says less than the full time.
    remainder_logged: bool,
    /// The epoch of a remainder that was proposed; whether it got there is not known.
    remainder_proposed: Option<u64>,
    /// Its end was proposed and is proposed again at this time.
    ending_ms: Option<u64>,
    /// When the remainder is to be noted next; 0 is never.
    mark_ms: u64,
}

impl Timed {
    fn is_marked(&self) -> bool {
        self.remainder_logged || self.remainder_proposed == Some(self.epoch)
    }
}

/// What a keepalive leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It has its full time again, seconds.
    Renewed { ttl_s: i64 },
    /// There is no such lease.
    Gone,
    /// Its time is over and its end is being proposed; ask again.
    Ending,
    /// This must be in the log first; then ask again.
    MarkFirst(LeaseMark),
    /// This member's clock does not run.
    NotLeading,
}

/// What a tick found to be done, through the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    pub expire: Vec<LeaseId>,
    pub marks: Vec<LeaseMark>,
}

/// Runs while this member leads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LeaseClock {
    term: Option<u64>,
    leases: BTreeMap<LeaseId, Timed>,
    /// (time, lease): its end, or when its end is proposed again.
    ends: BTreeSet<(u64, LeaseId)>,
    marks: BTreeSet<(u64, LeaseId)>,
}

fn millis(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000)
}

impl LeaseClock {
    /// The term in which the clock runs, if it does.
    pub fn term(&self) -> Option<u64> {
        self.term
    }

    /// This member leads in `term` and has applied all that earlier leaders committed:
    /// every lease starts with its remainder, or its full time.
    pub fn promote(&mut self, term: u64, now_ms: u64, book: &LeaseBook) {
        *self = Self { term: Some(term), ..Self::default() };
        for (id, record) in book.iter() {
            self.insert(id, record, now_ms);
        }
    }

    /// This member leads no more, or not in that term.
    pub fn demote(&mut self) {
        *self = Self::default();
    }

    /// A grant was applied.
    pub fn granted(&mut self, id: LeaseId, record: LeaseRecord, now_ms: u64) {
        if self.term.is_some() && !self.leases.contains_key(&id) {
            self.insert(id, record, now_ms);
        }
    }

    /// A revocation or an end was applied.
    pub fn revoked(&mut self, id: LeaseId) {
        if let Some(timed) = self.leases.remove(&id) {
            self.unschedule(id, &timed);
        }
    }

    /// A mark was applied; `record` is what it made.
    pub fn marked(&mut self, id: LeaseId, record: LeaseRecord) {
        if let Some(timed) = self.leases.get_mut(&id) {
            timed.epoch = record.epoch;
            timed.remainder_logged = record.remaining_s.is_some();
        }
    }

    /// A keepalive, on a member that has just confirmed that it leads.
    pub fn renew(&mut self, id: LeaseId, now_ms: u64) -> Renewal {
        if self.term.is_none() {
            return Renewal::NotLeading;
        }
        let Some(timed) = self.leases.get(&id) else { return Renewal::Gone };
        if timed.ending_ms.is_some() || timed.ends_ms <= now_ms {
            return Renewal::Ending;
        }
        if timed.is_marked() {
            let epoch = timed.epoch;
            return Renewal::MarkFirst(LeaseMark { id, epoch, remaining_s: None });
        }
        let mut timed = timed.clone();
        self.unschedule(id, &timed);
        timed.ends_ms = now_ms.saturating_add(millis(timed.ttl_s));
        timed.mark_ms = next_mark(timed.ends_ms, now_ms);
        let ttl_s = timed.ttl_s;
        self.schedule(id, timed);
        Renewal::Renewed { ttl_s }
    }

    /// Milliseconds left; `None` if there is no such lease or the clock does not run.
    pub fn remaining_ms(&self, id: LeaseId, now_ms: u64) -> Option<u64> {
        self.leases.get(&id).map(|timed| timed.ends_ms.saturating_sub(now_ms))
    }

    /// What is due now. Everything that it names is taken to be on its way to the log.
    pub fn tick(&mut self, now_ms: u64) -> Due {
        let mut due = Due::default();
        while due.expire.len() < LEASE_EXPIRED_PER_TICK
            && let Some((_, id)) = self.ends.first().copied().filter(|(at, _)| *at <= now_ms)
        {
            self.ends.pop_first();
            if let Some(timed) = self.leases.get_mut(&id) {
                let again = now_ms.saturating_add(LEASE_RETRY_MS);
                timed.ending_ms = Some(again);
                self.ends.insert((again, id));
                due.expire.push(id);
            }
        }
        while due.marks.len() < LEASE_EXPIRED_PER_TICK
            && let Some((_, id)) = self.marks.first().copied().filter(|(at, _)| *at <= now_ms)
        {
            self.marks.pop_first();
            due.marks.extend(self.note_remainder(id, now_ms));
        }
        due
    }

    /// Notes every remainder that is worth it, at once; before the lead is handed over.
    pub fn mark_all(&mut self, now_ms: u64) -> Vec<LeaseMark> {
        let ids: Vec<LeaseId> = self.marks.iter().map(|(_, id)| *id).collect();
        self.marks.clear();
        ids.into_iter().filter_map(|id| self.note_remainder(id, now_ms)).collect()
    }

    fn note_remainder(&mut self, id: LeaseId, now_ms: u64) -> Option<LeaseMark> {
        let timed = self.leases.get_mut(&id)?;
        timed.mark_ms = next_mark(timed.ends_ms, now_ms);
        if timed.mark_ms > 0 {
            self.marks.insert((timed.mark_ms, id));
        }
        let left_ms = timed.ends_ms.saturating_sub(now_ms);
        let left_s = i64::try_from(left_ms.div_ceil(1_000)).unwrap_or(i64::MAX);
        if left_ms == 0 || left_s >= timed.ttl_s {
            return None;
        }
        timed.remainder_proposed = Some(timed.epoch);
        Some(LeaseMark { id, epoch: timed.epoch, remaining_s: Some(left_s) })
    }

    fn insert(&mut self, id: LeaseId, record: LeaseRecord, now_ms: u64) {
        let left_s = record.remaining_s.unwrap_or(record.ttl_s);
        let ends_ms = now_ms.saturating_add(millis(left_s));
        let timed = Timed {
            ttl_s: record.ttl_s,
            epoch: record.epoch,
            ends_ms,
            remainder_logged: record.remaining_s.is_some(),
            remainder_proposed: None,
            ending_ms: None,
            mark_ms: next_mark(ends_ms, now_ms),
        };
        self.schedule(id, timed);
    }

    fn schedule(&mut self, id: LeaseId, timed: Timed) {
        self.ends.insert((timed.ends_ms, id));
        if timed.mark_ms > 0 {
            self.marks.insert((timed.mark_ms, id));
        }
        self.leases.insert(id, timed);
    }

    fn unschedule(&mut self, id: LeaseId, timed: &Timed) {
        self.ends.remove(&(timed.ending_ms.unwrap_or(timed.ends_ms), id));
        self.marks.remove(&(timed.mark_ms, id));
    }
}

/// A remainder is worth an entry only while there is more than a period left.
fn next_mark(ends_ms: u64, now_ms: u64) -> u64 {
    let every_ms = LEASE_MARK_EVERY_S * 1_000;
    if ends_ms.saturating_sub(now_ms) > every_ms { now_ms + every_ms } else { 0 }
}
