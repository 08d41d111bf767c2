//! Counts each ended pod of a job exactly once, over any number of crashes.
//!
//! ```text
//!  pod ended, has finalizer ─► status: its uid is "uncounted" ─► finalizer taken away
//!         ▲                         (one write)                        │
//!         └── a crash anywhere: looked at again ◄──────────────────────┤
//!                                                                      ▼
//!                        status: uid out, counter + 1 (one write) ◄── finalizer is gone
//! ```
//! Why it is exact: a pod cannot vanish while it has the finalizer; the finalizer goes
//! only after the uid stands in the status; and the uid leaves the status in the same
//! write in which the counter grows. Of an Indexed job the completed indexes are a set,
//! so its successes need no such care.
//! Invariant: `released` may be acted on only after `next` has been written.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::batch::v1::{JobSpec, JobStatus, UncountedTerminatedPods};

use super::pod::{Action, End, JobPod};
use crate::base::limits;
use crate::model::index_set::IndexSet;

/// The counting part of a job's status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub succeeded: i32,
    pub failed: i32,
    pub uncounted_succeeded: BTreeSet<String>,
    pub uncounted_failed: BTreeSet<String>,
    /// Of an Indexed job.
    pub completed: IndexSet,
    /// Of a job with a limit for each index.
    pub failed_indexes: IndexSet,
}

/// The rules of counting that a job's spec sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    pub indexed: bool,
    pub completions: u32,
    /// Failures that one index may have.
    pub limit_per_index: Option<u32>,
    /// `podReplacementPolicy: Failed`.
    pub only_ended: bool,
    /// The job is over or is being deleted: nothing waits for a replacement.
    pub closing: bool,
}

impl Rules {
    pub fn of(spec: &JobSpec, closing: bool) -> Self {
        let number = |value: Option<i32>| value.and_then(|value| u32::try_from(value).ok());
        Self {
            indexed: spec.completion_mode.as_deref() == Some("Indexed"),
            completions: number(spec.completions).unwrap_or(0),
            limit_per_index: number(spec.backoff_limit_per_index),
            only_ended: spec.pod_replacement_policy.as_deref() == Some("Failed"),
            closing,
        }
    }
}

impl Tally {
    /// What the status says.
    pub fn of(status: &JobStatus, rules: &Rules) -> Self {
        let open = status.uncounted_terminated_pods.clone().unwrap_or_default();
        let set = |uids: Option<Vec<String>>| uids.unwrap_or_default().into_iter().collect();
        let indexes = |text: Option<&String>| {
            IndexSet::of_status(text.map(String::as_str), rules.completions)
        };
        Self {
            succeeded: status.succeeded.unwrap_or(0),
            failed: status.failed.unwrap_or(0),
            uncounted_succeeded: set(open.succeeded),
            uncounted_failed: set(open.failed),
            completed: indexes(status.completed_indexes.as_ref()),
            failed_indexes: indexes(status.failed_indexes.as_ref()),
        }
    }

    /// Writes the tally into a status.
    pub fn write(&self, status: &mut JobStatus, rules: &Rules) {
        let list = |uids: &BTreeSet<String>| -> Option<Vec<String>> {
            (!uids.is_empty()).then(|| uids.iter().cloned().collect())
        };
        status.uncounted_terminated_pods = Some(UncountedTerminatedPods {
            succeeded: list(&self.uncounted_succeeded),
            failed: list(&self.uncounted_failed),
        });
        status.succeeded = (self.succeeded > 0).then_some(self.succeeded);
        status.failed = (self.failed > 0).then_some(self.failed);
        if rules.indexed {
            let text = self.completed.to_string();
            status.completed_indexes = (!text.is_empty()).then_some(text);
            if rules.limit_per_index.is_some() {
                status.failed_indexes = Some(self.failed_indexes.to_string());
            }
        }
    }

    /// Nothing is half counted.
    pub fn is_settled(&self) -> bool {
        self.uncounted_succeeded.is_empty() && self.uncounted_failed.is_empty()
    }

    /// Successes so far, counted or not.
    pub fn total_succeeded(&self) -> i32 {
        self.succeeded + self.uncounted_succeeded.len() as i32
    }

    /// Failures so far, counted or not.
    pub fn total_failed(&self) -> i32 {
        self.failed + self.uncounted_failed.len() as i32
    }
}

