//! One pod's life on this node: look, decide, act, report, and again.
//!
//! ```text
//!        ┌────────── wake: API, engine event, probe, timer ──────────┐
//!        ▼                                                           │
//!   observe (engine) ─► plan (logic/) ─► status (API) ─► steps ──────┤
//!        │ deleted or gone                                           │
//!        └─► end (pod_end.rs) ─► done                                │
//! ```
//! Why level-triggered: whatever happened, the next round starts from what the engine
//! shows, so being killed at any point (here: a dropped future) is an ordinary case.
//! Invariant: a silent engine ends the round without a decision.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodSpec, PodStatus, Volume};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::AgentError;
use super::context::Context;
use super::downward::Downward;
use super::events::Gravity;
use super::labels::PodIdentity;
use super::pod_dns;
use super::pod_source::DesiredPod;
use super::prober::Prober;
use super::volumes::{self, PodDir, Sources};
use crate::base::limits::{EVICTION_GRACE_S, POD_RESYNC};
use crate::engine::port::{Container as EngineContainer, RunState};
use crate::logic::pod_phase::{
    DEADLINE_MESSAGE, DEADLINE_REASON, deadline, final_phase, is_overdue,
};
use crate::logic::restart_facts::{FactState, PodFacts};
use crate::logic::restart_plan::{Plan, PlanInput, Step, Waiting, plan};
use crate::sys::clock;
use crate::sys::pod_files;

const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(20);

/// What a round ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Something was done: look again at once.
    Again,
    After(Duration),
    /// Nothing of the pod is left.
    Done,
}

/// Why a container cannot be started now, and when to try again.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    pub waiting: Waiting,
    pub count: u32,
    pub due: Instant,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct PodWorker {
    pub(super) context: Arc<Context>,
    pub(super) identity: PodIdentity,
    pub(super) desired: watch::Receiver<Option<Arc<DesiredPod>>>,
    pub(super) wake: Arc<Notify>,
    pub(super) prober: Prober,
    pub(super) dir: PodDir,
    /// Inspected containers; valid while the list shows the same state.
    pub(super) seen: HashMap<String, EngineContainer>,
    /// Last words of ended containers.
    pub(super) messages: HashMap<String, Option<String>>,
    /// Sandbox id and pod address.
    pub(super) attached: Option<(String, String)>,
    pub(super) troubles: BTreeMap<String, Trouble>,
    /// The resourceVersion that the last write was based on, and what was written.
    pub(super) written: Option<(String, PodStatus)>,
    /// Containers whose preStop hook was run.
    pub(super) pre_stopped: Vec<String>,
    /// Ended containers whose wait for a restart was told.
    backed_off: Vec<String>,
    pub(super) failures: u32,
}

impl PodWorker {
    pub(crate) fn new(
        context: Arc<Context>,
        identity: PodIdentity,
        desired: watch::Receiver<Option<Arc<DesiredPod>>>,
        wake: Arc<Notify>,
    ) -> Self {
        let prober = Prober::new(Arc::clone(&context), identity.clone(), Arc::clone(&wake));
        let dir = PodDir::new(&context.config.node.paths.pods(), &identity.uid);
        Self {
            context,
            identity,
            desired,
            wake,
            prober,
            dir,
            seen: HashMap::new(),
            messages: HashMap::new(),
            attached: None,
            troubles: BTreeMap::new(),
            written: None,
            pre_stopped: Vec::new(),
            backed_off: Vec::new(),
            failures: 0,
        }
    }

