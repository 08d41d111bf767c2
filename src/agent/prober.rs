//! Runs the probes of one pod's containers and keeps their verdicts.
//!
//! Why the start values come from the API: an agent that restarts must not make a ready
//! pod unready for a moment, so what the status says about the same container counts
//! until a probe says otherwise.
//! Invariants: one task per container and kind; liveness and readiness wait for startup.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, Probe};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};

use super::context::Context;
use super::events::Gravity;
use super::handler::{Question, Respondent, ask};
use super::labels::PodIdentity;
use crate::logic::probe::{ProbeKind, ProbeMachine, ProbeOutcome, Verdict};
use crate::logic::restart_facts::{FactState, PodFacts, Verdicts};
use crate::sys::clock;

type Key = (String, ProbeKind);
type Board = Arc<Mutex<HashMap<Key, Verdict>>>;

/// The probes of one pod.
#[derive(Debug)]
pub(crate) struct Prober {
    context: Arc<Context>,
    identity: PodIdentity,
    wake: Arc<Notify>,
    board: Board,
    tasks: JoinSet<()>,
    running: BTreeMap<Key, AbortHandle>,
}

fn read(board: &Board, key: &Key) -> Option<Verdict> {
    board.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied()
}

fn write(board: &Board, key: Key, verdict: Verdict) {
    board.lock().unwrap_or_else(PoisonError::into_inner).insert(key, verdict);
}

fn probe_of(container: &Container, kind: ProbeKind) -> Option<&Probe> {
    match kind {
        ProbeKind::Startup => container.startup_probe.as_ref(),
        ProbeKind::Liveness => container.liveness_probe.as_ref(),
        ProbeKind::Readiness => container.readiness_probe.as_ref(),
    }
}

/// What the API's status says about this very container.
fn known(pod: &Pod, name: &str, id: &str, kind: ProbeKind) -> Verdict {
    let matches = |status: &&ContainerStatus| {
        status.name == name && status.container_id.as_deref() == Some(&*format!("docker://{id}"))
    };
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let Some(status) = statuses.into_iter().flatten().find(matches) else {
        return Verdict::Open;
    };
    match kind {
        ProbeKind::Readiness if status.ready => Verdict::Good,
        ProbeKind::Startup if status.started == Some(true) => Verdict::Good,
        _ => Verdict::Open,
    }
}

impl Prober {
    pub(crate) fn new(context: Arc<Context>, identity: PodIdentity, wake: Arc<Notify>) -> Self {
        Self {
            context,
            identity,
            wake,
            board: Board::default(),
            tasks: JoinSet::new(),
            running: BTreeMap::new(),
        }
    }

    /// Starts probes of new containers and ends those of containers that are gone.
    pub(crate) fn follow(&mut self, pod: &Pod, facts: &PodFacts, pod_ip: &str) {
        let Some(spec) = &pod.spec else { return };
        while self.tasks.try_join_next().is_some() {}
        let sidecars = spec.init_containers.iter().flatten();
        let mut wanted = BTreeMap::new();
        for container in sidecars.chain(&spec.containers) {
            let Some(fact) = facts.latest(&container.name) else { continue };
            let FactState::Running { started_at } = &fact.state else { continue };
            for kind in [ProbeKind::Startup, ProbeKind::Liveness, ProbeKind::Readiness] {
                if let Some(probe) = probe_of(container, kind) {
                    let key = (fact.id.clone(), kind);
                    wanted.insert(key, (container, probe, *started_at));
                }
            }
        }
        let board = Arc::clone(&self.board);
        self.running.retain(|key, task| {
            let keep = wanted.contains_key(key);
            if !keep {
                task.abort();
                board.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
            }
            keep
        });
        for (key, (container, probe, started_at)) in wanted {
            if self.running.contains_key(&key) {
                continue;
            }
            let initial = known(pod, &container.name, &key.0, key.1);
            write(&self.board, key.clone(), initial);
            let task = self.task(&key, container, probe, started_at, pod_ip, initial);
            if let Some(task) = task {
                let handle = self.tasks.spawn(task.run());
                self.running.insert(key, handle);
            }
        }
    }

