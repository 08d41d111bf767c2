//! What the node lacks, and who has to go for it.
//!
//! Invariant: who was chosen is remembered until his pod is gone from this node.
//! Not here: looking and choosing (pressure.rs).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

use crate::base::limits::PRESSURE_HELD;
use crate::logic::eviction::Signal;

/// What the node lacks, and who goes for it; shared by all of the agent.
#[derive(Debug)]
pub(crate) struct PressureBoard {
    /// When a condition's threshold was met last.
    met: Mutex<BTreeMap<&'static str, Instant>>,
    /// What each chosen pod says of its end, by uid.
    evicted: watch::Sender<BTreeMap<String, String>>,
}

impl Default for PressureBoard {
    fn default() -> Self {
        Self { met: Mutex::default(), evicted: watch::Sender::new(BTreeMap::new()) }
    }
}

impl PressureBoard {
    /// Whether the node's condition holds now.
    pub(crate) fn holds(&self, condition: &str) -> bool {
        let met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        met.get(condition).is_some_and(|at| at.elapsed() < PRESSURE_HELD)
    }

    pub(super) fn note(&self, signal: Signal) {
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        met.insert(signal.condition(), Instant::now());
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

    pub(crate) fn forget(&self, uid: &str) {
        self.evicted.send_if_modified(|all| {
            all.remove(uid);
            // Nobody waits for this.
            false
        });
    }
}
