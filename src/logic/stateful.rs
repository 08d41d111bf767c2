//! The next steps of a StatefulSet: which ordinals are made, which pods are deleted.
//!
//! Source: Kubernetes' `stateful_set_control.go`; the order of the checks is the meaning.
//!
//! ```text
//! ordinals from the lowest:  missing ─► create     ended ─► delete (made again later)
//!     ordered: one step, then wait until every lower one is available
//! beyond the range, from the highest:  delete, ordered: one after the other
//! all of that done, rolling:  from the highest down to the partition: delete what is old
//! ```
//! Invariants (tested over random lives): a pod is only ever asked to be deleted or to be
//! made under its own name, so that the API's uniqueness of names keeps it from running
//! twice; ordered sets never have two steps under way; a rollout takes away no more
//! available pods than it may; every set comes to its end.
//! Not here: pods of silent nodes, which keep their name until the node's agent or an
//! operator vouches for their end (controllers/node_life.rs).

use std::collections::BTreeMap;

/// What the set asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The first ordinal.
    pub start: i32,
    pub replicas: i32,
    /// `OrderedReady`, not `Parallel`.
    pub ordered: bool,
    pub update: Update,
}

/// How pods of an old template are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    OnDelete,
    Rolling {
        /// Counted from `start`: the first place that is updated.
        partition: i32,
        /// `None` where the set does not say: one at a time, strictly in order.
        max_unavailable: Option<i32>,
    },
}

/// One pod of the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    pub ordinal: i32,
    /// Succeeded or Failed.
    pub ended: bool,
    pub terminating: bool,
    /// Running and ready.
    pub ready: bool,
    /// Ready for long enough.
    pub available: bool,
    /// Of the newest template.
    pub updated: bool,
}

impl Member {
    fn is_healthy(&self) -> bool {
        self.ready && !self.terminating
    }

    fn serves(&self) -> bool {
        self.available && !self.terminating
    }
}

/// Which template a new pod is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Template {
    /// The one before the rollout that is under way.
    Current,
    Newest,
}

/// Why a pod goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It has ended and is made again.
    Ended,
    /// The set is smaller now.
    ScaleDown,
    /// Its template is old.
    Outdated,
}

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Create { ordinal: i32, template: Template },
    Delete { ordinal: i32, reason: Reason },
}

/// The steps that may be taken now.
pub fn plan(wanted: &Wanted, members: &[Member]) -> Vec<Step> {
    let members: BTreeMap<i32, Member> = members.iter().map(|one| (one.ordinal, *one)).collect();
    let range = wanted.start..wanted.start.saturating_add(wanted.replicas);
    let mut steps = Vec::new();
    for ordinal in range.clone() {
        let step = match members.get(&ordinal) {
            None => Some(Step::Create { ordinal, template: wanted.template_of(ordinal) }),
            Some(one) if one.ended && !one.terminating => {
                Some(Step::Delete { ordinal, reason: Reason::Ended })
            }
            Some(_) => None,
        };
        let settled = step.is_none() && members.get(&ordinal).is_some_and(Member::serves);
        steps.extend(step);
        if wanted.ordered && !settled {
            return steps;
        }
    }
    let condemned: Vec<&Member> =
        members.values().rev().filter(|one| !range.contains(&one.ordinal)).collect();
    // A sick pod may go if no healthier one goes before it; a terminating one is waited for.
    let first_sick = range
        .clone()
        .find(|ordinal| members.get(ordinal).is_none_or(|one| !one.is_healthy()))
        .or_else(|| condemned.iter().find(|one| !one.is_healthy()).map(|one| one.ordinal));
    for one in condemned {
        let may_go = one.serves() || first_sick == Some(one.ordinal);
        if !one.terminating && (may_go || !wanted.ordered) {
            steps.push(Step::Delete { ordinal: one.ordinal, reason: Reason::ScaleDown });
        }
        if wanted.ordered {
            return steps;
        }
    }
    steps.extend(outdated(wanted, &members));
    steps
}

/// Pods that the rolling update takes away now, from the highest ordinal down.
fn outdated(wanted: &Wanted, members: &BTreeMap<i32, Member>) -> Vec<Step> {
    let Update::Rolling { partition, max_unavailable } = wanted.update else { return Vec::new() };
    let end = wanted.start.saturating_add(wanted.replicas);
    let first = wanted.start.saturating_add(partition.max(0));
    let missing = |ordinal: &i32| members.get(ordinal).is_none_or(|one| !one.serves());
    let down = (wanted.start..end).filter(missing).count();
    let most = max_unavailable.map_or(1, |most| most.max(1)) as usize;
    // Without a bound of its own the update stops at the first pod that is down; with one
    // it counts all that are down anywhere, and what is down already costs nothing.
    let mut unavailable = if max_unavailable.is_some() { down } else { 0 };
    let mut steps = Vec::new();
    for ordinal in (first..end).rev() {
        let one = members.get(&ordinal);
        let serves = one.is_some_and(Member::serves);
        let replace = one.is_some_and(|one| !one.updated && !one.terminating && !one.ended);
        if replace && serves && unavailable >= most {
            continue;
        }
        if replace {
            steps.push(Step::Delete { ordinal, reason: Reason::Outdated });
        }
        if max_unavailable.is_none() {
            if replace || !serves {
                break;
            }
        } else if replace && serves {
            unavailable += 1;
        }
    }
    steps
}

impl Wanted {
    /// Below the partition a lost pod comes back as it was.
    fn template_of(&self, ordinal: i32) -> Template {
        match self.update {
            Update::Rolling { partition, .. }
                if ordinal < self.start.saturating_add(partition.max(0)) =>
            {
                Template::Current
            }
            _ => Template::Newest,
        }
    }
}

/// Whose deletion takes a claim along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimOwner {
    Nobody,
    Set,
    Pod,
}

/// The owner of a claim by the set's policy. A claim of a pod that the set has become too
/// small for goes with the pod, and so not with a pod that is only replaced.
pub fn claim_owner(when_deleted: bool, when_scaled: bool, condemned: bool) -> ClaimOwner {
    match (when_deleted, when_scaled, condemned) {
        (_, true, true) => ClaimOwner::Pod,
        (true, _, false) | (true, false, true) => ClaimOwner::Set,
        (false, _, _) => ClaimOwner::Nobody,
    }
}

/// The ordinal of a pod by its name, if it could be the set's.
pub fn ordinal_of(set: &str, pod: &str) -> Option<i32> {
    let digits = pod.strip_prefix(set)?.strip_prefix('-')?;
    let canonical = digits == "0" || !digits.starts_with('0');
    let number = canonical && digits.bytes().all(|byte| byte.is_ascii_digit());
    number.then(|| digits.parse().ok())?
}

#[cfg(test)]
#[path = "stateful/tests.rs"]
mod tests;
