//! Making and starting a pod's containers.
//!
//! Invariants: a name that is taken by the same pod is adopted, never made twice; the
//! image is always one by digest that the engine holds; a container is made whole
//! (volumes, environment, files) before it is started.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use tokio::time::Instant;

use super::AgentError;
use super::container_spec::{
    Attempt, SpecContext, check_non_root, grace_seconds, member_spec, sandbox_spec,
};
use super::env::{EnvContext, environment};
use super::events::Gravity;
use super::handler::{Question, Respondent, ask};
use super::labels::POD_UID;
use super::pod_source::DesiredPod;
use super::pod_worker::{Acted, PodWorker, Trouble};
use super::ports::ImageError;
use super::volumes;
use crate::engine::EngineError;
use crate::engine::port::ContainerSpec;
use crate::logic::probe::ProbeOutcome;
use crate::logic::restart::back_off;
use crate::logic::restart_facts::PodFacts;
use crate::logic::restart_plan::{StopReason, Waiting, container_of};
use crate::sys::pod_files;

const HOOK_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a container could not be made, as its status says it.
enum Refusal {
    /// Tried again with back-off; the words are the status's.
    Waits { reason: &'static str, message: String },
    /// Not the container's fault (silent engine, files): the round fails.
    Round(AgentError),
}

impl From<AgentError> for Refusal {
    fn from(error: AgentError) -> Self {
        match error {
            AgentError::Config { reason } => {
                Refusal::Waits { reason: "CreateContainerConfigError", message: reason }
            }
            AgentError::Engine(EngineError::Refused { message, .. }) => {
                Refusal::Waits { reason: "CreateContainerError", message }
            }
            other => Refusal::Round(other),
        }
    }
}

impl From<EngineError> for Refusal {
    fn from(error: EngineError) -> Self {
        AgentError::from(error).into()
    }
}

impl PodWorker {
    pub(super) async fn new_sandbox(
        &mut self,
        spec: &PodSpec,
        attempt: u32,
    ) -> Result<Acted, AgentError> {
        let image = self.context.config.node.pause_image.clone();
        let image = match self.ensure_image(&image, "IfNotPresent", None).await {
            Ok(image) => image,
            Err(Refusal::Round(error)) => return Err(error),
            Err(Refusal::Waits { message, .. }) => {
                let message = format!("Failed to create pod sandbox: {message}");
                self.event(None, Gravity::Warning, "FailedCreatePodSandBox", message.clone());
                return Err(AgentError::config(message));
            }
        };
        let body = sandbox_spec(&self.spec_context(spec), image, attempt);
        let made = match self.create_or_adopt(&body).await {
            Ok(id) => self.context.engine.start(&id).await.map_err(AgentError::from),
            Err(error) => Err(error),
        };
        if let Err(error) = &made {
            let message = format!("Failed to create pod sandbox: {error}");
            self.event(None, Gravity::Warning, "FailedCreatePodSandBox", message);
        }
        made.map(|()| Acted::Yes)
    }

    fn spec_context<'a>(&'a self, spec: &'a PodSpec) -> SpecContext<'a> {
        SpecContext {
            node: self.context.node_name(),
            identity: &self.identity,
            spec,
            cgroup_parent: self.context.config.cgroup_parent.as_deref(),
            oom_score_min: self.context.host.oom_score_min,
        }
    }

    async fn create_or_adopt(&self, body: &ContainerSpec) -> Result<String, AgentError> {
        match self.context.engine.create(body).await {
            Err(EngineError::NameTaken { name }) => {
                let found = self.context.engine.inspect(&name).await?;
                match found {
                    Some(found) if found.labels.get(POD_UID) == body.labels.get(POD_UID) => {
                        Ok(found.id)
                    }
                    _ => Err(EngineError::NameTaken { name }.into()),
                }
            }
            other => Ok(other?),
        }
    }

    /// Makes and starts an attempt, or notes why not and when to try again.
    pub(super) async fn launch(
        &mut self,
        desired: &DesiredPod,
        spec: &PodSpec,
        facts: &PodFacts,
        pod_ip: &str,
        name: &str,
        numbers: (u32, u32),
    ) -> Result<Acted, AgentError> {
        if let Some(trouble) = self.troubles.get(name) {
            let left = trouble.due.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                return Ok(Acted::Later(left));
            }
        }
        let Some(container) = container_of(spec, name) else { return Ok(Acted::No) };
        match self.make(desired, spec, facts, pod_ip, &container, numbers).await {
            Ok(id) => {
                self.troubles.remove(name);
                self.event(
                    Some(name),
                    Gravity::Normal,
                    "Created",
                    format!("Created container: {name}"),
                );
                self.start_member(spec, name, &id).await?;
                Ok(Acted::Yes)
            }
            Err(Refusal::Round(error)) => Err(error),
            Err(Refusal::Waits { reason, message }) => Ok(self.trouble(name, reason, message)),
        }
    }

