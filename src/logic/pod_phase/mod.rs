//! A pod's status as it is written to the API, from what the engine and the probes show.
//!
//! Why pure and deterministic: the status is written only when it differs from the last
//! one, so the same facts must give the same bytes.
//! Invariants: `Succeeded` and `Failed` are final; restart counts are attempt numbers;
//! times are whole seconds, as the API prints them.
//! Not here: conditions (conditions.rs).

mod conditions;
mod input;
#[cfg(test)]
mod tests;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, HostIP, Pod, PodIP, PodSpec, PodStatus,
};

use conditions::conditions;
use input::init_complete;
pub use input::{StatusInput, seconds};

use crate::logic::restart::RestartPolicy;
use crate::logic::restart_facts::{ContainerFact, Ended, FactState, Verdicts};
use crate::logic::restart_plan::{Waiting, from_ephemeral, has_finished, is_sidecar};

/// The phase of a status, if it is final.
pub fn final_phase(pod: &Pod) -> Option<&str> {
    let phase = pod.status.as_ref()?.phase.as_deref()?;
    (phase == "Succeeded" || phase == "Failed").then_some(phase)
}

/// When the pod has been active for as long as it may, counted from when the node took it.
pub fn deadline(pod: &Pod) -> Option<Timestamp> {
    let seconds = pod.spec.as_ref()?.active_deadline_seconds?;
    let since = pod.status.as_ref()?.start_time.as_ref()?.0;
    since.checked_add(SignedDuration::from_secs(seconds)).ok()
}

/// Whether the pod is to end because its time is over.
pub fn is_overdue(pod: &Pod, now: Timestamp) -> bool {
    final_phase(pod).is_none() && deadline(pod).is_some_and(|deadline| deadline <= now)
}

/// What a pod that is overdue says about itself.
pub const DEADLINE_REASON: &str = "DeadlineExceeded";
/// The same of one that the node ends for want of something.
pub const EVICTED_REASON: &str = "Evicted";
pub const DEADLINE_MESSAGE: &str = "Pod was active on the node longer than the specified deadline";

/// Builds the whole status. `PodScheduled` and conditions of others are kept.
pub fn pod_status(input: StatusInput<'_>) -> PodStatus {
    let empty_spec = PodSpec::default();
    let spec = input.pod.spec.as_ref().unwrap_or(&empty_spec);
    let old = input.pod.status.clone().unwrap_or_default();
    let overdue = is_overdue(input.pod, input.now);
    let evicted = input.evicted.filter(|_| final_phase(input.pod).is_none());
    let ended = match evicted {
        Some(message) => Some((EVICTED_REASON, message)),
        None => overdue.then_some((DEADLINE_REASON, DEADLINE_MESSAGE)),
    };
    let phase = if ended.is_some() { "Failed".to_owned() } else { phase(input, spec) };
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let init_statuses =
        statuses(input, spec, init, old.init_container_statuses.as_deref().unwrap_or_default());
    let container_statuses = statuses(
        input,
        spec,
        &spec.containers,
        old.container_statuses.as_deref().unwrap_or_default(),
    );
    let later: Vec<Container> =
        spec.ephemeral_containers.iter().flatten().map(from_ephemeral).collect();
    let later_statuses = statuses(
        input,
        spec,
        &later,
        old.ephemeral_container_statuses.as_deref().unwrap_or_default(),
    );
    let pod_ip = input.pod_ip.map(str::to_owned).or_else(|| old.pod_ip.clone());
    PodStatus {
        conditions: Some(conditions(input, spec, &phase, &init_statuses, &container_statuses)),
        phase: Some(phase),
        host_ip: Some(input.host_ip.to_owned()),
        host_ips: Some(vec![HostIP { ip: input.host_ip.to_owned() }]),
        pod_ips: pod_ip.clone().map(|ip| vec![PodIP { ip }]),
        pod_ip,
        start_time: old.start_time.clone().or_else(|| Some(seconds(input.now))),
        qos_class: old.qos_class.clone().or_else(|| Some(qos_class(spec).to_owned())),
        init_container_statuses: (!init.is_empty()).then_some(init_statuses),
        container_statuses: Some(container_statuses),
        ephemeral_container_statuses: (!later.is_empty()).then_some(later_statuses),
        reason: ended.map(|(reason, _)| reason.to_owned()).or(old.reason.clone()),
        message: ended.map(|(_, message)| message.to_owned()).or(old.message.clone()),
        ..old
    }
}

