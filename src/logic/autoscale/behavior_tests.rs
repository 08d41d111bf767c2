//! Windows, rates and bounds.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(10_000 + seconds)
}

fn behavior(patch: Value) -> Behavior {
    let mut whole = json!({
        "scaleUp": Behavior::default_rules(true), "scaleDown": Behavior::default_rules(false),
    });
    json_patch::merge(&mut whole, &patch);
    Behavior::parse(&whole)
}

fn bounds(current: i64) -> Bounds {
    Bounds { current, min: 1, max: 100 }
}

#[test]
fn without_behavior_it_grows_by_doubling_and_shrinks_after_five_minutes() {
    let mut memory = Memory::default();
    memory.begin(at(0), 3);
    let found = memory.decide(at(0), None, bounds(3), 50);
    assert_eq!((found.count, found.limited, found.limit.0), (6, true, "ScaleUpLimit"));
    let found = memory.decide(at(15), None, bounds(6), 2);
    assert_eq!(found.able.0, "ScaleDownStabilized");
    assert_eq!(found.count, 12, "fifty was proposed a moment ago");
    let found = memory.decide(at(301), None, bounds(6), 2);
    assert_eq!((found.count, found.able.0), (2, "ReadyForNewScale"));
    let narrow = Bounds { current: 2, min: 3, max: 4 };
    let found = memory.decide(at(700), None, narrow, 1);
    assert_eq!((found.count, found.limit.0), (3, "TooFewReplicas"));
    let found = memory.decide(at(701), None, narrow, 9);
    assert_eq!((found.count, found.limit.0), (4, "TooManyReplicas"));
}

#[test]
fn policies_bound_each_period() {
    let rules = behavior(json!({"scaleDown": {"stabilizationWindowSeconds": 0,
        "policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}]}}));
    let mut memory = Memory::default();
    let found = memory.decide(at(0), Some(&rules), bounds(10), 1);
    assert_eq!((found.count, found.limit.0), (8, "ScaleDownLimit"));
    memory.changed(at(0), Some(&rules), 10, 8);
    let found = memory.decide(at(30), Some(&rules), bounds(8), 1);
    assert_eq!(found.count, 8, "the period's two have gone");
    let found = memory.decide(at(61), Some(&rules), bounds(8), 1);
    assert_eq!(found.count, 6);
    // Up: the larger of four and double.
    let found = memory.decide(at(200), Some(&rules), bounds(2), 50);
    assert_eq!((found.count, found.limit.0), (6, "ScaleUpLimit"));
    let found = memory.decide(at(201), Some(&rules), bounds(10), 50);
    assert_eq!(found.count, 20);
    let least = behavior(json!({"scaleUp": {"selectPolicy": "Min"}}));
    assert_eq!(memory.decide(at(202), Some(&least), bounds(10), 50).count, 14);
    let never = behavior(json!({"scaleUp": {"selectPolicy": "Disabled"}}));
    assert_eq!(memory.decide(at(203), Some(&never), bounds(10), 50).count, 10);
}

#[test]
fn a_window_takes_the_most_careful_of_what_was_proposed() {
    let rules = behavior(json!({"scaleUp": {"stabilizationWindowSeconds": 60}}));
    let mut memory = Memory::default();
    memory.begin(at(0), 4);
    let found = memory.decide(at(1), Some(&rules), bounds(4), 8);
    assert_eq!((found.count, found.able.0), (4, "ScaleUpStabilized"));
    let found = memory.decide(at(61), Some(&rules), bounds(4), 7);
    assert_eq!((found.count, found.able.0), (7, "ReadyForNewScale"));
    let found = memory.decide(at(70), Some(&rules), bounds(7), 2);
    assert_eq!((found.count, found.able.0), (7, "ScaleDownStabilized"));
}

proptest! {
    #[test]
    fn the_count_stays_in_bounds_and_moves_towards_what_was_wanted(
        steps in prop::collection::vec((1_u64..120, 0_i64..60), 1..30),
        up_window in 0_u64..120,
        down_window in 0_u64..120,
        with_behavior in any::<bool>(),
    ) {
        let rules = behavior(json!({
            "scaleUp": {"stabilizationWindowSeconds": up_window},
            "scaleDown": {"stabilizationWindowSeconds": down_window}}));
        let rules = with_behavior.then_some(&rules);
        let mut memory = Memory::default();
        let (mut now, mut current) = (0, 5);
        memory.begin(at(0), current);
        let mut wanted = vec![current];
        for (pause, proposed) in steps {
            now += pause;
            wanted.push(proposed);
            let bounds = Bounds { current, min: 2, max: 40 };
            let found = memory.decide(at(now), rules, bounds, proposed);
            prop_assert!((2..=40).contains(&found.count));
            let (least, most) = (wanted.iter().min().unwrap(), wanted.iter().max().unwrap());
            prop_assert!(found.count >= (*least).clamp(2, 40).min(current));
            prop_assert!(found.count <= (*most).clamp(2, 40).max(current));
            prop_assert_eq!(found.limited, found.limit != IN_RANGE);
            if found.count != current {
                memory.changed(at(now), rules, current, found.count);
            }
            current = found.count;
        }
    }
}
