//! Jobs by their facts: counting over crashes, verdicts, demand.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{JobCondition, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::demand::{Demand, NewPod, demand};
use super::pod::{Action, End, JobPod};
use super::tracking::{Count, Rules, Tally, count};
use super::verdict::judge;

fn spec(extra: Value) -> JobSpec {
    let mut value = json!({"parallelism": 2, "completions": 4, "backoffLimit": 3,
        "completionMode": "NonIndexed",
        "template": {"spec": {"restartPolicy": "Never", "containers": []}}});
    json_patch::merge(&mut value, &extra);
    serde_json::from_value(value).unwrap()
}

fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

fn pod(uid: &str, end: End) -> JobPod {
    JobPod {
        uid: uid.into(),
        end,
        terminating: false,
        gone: false,
        ready: end == End::Open,
        tracked: true,
        restarts: 0,
        index: None,
        failures_before: 0,
        ignored_before: 0,
        ended_at: None,
        action: Action::Count,
        message: String::new(),
    }
}

fn of_index(index: u32, end: End) -> JobPod {
    JobPod { index: Some(index), ..pod(&format!("i{index}"), end) }
}

fn tally(succeeded: i32, failed: i32) -> Tally {
    Tally { succeeded, failed, ..Tally::default() }
}

fn verdict(spec: &JobSpec, tally: &Tally, pods: &[JobPod]) -> Option<String> {
    judge(spec, &JobStatus::default(), tally, pods, now()).map(|outcome| outcome.reason)
}

fn wants(spec: &JobSpec, tally: &Tally, pods: &[JobPod]) -> Demand {
    let count = count(tally, pods, &Rules::of(spec, false));
    demand(spec, &count, pods, now())
}

#[test]
fn pods_are_made_up_to_parallelism_and_completions() {
    let open = || pod("a", End::Open);
    assert_eq!(wants(&spec(json!({})), &tally(0, 0), &[]).create.len(), 2);
    assert_eq!(wants(&spec(json!({})), &tally(0, 0), &[open()]).create.len(), 1);
    assert_eq!(wants(&spec(json!({})), &tally(3, 0), &[]).create.len(), 1);
    assert_eq!(wants(&spec(json!({})), &tally(4, 0), &[open()]).remove, [0]);
    assert_eq!(wants(&spec(json!({"suspend": true})), &tally(0, 0), &[open()]).remove, [0]);
    // A work queue: after one success nothing is made any more.
    let queue = spec(json!({"completions": null, "parallelism": 3}));
    assert_eq!(wants(&queue, &tally(0, 0), &[open()]).create.len(), 2);
    assert_eq!(wants(&queue, &tally(1, 0), &[open()]), Demand::default());
    assert_eq!(verdict(&queue, &tally(1, 0), &[open()]), None);
    assert_eq!(verdict(&queue, &tally(1, 0), &[]).as_deref(), Some("CompletionsReached"));
}

#[test]
fn a_leaving_pod_is_replaced_at_once_or_when_it_has_ended() {
    let leaving = JobPod { terminating: true, ..pod("a", End::Open) };
    let one = |policy: &str| {
        spec(json!({"completions": 1, "parallelism": 1, "podReplacementPolicy": policy}))
    };
    let early = count(&tally(0, 0), std::slice::from_ref(&leaving), &Rules::of(&one("x"), false));
    assert_eq!((early.next.total_failed(), early.released), (1, vec![0]));
    let late =
        count(&tally(0, 0), std::slice::from_ref(&leaving), &Rules::of(&one("Failed"), false));
    assert_eq!((late.next.total_failed(), late.released), (0, vec![]));
    assert_eq!(
        wants(&one("Failed"), &tally(0, 0), std::slice::from_ref(&leaving)),
        Demand::default()
    );
    let gone = JobPod { gone: true, ..leaving };
    let over = count(&tally(0, 0), &[gone], &Rules::of(&one("Failed"), false));
    assert_eq!(over.next.total_failed(), 1);
}

#[test]
fn failures_are_spaced_further_and_further_apart() {
    let failed = |uid: &str, ago: i64| JobPod {
        ended_at: Some(Timestamp::from_second(now().as_second() - ago).unwrap()),
        ..pod(uid, End::Failed)
    };
    let waits = |pods: &[JobPod]| wants(&spec(json!({})), &tally(0, 0), pods).wait;
    assert_eq!(waits(&[failed("a", 4)]), Some(Duration::from_secs(6)));
    assert_eq!(waits(&[failed("a", 50), failed("b", 4)]), Some(Duration::from_secs(16)));
    assert_eq!(waits(&[failed("a", 11)]), None);
    let success = JobPod { end: End::Succeeded, ..failed("c", 3) };
    assert_eq!(waits(&[failed("a", 4), success]), None);
}