fn statuses(
    input: StatusInput<'_>,
    spec: &PodSpec,
    wanted: &[Container],
    old: &[ContainerStatus],
) -> Vec<ContainerStatus> {
    wanted
        .iter()
        .map(|container| {
            let before = old.iter().find(|status| status.name == container.name);
            container_status(input, spec, container, before)
        })
        .collect()
}

/// Whether a running container has passed its startup probe, if it has one.
pub fn has_started(container: &Container, fact: &ContainerFact, verdicts: &Verdicts) -> bool {
    fact.is_running() && (container.startup_probe.is_none() || verdicts.started.contains(&fact.id))
}

fn is_ready(container: &Container, fact: &ContainerFact, verdicts: &Verdicts) -> bool {
    has_started(container, fact, verdicts)
        && (container.readiness_probe.is_none() || verdicts.ready.contains(&fact.id))
}

fn container_status(
    input: StatusInput<'_>,
    spec: &PodSpec,
    container: &Container,
    before: Option<&ContainerStatus>,
) -> ContainerStatus {
    let waiting = input.waiting.get(&container.name);
    let Some(fact) = input.facts.latest(&container.name) else {
        return unseen_status(input, spec, container, before, waiting);
    };
    let is_init = spec.init_containers.iter().flatten().any(|init| init.name == container.name);
    let completed_init =
        is_init && !is_sidecar(container) && fact.ended().is_some_and(|ended| ended.exit_code == 0);
    let (state, last_state) = match &fact.state {
        FactState::Running { started_at } => {
            (running(*started_at), input.facts.previous(&container.name).and_then(ended_state))
        }
        FactState::Created => (
            waiting_state("ContainerCreating", None),
            input.facts.previous(&container.name).and_then(ended_state),
        ),
        FactState::Ended(ended) => match waiting {
            Some(why) => {
                (waiting_state(&why.reason, why.message.clone()), Some(terminated(&fact.id, ended)))
            }
            None => (
                terminated(&fact.id, ended),
                input.facts.previous(&container.name).and_then(ended_state),
            ),
        },
    };
    ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        image_id: fact.pulled_image.clone(),
        container_id: Some(format!("docker://{}", fact.id)),
        ready: completed_init || is_ready(container, fact, input.verdicts),
        started: Some(has_started(container, fact, input.verdicts)),
        restart_count: i32::try_from(fact.attempt).unwrap_or(i32::MAX),
        state: Some(state),
        last_state,
        ..ContainerStatus::default()
    }
}

/// A container that the engine does not show: not made yet, or cleared away at the end.
fn unseen_status(
    input: StatusInput<'_>,
    spec: &PodSpec,
    container: &Container,
    before: Option<&ContainerStatus>,
    waiting: Option<&Waiting>,
) -> ContainerStatus {
    let over = input.ending || final_phase(input.pod).is_some();
    if let (true, Some(before)) = (over, before) {
        return ContainerStatus { ready: false, started: Some(false), ..before.clone() };
    }
    let is_main = spec.containers.iter().any(|main| main.name == container.name);
    let behind_init = is_main && !init_complete(spec, input.facts);
    let default_reason = if behind_init { "PodInitializing" } else { "ContainerCreating" };
    let state = match waiting {
        Some(why) => waiting_state(&why.reason, why.message.clone()),
        None if !spec.init_containers.iter().flatten().any(|_| true) => {
            waiting_state("ContainerCreating", None)
        }
        None => waiting_state(default_reason, None),
    };
    let last_state = before.and_then(|status| {
        let ended = status.state.as_ref().filter(|state| state.terminated.is_some());
        ended.cloned().or_else(|| status.last_state.clone())
    });
    ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        started: Some(false),
        restart_count: before.map_or(0, |status| status.restart_count),
        state: Some(state),
        last_state,
        ..ContainerStatus::default()
    }
}

