//! The next steps that bring a pod's containers to what its spec asks for.
//!
//! Why pure: an agent may be killed between any two steps, so the plan is recomputed
//! from what the engine shows and must come to the same end from everywhere.
//! Invariants: a running container is stopped only for one of the [`StopReason`]s; one
//! attempt of a container runs at a time; nothing starts outside the current sandbox.
//! Not here: ending a pod (agent/pod_end.rs), because that needs no decision.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, EphemeralContainer, PodSpec};

use super::restart::{RestartPolicy, back_off, next_step};
use super::restart_facts::{ContainerFact, FactState, PodFacts, Verdicts};

/// Why a running container is stopped although its pod goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    Liveness,
    Startup,
    ImageChanged,
    /// Its pause container is gone, and with it its address.
    SandboxGone,
    /// A newer attempt exists, or the pod has finished.
    Superfluous,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Stop { id: String, name: String, reason: StopReason },
    Remove { id: String },
    NewSandbox { attempt: u32 },
    StartSandbox { id: String },
    StopSandbox { id: String },
    Launch { name: String, attempt: u32, restart_step: u32 },
    StartCreated { id: String, name: String },
}

/// Why a container is not running, in the words of its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub reason: String,
    pub message: Option<String>,
}

/// What to do now, and when to look again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub steps: Vec<Step>,
    pub waiting: BTreeMap<String, Waiting>,
    pub wake_at: Option<Timestamp>,
}

/// All that a plan depends on.
#[derive(Clone, Copy, Debug)]
pub struct PlanInput<'a> {
    pub spec: &'a PodSpec,
    pub facts: &'a PodFacts,
    pub verdicts: &'a Verdicts,
    /// Restart counts that the API remembers of containers the engine has lost.
    pub known_restarts: &'a BTreeMap<String, u32>,
    /// The API says that the pod has succeeded or failed.
    pub finished: bool,
    pub now: Timestamp,
}

/// An init container that runs beside the pod (`restartPolicy: Always`).
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// A container of the pod by its name, of whatever sort. An ephemeral one has the same
/// fields, except that nothing restarts it.
pub fn container_of(spec: &PodSpec, name: &str) -> Option<Container> {
    let inits = spec.init_containers.iter().flatten();
    let known = inits.chain(&spec.containers).find(|one| one.name == name);
    known.cloned().or_else(|| {
        let later = spec.ephemeral_containers.iter().flatten();
        later.into_iter().find(|one| one.name == name).map(from_ephemeral)
    })
}

/// An ephemeral container as a container.
pub fn from_ephemeral(from: &EphemeralContainer) -> Container {
    let from = from.clone();
    Container {
        name: from.name,
        image: from.image,
        image_pull_policy: from.image_pull_policy,
        command: from.command,
        args: from.args,
        env: from.env,
        env_from: from.env_from,
        working_dir: from.working_dir,
        security_context: from.security_context,
        volume_mounts: from.volume_mounts,
        volume_devices: from.volume_devices,
        stdin: from.stdin,
        stdin_once: from.stdin_once,
        tty: from.tty,
        termination_message_path: from.termination_message_path,
        termination_message_policy: from.termination_message_policy,
        ..Container::default()
    }
}

/// Which of the pod's sidecars this is; they are stopped from the last to the first.
pub fn sidecar_place(spec: &PodSpec, name: &str) -> Option<usize> {
    init_containers(spec).iter().position(|one| one.name == name && is_sidecar(one))
}

fn init_containers(spec: &PodSpec) -> &[Container] {
    spec.init_containers.as_deref().unwrap_or_default()
}

/// Whether every container has ended for good.
pub fn has_finished(spec: &PodSpec, facts: &PodFacts) -> bool {
    let policy = RestartPolicy::parse(spec.restart_policy.as_deref());
    let for_good = |container: &Container| {
        facts
            .latest(&container.name)
            .and_then(ContainerFact::ended)
            .is_some_and(|ended| !policy.restarts(ended.exit_code))
    };
    let init_failed = policy == RestartPolicy::Never
        && init_containers(spec).iter().filter(|one| !is_sidecar(one)).any(|one| {
            let ended = facts.latest(&one.name).and_then(ContainerFact::ended);
            ended.is_some_and(|ended| ended.exit_code != 0)
        });
    init_failed || spec.containers.iter().all(for_good)
}