#[test]
fn jobs_fail_for_kubernetes_reasons() {
    let plain = spec(json!({}));
    assert_eq!(verdict(&plain, &tally(0, 3), &[]), None);
    assert_eq!(verdict(&plain, &tally(0, 4), &[]).as_deref(), Some("BackoffLimitExceeded"));
    let in_place = spec(json!({"template": {"spec": {"restartPolicy": "OnFailure"}}}));
    let restarting = JobPod { restarts: 3, ..pod("a", End::Open) };
    let reason = verdict(&in_place, &tally(0, 0), &[restarting]);
    assert_eq!(reason.as_deref(), Some("BackoffLimitExceeded"));
    let timed = spec(json!({"activeDeadlineSeconds": 60}));
    let started = |ago: i64| JobStatus {
        start_time: serde_json::from_value(json!(
            Timestamp::from_second(now().as_second() - ago).unwrap().to_string()
        ))
        .unwrap(),
        ..JobStatus::default()
    };
    assert!(judge(&timed, &started(59), &tally(0, 0), &[], now()).is_none());
    let late = judge(&timed, &started(60), &tally(0, 0), &[], now()).unwrap();
    assert_eq!((late.success, late.reason.as_str()), (false, "DeadlineExceeded"));
    // What was decided stays decided.
    let mut decided = JobStatus::default();
    decided.conditions.get_or_insert_default().push(JobCondition {
        type_: "FailureTarget".into(),
        status: "True".into(),
        reason: Some("PodFailurePolicy".into()),
        ..JobCondition::default()
    });
    let kept = judge(&plain, &decided, &tally(4, 0), &[], now()).unwrap();
    assert_eq!((kept.success, kept.reason.as_str()), (false, "PodFailurePolicy"));
}