fn running(started_at: Option<Timestamp>) -> ContainerState {
    ContainerState {
        running: Some(ContainerStateRunning { started_at: started_at.map(seconds) }),
        ..ContainerState::default()
    }
}

fn waiting_state(reason: &str, message: Option<String>) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting { reason: Some(reason.to_owned()), message }),
        ..ContainerState::default()
    }
}

fn ended_state(fact: &ContainerFact) -> Option<ContainerState> {
    fact.ended().map(|ended| terminated(&fact.id, ended))
}

fn terminated(id: &str, ended: &Ended) -> ContainerState {
    let reason = if ended.oom_killed {
        "OOMKilled"
    } else if !ended.start_error.is_empty() {
        "StartError"
    } else if ended.exit_code == 0 {
        "Completed"
    } else {
        "Error"
    };
    let message = ended
        .message
        .clone()
        .or_else(|| (!ended.start_error.is_empty()).then(|| ended.start_error.clone()));
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id: Some(format!("docker://{id}")),
            exit_code: ended.exit_code,
            reason: Some(reason.to_owned()),
            message,
            started_at: ended.started_at.map(seconds),
            finished_at: ended.finished_at.map(seconds),
            signal: None,
        }),
        ..ContainerState::default()
    }
}

fn phase(input: StatusInput<'_>, spec: &PodSpec) -> String {
    if let Some(done) = final_phase(input.pod) {
        return done.to_owned();
    }
    let facts = input.facts;
    let old_phase = || input.pod.status.as_ref().and_then(|status| status.phase.clone());
    if input.ending && facts.is_empty() {
        return old_phase().unwrap_or_else(|| "Pending".to_owned());
    }
    let latest: Vec<Option<&ContainerFact>> =
        spec.containers.iter().map(|container| facts.latest(&container.name)).collect();
    let all_ended = latest.iter().all(|fact| fact.and_then(ContainerFact::ended).is_some());
    let all_succeeded = latest
        .iter()
        .all(|fact| fact.and_then(ContainerFact::ended).is_some_and(|end| end.exit_code == 0));
    let over = has_finished(spec, facts) || (input.ending && all_ended);
    if over {
        return if all_succeeded { "Succeeded" } else { "Failed" }.to_owned();
    }
    if !init_complete(spec, facts) {
        return "Pending".to_owned();
    }
    let policy = RestartPolicy::parse(spec.restart_policy.as_deref());
    let seen = |fact: &Option<&ContainerFact>| match fact {
        Some(fact) => match &fact.state {
            FactState::Created => fact.attempt > 0,
            FactState::Running { .. } => true,
            FactState::Ended(ended) => {
                ended.start_error.is_empty() || policy != RestartPolicy::Never
            }
        },
        None => false,
    };
    if latest.iter().all(seen) { "Running".to_owned() } else { "Pending".to_owned() }
}

/// `Guaranteed`, `Burstable` or `BestEffort`, from requests and limits.
pub fn qos_class(spec: &PodSpec) -> &'static str {
    let mut any = false;
    let mut guaranteed = true;
    for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
        let resources = container.resources.clone().unwrap_or_default();
        let requests = resources.requests.unwrap_or_default();
        let limits = resources.limits.unwrap_or_default();
        for name in ["cpu", "memory"] {
            any |= requests.contains_key(name) || limits.contains_key(name);
            let limit = limits.get(name);
            let request = requests.get(name).or(limit);
            guaranteed &= limit.is_some() && request == limit;
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