/// Decides the next steps. The caller carries them out in order and asks again.
pub fn plan(input: PlanInput<'_>) -> Plan {
    let mut plan = Plan::default();
    prune(input, &mut plan);
    if input.finished || has_finished(input.spec, input.facts) {
        finish(input, &mut plan);
        return plan;
    }
    let Some(sandbox) = usable_sandbox(input, &mut plan) else { return plan };
    if init_done(input, &sandbox, &mut plan) {
        for container in &input.spec.containers {
            tend(input, &sandbox, container, false, &mut plan);
        }
    }
    for container in input.spec.ephemeral_containers.iter().flatten() {
        ephemeral(input, &sandbox, &container.name, &mut plan);
    }
    plan
}

/// Runs once, in whatever state the pod is; its end is nobody's concern.
fn ephemeral(input: PlanInput<'_>, sandbox: &str, name: &str, plan: &mut Plan) {
    match input.facts.latest(name) {
        None if input.known_restarts.contains_key(name) => {}
        None => {
            plan.steps.push(Step::Launch { name: name.to_owned(), attempt: 0, restart_step: 0 })
        }
        Some(fact) if fact.state == FactState::Created && fact.sandbox_id == sandbox => {
            plan.steps.push(Step::StartCreated { id: fact.id.clone(), name: name.to_owned() });
        }
        Some(fact) if fact.is_running() && fact.sandbox_id != sandbox => {
            plan.steps.push(Step::Stop {
                id: fact.id.clone(),
                name: name.to_owned(),
                reason: StopReason::SandboxGone,
            });
        }
        Some(_) => {}
    }
}

/// Old attempts and old sandboxes: one dead attempt before the newest is kept, for its
/// log and its exit code.
fn prune(input: PlanInput<'_>, plan: &mut Plan) {
    let facts = input.facts;
    let current = facts.sandbox().map(|sandbox| sandbox.id.as_str());
    for sandbox in facts.sandboxes.iter().filter(|one| Some(one.id.as_str()) != current) {
        plan.steps.push(Step::Remove { id: sandbox.id.clone() });
    }
    for container in &facts.containers {
        let newer = facts
            .containers
            .iter()
            .filter(|other| other.name == container.name && other.attempt > container.attempt)
            .count();
        if newer > 0 && container.is_running() {
            plan.steps.push(Step::Stop {
                id: container.id.clone(),
                name: container.name.clone(),
                reason: StopReason::Superfluous,
            });
        } else if newer > 1 || (newer > 0 && container.state == FactState::Created) {
            plan.steps.push(Step::Remove { id: container.id.clone() });
        }
    }
}

fn finish(input: PlanInput<'_>, plan: &mut Plan) {
    let mut running: Vec<_> =
        input.facts.containers.iter().filter(|one| one.is_running()).collect();
    // Sidecars serve the others to the end, the first ones longest.
    running.sort_by_key(|one| std::cmp::Reverse(sidecar_place(input.spec, &one.name)));
    running.sort_by_key(|one| sidecar_place(input.spec, &one.name).is_some());
    for container in running {
        plan.steps.push(Step::Stop {
            id: container.id.clone(),
            name: container.name.clone(),
            reason: StopReason::Superfluous,
        });
    }
    if let Some(sandbox) = input.facts.sandbox()
        && matches!(sandbox.state, FactState::Running { .. })
    {
        plan.steps.push(Step::StopSandbox { id: sandbox.id.clone() });
    }
}

/// The id of the sandbox that containers can be started in, or the steps towards one.
fn usable_sandbox(input: PlanInput<'_>, plan: &mut Plan) -> Option<String> {
    match input.facts.sandbox() {
        Some(sandbox) if matches!(sandbox.state, FactState::Running { .. }) => {
            Some(sandbox.id.clone())
        }
        Some(sandbox) if sandbox.state == FactState::Created => {
            plan.steps.push(Step::StartSandbox { id: sandbox.id.clone() });
            None
        }
        dead => {
            for container in input.facts.containers.iter().filter(|one| one.is_running()) {
                plan.steps.push(Step::Stop {
                    id: container.id.clone(),
                    name: container.name.clone(),
                    reason: StopReason::SandboxGone,
                });
            }
            plan.steps.push(Step::NewSandbox { attempt: dead.map_or(0, |one| one.attempt + 1) });
            None
        }
    }
}