#[test]
fn the_failure_policy_counts_ignores_or_ends() {
    let policy = spec(json!({"podFailurePolicy": {"rules": [
        {"action": "FailJob", "onExitCodes": {"containerName": "c", "operator": "In", "values": [42]}},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]}}));
    let failed = |code: i32, conditions: Value| -> JobPod {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "shop", "uid": "u",
                "finalizers": ["batch.kubernetes.io/job-tracking"]},
            "status": {"phase": "Failed", "conditions": conditions, "containerStatuses": [
                {"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                 "state": {"terminated": {"exitCode": code}}}]}}))
        .unwrap();
        JobPod::read(&pod, &policy)
    };
    let fatal = failed(42, json!([]));
    assert_eq!(
        fatal.message,
        "Container c for pod shop/p failed with exit code 42 matching FailJob rule at index 0"
    );
    let reason = verdict(&policy, &tally(0, 0), &[fatal]);
    assert_eq!(reason.as_deref(), Some("PodFailurePolicy"));
    let rules = Rules::of(&policy, false);
    let lost = failed(1, json!([{"type": "DisruptionTarget", "status": "True"}]));
    let ignored = count(&tally(0, 0), &[lost], &rules);
    assert_eq!((ignored.next.total_failed(), ignored.released), (0, vec![0]));
    let counted = count(&tally(0, 0), &[failed(1, json!([]))], &rules);
    assert_eq!(counted.next.total_failed(), 1);
}

fn indexed(extra: Value) -> JobSpec {
    let mut value = json!({"completionMode": "Indexed", "backoffLimit": i32::MAX});
    json_patch::merge(&mut value, &extra);
    spec(value)
}

#[test]
fn each_index_has_one_pod_until_it_is_done() {
    let job = indexed(json!({}));
    let index = |index: u32| NewPod { index: Some(index), ..NewPod::default() };
    assert_eq!(wants(&job, &Tally::default(), &[]).create, [index(0), index(1)]);
    let pods = [of_index(0, End::Succeeded), of_index(2, End::Open)];
    let counted = count(&Tally::default(), &pods, &Rules::of(&job, false));
    assert_eq!((counted.next.completed.to_string().as_str(), counted.next.succeeded), ("0", 1));
    assert_eq!(wants(&job, &Tally::default(), &pods).create, [index(1)]);
    let twice = [of_index(1, End::Open), JobPod { uid: "x".into(), ..of_index(1, End::Open) }];
    assert_eq!(wants(&job, &Tally::default(), &twice).remove, [1]);
}

#[test]
fn an_index_has_its_own_limit() {
    let job = indexed(json!({"backoffLimitPerIndex": 1, "maxFailedIndexes": 1}));
    let rules = Rules::of(&job, false);
    let first = of_index(0, End::Failed);
    let counted = count(&Tally::default(), std::slice::from_ref(&first), &rules);
    assert_eq!(counted.awaited, BTreeMap::from([(0, 0)]), "it is tried again");
    assert!(counted.released.is_empty());
    let new = demand(&job, &counted, std::slice::from_ref(&first), now()).create[0];
    assert_eq!(new, NewPod { index: Some(0), failures: 1, ignored: 0 });
    let second = JobPod { uid: "second".into(), failures_before: 1, ..of_index(0, End::Open) };
    let counted = count(&Tally::default(), &[first.clone(), second.clone()], &rules);
    assert_eq!((counted.released, counted.next.total_failed()), (vec![0], 1));
    let failed = JobPod { end: End::Failed, tracked: true, ..second };
    let counted = count(&tally(0, 1), std::slice::from_ref(&failed), &rules);
    assert_eq!(counted.next.failed_indexes.to_string(), "0");
    assert_eq!(counted.released, [0]);
    let mut over = counted.next.clone();
    assert_eq!(verdict(&job, &over, &[]), None);
    over.failed_indexes.insert(2);
    assert_eq!(verdict(&job, &over, &[]).as_deref(), Some("MaxFailedIndexesExceeded"));
    let all = indexed(json!({"backoffLimitPerIndex": 1}));
    over.completed = crate::model::index_set::IndexSet::parse("1,3", 4).unwrap();
    assert_eq!(verdict(&all, &over, &[]).as_deref(), Some("FailedIndexes"));
}

#[test]
fn a_success_policy_ends_a_job_early() {
    let job = indexed(json!({"successPolicy": {"rules": [
        {"succeededIndexes": "0"}, {"succeededIndexes": "1-3", "succeededCount": 2}]}}));
    let with = |text: &str| Tally {
        completed: crate::model::index_set::IndexSet::of_status(Some(text), 4),
        ..Tally::default()
    };
    let open = [of_index(3, End::Open)];
    assert_eq!(verdict(&job, &with("1"), &open), None);
    assert_eq!(verdict(&job, &with("0"), &open).as_deref(), Some("SuccessPolicy"));
    assert_eq!(verdict(&job, &with("1,2"), &open).as_deref(), Some("SuccessPolicy"));
}

/// What is really there, and what survives a crash.
#[derive(Debug, Default)]
struct World {
    pods: Vec<JobPod>,
    status: JobStatus,
}

impl World {
    /// One look that is interrupted after `steps` writes.
    fn look(&mut self, rules: &Rules, steps: usize) {
        let held = Tally::of(&self.status, rules);
        let Count { next, released, .. } = count(&held, &self.pods, rules);
        if steps == 0 {
            return;
        }
        next.write(&mut self.status, rules);
        for at in released.into_iter().take(steps - 1) {
            self.pods[at].tracked = false;
        }
        // A pod that is being deleted vanishes with its last finalizer.
        self.pods.retain(|pod| pod.tracked || !pod.terminating);
    }
}

proptest! {
    /// However often and wherever the controller dies, each pod is counted once.
    #[test]
    fn every_pod_is_counted_exactly_once(
        ends in prop::collection::vec((0_u8..4, any::<bool>()), 1..20),
        crashes in prop::collection::vec(0_usize..5, 0..30),
    ) {
        let rules = Rules::of(&spec(json!({})), false);
        let mut world = World::default();
        let (mut succeeded, mut failed) = (0, 0);
        let mut crashes = crashes.into_iter();
        for (at, (end, deleted)) in ends.into_iter().enumerate() {
            let end = match end { 0 => End::Succeeded, 1 => End::Failed, _ => End::Open };
            let pod = JobPod { terminating: deleted, ..pod(&format!("p{at}"), end) };
            match end {
                End::Succeeded => succeeded += 1,
                End::Failed => failed += 1,
                End::Open => failed += i32::from(deleted),
            }
            world.pods.push(pod);
            if let Some(steps) = crashes.next() {
                world.look(&rules, steps);
            }
        }
        for steps in crashes {
            world.look(&rules, steps);
        }
        for _ in 0..3 {
            world.look(&rules, usize::MAX);
        }
        prop_assert_eq!(world.status.succeeded.unwrap_or(0), succeeded);
        prop_assert_eq!(world.status.failed.unwrap_or(0), failed);
        prop_assert!(Tally::of(&world.status, &rules).is_settled());
        prop_assert!(world.pods.iter().all(|pod| pod.is_active() == pod.tracked));
    }
}
