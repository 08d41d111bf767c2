//! The agent's share of a pod's conditions.
//!
//! Invariants: `lastTransitionTime` moves only when the status does; conditions of
//! others (`PodScheduled`, readiness gates) keep their place and their words.

use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodSpec};

use super::input::{StatusInput, init_complete, seconds};
use crate::logic::restart_facts::FactState;

struct Fresh {
    type_: &'static str,
    holds: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Fresh {
    fn yes(type_: &'static str) -> Self {
        Self { type_, holds: true, reason: None, message: None }
    }

    fn no(type_: &'static str, reason: &'static str, message: String) -> Self {
        Self { type_, holds: false, reason: Some(reason), message: Some(message) }
    }

    fn bare(type_: &'static str, holds: bool) -> Self {
        Self { type_, holds, reason: None, message: None }
    }
}

/// The whole list, others' conditions included.
pub(super) fn conditions(
    input: StatusInput<'_>,
    spec: &PodSpec,
    phase: &str,
    init: &[ContainerStatus],
    main: &[ContainerStatus],
) -> Vec<PodCondition> {
    let old =
        input.pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let sandbox_up = input
        .facts
        .sandbox()
        .is_some_and(|sandbox| matches!(sandbox.state, FactState::Running { .. }))
        && input.pod_ip.is_some();
    let containers_ready = containers_ready(phase, main);
    let ready = pod_ready(&containers_ready, spec, &old);
    let fresh = [
        Fresh::bare("PodReadyToStartContainers", sandbox_up),
        initialized(input, spec, phase, init),
        ready,
        containers_ready,
    ];
    let mut all = old;
    for one in fresh {
        merge(&mut all, one, input);
    }
    if let Some(message) = input.evicted {
        let target = Fresh {
            type_: "DisruptionTarget",
            holds: true,
            reason: Some("TerminationByKubelet"),
            message: Some(message.to_owned()),
        };
        merge(&mut all, target, input);
    }
    all
}

fn names(list: Vec<&str>) -> String {
    format!("[{}]", list.join(" "))
}

fn initialized(
    input: StatusInput<'_>,
    spec: &PodSpec,
    phase: &str,
    init: &[ContainerStatus],
) -> Fresh {
    if phase == "Succeeded" || init_complete(spec, input.facts) || init.is_empty() {
        let mut fresh = Fresh::yes("Initialized");
        if phase == "Succeeded" {
            fresh.reason = Some("PodCompleted");
        }
        return fresh;
    }
    let open = init.iter().filter(|status| !status.ready).map(|status| &*status.name).collect();
    let message = format!("containers with incomplete status: {}", names(open));
    Fresh::no("Initialized", "ContainersNotInitialized", message)
}

fn containers_ready(phase: &str, main: &[ContainerStatus]) -> Fresh {
    if phase == "Succeeded" {
        return Fresh {
            type_: "ContainersReady",
            holds: false,
            reason: Some("PodCompleted"),
            message: None,
        };
    }
    let unready: Vec<&str> =
        main.iter().filter(|status| !status.ready).map(|status| &*status.name).collect();
    if unready.is_empty() && phase != "Failed" {
        return Fresh::yes("ContainersReady");
    }
    let reason = if phase == "Failed" { "PodFailed" } else { "ContainersNotReady" };
    let message = format!("containers with unready status: {}", names(unready));
    Fresh::no("ContainersReady", reason, message)
}

fn pod_ready(containers: &Fresh, spec: &PodSpec, old: &[PodCondition]) -> Fresh {
    if !containers.holds {
        return Fresh {
            type_: "Ready",
            holds: false,
            reason: containers.reason,
            message: containers.message.clone(),
        };
    }
    let closed: Vec<&str> = spec
        .readiness_gates
        .iter()
        .flatten()
        .map(|gate| gate.condition_type.as_str())
        .filter(|gate| !old.iter().any(|other| other.type_ == **gate && other.status == "True"))
        .collect();
    if closed.is_empty() {
        return Fresh::yes("Ready");
    }
    let message = format!("readiness gates not met: {}", names(closed));
    Fresh::no("Ready", "ReadinessGatesNotReady", message)
}

fn merge(all: &mut Vec<PodCondition>, fresh: Fresh, input: StatusInput<'_>) {
    let status = if fresh.holds { "True" } else { "False" };
    let mut condition = PodCondition {
        type_: fresh.type_.to_owned(),
        status: status.to_owned(),
        reason: fresh.reason.map(str::to_owned),
        message: fresh.message,
        last_transition_time: Some(seconds(input.now)),
        ..PodCondition::default()
    };
    match all.iter_mut().find(|old| old.type_ == condition.type_) {
        Some(old) => {
            if old.status == condition.status && old.last_transition_time.is_some() {
                condition.last_transition_time = old.last_transition_time.clone();
            }
            condition.observed_generation = old.observed_generation;
            *old = condition;
        }
        None => all.push(condition),
    }
}
