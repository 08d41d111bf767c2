//! The leader's lease clock with this member's monotonic time.
//!
//! Invariant: applied changes reach the clock in the order of the log, because the apply
//! path alone tells them; a change that `promote` has seen already changes nothing.

use std::sync::{Mutex, MutexGuard};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::logic::lease::{Due, LeaseBook, LeaseClock, LeaseMark, LeaseRecord, Renewal};
use crate::model::lease::LeaseId;

/// The clock and those who wait for it to change.
#[derive(Debug)]
pub(crate) struct LeaseTimer {
    origin: Instant,
    clock: Mutex<LeaseClock>,
    /// Told when a lease ended or the clock stopped.
    ended: Notify,
}

impl LeaseTimer {
    pub(super) fn new() -> Self {
        Self { origin: Instant::now(), clock: Mutex::default(), ended: Notify::new() }
    }

    fn clock(&self) -> MutexGuard<'_, LeaseClock> {
        self.clock.lock().expect("no holder of the lease clock panics")
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The term in which the clock runs, if it does.
    pub(crate) fn term(&self) -> Option<u64> {
        self.clock().term()
    }

    pub(super) fn promote(&self, term: u64, book: &LeaseBook) {
        let mut clock = self.clock();
        clock.promote(term, self.now_ms(), book);
    }

    pub(crate) fn demote(&self) {
        self.clock().demote();
        self.ended.notify_waiters();
    }

    pub(super) fn granted(&self, id: LeaseId, record: LeaseRecord) {
        let mut clock = self.clock();
        clock.granted(id, record, self.now_ms());
    }

    pub(super) fn revoked(&self, id: LeaseId) {
        self.clock().revoked(id);
        self.ended.notify_waiters();
    }

    pub(super) fn marked(&self, id: LeaseId, record: LeaseRecord) {
        self.clock().marked(id, record);
    }

    /// Renews, if the clock runs in this term.
    pub(crate) fn renew(&self, id: LeaseId, term: u64) -> Renewal {
        let mut clock = self.clock();
        if clock.term() != Some(term) {
            return Renewal::NotLeading;
        }
        clock.renew(id, self.now_ms())
    }

    /// Milliseconds left; `None` if there is no such lease or the clock does not run.
    pub(crate) fn remaining_ms(&self, id: LeaseId) -> Option<u64> {
        self.clock().remaining_ms(id, self.now_ms())
    }

    /// What is due, and the term in which it is.
    pub(crate) fn tick(&self) -> Option<(u64, Due)> {
        let mut clock = self.clock();
        let term = clock.term()?;
        Some((term, clock.tick(self.now_ms())))
    }

    /// Every remainder worth noting, and the term.
    pub(crate) fn mark_all(&self) -> Option<(u64, Vec<LeaseMark>)> {
        let mut clock = self.clock();
        let term = clock.term()?;
        Some((term, clock.mark_all(self.now_ms())))
    }

    /// Returns when some lease ended, or the clock stopped, after this was called.
    pub(crate) fn ended(&self) -> tokio::sync::futures::Notified<'_> {
        self.ended.notified()
    }
}