/// Runs the init containers one after the other; true when the others may start.
fn init_done(input: PlanInput<'_>, sandbox: &str, plan: &mut Plan) -> bool {
    let begun = input.spec.containers.iter().any(|container| {
        input.facts.latest(&container.name).is_some_and(|fact| fact.sandbox_id == sandbox)
    });
    for container in init_containers(input.spec) {
        let fact = input.facts.latest(&container.name).filter(|fact| fact.sandbox_id == sandbox);
        if is_sidecar(container) {
            tend(input, sandbox, container, true, plan);
            let up = fact.is_some_and(|fact| {
                fact.is_running()
                    && (container.startup_probe.is_none()
                        || input.verdicts.started.contains(&fact.id))
            });
            if !up && !begun {
                return false;
            }
            continue;
        }
        let succeeded =
            fact.and_then(ContainerFact::ended).is_some_and(|ended| ended.exit_code == 0);
        if begun || succeeded {
            continue;
        }
        if fact.is_none() {
            launch_next(input, container, plan);
        } else {
            tend(input, sandbox, container, false, plan);
        }
        return false;
    }
    true
}

/// Starts the next attempt at once: this sandbox has not seen the container yet.
fn launch_next(input: PlanInput<'_>, container: &Container, plan: &mut Plan) {
    let (attempt, restart_step) = match input.facts.latest(&container.name) {
        Some(fact) => (fact.attempt + 1, fact.restart_step),
        None => match input.known_restarts.get(&container.name) {
            Some(count) => (count + 1, 1),
            None => (0, 0),
        },
    };
    plan.steps.push(Step::Launch { name: container.name.clone(), attempt, restart_step });
}

/// One container that should run, or should be run again when its policy says so.
fn tend(input: PlanInput<'_>, sandbox: &str, wanted: &Container, always: bool, plan: &mut Plan) {
    let Some(fact) = input.facts.latest(&wanted.name) else {
        return launch_next(input, wanted, plan);
    };
    let here = fact.sandbox_id == sandbox;
    match &fact.state {
        FactState::Created if here => {
            plan.steps.push(Step::StartCreated { id: fact.id.clone(), name: wanted.name.clone() })
        }
        FactState::Created => plan.steps.push(Step::Remove { id: fact.id.clone() }),
        FactState::Running { .. } => {
            if let Some(reason) = stop_reason(input, here, wanted, fact) {
                plan.steps.push(Step::Stop {
                    id: fact.id.clone(),
                    name: wanted.name.clone(),
                    reason,
                });
            }
        }
        FactState::Ended(ended) => {
            let policy = if always {
                RestartPolicy::Always
            } else {
                RestartPolicy::parse(input.spec.restart_policy.as_deref())
            };
            if policy.restarts(ended.exit_code) {
                restart(input, wanted, fact, plan);
            }
        }
    }
}

fn stop_reason(
    input: PlanInput<'_>,
    here: bool,
    wanted: &Container,
    fact: &ContainerFact,
) -> Option<StopReason> {
    if !here {
        Some(StopReason::SandboxGone)
    } else if wanted.image.as_deref().is_some_and(|image| image != fact.spec_image) {
        Some(StopReason::ImageChanged)
    } else if wanted.liveness_probe.is_some() && input.verdicts.failed_liveness.contains(&fact.id) {
        Some(StopReason::Liveness)
    } else if wanted.startup_probe.is_some() && input.verdicts.failed_startup.contains(&fact.id) {
        Some(StopReason::Startup)
    } else {
        None
    }
}

/// The next attempt, now or when its back-off is over.
fn restart(input: PlanInput<'_>, wanted: &Container, fact: &ContainerFact, plan: &mut Plan) {
    let Some(ended) = fact.ended() else { return };
    let step = next_step(fact.restart_step, ended.ran_for());
    let wait = back_off(step);
    let since = ended.finished_at.or(ended.started_at).unwrap_or(input.now);
    let due = since + SignedDuration::try_from(wait).unwrap_or(SignedDuration::ZERO);
    if due <= input.now || input.now < since {
        plan.steps.push(Step::Launch {
            name: wanted.name.clone(),
            attempt: fact.attempt + 1,
            restart_step: step,
        });
        return;
    }
    let message =
        format!("back-off {}s restarting failed container={}", wait.as_secs(), wanted.name);
    plan.waiting.insert(
        wanted.name.clone(),
        Waiting { reason: "CrashLoopBackOff".to_owned(), message: Some(message) },
    );
    plan.wake_at = Some(plan.wake_at.map_or(due, |other| other.min(due)));
}

#[cfg(test)]
#[path = "restart_plan_tests.rs"]
mod tests;