    /// Runs until the pod is gone or the agent stops; returns the pod's uid.
    pub(crate) async fn run(mut self, cancel: CancellationToken) -> String {
        let mut choices = self.context.pressure.choices();
        loop {
            let outcome = tokio::select! {
                () = cancel.cancelled() => return self.identity.uid,
                outcome = self.round() => outcome,
            };
            let pause = match outcome {
                Ok(Next::Done) => {
                    self.context.forget_local(&self.identity.uid);
                    return self.identity.uid;
                }
                Ok(Next::Again) => {
                    self.failures = 0;
                    continue;
                }
                Ok(Next::After(pause)) => {
                    self.failures = 0;
                    pause
                }
                Err(error) => {
                    let pod = format!("{}/{}", self.identity.namespace, self.identity.name);
                    tracing::warn!(pod, %error, "a round of a pod failed; trying again");
                    self.failures = self.failures.saturating_add(1);
                    let doublings = self.failures.min(8) - 1;
                    RETRY_FIRST.saturating_mul(1 << doublings).min(RETRY_MAX)
                }
            };
            let failed = self.failures > 0;
            tokio::select! {
                () = cancel.cancelled() => return self.identity.uid,
                changed = self.desired.changed() => {
                    if changed.is_err() { return self.identity.uid }
                }
                // After a failure only the clock and the API wake, or events would make
                // the retries hot.
                () = self.wake.notified(), if !failed => {}
                _ = choices.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One round, given up when the API's wish changes its nature in the middle.
    async fn round(&mut self) -> Result<Next, AgentError> {
        let desired = self.desired.borrow_and_update().clone();
        let mut newer = self.desired.clone();
        match desired {
            Some(pod) if !pod.is_being_deleted() => {
                let deleted = newer.wait_for(|pod| match pod {
                    Some(pod) => pod.is_being_deleted(),
                    None => true,
                });
                tokio::select! {
                    outcome = self.sync(&pod) => outcome,
                    _ = deleted => Ok(Next::Again),
                }
            }
            ending => {
                let grace = ending.as_ref().map(|pod| deletion_grace(pod));
                let hurried =
                    newer.wait_for(|pod| pod.as_ref().map(|pod| deletion_grace(pod)) != grace);
                tokio::select! {
                    outcome = self.end(ending.clone()) => outcome,
                    _ = hurried => Ok(Next::Again),
                }
            }
        }
    }

    async fn sync(&mut self, desired: &DesiredPod) -> Result<Next, AgentError> {
        let Some(spec) = &desired.pod.spec else {
            return Err(AgentError::config("the pod has no spec"));
        };
        let evicted = self.context.pressure.evicted(&self.identity.uid).is_some();
        let hurried;
        let spec = if evicted {
            // What the node lacks now cannot wait for the pod's own grace.
            let grace = Some(EVICTION_GRACE_S);
            hurried = PodSpec { termination_grace_period_seconds: grace, ..spec.clone() };
            &hurried
        } else {
            spec
        };
        let facts = self.observe(Some(spec)).await?;
        let address = self.ensure_network(spec, &facts).await;
        let pod_ip = address.as_ref().ok().cloned().flatten();
        if let Some(ip) = &pod_ip {
            self.prober.follow(&desired.pod, &facts, ip);
        }
        if evicted && !facts.containers.iter().any(|container| container.is_running()) {
            self.clear_up().await?;
        }
        let verdicts = self.prober.verdicts();
        let now = clock::now();
        let overdue = is_overdue(&desired.pod, now);
        if overdue {
            self.event(None, Gravity::Normal, DEADLINE_REASON, DEADLINE_MESSAGE);
        }
        let mut plan = plan(PlanInput {
            spec,
            facts: &facts,
            verdicts: &verdicts,
            known_restarts: &known_restarts(&desired.pod),
            finished: final_phase(&desired.pod).is_some() || overdue || evicted,
            now,
        });
        if let Some(deadline) = deadline(&desired.pod).filter(|_| !overdue) {
            plan.wake_at = Some(plan.wake_at.map_or(deadline, |other| other.min(deadline)));
        }
        self.tell_back_off(&plan, &facts);
        self.add_troubles(&mut plan);
        let report = self
            .write_status(desired, &facts, &verdicts, &plan.waiting, pod_ip.as_deref(), false)
            .await;
        address?;
        let mut acted = false;
        let mut wake = POD_RESYNC;
        for step in &plan.steps {
            match self.carry_out(desired, spec, &facts, pod_ip.as_deref(), step).await? {
                Acted::Yes => acted = true,
                Acted::Later(pause) => wake = wake.min(pause),
                Acted::No => {}
            }
        }
        if acted {
            return Ok(Next::Again);
        }
        report?;
        self.refresh_volumes(desired, spec, &facts, pod_ip.as_deref()).await?;
        if let Some(at) = plan.wake_at {
            let pause = Duration::try_from(at.duration_since(clock::now()));
            wake = wake.min(pause.unwrap_or(Duration::ZERO) + Duration::from_millis(20));
        }
        Ok(Next::After(wake))
    }

    /// Says once for each attempt that its restart waits.
    fn tell_back_off(&mut self, plan: &Plan, facts: &PodFacts) {
        self.backed_off.retain(|id| facts.containers.iter().any(|one| one.id == *id));
        for (name, waiting) in &plan.waiting {
            let Some(fact) = facts.latest(name) else { continue };
            if waiting.reason != "CrashLoopBackOff" || self.backed_off.contains(&fact.id) {
                continue;
            }
            self.backed_off.push(fact.id.clone());
            let PodIdentity { namespace, name: pod, uid } = &self.identity;
            let message = format!(
                "Back-off restarting failed container {name} in pod {pod}_{namespace}({uid})"
            );
            self.event(Some(name), Gravity::Warning, "BackOff", message);
        }
    }

    /// Containers that cannot be made now wait for their own reasons.
    fn add_troubles(&mut self, plan: &mut Plan) {
        let launching: Vec<&str> = plan
            .steps
            .iter()
            .filter_map(|step| match step {
                Step::Launch { name, .. } => Some(name.as_str()),
                _ => None,
            })
            .collect();
        self.troubles.retain(|name, _| launching.contains(&name.as_str()));
        for (name, trouble) in &self.troubles {
            plan.waiting.insert(name.clone(), trouble.waiting.clone());
        }
    }

    async fn carry_out(
        &mut self,
        desired: &DesiredPod,
        spec: &PodSpec,
        facts: &PodFacts,
        pod_ip: Option<&str>,
        step: &Step,
    ) -> Result<Acted, AgentError> {
        match step {
            Step::Remove { id } => self.context.engine.remove(id).await?,
            Step::StopSandbox { id } => {
                self.context.engine.stop(id, Duration::ZERO).await?;
                self.context.network.detach(&self.identity.uid).await?;
                self.attached = None;
            }
            Step::StartSandbox { id } => self.context.engine.start(id).await?,
            Step::NewSandbox { attempt } => {
                return self.new_sandbox(spec, *attempt).await;
            }
            Step::Stop { id, name, reason } => {
                self.stop_for(spec, id, name, *reason).await?;
            }
            Step::StartCreated { id, name } => {
                self.start_member(spec, name, id).await?;
            }
            Step::Launch { name, attempt, restart_step } => {
                let Some(pod_ip) = pod_ip else { return Ok(Acted::No) };
                return self
                    .launch(desired, spec, facts, pod_ip, name, (*attempt, *restart_step))
                    .await;
            }
        }
        Ok(Acted::Yes)
    }

    /// Reads the pod's containers from the engine.
    pub(super) async fn observe(&mut self, spec: Option<&PodSpec>) -> Result<PodFacts, AgentError> {
        use super::labels::{NODE, POD_UID, container_fact, is_sandbox, sandbox_fact};
        let labels = [
            (POD_UID.to_owned(), self.identity.uid.clone()),
            (NODE.to_owned(), self.context.node_name().to_owned()),
        ];
        let list = self.context.engine.list(&labels).await?;
        self.seen.retain(|id, _| list.iter().any(|line| line.id == *id));
        self.messages.retain(|id, _| list.iter().any(|line| line.id == *id));
        let mut facts = PodFacts::default();
        for line in list {
            let fresh = self.seen.get(&line.id).is_some_and(|seen| seen.state == line.state);
            // A created container may have been refused its start since.
            if !fresh || line.state == RunState::Created {
                match self.context.engine.inspect(&line.id).await? {
                    Some(container) => self.seen.insert(line.id.clone(), container),
                    None => continue,
                };
            }
            let Some(container) = self.seen.get(&line.id).cloned() else { continue };
            if is_sandbox(&container.labels) {
                facts.sandboxes.extend(sandbox_fact(&container));
            } else {
                let message = self.last_words(spec, &container).await;
                facts.containers.extend(container_fact(&container, message));
            }
        }
        facts.containers.sort_by(|a, b| (&a.name, a.attempt).cmp(&(&b.name, b.attempt)));
        Ok(facts)
    }

    /// The pod's address; connects a running sandbox that this worker has not connected.
    async fn ensure_network(
        &mut self,
        spec: &PodSpec,
        facts: &PodFacts,
    ) -> Result<Option<String>, AgentError> {
        let Some(sandbox) = facts.sandbox() else { return Ok(None) };
        if !matches!(sandbox.state, FactState::Running { .. }) {
            return Ok(None);
        }
        if let Some((id, ip)) = &self.attached
            && *id == sandbox.id
        {
            return Ok(Some(ip.clone()));
        }
        let ip = if spec.host_network.unwrap_or(false) {
            self.context.host_ip()
        } else {
            let pid = self.seen.get(&sandbox.id).map_or(0, |container| container.pid);
            match self.context.network.attach(&self.identity.uid, pid).await {
                Ok(ip) => {
                    let ports = self.published_ports(spec, ip);
                    self.context.network.publish(&self.identity.uid, ports).await;
                    ip.to_string()
                }
                Err(error) => {
                    let message = format!("Failed to create pod sandbox: {error}");
                    self.event(None, Gravity::Warning, "FailedCreatePodSandBox", message);
                    return Err(error.into());
                }
            }
        };
        self.write_dns_files(spec, &ip)?;
        self.attached = Some((sandbox.id.clone(), ip.clone()));
        Ok(Some(ip))
    }

    fn write_dns_files(&self, spec: &PodSpec, ip: &str) -> Result<(), AgentError> {
        let config = &self.context.config;
        let domain = &config.node.network.cluster_domain;
        let host = pod_files::read_file(&config.host_resolv_conf)
            .map_err(AgentError::files("read", &config.host_resolv_conf))?;
        let host = String::from_utf8_lossy(&host.unwrap_or_default()).into_owned();
        let server = self.context.network.dns_server();
        let hosts = pod_dns::hosts(&self.identity, spec, ip, domain);
        let resolv = pod_dns::resolv_conf(&self.identity, spec, server, domain, &host);
        let etc = self.dir.root().join("etc");
        pod_files::make_dir(&etc, 0o755).map_err(AgentError::files("make", &etc))?;
        for (path, text) in [(self.dir.hosts(), hosts), (self.dir.resolv_conf(), resolv)] {
            pod_files::rewrite_file(&path, text.as_bytes(), 0o644)
                .map_err(AgentError::files("write", &path))?;
        }
        Ok(())
    }

    /// What the pod may know of itself.
    pub(super) fn downward<'a>(
        &'a self,
        desired: &'a DesiredPod,
        spec: &'a PodSpec,
        host_ip: &'a str,
        pod_ip: &'a str,
    ) -> Downward<'a> {
        let host = &self.context.host;
        Downward {
            pod: &desired.pod,
            spec,
            identity: &self.identity,
            host_ip,
            pod_ip,
            node_cpu_milli: i64::try_from(host.cpus).unwrap_or(1) * 1_000,
            node_memory_bytes: i64::try_from(host.memory_bytes).unwrap_or(i64::MAX),
        }
    }

    /// What its volumes are made of.
    pub(super) fn sources<'a>(&'a self, downward: &'a Downward<'a>) -> Sources<'a> {
        let (references, tokens) = (&self.context.references, &self.context.tokens);
        Sources { dir: &self.dir, downward, references, tokens }
    }

    /// Brings what has changed in the API into the volumes of a pod that runs.
    async fn refresh_volumes(
        &self,
        desired: &DesiredPod,
        spec: &PodSpec,
        facts: &PodFacts,
        pod_ip: Option<&str>,
    ) -> Result<(), AgentError> {
        let from_api = |volume: &Volume| {
            volume.config_map.is_some()
                || volume.secret.is_some()
                || volume.projected.is_some()
                || volume.downward_api.is_some()
        };
        let changes = spec.volumes.iter().flatten().any(from_api);
        if !changes || !facts.containers.iter().any(|container| container.is_running()) {
            return Ok(());
        }
        let host_ip = self.context.host_ip();
        let downward = self.downward(desired, spec, &host_ip, pod_ip.unwrap_or_default());
        match volumes::prepare(&self.sources(&downward)).await {
            // The running containers keep what they have.
            Err(error @ (AgentError::Config { .. } | AgentError::Api(_))) => {
                tracing::debug!(pod = self.identity.name, %error, "volumes are not refreshed");
                Ok(())
            }
            other => other.map(drop),
        }
    }

    pub(super) fn event(
        &self,
        container: Option<&str>,
        gravity: Gravity,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        self.context.events.send(&self.identity, container, gravity, reason, message);
    }
}

/// What carrying out one step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acted {
    Yes,
    No,
    /// It waits for its back-off.
    Later(Duration),
}

/// Seconds that a deleted pod may still run.
pub(super) fn deletion_grace(pod: &DesiredPod) -> i64 {
    let spec = pod.pod.spec.as_ref();
    let own = spec.map_or(30, super::container_spec::grace_seconds);
    pod.pod.metadata.deletion_grace_period_seconds.unwrap_or(own).max(0)
}

/// Restart counts in the status, of containers that did exist.
fn known_restarts(pod: &Pod) -> BTreeMap<String, u32> {
    let status = pod.status.clone().unwrap_or_default();
    let init = status.init_container_statuses.unwrap_or_default();
    let main = status.container_statuses.unwrap_or_default();
    let later = status.ephemeral_container_statuses.unwrap_or_default();
    init.into_iter()
        .chain(main)
        .chain(later)
        .filter(|one| one.container_id.is_some())
        .map(|one| (one.name, u32::try_from(one.restart_count).unwrap_or(0)))
        .collect()
}
