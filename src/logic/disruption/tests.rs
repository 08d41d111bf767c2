//! Budgets keep what they promise, whatever order evictions and evaluations come in.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn pods(ready: usize, unready: usize) -> Vec<Counted> {
    (0..ready + unready)
        .map(|at| Counted { name: format!("p{at}"), ready: at < ready, terminating: false })
        .collect()
}

fn budget(spec: Value) -> Value {
    json!({"metadata": {"name": "web", "generation": 1}, "spec": spec})
}

fn numbers(found: &Evaluated) -> [i64; 4] {
    ["currentHealthy", "desiredHealthy", "disruptionsAllowed", "expectedPods"]
        .map(|field| found.status[field].as_i64().unwrap())
}

#[test]
fn counts_and_percentages_as_kubernetes_rounds_them() {
    for (spec, ready, unready, scale, wanted) in [
        (json!({"minAvailable": 2}), 3, 0, 3, [3, 2, 1, 3]),
        (json!({"minAvailable": 2}), 1, 1, 9, [1, 2, 0, 2]),
        (json!({"minAvailable": "50%"}), 3, 0, 3, [3, 2, 1, 3]),
        (json!({"maxUnavailable": 1}), 3, 0, 3, [3, 2, 1, 3]),
        (json!({"maxUnavailable": 1}), 3, 0, 5, [3, 4, 0, 5]),
        (json!({"maxUnavailable": "34%"}), 3, 0, 3, [3, 1, 2, 3]),
        (json!({"maxUnavailable": 9}), 2, 0, 2, [2, 0, 2, 2]),
        (json!({"minAvailable": 0}), 0, 0, 0, [0, 0, 0, 0]),
        (json!({}), 3, 0, 3, [3, 0, 0, 0]),
    ] {
        let found = evaluate(&budget(spec.clone()), &pods(ready, unready), Ok(scale), now());
        assert_eq!(numbers(&found), wanted, "{spec}");
    }
}

#[test]
fn what_cannot_be_counted_is_not_disrupted() {
    let why = || Err("daemonsets.apps does not implement the scale subresource".to_owned());
    let mut held = budget(json!({"maxUnavailable": 1}));
    held["status"] = evaluate(&held, &pods(3, 0), why(), now()).status;
    assert_eq!(held["status"]["disruptionsAllowed"], 0);
    assert_eq!(held["status"]["conditions"][0]["reason"], "SyncFailed");
    let Err(Denied::NotNow { why, .. }) = take(&held, "p0", now()) else { panic!("allowed") };
    assert_eq!(
        why,
        "The disruption budget web does not allow evicting pods currently because it failed sync: daemonsets.apps does not implement the scale subresource"
    );
}

#[test]
fn a_changed_budget_is_evaluated_first() {
    let mut held = budget(json!({"minAvailable": 2}));
    held["status"] = evaluate(&held, &pods(3, 0), Ok(3), now()).status;
    assert!(take(&held, "p0", now()).is_ok());
    held["metadata"]["generation"] = 2.into();
    assert_eq!(
        take(&held, "p0", now()),
        Err(Denied::NotNow {
            why: "The disruption budget web is still being processed by the server.".into(),
            retry_after_seconds: 10
        })
    );
}

#[test]
fn a_note_counts_until_the_pod_goes_or_its_time_is_over() {
    let mut held = budget(json!({"minAvailable": 2}));
    held["status"] = evaluate(&held, &pods(3, 0), Ok(3), now()).status;
    held["status"] = take(&held, "p0", now()).unwrap();
    assert_eq!(held["status"]["conditions"][0]["status"], "False");
    let found = evaluate(&held, &pods(3, 0), Ok(3), now());
    assert_eq!(numbers(&found), [2, 2, 0, 3]);
    assert_eq!(found.again_in, Some(Duration::from_secs(120)));
    let mut going = pods(3, 0);
    going[0].terminating = true;
    let found = evaluate(&held, &going, Ok(3), now());
    assert_eq!(found.status.get("disruptedPods"), None);
    let later = now().checked_add(NOTED_FOR).unwrap();
    let found = evaluate(&held, &pods(3, 0), Ok(3), later);
    assert_eq!(found.stayed, ["p0"]);
    assert_eq!(numbers(&found), [3, 2, 1, 3]);
}

#[test]
fn unready_pods_go_where_the_policy_lets_them() {
    let of = |policy: Option<&str>, healthy: i64, desired: i64| {
        let mut held = budget(json!({"minAvailable": 1}));
        if let Some(policy) = policy {
            held["spec"]["unhealthyPodEvictionPolicy"] = policy.into();
        }
        held["status"] = json!({"currentHealthy": healthy, "desiredHealthy": desired});
        lets_unhealthy_go(&held)
    };
    assert!(of(Some("AlwaysAllow"), 0, 2));
    assert!(of(None, 2, 2));
    assert!(!of(None, 1, 2));
    assert!(!of(Some("IfHealthyBudget"), 0, 0));
}

proptest! {
    /// Any mix of evictions, deletions that take effect, and evaluations: at no time are
    /// fewer pods left than the budget promises, unless they fell ill by themselves.
    #[test]
    fn evictions_never_break_the_promise(
        count in 1_usize..8,
        least in 0_i64..8,
        steps in prop::collection::vec((0_usize..8, 0_u8..3), 0..40),
    ) {
        let mut all = pods(count, 0);
        let mut held = budget(json!({"minAvailable": least}));
        held["status"] = evaluate(&held, &all, Ok(count as i64), now()).status;
        let mut evicted: Vec<String> = Vec::new();
        for (which, what) in steps {
            match what {
                0 => {
                    let name = format!("p{which}");
                    let there = all.iter().any(|pod| pod.name == name && !pod.terminating);
                    if there && !evicted.contains(&name)
                        && let Ok(status) = take(&held, &name, now())
                    {
                        held["status"] = status;
                        evicted.push(name);
                    }
                }
                1 => {
                    for pod in &mut all {
                        pod.terminating |= evicted.contains(&pod.name);
                    }
                }
                _ => held["status"] = evaluate(&held, &all, Ok(count as i64), now()).status,
            }
            let left = (count - evicted.len()) as i64;
            prop_assert!(evicted.is_empty() || left >= least, "{left} of {count}, {least} wanted");
        }
    }
}
