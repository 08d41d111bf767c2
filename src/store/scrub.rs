//! Reads all of the member's files again, slowly, while it serves: a pass a day.
//!
//! Why: a bit that rots in a record that nobody reads is found only when it is too late,
//! when the other copies are gone. Why slowly: a piece at a time, with a pause that spreads
//! the pieces over a day, so that nobody waits for it.
//! Invariants: each piece looks at the state of one moment and holds it no longer than
//! that; what is found stops the member, so that damage is never served. A damaged state
//! comes back from the others at the next start (`repair`); with a damaged log the member
//! must rejoin under a new id.
//! Not found: damage in pages of the state file that no record lies in (`store check`
//! reads those, too).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::disk::run_on;
use super::health::Health;
use super::log::LogError;
use super::shared::Shared;
use super::state::{DiskView, ScrubStep, StateError};
use crate::base::chain::chain;

/// How long one pass is meant to take.
const PASS: Duration = Duration::from_secs(24 * 3600);
/// Pauses between two pieces, whatever the size.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(600);
/// Rows or entries in one piece.
const PIECE: usize = 200;

/// Where damage was found, what it is, and what follows, for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Damage {
    #[error(
        "damage was found in the log: {0}; this member must not serve any more; while the others \
         have a majority, run `holdfast node remove` with this node's name on one of them, then \
         `holdfast reset` and `holdfast join` here"
    )]
    Log(String),
    #[error(
        "damage was found in the state: {0}; at its next start this member fetches the state \
         from another one"
    )]
    State(String),
}

/// The pause that makes `pieces` pieces last a pass.
fn pause(pieces: u64) -> Duration {
    let even = PASS / u32::try_from(pieces.max(1)).unwrap_or(u32::MAX);
    even.clamp(PAUSE_MIN, PAUSE_MAX)
}

impl Shared {
    /// Goes round and round until it finds something or is dropped.
    pub(super) async fn scrub(self: Arc<Self>) {
        loop {
            if let Err(damage) = self.scrub_pass(None).await {
                return self.stop_for(&damage);
            }
            tracing::info!("the scrub has read everything and found no damage");
            tokio::time::sleep(PAUSE_MAX).await;
        }
    }

    /// Stops the member when anybody finds that its state file is not as it was written.
    pub(super) async fn follow_damage(self: Arc<Self>) {
        let mut found = self.state.damage();
        let what = match found.wait_for(Option::is_some).await {
            Ok(found) => found.clone().unwrap_or_default(),
            Err(_) => return,
        };
        let damage = Damage::State(what);
        tracing::error!("{damage}");
        Health::failed(&self.health, &damage.to_string());
    }

    /// Nothing is served any more; a damaged state is noted for the next start.
    pub(super) fn stop_for(&self, damage: &Damage) {
        if let Damage::State(what) = damage {
            self.state.note_what(what);
        }
        tracing::error!("{damage}");
        Health::failed(&self.health, &damage.to_string());
    }

    /// One pass; `pace` stands in for the pause that the size asks for.
    pub(super) async fn scrub_pass(&self, pace: Option<Duration>) -> Result<(), Damage> {
        let in_state = |error: StateError| Damage::State(chain(&error));
        let in_log = |error: LogError| Damage::Log(chain(&error));
        let rows = self.state.view().rows().map_err(in_state)?;
        let head = self.log.head().map_err(in_log)?;
        let first = head.purged.map_or(0, |purged| purged.index + 1);
        let last = head.last.map_or(0, |last| last.index);
        let entries = last.saturating_sub(first);
        let pace = pace.unwrap_or_else(|| pause((rows + entries) / PIECE as u64));
        let mut next = first;
        while next <= last {
            let (log, to) = (self.log.clone(), next + PIECE as u64);
            let read = run_on(&*self.disk, move || log.read(next, to).map(drop)).await;
            // What was purged meanwhile is no finding; what is there must be whole.
            read.map_err(|error| Damage::Log(chain(&error)))?.map_err(in_log)?;
            next = to;
            tokio::time::sleep(pace).await;
        }
        let mut after: Option<Bytes> = None;
        loop {
            let (view, from): (Arc<DiskView>, _) = (self.state.view(), after.take());
            let step = run_on(&*self.disk, move || view.scrub(from.as_deref(), PIECE)).await;
            let step = step.map_err(|error| Damage::State(chain(&error)))?.map_err(in_state)?;
            match step {
                ScrubStep::Problem(what) => return Err(Damage::State(what)),
                ScrubStep::More(last) => after = Some(last),
                ScrubStep::End => return Ok(()),
            }
            tokio::time::sleep(pace).await;
        }
    }
}