    fn trouble(&mut self, name: &str, reason: &'static str, message: String) -> Acted {
        let count = self.troubles.get(name).map_or(0, |trouble| trouble.count) + 1;
        let pause = back_off(count + 1);
        self.event(Some(name), Gravity::Warning, "Failed", format!("Error: {reason}: {message}"));
        let (reason, message) = if reason == "ErrImagePull" && count > 1 {
            ("ImagePullBackOff", format!("Back-off pulling image: {message}"))
        } else {
            (reason, message)
        };
        if reason == "ImagePullBackOff" {
            self.event(Some(name), Gravity::Normal, "BackOff", message.clone());
        }
        let waiting = Waiting { reason: reason.to_owned(), message: Some(message) };
        let due = Instant::now() + pause;
        self.troubles.insert(name.to_owned(), Trouble { waiting, count, due });
        // The new reason is in the status of the next round, which starts at once.
        Acted::Yes
    }

    async fn make(
        &mut self,
        desired: &DesiredPod,
        spec: &PodSpec,
        facts: &PodFacts,
        pod_ip: &str,
        container: &Container,
        (attempt, restart_step): (u32, u32),
    ) -> Result<String, Refusal> {
        let Some(sandbox) = facts.sandbox() else {
            return Err(Refusal::Round(AgentError::config("the sandbox is gone")));
        };
        let host_ip = self.context.host_ip();
        let downward = self.downward(desired, spec, &host_ip, pod_ip);
        let prepared = volumes::prepare(&self.sources(&downward)).await;
        if let Err(error) = &prepared {
            let message = format!("MountVolume.SetUp failed: {error}");
            self.event(None, Gravity::Warning, "FailedMount", message);
        }
        let places = prepared?;
        let named = container.image.clone().unwrap_or_default();
        let policy = container.image_pull_policy.as_deref().unwrap_or("IfNotPresent");
        let before = facts.latest(&container.name).filter(|fact| fact.spec_image == named);
        let held = before.map(|fact| fact.pulled_image.clone());
        let image = self.ensure_image(&named, policy, held).await?;
        let user = self.context.engine.image(&image).await?.unwrap_or_default().user;
        check_non_root(spec, container, &user)?;
        let api = self.context.config.node.network.api_address().to_string();
        let env = environment(
            &EnvContext {
                downward: &downward,
                api_service: (&api, 443),
                references: &self.context.references,
            },
            container,
        )
        .await?;
        let last_words = self.dir.termination_log(&container.name, attempt);
        pod_files::touch_file(&last_words, 0o666)
            .map_err(AgentError::files("make", &last_words))?;
        let attempt = Attempt {
            container,
            attempt,
            restart_step,
            sandbox_id: &sandbox.id,
            target_id: target_of(spec, facts, &container.name)?,
            image: &image,
            env: &env,
            places: &places,
            memory_capacity_bytes: downward.node_memory_bytes,
        };
        let body = member_spec(&self.spec_context(spec), &self.dir, &attempt)?;
        Ok(self.create_or_adopt(&body).await?)
    }

    /// The image by digest, in the engine. `held` is what a former attempt ran on; it is
    /// good enough when nobody can be asked.
    async fn ensure_image(
        &self,
        named: &str,
        policy: &str,
        held: Option<String>,
    ) -> Result<String, Refusal> {
        let engine = &self.context.engine;
        let mut held_here = None;
        if let Some(held) = held
            && engine.image(&held).await?.is_some()
        {
            if policy != "Always" {
                return Ok(held);
            }
            held_here = Some(held);
        }
        let pull = match self.context.images.resolve(named).await {
            Ok(image) => image.pull,
            Err(ImageError::Lookup { image, reason }) => match held_here {
                Some(held) => return Ok(held),
                None => {
                    let message = format!("cannot look up image {image}: {reason}");
                    return Err(Refusal::Waits { reason: "ErrImagePull", message });
                }
            },
            Err(error @ ImageError::Invalid { .. }) => {
                let message = error.to_string();
                return Err(Refusal::Waits { reason: "InvalidImageName", message });
            }
            Err(error @ ImageError::Absent { .. }) => {
                let message = error.to_string();
                return Err(Refusal::Waits { reason: "ErrImagePull", message });
            }
        };
        if engine.image(&pull).await?.is_some() {
            let message = format!("Container image \"{named}\" already present on machine");
            self.tell_of_image(named, "Pulled", message);
            return Ok(pull);
        }
        if policy == "Never" {
            let message =
                format!("Container image \"{named}\" is not present with pull policy of Never");
            return Err(Refusal::Waits { reason: "ErrImageNeverPull", message });
        }
        self.tell_of_image(named, "Pulling", format!("Pulling image \"{named}\""));
        match engine.pull(&pull).await {
            Ok(()) => {
                let message = format!("Successfully pulled image \"{named}\"");
                self.tell_of_image(named, "Pulled", message);
                Ok(pull)
            }
            Err(error) if error.is_unknown() => Err(Refusal::Round(error.into())),
            Err(error) => {
                Err(Refusal::Waits { reason: "ErrImagePull", message: error.to_string() })
            }
        }
    }

    /// The pause container's image is the node's own business.
    fn tell_of_image(&self, named: &str, reason: &'static str, message: String) {
        if named != self.context.config.node.pause_image {
            self.event(None, Gravity::Normal, reason, message);
        }
    }

