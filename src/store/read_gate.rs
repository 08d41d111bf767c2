//! Reads that wait for the same confirmation that the leader still leads.
//!
//! Invariant: a read is served only by a confirmation that began after it came.

use std::sync::Mutex;

use tokio::sync::oneshot;

use super::api::StoreError;

pub(super) type Waiting = oneshot::Sender<Result<u64, StoreError>>;

/// Reads that wait for the next confirmation.
#[derive(Debug, Default)]
pub(super) struct ReadGate {
    waiting: Mutex<GateState>,
}

#[derive(Debug, Default)]
struct GateState {
    next: Vec<Waiting>,
    running: bool,
}

impl ReadGate {
    fn lock(&self) -> std::sync::MutexGuard<'_, GateState> {
        self.waiting.lock().expect("no holder of the read gate panics")
    }

    /// Queues a read; true if the caller must start the rounds.
    pub(super) fn join(&self, waiting: Waiting) -> bool {
        let mut gate = self.lock();
        gate.next.push(waiting);
        !std::mem::replace(&mut gate.running, true)
    }

    /// The reads that the next round serves; `None` ends the rounds.
    pub(super) fn next(&self) -> Option<Vec<Waiting>> {
        let mut gate = self.lock();
        if gate.next.is_empty() {
            gate.running = false;
            return None;
        }
        Some(std::mem::take(&mut gate.next))
    }
}
