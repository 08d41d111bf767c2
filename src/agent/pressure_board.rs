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
    /// When a condition's threshold was met last.
    met: Mutex<BTreeMap<&'static str, Instant>>,
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
        met.get(condition).is_some_and(|at| at.elapsed() < self.held.get())
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
