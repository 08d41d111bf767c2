//! In which order services start, and how long a dying one waits. Pure.
//!
//! Invariants: every service appears once; one that names an unknown service is not held
//! back by it; a circle is broken at its alphabetically first member, because a host that
//! starts in a questionable order is better than one that does not start.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// First wait before a service that died is started again.
const WAIT_FIRST: Duration = Duration::from_millis(200);
/// Longest wait between two starts.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// A service that ran this long has recovered; its next death counts as the first.
pub(super) const HEALTHY_AFTER: Duration = Duration::from_secs(30);

/// The names of `after` in an order in which each comes after those it names.
pub(super) fn start_order(after: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let mut waiting: BTreeSet<&String> = after.keys().collect();
    let mut order: Vec<String> = Vec::new();
    while let Some(first) = waiting.first().copied() {
        let ready = waiting.iter().copied().find(|name| {
            after[*name].iter().all(|earlier| !waiting.contains(earlier) || earlier == *name)
        });
        let next = ready.unwrap_or(first);
        waiting.remove(next);
        order.push(next.clone());
    }
    order
}

/// How long to wait after the `deaths`th death in a row; the first is 1.
pub(super) fn wait_before_restart(deaths: u32) -> Duration {
    WAIT_FIRST.saturating_mul(1 << deaths.saturating_sub(1).min(16)).min(WAIT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(pairs: &[(&str, &[&str])]) -> Vec<String> {
        let after = pairs
            .iter()
            .map(|(name, after)| {
                (name.to_string(), after.iter().map(|one| one.to_string()).collect())
            })
            .collect();
        start_order(&after)
    }

    #[test]
    fn services_start_after_those_they_name() {
        let found =
            order(&[("api", &["store", "engine"]), ("engine", &[]), ("store", &["engine"])]);
        assert_eq!(found, ["engine", "store", "api"]);
    }

    #[test]
    fn unknown_names_and_circles_hold_nothing_back() {
        assert_eq!(order(&[("a", &["ghost"]), ("b", &["b"])]), ["a", "b"]);
        assert_eq!(order(&[("x", &["y"]), ("y", &["x"]), ("z", &["x"])]), ["x", "y", "z"]);
    }

    #[test]
    fn waits_double_up_to_a_bound() {
        assert_eq!(wait_before_restart(1), Duration::from_millis(200));
        assert_eq!(wait_before_restart(3), Duration::from_millis(800));
        assert_eq!(wait_before_restart(40), Duration::from_secs(10));
    }
}
