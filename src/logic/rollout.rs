//! The arithmetic of a Deployment's rollout: how many pods each ReplicaSet may have.
//!
//! Source: Kubernetes' `deployment/util` and `deployment/rolling.go`; the results follow
//! it number for number, because users tune maxSurge and maxUnavailable by its manual.
//! Invariants (tested over random states): a step never lets the number of available
//! pods fall below `desired - max_unavailable` by its own doing, never asks for more
//! than `desired + max_surge` pods, and a rollout always comes to its end.
//! Not here: reading and writing ReplicaSets (controllers/deployment).

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// How far a rollout may stray from the wanted number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub max_surge: i32,
    pub max_unavailable: i32,
}

/// Resolves percentages: surge rounds up, unavailable down; both zero becomes 0 and 1,
/// since no step would be possible otherwise.
pub fn bounds(
    max_surge: Option<&IntOrString>,
    max_unavailable: Option<&IntOrString>,
    desired: i32,
) -> Bounds {
    let quarter = IntOrString::String("25%".into());
    let max_surge = resolve(max_surge.unwrap_or(&quarter), desired, true);
    let max_unavailable = resolve(max_unavailable.unwrap_or(&quarter), desired, false);
    if max_surge == 0 && max_unavailable == 0 {
        return Bounds { max_surge: 0, max_unavailable: 1 };
    }
    Bounds { max_surge, max_unavailable: max_unavailable.min(desired.max(1)) }
}

/// A count, or the percentage of `total`; never negative.
pub fn resolve(value: &IntOrString, total: i32, round_up: bool) -> i32 {
    match value {
        IntOrString::Int(number) => (*number).max(0),
        IntOrString::String(text) => {
            let percent = text.strip_suffix('%').and_then(|text| text.parse::<i64>().ok());
            let product = percent.unwrap_or(0).max(0) * i64::from(total);
            let rounded = if round_up { (product + 99) / 100 } else { product / 100 };
            i32::try_from(rounded).unwrap_or(i32::MAX)
        }
    }
}

/// One ReplicaSet of the Deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetState {
    /// `spec.replicas`.
    pub wanted: i32,
    /// `status.availableReplicas`.
    pub available: i32,
}

/// The next size of the new ReplicaSet in a rolling update.
pub fn new_set_size(desired: i32, bounds: Bounds, new: SetState, all_wanted: i32) -> i32 {
    if new.wanted >= desired {
        return desired;
    }
    let room = desired.saturating_add(bounds.max_surge) - all_wanted;
    new.wanted + room.clamp(0, desired - new.wanted)
}

/// The next sizes of the old ReplicaSets, oldest first, in a rolling update.
///
/// First pods that are not available anyway are taken away, then available ones as long
/// as enough others are. A set's `available` is its status and so may be older than its
/// `wanted`; pods beyond `wanted` are on their way out and do not count.
pub fn old_set_sizes(desired: i32, bounds: Bounds, new: SetState, old: &[SetState]) -> Vec<i32> {
    let mut sizes: Vec<i32> = old.iter().map(|set| set.wanted).collect();
    let all_wanted: i32 = new.wanted + sizes.iter().sum::<i32>();
    let min_available = desired - bounds.max_unavailable;
    let new_unavailable = (new.wanted - new.available).max(0);
    let mut budget = (all_wanted - min_available - new_unavailable).max(0);
    for (set, size) in old.iter().zip(&mut sizes) {
        let ill = (set.wanted - set.available).clamp(0, budget);
        *size -= ill;
        budget -= ill;
    }
    let counted = |set: &SetState| set.available.min(set.wanted);
    let available: i32 = counted(&new) + old.iter().map(counted).sum::<i32>();
    let mut spare = (available - min_available).max(0);
    for size in &mut sizes {
        let step = (*size).clamp(0, spare);
        *size -= step;
        spare -= step;
    }
    sizes
}

/// A ReplicaSet for proportional scaling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScaledSet {
    /// `spec.replicas`.
    pub wanted: i32,
    /// The annotation `deployment.kubernetes.io/max-replicas`: what the Deployment
    /// allowed when this set was last sized.
    pub max_replicas: Option<i32>,
}

/// Sizes after the Deployment was scaled in the middle of a rollout: the difference is
/// shared in proportion to the present sizes. `sets` are ordered as Kubernetes does it:
/// largest first, and among equals newest first when growing, oldest when shrinking.
pub fn proportional_sizes(desired: i32, max_surge: i32, sets: &[ScaledSet]) -> Vec<i32> {
    let total: i32 = sets.iter().map(|set| set.wanted).sum();
    let allowed = if desired > 0 { desired + max_surge } else { 0 };
    let to_add = allowed - total;
    let mut added = 0;
    let mut sizes = Vec::with_capacity(sets.len());
    for set in sets {
        let mut share = 0;
        if to_add != 0 && set.wanted > 0 {
            let basis = set.max_replicas.filter(|max| *max > 0).unwrap_or(total).max(1);
            let scaled = f64::from(set.wanted) * f64::from(allowed) / f64::from(basis);
            let fraction = scaled.round() as i32 - set.wanted;
            let left = to_add - added;
            share = if to_add > 0 {
                fraction.clamp(0, left.max(0))
            } else {
                fraction.clamp(left.min(0), 0)
            };
        }
        added += share;
        sizes.push(set.wanted + share);
    }
    // What rounding left over goes to the first set, as in Kubernetes; what that set
    // cannot give is taken from the next.
    let mut rest = to_add - added;
    for size in &mut sizes {
        let before = *size;
        *size = (before + rest).max(0);
        rest -= *size - before;
    }
    sizes
}

/// Where a rollout stands, for conditions and for `kubectl rollout status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub replicas: i32,
    pub updated: i32,
    pub available: i32,
}

impl Progress {
    /// Every wanted pod is of the new template and available, and no old one is left.
    pub fn is_complete(self, desired: i32) -> bool {
        self.updated == desired && self.replicas == desired && self.available == desired
    }

    /// Something moved towards the goal since `before`.
    pub fn advanced_since(self, before: Progress) -> bool {
        let old = |progress: Progress| progress.replicas - progress.updated;
        self.updated > before.updated
            || old(self) < old(before)
            || self.available > before.available
    }
}

#[cfg(test)]
#[path = "rollout/tests.rs"]
mod tests;