/// What a look at the pods came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub next: Tally,
    /// Numbers of the pods whose finalizer goes once `next` is written.
    pub released: Vec<usize>,
    /// Failed pods that keep their finalizer until the next pod of their index knows how
    /// often it has failed: by index, the pod's number.
    pub awaited: BTreeMap<u32, usize>,
}

/// Takes the pods into the tally.
pub fn count(held: &Tally, pods: &[JobPod], rules: &Rules) -> Count {
    let mut next = held.clone();
    let tracked: BTreeSet<&str> =
        pods.iter().filter(|pod| pod.tracked).map(|pod| pod.uid.as_str()).collect();
    settle(&mut next.uncounted_succeeded, &mut next.succeeded, &tracked);
    settle(&mut next.uncounted_failed, &mut next.failed, &tracked);
    if rules.indexed {
        for pod in pods.iter().filter(|pod| pod.end == End::Succeeded && pod.tracked) {
            if let Some(index) = pod.index.filter(|index| *index < rules.completions) {
                next.completed.insert(index);
            }
        }
        next.succeeded = next.completed.len() as i32;
    }
    if rules.limit_per_index.is_some() {
        note_failed_indexes(&mut next, pods, rules);
    }
    let awaited = if rules.closing { BTreeMap::new() } else { awaited(&next, pods, rules) };
    let mut released = Vec::new();
    for (at, pod) in pods.iter().enumerate().filter(|(_, pod)| pod.tracked) {
        let open = next.uncounted_succeeded.len() + next.uncounted_failed.len();
        if next.uncounted_succeeded.contains(&pod.uid) || next.uncounted_failed.contains(&pod.uid) {
            released.push(at);
        } else if open >= limits::JOB_UNCOUNTED_MAX {
            // The rest is counted once these are.
            break;
        } else if pod.end == End::Succeeded {
            if !rules.indexed {
                next.uncounted_succeeded.insert(pod.uid.clone());
            }
            released.push(at);
        } else if pod.has_failed(rules.only_ended) && !awaited.values().any(|held| *held == at) {
            if pod.action != Action::Ignore {
                next.uncounted_failed.insert(pod.uid.clone());
            }
            released.push(at);
        }
    }
    Count { next, released, awaited }
}

/// Moves pods whose finalizer is gone from the open set to the counter.
fn settle(open: &mut BTreeSet<String>, counter: &mut i32, tracked: &BTreeSet<&str>) {
    let before = open.len();
    open.retain(|uid| tracked.contains(uid.as_str()));
    *counter += (before - open.len()) as i32;
}

/// An index has failed when a pod of it fails that had used up the limit before, or when
/// the policy says so.
fn note_failed_indexes(next: &mut Tally, pods: &[JobPod], rules: &Rules) {
    let limit = rules.limit_per_index.unwrap_or(u32::MAX);
    for pod in pods.iter().filter(|pod| pod.tracked && pod.has_failed(rules.only_ended)) {
        let Some(index) = pod.index.filter(|index| *index < rules.completions) else { continue };
        let used_up = pod.action != Action::Ignore && pod.failures_before >= limit;
        if (used_up || pod.action == Action::FailIndex) && !next.completed.contains(index) {
            next.failed_indexes.insert(index);
        }
    }
}

/// The newest failed pod of each index that will be tried again and is not yet.
fn awaited(next: &Tally, pods: &[JobPod], rules: &Rules) -> BTreeMap<u32, usize> {
    let mut awaited: BTreeMap<u32, usize> = BTreeMap::new();
    if rules.limit_per_index.is_none() {
        return awaited;
    }
    let attempt = |pod: &JobPod| pod.failures_before + pod.ignored_before;
    for (at, pod) in pods.iter().enumerate() {
        let Some(index) = pod.index.filter(|index| *index < rules.completions) else { continue };
        let over = next.completed.contains(index) || next.failed_indexes.contains(index);
        if over || !pod.tracked || !pod.has_failed(rules.only_ended) {
            continue;
        }
        let newer = pods.iter().any(|other| {
            other.index == Some(index) && other.uid != pod.uid && attempt(other) > attempt(pod)
        });
        let held = awaited.get(&index).is_some_and(|held| attempt(&pods[*held]) >= attempt(pod));
        if !newer && !held {
            awaited.insert(index, at);
        }
    }
    awaited
}
