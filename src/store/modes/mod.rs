//! Drives the commit modes: how far the city may answer, what the remote center may claim.
//!
//! ```text
//!  leader    Raft's account of who holds what ─► safe index ─► own state (`state/shown`)
//!                                                     └──────► every append, or a word of
//!                                                              its own (`tell`)
//!            C silent, promises over ─► entry "fallen back"     C kept up ─► "synchronous"
//!  C         asks each second ─► promise ─► claims for 4.5 s from its question (`remote`)
//! ```
//!
//! Why apart from Raft: what is committed stays Raft's; this only says what may be shown of
//! it. With a mode that waits for nobody else none of it does anything.
//! Invariants: the rules of `logic/remote_sync`; deciding on a change and promising exclude
//! each other by one lock; what a leader knows dies with its term.

mod drive;
mod lead;
mod remote;
mod report;
mod tell;
mod wish;

use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use lead::Lead;
pub use report::{CenterLag, LeaderView, Replication, Standing};
pub(crate) use wish::CommitmentWish;

use super::message::{Answer, Request};
use super::outbound::CallError;
use super::shared::Shared;
use crate::logic::remote_sync::RemoteClaim;

/// What a member keeps for the modes.
#[derive(Debug)]
pub(super) struct Modes {
    origin: Instant,
    /// Of the newest term that this member led and looked at.
    lead: Mutex<Option<Lead>>,
    claim: Mutex<RemoteClaim>,
    /// The safe index as this member, leading, computed it last.
    safe: watch::Sender<u64>,
    /// Somebody wants a change although there never was one.
    wanted: Notify,
    /// The clock of the day, Unix milliseconds, for the journal.
    wall: OnceLock<fn() -> u64>,
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

impl Shared {
    /// Calls a member; the network's own deadline is not trusted to be exact. None if no
    /// answer came in time.
    async fn call_within(
        &self,
        member: u64,
        request: Request,
        deadline: Duration,
    ) -> Option<Result<Answer, CallError>> {
        let called = self.outbound.call_member(member, request, deadline);
        tokio::time::timeout(deadline, called).await.ok()
    }
}

impl Modes {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn lead(&self) -> MutexGuard<'_, Option<Lead>> {
        self.lead.lock().expect("no holder of the lead panics")
    }

    fn claim(&self) -> MutexGuard<'_, RemoteClaim> {
        self.claim.lock().expect("no holder of the claim panics")
    }

    fn wall_ms(&self) -> u64 {
        self.wall.get().map_or(0, |clock| clock())
    }
}
