//! What a member keeps for the commit modes.
//!
//! Why apart from what drives them: who builds a member needs this, and who drives needs the
//! member.
//! Invariants: deciding on a change and promising exclude each other by the lead's lock; what
//! a leader knows dies with its term.
//! Not here: driving (`modes`), what the log says (`commitment`).

mod lead;

use std::sync::{Mutex, MutexGuard, OnceLock};

pub(in crate::store) use lead::{Lead, Seen};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::logic::remote_sync::RemoteClaim;

/// What a member keeps for the modes.
#[derive(Debug)]
pub(in crate::store) struct Modes {
    origin: Instant,
    /// Of the newest term that this member led and looked at.
    lead: Mutex<Option<Lead>>,
    claim: Mutex<RemoteClaim>,
    /// The safe index as this member, leading, computed it last.
    pub(in crate::store) safe: watch::Sender<u64>,
    /// Somebody wants a change although there never was one.
    pub(in crate::store) wanted: Notify,
    /// The clock of the day, Unix milliseconds, for the journal.
    pub(in crate::store) wall: OnceLock<fn() -> u64>,
}

impl Default for Modes {
    fn default() -> Self {
        Self {
            origin: Instant::now(),
            lead: Mutex::default(),
            claim: Mutex::default(),
            safe: watch::Sender::new(0),
            wanted: Notify::new(),
            wall: OnceLock::new(),
        }
    }
}

impl Modes {
    pub(in crate::store) fn now_ms(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(in crate::store) fn lead(&self) -> MutexGuard<'_, Option<Lead>> {
        self.lead.lock().expect("no holder of the lead panics")
    }

    pub(in crate::store) fn claim(&self) -> MutexGuard<'_, RemoteClaim> {
        self.claim.lock().expect("no holder of the claim panics")
    }

    pub(in crate::store) fn wall_ms(&self) -> u64 {
        self.wall.get().map_or(0, |clock| clock())
    }
}
