//! The status that the facts give, phase by phase.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::logic::restart_facts::{PodFacts, SandboxFact};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

fn pod(value: serde_json::Value) -> Pod {
    serde_json::from_value(value).unwrap()
}

fn simple(policy: &str) -> Pod {
    pod(json!({"metadata": {"name": "p", "namespace": "d", "uid": "u"},
        "spec": {"restartPolicy": policy, "containers": [{"name": "main", "image": "i"}]},
        "status": {"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}))
}

fn fact(attempt: u32, state: FactState) -> ContainerFact {
    ContainerFact {
        id: format!("c{attempt}"),
        name: "main".into(),
        attempt,
        restart_step: attempt,
        sandbox_id: "s0".into(),
        spec_image: "i".into(),
        pulled_image: "r/i@sha256:1".into(),
        state,
    }
}

fn up(containers: Vec<ContainerFact>) -> PodFacts {
    let state = FactState::Running { started_at: Some(at(0)) };
    PodFacts { sandboxes: vec![SandboxFact { id: "s0".into(), attempt: 0, state }], containers }
}

fn ended(exit_code: i32) -> FactState {
    FactState::Ended(Ended {
        exit_code,
        started_at: Some(at(1)),
        finished_at: Some(at(2)),
        ..Ended::default()
    })
}

fn status(pod: &Pod, facts: &PodFacts, verdicts: &Verdicts, now: i64) -> PodStatus {
    pod_status(StatusInput {
        pod,
        facts,
        verdicts,
        waiting: &BTreeMap::new(),
        host_ip: "10.0.0.1",
        pod_ip: Some("10.1.0.2"),
        ending: false,
        evicted: None,
        now: at(now),
    })
}

fn condition<'a>(status: &'a PodStatus, type_: &str) -> &'a str {
    let all = status.conditions.as_ref().unwrap();
    &all.iter().find(|one| one.type_ == type_).unwrap().status
}

#[test]
fn a_running_container_without_probes_is_ready() {
    let running = FactState::Running { started_at: Some(at(1)) };
    let status = status(&simple("Always"), &up(vec![fact(2, running)]), &Verdicts::default(), 5);
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert_eq!(condition(&status, "Ready"), "True");
    assert_eq!(condition(&status, "ContainersReady"), "True");
    assert_eq!(condition(&status, "PodScheduled"), "True");
    let container = &status.container_statuses.as_ref().unwrap()[0];
    assert_eq!(container.restart_count, 2);
    assert_eq!(container.container_id.as_deref(), Some("docker://c2"));
    assert_eq!(container.image_id, "r/i@sha256:1");
}

#[test]
fn readiness_waits_for_its_probe() {
    let mut pod = simple("Always");
    let probed = serde_json::from_value(json!({"tcpSocket": {"port": 80}})).unwrap();
    pod.spec.as_mut().unwrap().containers[0].readiness_probe = Some(probed);
    let facts = up(vec![fact(0, FactState::Running { started_at: None })]);
    let before = status(&pod, &facts, &Verdicts::default(), 5);
    assert_eq!(condition(&before, "Ready"), "False");
    let ready = Verdicts { ready: ["c0".to_owned()].into(), ..Verdicts::default() };
    assert_eq!(condition(&status(&pod, &facts, &ready, 5), "Ready"), "True");
}

#[test]
fn the_same_facts_give_the_same_status_at_another_time() {
    let facts = up(vec![fact(0, FactState::Running { started_at: Some(at(1)) })]);
    let mut pod = simple("Always");
    let first = status(&pod, &facts, &Verdicts::default(), 5);
    pod.status = Some(first.clone());
    assert_eq!(status(&pod, &facts, &Verdicts::default(), 500), first);
}

#[test]
fn phases_follow_exit_codes_and_policy() {
    let phase = |policy: &str, code: i32| {
        status(&simple(policy), &up(vec![fact(0, ended(code))]), &Verdicts::default(), 5).phase
    };
    assert_eq!(phase("Always", 0).as_deref(), Some("Running"));
    assert_eq!(phase("OnFailure", 0).as_deref(), Some("Succeeded"));
    assert_eq!(phase("OnFailure", 3).as_deref(), Some("Running"));
    assert_eq!(phase("Never", 3).as_deref(), Some("Failed"));
}

#[test]
fn a_final_phase_stays() {
    let mut pod = simple("Never");
    pod.status.as_mut().unwrap().phase = Some("Failed".into());
    let facts = up(vec![fact(0, FactState::Running { started_at: None })]);
    let phase = status(&pod, &facts, &Verdicts::default(), 5).phase;
    assert_eq!(phase.as_deref(), Some("Failed"));
}

#[test]
fn a_crash_loop_shows_the_last_end() {
    let pod = simple("Always");
    let facts = up(vec![fact(1, ended(7))]);
    let why = Waiting { reason: "CrashLoopBackOff".into(), message: None };
    let status = pod_status(StatusInput {
        pod: &pod,
        facts: &facts,
        verdicts: &Verdicts::default(),
        waiting: &[("main".to_owned(), why)].into(),
        host_ip: "10.0.0.1",
        pod_ip: None,
        ending: false,
        evicted: None,
        now: at(9),
    });
    let container = &status.container_statuses.as_ref().unwrap()[0];
    let waiting = container.state.as_ref().unwrap().waiting.as_ref().unwrap();
    assert_eq!(waiting.reason.as_deref(), Some("CrashLoopBackOff"));
    let last = container.last_state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (7, Some("Error")));
}

#[test]
fn oom_and_refused_starts_have_their_own_reasons() {
    let oom = Ended { exit_code: 137, oom_killed: true, ..Ended::default() };
    assert_eq!(terminated("x", &oom).terminated.unwrap().reason.as_deref(), Some("OOMKilled"));
    let refused = Ended { exit_code: 127, start_error: "no such file".into(), ..Ended::default() };
    let state = terminated("x", &refused).terminated.unwrap();
    assert_eq!(state.reason.as_deref(), Some("StartError"));
    assert_eq!(state.message.as_deref(), Some("no such file"));
}

#[test]
fn qos_follows_requests_and_limits() {
    let class = |resources: serde_json::Value| {
        let spec = json!({"containers": [{"name": "a", "resources": resources}]});
        qos_class(&serde_json::from_value(spec).unwrap())
    };
    assert_eq!(class(json!({})), "BestEffort");
    assert_eq!(class(json!({"requests": {"cpu": "1"}})), "Burstable");
    assert_eq!(class(json!({"limits": {"cpu": "1", "memory": "1Gi"}})), "Guaranteed");
}
