//! What is started, stopped and waited for, in every state a pod can be in.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::logic::restart_facts::{Ended, SandboxFact};

fn spec(value: serde_json::Value) -> PodSpec {
    serde_json::from_value(value).unwrap()
}

fn one(policy: &str) -> PodSpec {
    spec(json!({"restartPolicy": policy, "containers": [{"name": "main", "image": "i"}]}))
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

fn running() -> FactState {
    FactState::Running { started_at: Some(at(0)) }
}

fn ended(exit_code: i32, second: i64) -> FactState {
    FactState::Ended(Ended {
        exit_code,
        started_at: Some(at(second - 1)),
        finished_at: Some(at(second)),
        ..Ended::default()
    })
}

fn fact(name: &str, attempt: u32, sandbox: &str, state: FactState) -> ContainerFact {
    ContainerFact {
        id: format!("{name}{attempt}"),
        name: name.into(),
        attempt,
        restart_step: attempt,
        sandbox_id: sandbox.into(),
        spec_image: "i".into(),
        pulled_image: "i@sha256:0".into(),
        state,
    }
}

fn facts(sandbox: FactState, containers: Vec<ContainerFact>) -> PodFacts {
    let sandboxes = vec![SandboxFact { id: "s0".into(), attempt: 0, state: sandbox }];
    PodFacts { sandboxes, containers }
}

fn decide(spec: &PodSpec, facts: &PodFacts, verdicts: &Verdicts, now: i64) -> Plan {
    plan(PlanInput {
        spec,
        facts,
        verdicts,
        known_restarts: &BTreeMap::new(),
        finished: false,
        now: at(now),
    })
}

fn steps(spec: &PodSpec, facts: &PodFacts, now: i64) -> Vec<Step> {
    decide(spec, facts, &Verdicts::default(), now).steps
}

#[test]
fn the_sandbox_comes_first_and_then_the_container() {
    let spec = one("Always");
    assert_eq!(steps(&spec, &PodFacts::default(), 0), [Step::NewSandbox { attempt: 0 }]);
    let created = facts(FactState::Created, vec![]);
    assert_eq!(steps(&spec, &created, 0), [Step::StartSandbox { id: "s0".into() }]);
    let up = facts(running(), vec![]);
    let launch = Step::Launch { name: "main".into(), attempt: 0, restart_step: 0 };
    assert_eq!(steps(&spec, &up, 0), [launch]);
}

#[test]
fn a_container_made_but_not_started_is_started_and_not_made_again() {
    let made = facts(running(), vec![fact("main", 0, "s0", FactState::Created)]);
    let start = Step::StartCreated { id: "main0".into(), name: "main".into() };
    assert_eq!(steps(&one("Always"), &made, 0), [start]);
}

#[test]
fn what_runs_is_left_alone() {
    let up = facts(running(), vec![fact("main", 3, "s0", running())]);
    assert_eq!(steps(&one("Always"), &up, 0), []);
}

#[test]
fn a_crash_is_restarted_after_its_back_off() {
    let crashed = facts(running(), vec![fact("main", 2, "s0", ended(1, 100))]);
    let early = decide(&one("Always"), &crashed, &Verdicts::default(), 105);
    assert_eq!(early.steps, []);
    assert_eq!(early.waiting["main"].reason, "CrashLoopBackOff");
    assert_eq!(early.wake_at, Some(at(120)));
    let due = steps(&one("Always"), &crashed, 120);
    assert_eq!(due, [Step::Launch { name: "main".into(), attempt: 3, restart_step: 3 }]);
}

#[test]
fn a_clock_that_jumped_back_does_not_hold_a_restart_up() {
    let crashed = facts(running(), vec![fact("main", 5, "s0", ended(1, 100_000))]);
    assert_eq!(steps(&one("Always"), &crashed, 5).len(), 1);
}

#[test]
fn policies_end_a_pod() {
    let done = facts(running(), vec![fact("main", 0, "s0", ended(0, 10))]);
    let stop = [Step::StopSandbox { id: "s0".into() }];
    assert_eq!(steps(&one("OnFailure"), &done, 99), stop);
    assert_eq!(steps(&one("Never"), &done, 99), stop);
    let failed = facts(running(), vec![fact("main", 0, "s0", ended(2, 10))]);
    assert_eq!(steps(&one("Never"), &failed, 99), stop);
    assert!(matches!(steps(&one("OnFailure"), &failed, 99)[..], [Step::Launch { .. }]));
}

#[test]
fn a_finished_pod_whose_containers_the_engine_lost_is_not_run_again() {
    let spec = one("Never");
    let plan = plan(PlanInput {
        spec: &spec,
        facts: &PodFacts::default(),
        verdicts: &Verdicts::default(),
        known_restarts: &BTreeMap::new(),
        finished: true,
        now: at(0),
    });
    assert_eq!(plan.steps, []);
}

#[test]
fn a_dead_sandbox_takes_its_containers_along() {
    let dead = facts(ended(137, 50), vec![fact("main", 0, "s0", running())]);
    assert_eq!(
        steps(&one("Always"), &dead, 60),
        [
            Step::Stop { id: "main0".into(), name: "main".into(), reason: StopReason::SandboxGone },
            Step::NewSandbox { attempt: 1 }
        ]
    );
}

#[test]
fn a_failed_liveness_probe_stops_only_its_container() {
    let up = facts(running(), vec![fact("main", 0, "s0", running())]);
    let with_probe = spec(json!({"containers": [
        {"name": "main", "image": "i", "livenessProbe": {"exec": {"command": ["x"]}}}]}));
    let verdicts = Verdicts { failed_liveness: ["main0".to_owned()].into(), ..Verdicts::default() };
    let plan = decide(&with_probe, &up, &verdicts, 0);
    let reason = StopReason::Liveness;
    assert_eq!(plan.steps, [Step::Stop { id: "main0".into(), name: "main".into(), reason }]);
}

#[test]
fn init_containers_run_one_after_the_other() {
    let spec =
        spec(json!({"initContainers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}],
        "containers": [{"name": "main", "image": "i"}]}));
    let launch = |name: &str| Step::Launch { name: name.into(), attempt: 0, restart_step: 0 };
    assert_eq!(steps(&spec, &facts(running(), vec![]), 0), [launch("a")]);
    let a_runs = facts(running(), vec![fact("a", 0, "s0", running())]);
    assert_eq!(steps(&spec, &a_runs, 0), []);
    let a_done = fact("a", 0, "s0", ended(0, 1));
    assert_eq!(steps(&spec, &facts(running(), vec![a_done.clone()]), 2), [launch("b")]);
    let both = vec![a_done, fact("b", 0, "s0", ended(0, 1))];
    assert_eq!(steps(&spec, &facts(running(), both), 2), [launch("main")]);
}

#[test]
fn a_failed_init_container_is_retried_or_ends_the_pod() {
    let make = |policy: &str| {
        spec(json!({"restartPolicy": policy, "initContainers": [{"name": "a", "image": "i"}],
            "containers": [{"name": "main", "image": "i"}]}))
    };
    let failed = facts(running(), vec![fact("a", 0, "s0", ended(1, 1))]);
    assert!(matches!(&steps(&make("Always"), &failed, 5)[..],
        [Step::Launch { name, attempt: 1, .. }] if name == "a"));
    assert_eq!(steps(&make("Never"), &failed, 5), [Step::StopSandbox { id: "s0".into() }]);
}

#[test]
fn leftovers_are_removed_and_one_dead_attempt_is_kept() {
    let many = facts(
        running(),
        vec![
            fact("main", 0, "s0", ended(1, 1)),
            fact("main", 1, "s0", ended(1, 2)),
            fact("main", 2, "s0", running()),
        ],
    );
    assert_eq!(steps(&one("Always"), &many, 5), [Step::Remove { id: "main0".into() }]);
}

#[test]
fn the_api_remembers_restarts_of_containers_that_the_engine_lost() {
    let spec = one("Always");
    let up = facts(running(), vec![]);
    let plan = plan(PlanInput {
        spec: &spec,
        facts: &up,
        verdicts: &Verdicts::default(),
        known_restarts: &[("main".to_owned(), 4)].into(),
        finished: false,
        now: at(0),
    });
    assert_eq!(plan.steps, [Step::Launch { name: "main".into(), attempt: 5, restart_step: 1 }]);
}

#[test]
fn ran_for_is_never_negative() {
    let backwards =
        Ended { started_at: Some(at(10)), finished_at: Some(at(5)), ..Ended::default() };
    assert_eq!(backwards.ran_for(), Duration::ZERO);
}

#[test]
fn an_ephemeral_container_is_started_once_and_never_again() {
    let spec = spec(json!({
        "containers": [{"name": "main", "image": "i"}],
        "ephemeralContainers": [{"name": "look", "image": "i"}],
    }));
    let main = || fact("main", 0, "s0", running());
    let launch = Step::Launch { name: "look".into(), attempt: 0, restart_step: 0 };
    assert_eq!(steps(&spec, &facts(running(), vec![main()]), 0), [launch]);
    for state in [running(), ended(0, 1), ended(1, 1)] {
        let all = facts(running(), vec![main(), fact("look", 0, "s0", state)]);
        assert_eq!(steps(&spec, &all, 1_000), []);
    }
    // One that the API has seen and the engine has lost had its time.
    let seen = BTreeMap::from([("look".to_owned(), 0)]);
    let plan = plan(PlanInput {
        spec: &spec,
        facts: &facts(running(), vec![main()]),
        verdicts: &Verdicts::default(),
        known_restarts: &seen,
        finished: false,
        now: at(0),
    });
    assert_eq!(plan.steps, []);
}