    fn task(
        &self,
        key: &Key,
        container: &Container,
        probe: &Probe,
        started_at: Option<Timestamp>,
        pod_ip: &str,
        initial: Verdict,
    ) -> Option<ProbeTask> {
        let seconds = |value: Option<i32>, default: u64| {
            Duration::from_secs(
                value.and_then(|value| u64::try_from(value).ok()).unwrap_or(default),
            )
        };
        let question = Question::of_probe(probe);
        if question.is_none() {
            tracing::warn!(container = container.name, "a probe that asks nothing is ignored");
        }
        Some(ProbeTask {
            context: Arc::clone(&self.context),
            identity: self.identity.clone(),
            wake: Arc::clone(&self.wake),
            board: Arc::clone(&self.board),
            key: key.clone(),
            respondent: Respondent {
                container: container.clone(),
                container_id: key.0.clone(),
                pod_ip: pod_ip.to_owned(),
            },
            question: question?,
            machine: ProbeMachine::new(
                probe.success_threshold.unwrap_or(1),
                probe.failure_threshold.unwrap_or(3),
                initial,
            ),
            after_startup: key.1 != ProbeKind::Startup && container.startup_probe.is_some(),
            started_at,
            initial_delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10).max(Duration::from_secs(1)),
            timeout: seconds(probe.timeout_seconds, 1).max(Duration::from_secs(1)),
        })
    }

    /// Ends all probes; what they said is forgotten.
    pub(crate) fn stop(&mut self) {
        self.running.clear();
        self.tasks.abort_all();
    }

    /// What the probes say now.
    pub(crate) fn verdicts(&self) -> Verdicts {
        let mut verdicts = Verdicts::default();
        let board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        for ((id, kind), verdict) in board.iter() {
            let set = match (kind, verdict) {
                (ProbeKind::Startup, Verdict::Good) => &mut verdicts.started,
                (ProbeKind::Startup, Verdict::Bad) => &mut verdicts.failed_startup,
                (ProbeKind::Liveness, Verdict::Bad) => &mut verdicts.failed_liveness,
                (ProbeKind::Readiness, Verdict::Good) => &mut verdicts.ready,
                _ => continue,
            };
            set.insert(id.clone());
        }
        verdicts
    }
}

/// One probe of one container, for the container's life.
struct ProbeTask {
    context: Arc<Context>,
    identity: PodIdentity,
    wake: Arc<Notify>,
    board: Board,
    key: Key,
    respondent: Respondent,
    question: Question,
    machine: ProbeMachine,
    after_startup: bool,
    started_at: Option<Timestamp>,
    initial_delay: Duration,
    period: Duration,
    timeout: Duration,
}

impl ProbeTask {
    async fn run(mut self) {
        let age = self.started_at.map_or(Duration::ZERO, |start| {
            Duration::try_from(clock::now().duration_since(start)).unwrap_or_default()
        });
        tokio::time::sleep(self.initial_delay.saturating_sub(age)).await;
        let mut tick = tokio::time::interval(self.period);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let startup = (self.key.0.clone(), ProbeKind::Startup);
        loop {
            tick.tick().await;
            let is_startup = self.key.1 == ProbeKind::Startup;
            if is_startup && self.machine.verdict() != Verdict::Open {
                return;
            }
            if self.after_startup && read(&self.board, &startup) != Some(Verdict::Good) {
                continue;
            }
            let engine = self.context.engine.as_ref();
            let client = &self.context.http;
            let outcome = ask(engine, client, &self.respondent, &self.question, self.timeout).await;
            self.note(&outcome);
            if self.machine.observe(&outcome) {
                write(&self.board, self.key.clone(), self.machine.verdict());
                self.wake.notify_one();
            }
        }
    }

    fn note(&self, outcome: &ProbeOutcome) {
        match outcome {
            ProbeOutcome::Success => {}
            ProbeOutcome::Failure(why) => {
                let message = format!("{} probe failed: {why}", self.key.1.title());
                let container = Some(self.respondent.container.name.as_str());
                let events = &self.context.events;
                events.send(&self.identity, container, Gravity::Warning, "Unhealthy", message);
            }
            ProbeOutcome::Unknown(why) => {
                tracing::debug!(pod = self.identity.name, why, "a probe could not be made");
            }
        }
    }
}
