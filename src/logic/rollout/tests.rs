//! The rollout arithmetic: Kubernetes' own examples, and random rollouts to their end.

use proptest::prelude::*;

use super::*;

fn percent(text: &str) -> IntOrString {
    IntOrString::String(text.into())
}

fn set(wanted: i32, available: i32) -> SetState {
    SetState { wanted, available }
}

#[test]
fn percentages_round_as_kubernetes_does() {
    let of = |surge: &str, unavailable: &str, desired| {
        bounds(Some(&percent(surge)), Some(&percent(unavailable)), desired)
    };
    assert_eq!(of("25%", "25%", 3), Bounds { max_surge: 1, max_unavailable: 0 });
    assert_eq!(of("25%", "25%", 4), Bounds { max_surge: 1, max_unavailable: 1 });
    assert_eq!(of("0%", "0%", 10), Bounds { max_surge: 0, max_unavailable: 1 });
    assert_eq!(of("0%", "10%", 3), Bounds { max_surge: 0, max_unavailable: 1 });
    assert_eq!(bounds(None, None, 10), Bounds { max_surge: 3, max_unavailable: 2 });
}

#[test]
fn the_new_set_grows_into_the_surge_only() {
    let bounds = Bounds { max_surge: 1, max_unavailable: 0 };
    assert_eq!(new_set_size(3, bounds, set(0, 0), 3), 1);
    assert_eq!(new_set_size(3, bounds, set(1, 0), 4), 1);
    assert_eq!(new_set_size(3, bounds, set(1, 1), 3), 2);
    assert_eq!(new_set_size(3, bounds, set(5, 5), 5), 3);
}

#[test]
fn ill_old_pods_go_first() {
    // Kubernetes: ten wanted, two of the old are ill, two may be missing.
    let bounds = Bounds { max_surge: 0, max_unavailable: 2 };
    assert_eq!(old_set_sizes(10, bounds, set(0, 0), &[set(10, 8)]), [8]);
    // A status that is older than the last resize allows no second one.
    let bounds = Bounds { max_surge: 1, max_unavailable: 1 };
    assert_eq!(old_set_sizes(4, bounds, set(2, 0), &[set(3, 4)]), [3]);
    // Old pods stay while the new ones are not available yet.
    let bounds = Bounds { max_surge: 1, max_unavailable: 0 };
    assert_eq!(old_set_sizes(3, bounds, set(1, 0), &[set(3, 3)]), [3]);
    assert_eq!(old_set_sizes(3, bounds, set(1, 1), &[set(3, 3)]), [2]);
}

#[test]
fn scaling_during_a_rollout_is_shared_out() {
    let of = |wanted, max| ScaledSet { wanted, max_replicas: Some(max) };
    // 10 → 15 with surge 3, eight old and five new: 18 allowed, five more to give.
    assert_eq!(proportional_sizes(15, 3, &[of(8, 13), of(5, 13)]), [11, 7]);
    // To zero takes everything.
    assert_eq!(proportional_sizes(0, 3, &[of(8, 13), of(5, 13)]), [0, 0]);
    assert_eq!(proportional_sizes(5, 0, &[]), Vec::<i32>::new());
}

#[test]
fn progress_is_seen_in_any_of_three_numbers() {
    let before = Progress { replicas: 4, updated: 1, available: 3 };
    assert!(!before.advanced_since(before));
    assert!(Progress { replicas: 3, ..before }.advanced_since(before));
    assert!(Progress { available: 4, ..before }.advanced_since(before));
    assert!(Progress { replicas: 3, updated: 3, available: 3 }.is_complete(3));
    assert!(!Progress { replicas: 4, updated: 3, available: 4 }.is_complete(3));
}

proptest! {
    /// From any start, with pods that become available at any pace, the bounds hold and
    /// the rollout ends with exactly the wanted pods in the new set.
    #[test]
    fn every_rollout_ends_within_its_bounds(
        desired in 0_i32..12,
        surge in 0_i32..6,
        unavailable in 0_i32..6,
        start in prop::collection::vec(0_i32..8, 1..4),
        pace in prop::collection::vec(0_i32..4, 200),
    ) {
        let bounds = bounds(
            Some(&IntOrString::Int(surge)), Some(&IntOrString::Int(unavailable)), desired);
        let mut new = set(0, 0);
        let mut old: Vec<SetState> = start.iter().map(|size| set(*size, *size)).collect();
        let floor = desired - bounds.max_unavailable;
        let mut reported = start;
        let mut pace = pace.into_iter().chain([1, 2].into_iter().cycle());
        for _ in 0..400 {
            let wanted = |old: &[SetState]| old.iter().map(|set| set.wanted).sum::<i32>();
            let before = new.wanted + wanted(&old);
            let size = new_set_size(desired, bounds, new, before);
            prop_assert!(size <= new.wanted || size + wanted(&old) <= desired + bounds.max_surge);
            new.wanted = size;
            new.available = new.available.min(size);

            let available_before = new.available + old.iter().map(|s| s.available).sum::<i32>();
            // The status may lag behind the last resize.
            let lagging: Vec<SetState> = old.iter().zip(&reported)
                .map(|(now, available)| set(now.wanted, *available)).collect();
            let lags = pace.next().unwrap_or(1) % 2 == 1;
            let sizes =
                old_set_sizes(desired, bounds, new, if lags { &lagging } else { &old });
            reported = old.iter().map(|set| set.available).collect();
            for (set, size) in old.iter_mut().zip(sizes) {
                prop_assert!((0..=set.wanted).contains(&size));
                set.wanted = size;
                // The ReplicaSet deletes pods that are not ready first.
                set.available = set.available.min(size);
            }
            let available = new.available + old.iter().map(|s| s.available).sum::<i32>();
            prop_assert!(available >= floor.min(available_before));

            new.available = (new.available + pace.next().unwrap_or(1)).min(new.wanted);
        }
        prop_assert_eq!(new, set(desired, desired));
        prop_assert!(old.iter().all(|set| set.wanted == 0));
    }

    #[test]
    fn proportional_scaling_gives_exactly_what_is_allowed(
        desired in 0_i32..60,
        surge in 0_i32..10,
        sizes in prop::collection::vec(0_i32..30, 1..5),
    ) {
        let total: i32 = sizes.iter().sum();
        let sets: Vec<ScaledSet> = sizes.iter()
            .map(|wanted| ScaledSet { wanted: *wanted, max_replicas: Some(total) }).collect();
        let after = proportional_sizes(desired, surge, &sets);
        prop_assert!(after.iter().all(|size| *size >= 0));
        if total > 0 {
            let allowed = if desired > 0 { desired + surge } else { 0 };
            prop_assert_eq!(after.iter().sum::<i32>(), allowed);
        }
    }
}