    /// Starts what was made and runs its postStart hook.
    pub(super) async fn start_member(
        &mut self,
        spec: &PodSpec,
        name: &str,
        id: &str,
    ) -> Result<(), AgentError> {
        match self.context.engine.start(id).await {
            Ok(()) => {
                self.event(
                    Some(name),
                    Gravity::Normal,
                    "Started",
                    format!("Started container {name}"),
                );
            }
            // The engine keeps the reason with the container, where the next round finds
            // it as an end of this attempt.
            Err(EngineError::Refused { message, .. }) => {
                self.event(Some(name), Gravity::Warning, "Failed", format!("Error: {message}"));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        let hook = container_of(spec, name).and_then(|container| {
            let hook = container.lifecycle.as_ref()?.post_start.as_ref()?;
            let question = Question::of_hook(hook)?;
            Some((container, question))
        });
        if let Some((container, question)) = hook
            && let ProbeOutcome::Failure(why) =
                self.ask_hook(container, id, &question, HOOK_TIMEOUT).await
        {
            let message = format!("PostStartHook failed: {why}");
            self.event(Some(name), Gravity::Warning, "FailedPostStartHook", message);
            let message = format!("FailedPostStartHook: stopping container {name}");
            self.event(Some(name), Gravity::Normal, "Killing", message);
            let seconds = u64::try_from(grace_seconds(spec)).unwrap_or(30);
            self.context.engine.stop(id, Duration::from_secs(seconds)).await?;
        }
        Ok(())
    }

    /// Runs a container's preStop hook, if it has one, for `limit` at most. One that fails
    /// or lasts too long does not keep the container alive.
    pub(super) async fn pre_stop(&self, container: &Container, id: &str, limit: Duration) {
        let hook = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
        let Some(question) = hook.and_then(Question::of_hook) else { return };
        let asked = self.ask_hook(container.clone(), id, &question, limit);
        let why = match tokio::time::timeout(limit, asked).await {
            Ok(ProbeOutcome::Failure(why)) => why,
            Ok(ProbeOutcome::Success | ProbeOutcome::Unknown(_)) => return,
            Err(_) => format!("it did not end within {} s", limit.as_secs()),
        };
        let message = format!("PreStopHook failed: {why}");
        self.event(Some(&container.name), Gravity::Warning, "FailedPreStopHook", message);
    }

    pub(super) async fn ask_hook(
        &self,
        container: Container,
        id: &str,
        question: &Question,
        limit: Duration,
    ) -> ProbeOutcome {
        let pod_ip = self.attached.as_ref().map(|(_, ip)| ip.clone()).unwrap_or_default();
        let respondent = Respondent { container, container_id: id.to_owned(), pod_ip };
        let engine = self.context.engine.as_ref();
        ask(engine, &self.context.http, &respondent, question, limit).await
    }

    /// Stops one container of a pod that goes on.
    pub(super) async fn stop_for(
        &mut self,
        spec: &PodSpec,
        id: &str,
        name: &str,
        reason: StopReason,
    ) -> Result<(), AgentError> {
        let why = match reason {
            StopReason::Liveness => {
                format!("Container {name} failed liveness probe, will be restarted")
            }
            StopReason::Startup => {
                format!("Container {name} failed startup probe, will be restarted")
            }
            StopReason::ImageChanged => {
                format!("Container {name} definition changed, will be restarted")
            }
            StopReason::SandboxGone | StopReason::Superfluous => {
                format!("Stopping container {name}")
            }
        };
        self.event(Some(name), Gravity::Normal, "Killing", why);
        let container = container_of(spec, name).unwrap_or_default();
        let grace = stop_grace(spec, &container, reason);
        let begun = Instant::now();
        // An agent that dies in the middle runs it again, as the kubelet does.
        self.pre_stop(&container, id, grace).await;
        self.context.engine.stop(id, grace.saturating_sub(begun.elapsed())).await?;
        Ok(())
    }
}

/// The pod's grace, or that of the probe that failed.
fn stop_grace(spec: &PodSpec, container: &Container, reason: StopReason) -> Duration {
    let probe = match reason {
        StopReason::Liveness => container.liveness_probe.as_ref(),
        StopReason::Startup => container.startup_probe.as_ref(),
        _ => None,
    };
    let own = probe.and_then(|probe| probe.termination_grace_period_seconds);
    Duration::from_secs(u64::try_from(own.unwrap_or(grace_seconds(spec))).unwrap_or(30))
}

/// The container that an ephemeral one names; it must run.
fn target_of<'f>(
    spec: &PodSpec,
    facts: &'f PodFacts,
    name: &str,
) -> Result<Option<&'f str>, AgentError> {
    let own = spec.ephemeral_containers.iter().flatten().find(|one| one.name == name);
    let target = own.and_then(|own| own.target_container_name.as_deref());
    let Some(target) = target.filter(|target| !target.is_empty()) else { return Ok(None) };
    match facts.latest(target).filter(|fact| fact.is_running()) {
        Some(fact) => Ok(Some(&fact.id)),
        None => Err(AgentError::config(format!("the target container {target} does not run"))),
    }
}
