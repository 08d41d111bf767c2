//! What the node lacks, and who has to go for it.
//!
//! Invariant: who was chosen is remembered until his pod is gone from this node.
//! Not here: looking and choosing (pressure.rs).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

use crate::logic::eviction::Signal;
use crate::model::threshold::Period;

/// What the node lacks, and who goes for it; shared by all of the agent.
#[derive(Debug)]
pub(crate) struct PressureBoard {
    /// For how long a condition is held after its threshold was met last.
    held: Period,
    /// When a condition's threshold was met last, and whether it was at the last look.
    met: Mutex<BTreeMap<&'static str, (Instant, bool)>>,
    /// What each chosen pod says of its end, by uid.
    evicted: watch::Sender<BTreeMap<String, String>>,
    /// Of those, whose containers have ended and whose volumes are gone, by uid.
    over: Mutex<BTreeSet<String>>,
}

impl PressureBoard {
    pub(crate) fn new(held: Period) -> Self {
        let evicted = watch::Sender::new(BTreeMap::new());
        Self { held, met: Mutex::default(), evicted, over: Mutex::default() }
    }

    /// Whether the node's condition holds now.
    pub(crate) fn holds(&self, condition: &str) -> bool {
        let met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        met.get(condition).is_some_and(|(at, still)| *still || at.elapsed() < self.held.get())
    }

    /// What was met at a look; all else was not.
    pub(super) fn note(&self, signals: impl Iterator<Item = Signal>) {
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        met.values_mut().for_each(|(_, still)| *still = false);
        met.extend(signals.map(|signal| (signal.condition(), (Instant::now(), true))));
    }

    /// What the pod says if it has to go.
    pub(crate) fn evicted(&self, uid: &str) -> Option<String> {
        self.evicted.borrow().get(uid).cloned()
    }

    /// Wakes whenever somebody is chosen.
    pub(crate) fn choices(&self) -> watch::Receiver<BTreeMap<String, String>> {
        self.evicted.subscribe()
    }

    /// The pod has to go, and will say this.
    pub(super) fn choose(&self, uid: String, message: String) {
        self.evicted.send_modify(|all| {
            all.insert(uid, message);
        });
    }

    fn all_over(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing of the pod runs or lies about any more.
    pub(crate) fn is_over(&self, uid: &str) -> bool {
        self.all_over().contains(uid)
    }

    pub(crate) fn note_over(&self, uid: &str) {
        self.all_over().insert(uid.to_owned());
    }

    pub(crate) fn forget(&self, uid: &str) {
        self.all_over().remove(uid);
        self.evicted.send_if_modified(|all| {
            all.remove(uid);
            // Nobody waits for this.
            false
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_condition_holds_until_it_was_not_met_for_a_while() {
        let board = PressureBoard::new(Period::from_secs(5));
        let wait = |seconds| tokio::time::advance(std::time::Duration::from_secs(seconds));
        assert!(!board.holds("DiskPressure"));
        board.note([Signal::Disk, Signal::Pids].into_iter());
        // Looks may be further apart than the time that it is held.
        wait(30).await;
        assert!(board.holds("DiskPressure") && board.holds("PIDPressure"));
        board.note([Signal::Inodes].into_iter());
        assert!(board.holds("DiskPressure") && !board.holds("PIDPressure"));
        board.note([].into_iter());
        wait(4).await;
        assert!(board.holds("DiskPressure"));
        wait(2).await;
        assert!(!board.holds("DiskPressure"));
    }
}
