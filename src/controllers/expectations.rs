//! What a controller has done to its pods that its cache may not show yet.
//!
//! Why: a cache that lags would make the controller create the same pods twice. Kubernetes
//! counts; we remember names and uids, because a name is seen or not seen whatever else
//! happens, and a create whose answer was lost can be found again.
//! Invariants: while something is outstanding nothing is created or deleted; after
//! `CONTROLLER_EXPECTATION_WAIT` the API itself is asked instead of the cache, so that a
//! pod that came and went unseen cannot block its owner for ever.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;

use crate::base::limits;
use crate::client::informer::TypedInformer;
use crate::client::key::ObjectKey;

#[derive(Debug)]
struct Outstanding {
    created: BTreeSet<String>,
    deleted: BTreeSet<(String, String)>,
    since: Instant,
}

/// Whether the cache can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Belief {
    Current,
    /// Wait at most so long.
    Behind(std::time::Duration),
    /// Ask the API.
    Overdue,
}

#[derive(Debug, Default)]
pub(super) struct Expectations {
    sets: Mutex<HashMap<ObjectKey, Outstanding>>,
}

impl Expectations {
    fn sets(&self) -> MutexGuard<'_, HashMap<ObjectKey, Outstanding>> {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with(&self, set: &ObjectKey, change: impl FnOnce(&mut Outstanding)) {
        let mut sets = self.sets();
        let outstanding = sets.entry(set.clone()).or_insert_with(|| Outstanding {
            created: BTreeSet::new(),
            deleted: BTreeSet::new(),
            since: Instant::now(),
        });
        outstanding.since = Instant::now();
        change(outstanding);
    }

    pub(super) fn creating(&self, set: &ObjectKey, pod: &str) {
        self.with(set, |outstanding| {
            outstanding.created.insert(pod.to_owned());
        });
    }

    /// The API certainly did not create it.
    pub(super) fn not_created(&self, set: &ObjectKey, pod: &str) {
        self.with(set, |outstanding| {
            outstanding.created.remove(pod);
        });
    }

    pub(super) fn deleting(&self, set: &ObjectKey, pod: &str, uid: &str) {
        self.with(set, |outstanding| {
            outstanding.deleted.insert((pod.to_owned(), uid.to_owned()));
        });
    }

    pub(super) fn not_deleted(&self, set: &ObjectKey, pod: &str, uid: &str) {
        self.with(set, |outstanding| {
            outstanding.deleted.remove(&(pod.to_owned(), uid.to_owned()));
        });
    }

    pub(super) fn forget(&self, set: &ObjectKey) {
        self.sets().remove(set);
    }

    /// Strikes out what the cache shows and says whether anything is left.
    pub(super) fn check(&self, set: &ObjectKey, pods: &TypedInformer<Pod>) -> Belief {
        let mut sets = self.sets();
        let Some(outstanding) = sets.get_mut(set) else { return Belief::Current };
        let cached = |name: &str| pods.get(&set.namespace, name);
        outstanding.created.retain(|name| cached(name).is_none());
        outstanding.deleted.retain(|(name, uid)| {
            cached(name).is_some_and(|pod| {
                pod.metadata.uid.as_deref() == Some(uid)
                    && pod.metadata.deletion_timestamp.is_none()
            })
        });
        if outstanding.created.is_empty() && outstanding.deleted.is_empty() {
            sets.remove(set);
            return Belief::Current;
        }
        let left = limits::CONTROLLER_EXPECTATION_WAIT.saturating_sub(outstanding.since.elapsed());
        if left.is_zero() { Belief::Overdue } else { Belief::Behind(left) }
    }
}
