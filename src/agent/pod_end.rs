//! Ending a pod: stop its containers, give back its address, remove its traces.
//!
//! The same road for a deleted pod and for one that vanished from the API while this
//! node was away. Invariants: a pod that merely is not known is never ended, only one
//! that the API itself says is gone or elsewhere; the API object goes last, so a killed
//! agent finds it again and finishes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use k8s_openapi::api::core::v1::PodSpec;

use super::AgentError;
use super::events::Gravity;
use super::labels::GRACE;
use super::pod_source::{DesiredPod, PODS};
use super::pod_worker::{Next, PodWorker, deletion_grace};
use crate::base::limits::{AGENT_RELIST, ORPHAN_GRACE_MAX};
use crate::client::DeleteOptions;
use crate::logic::restart_facts::{ContainerFact, PodFacts};
use crate::logic::restart_plan::{container_of, sidecar_place};
use crate::sys::pod_mounts;

/// What a sidecar gets to end although the main containers have used the pod's grace up.
const SIDECAR_GRACE_MIN: Duration = Duration::from_secs(2);

impl PodWorker {
    pub(super) async fn end(
        &mut self,
        desired: Option<Arc<DesiredPod>>,
    ) -> Result<Next, AgentError> {
        if desired.is_none() && !self.is_gone_from_api().await? {
            return Ok(Next::After(AGENT_RELIST));
        }
        let spec = desired.as_ref().and_then(|desired| desired.pod.spec.clone());
        let facts = self.observe(spec.as_ref()).await?;
        let grace = match &desired {
            Some(desired) => {
                Duration::from_secs(u64::try_from(deletion_grace(desired)).unwrap_or(30))
            }
            None => self.labelled_grace(&facts).min(ORPHAN_GRACE_MAX),
        };
        self.stop_all(spec.as_ref(), &facts, grace).await?;
        self.prober.stop();
        for sandbox in &facts.sandboxes {
            self.context.engine.stop(&sandbox.id, Duration::ZERO).await?;
        }
        self.context.network.detach(&self.identity.uid).await?;
        if let Some(desired) = &desired {
            self.report_end(desired).await?;
        }
        let ids = facts.containers.iter().map(|one| &one.id);
        for id in ids.chain(facts.sandboxes.iter().map(|one| &one.id)) {
            self.context.engine.remove(id).await?;
        }
        self.remove_files().await?;
        if desired.is_some() {
            self.delete_object().await?;
        }
        tracing::info!(
            pod = format!("{}/{}", self.identity.namespace, self.identity.name),
            uid = self.identity.uid,
            "the pod is gone from this node"
        );
        Ok(Next::Done)
    }

    /// Asks the API itself, because a list may be older than the pod.
    async fn is_gone_from_api(&self) -> Result<bool, AgentError> {
        let identity = &self.identity;
        if identity.name.is_empty() {
            return Ok(true);
        }
        match self.context.api.get(&PODS, Some(&identity.namespace), &identity.name).await {
            Ok(raw) => {
                let text = |path: &str| raw.pointer(path).and_then(serde_json::Value::as_str);
                let same = text("/metadata/uid") == Some(identity.uid.as_str());
                let here = text("/spec/nodeName") == Some(self.context.node_name());
                Ok(!(same && here))
            }
            Err(error) if error.is_not_found() => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// The grace that the pod had, from its containers' labels.
    fn labelled_grace(&self, facts: &PodFacts) -> Duration {
        let ids = facts.containers.iter().map(|one| &one.id);
        ids.filter_map(|id| self.seen.get(id)?.labels.get(GRACE)?.parse().ok())
            .map(Duration::from_secs)
            .max()
            .unwrap_or(ORPHAN_GRACE_MAX)
    }

    /// The main containers at once, each when its own hook is done; then the sidecars, the
    /// last started first. A hook's time counts as grace.
    async fn stop_all(
        &mut self,
        spec: Option<&PodSpec>,
        facts: &PodFacts,
        grace: Duration,
    ) -> Result<(), AgentError> {
        let begun = Instant::now();
        let running: Vec<_> = facts.containers.iter().filter(|one| one.is_running()).collect();
        for fact in &running {
            let message = format!("Stopping container {}", fact.name);
            self.event(Some(&fact.name), Gravity::Normal, "Killing", message);
        }
        // A hook that was run once is not run again when the end is hurried.
        let hooked: Vec<String> = self.pre_stopped.clone();
        self.pre_stopped.extend(running.iter().map(|fact| fact.id.clone()));
        let worker = &*self;
        let hook = |fact: &ContainerFact| {
            let is_new = !grace.is_zero() && !hooked.contains(&fact.id);
            let container = spec.and_then(|spec| container_of(spec, &fact.name));
            let (id, hook) = (fact.id.clone(), container.filter(|_| is_new));
            async move {
                if let Some(container) = hook {
                    worker.pre_stop(&container, &id, grace.saturating_sub(begun.elapsed())).await;
                }
            }
        };
        let hook = &hook;
        let place = |fact: &ContainerFact| spec.and_then(|spec| sidecar_place(spec, &fact.name));
        let (mut sidecars, mains): (Vec<_>, Vec<_>) =
            running.into_iter().partition(|fact| place(fact).is_some());
        let ended = mains.into_iter().map(|fact| async move {
            hook(fact).await;
            worker.context.engine.stop(&fact.id, grace.saturating_sub(begun.elapsed())).await
        });
        let (ended, _) =
            tokio::join!(join_all(ended), join_all(sidecars.iter().map(|fact| hook(fact))));
        for outcome in ended {
            outcome?;
        }
        sidecars.sort_by_key(|fact| std::cmp::Reverse(place(fact)));
        for fact in sidecars {
            let left = grace.saturating_sub(begun.elapsed());
            let least = if grace.is_zero() { Duration::ZERO } else { SIDECAR_GRACE_MIN };
            worker.context.engine.stop(&fact.id, left.max(least)).await?;
        }
        Ok(())
    }

    /// The last status, with every container's end. It is worth a try, not a failure.
    async fn report_end(&mut self, desired: &DesiredPod) -> Result<(), AgentError> {
        let facts = self.observe(desired.pod.spec.as_ref()).await?;
        let verdicts = Default::default();
        let waiting = Default::default();
        let outcome = self.write_status(desired, &facts, &verdicts, &waiting, None, true).await;
        if let Err(error) = outcome {
            tracing::debug!(pod = self.identity.name, %error, "the last status was not written");
        }
        Ok(())
    }

    /// Gives back what an evicted pod that runs no more has on the node, once.
    pub(super) async fn clear_up(&self) -> Result<(), AgentError> {
        let uid = &self.identity.uid;
        if !self.context.pressure.is_over(uid) {
            self.remove_files().await?;
            self.context.pressure.note_over(uid);
        }
        Ok(())
    }

    async fn remove_files(&self) -> Result<(), AgentError> {
        let root = self.dir.root().to_owned();
        let path = root.clone();
        let removed = tokio::task::spawn_blocking(move || pod_mounts::remove_tree(&path)).await;
        let removed = removed.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        removed.map_err(AgentError::files("remove", root))
    }

    async fn delete_object(&self) -> Result<(), AgentError> {
        let options = DeleteOptions {
            grace_period_seconds: Some(0),
            uid: Some(self.identity.uid.clone()),
            ..DeleteOptions::default()
        };
        let (namespace, name) = (self.identity.namespace.as_str(), self.identity.name.as_str());
        match self.context.api.delete(&PODS, Some(namespace), name, &options).await {
            // Gone already, or another pod of the same name has taken its place.
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
            other => Ok(other?),
        }
    }
}
