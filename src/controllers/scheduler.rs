//! Binds waiting pods to nodes.
//!
//! Why one pass over all waiting pods and not one pod at a time: the picture of the
//! cluster is drawn once per pass, and the pods of a pass are weighed against each other.
//! A change of any pod or node asks for the next pass; what came while a pass ran is
//! seen by the one after it.
//! Invariants: a pod that was bound but is not yet seen as bound still counts on its
//! node; a binding names the pod's uid, so a pod of the same name made anew is not bound
//! by a decision about the old one.
//! Not here: the choice (logic/schedule.rs).

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{
    Node, PersistentVolume, PersistentVolumeClaim, Pod, PodCondition,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::informers::{Informers, node_of};
use super::pod_volumes::{PodVolumes, select_node};
use super::preemption::{Preemptor, Refusal};
use super::runner::{Act, Controller, ControllerError, Input, Requeue};
use crate::base::limits;
use crate::client::api::SharedApi;
use crate::client::events::{EventRecorder, Severity};
use crate::client::typed::{Kind, Typed};
use crate::logic::rollout_ranking::is_ended;
use crate::logic::schedule::Picture;
use crate::sys::clock;

/// Bindings that are on their way at once: the store commits those that wait together, so
/// few at a time would each wait for the one before.
const BINDINGS_AT_ONCE: usize = 64;
/// The name by which pods ask for this scheduler.
const SCHEDULER_NAME: &str = "default-scheduler";

#[derive(Debug)]
pub(super) struct Scheduler {
    api: SharedApi,
    informers: Informers,
    pods: Typed<Pod>,
    events: EventRecorder,
    /// Pods by uid that were bound to a node and are not yet seen there.
    assumed: Mutex<HashMap<String, (Arc<Pod>, String)>>,
    preemptor: Preemptor,
}

fn is_waiting(pod: &Pod) -> bool {
    let scheduler = pod.spec.as_ref().and_then(|spec| spec.scheduler_name.as_deref());
    node_of(pod).is_none()
        && !pod.is_terminating()
        && !is_ended(pod)
        && scheduler.is_none_or(|name| name.is_empty() || name == SCHEDULER_NAME)
        && pod
            .spec
            .as_ref()
            .is_some_and(|spec| spec.scheduling_gates.as_ref().is_none_or(|gates| gates.is_empty()))
}

impl Scheduler {
    pub(super) fn new(api: &SharedApi, informers: &Informers, events: EventRecorder) -> Self {
        let pods = Typed::new(api.clone());
        Self {
            preemptor: Preemptor::new(informers, pods.clone(), events.clone()),
            api: api.clone(),
            informers: informers.clone(),
            pods,
            events,
            assumed: Mutex::default(),
        }
    }

    fn assumed(&self) -> MutexGuard<'_, HashMap<String, (Arc<Pod>, String)>> {
        self.assumed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Draws the cluster, with the bindings that the cache does not show yet.
    fn draw(&self, pods: &[Arc<Pod>]) -> Picture {
        let mut picture = Picture::new(self.informers.nodes.list());
        let mut assumed = self.assumed();
        let unbound: HashSet<&str> =
            pods.iter().filter(|pod| node_of(pod).is_none()).map(|pod| pod.uid()).collect();
        assumed.retain(|uid, _| unbound.contains(uid.as_str()));
        for (pod, node) in assumed.values() {
            picture.occupy(pod, node);
        }
        for pod in pods {
            if let Some(node) = node_of(pod) {
                picture.occupy(pod, node);
            }
        }
        picture
    }

    async fn bind(&self, pod: &Arc<Pod>, node: &str) -> Result<(), ControllerError> {
        let key = pod.key();
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": key.name, "namespace": key.namespace, "uid": pod.uid()},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        self.assumed().insert(pod.uid().to_owned(), (Arc::clone(pod), node.to_owned()));
        let bound =
            self.api.update(&Pod::REF, key.scope(), &key.name, Some("binding"), &binding).await;
        match bound {
            Ok(_) => {
                let message = format!("Successfully assigned {key} to {node}");
                self.events.record(&**pod, Severity::Normal, "Scheduled", message);
                Ok(())
            }
            Err(error) => {
                // Should an answer have been lost, the API refuses the second binding.
                self.assumed().remove(pod.uid());
                // The pod is gone or was bound by somebody else: nothing is left to do.
                if error.is_not_found() || error.is_conflict() {
                    return Ok(());
                }
                Err(error).act("bind pod", &key)
            }
        }
    }

    /// Says on the pod why it waits, and for which node if it is promised one; silent while
    /// that stays the same.
    async fn explain(&self, pod: &Pod, refusal: &Refusal) -> Result<(), ControllerError> {
        let message = refusal.message.as_str();
        let nominated = pod.status.as_ref().and_then(|status| status.nominated_node_name.as_ref());
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.clone());
        let mut conditions = conditions.unwrap_or_default();
        let held = conditions.iter().find(|condition| condition.type_ == "PodScheduled");
        let told = held
            .is_some_and(|held| held.status == "False" && held.message.as_deref() == Some(message));
        if told && nominated == refusal.nominated.as_ref() {
            return Ok(());
        }
        let since = held.filter(|held| held.status == "False");
        let since = since.and_then(|held| held.last_transition_time.clone());
        conditions.retain(|condition| condition.type_ != "PodScheduled");
        conditions.push(PodCondition {
            type_: "PodScheduled".into(),
            status: "False".into(),
            reason: Some("Unschedulable".into()),
            message: Some(message.to_owned()),
            last_transition_time: Some(since.unwrap_or_else(|| Time(clock::now()))),
            ..PodCondition::default()
        });
        if !told {
            self.events.record(pod, Severity::Warning, "FailedScheduling", message.to_owned());
        }
        let patch = json!({
            "metadata": {"resourceVersion": pod.metadata.resource_version},
            "status": {"conditions": conditions, "nominatedNodeName": refusal.nominated},
        });
        match self.pods.patch_merge(&pod.key(), Some("status"), &patch).await {
            Err(error) if !error.is_not_found() => {
                Err(error).act("say why it waits on pod", &pod.key())
            }
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Controller for Scheduler {
    /// There is one thing to do: a pass.
    type Key = &'static str;

    fn name(&self) -> &'static str {
        "scheduler"
    }

    fn workers(&self) -> usize {
        1
    }

    fn inputs(&self) -> Vec<Input<&'static str>> {
        vec![
            Input::new(&self.informers.pods, |_, _: &Pod| vec!["pass"]),
            Input::new(&self.informers.nodes, |_, _: &Node| vec!["pass"]),
            Input::new(&self.informers.claims, |_, _: &PersistentVolumeClaim| vec!["pass"]),
            Input::new(&self.informers.volumes, |_, _: &PersistentVolume| vec!["pass"]),
            Input::new(&self.informers.classes, |_, _: &StorageClass| vec!["pass"]),
        ]
    }

    async fn reconcile(&self, _: &&'static str) -> Result<Requeue, ControllerError> {
        let pods = self.informers.pods.list();
        let mut waiting: Vec<Arc<Pod>> = pods
            .iter()
            .filter(|pod| is_waiting(pod) && !self.assumed().contains_key(pod.uid()))
            .cloned()
            .collect();
        if waiting.is_empty() {
            return Ok(Requeue::Done);
        }
        let rank = |pod: &Pod| {
            let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
            let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
            (std::cmp::Reverse(priority), created, pod.key())
        };
        waiting.sort_by_cached_key(|pod| rank(pod));
        let mut picture = self.draw(&pods);
        let mut volumes = PodVolumes::new(&self.informers, &pods);
        let mut placed = Vec::new();
        let mut selected = Vec::new();
        let mut refused = Vec::new();
        let mut unseen = false;
        let mut pass = self.preemptor.pass(&pods);
        for pod in waiting {
            if placed.len() >= limits::SCHEDULER_BATCH {
                unseen = true;
                break;
            }
            let wanted = match volumes.wanted(&pod, picture.len()) {
                Ok(wanted) => wanted,
                Err(reason) => {
                    refused.push((pod, Refusal::plain(reason)));
                    continue;
                }
            };
            match picture.place_where(&pod, |node| volumes.check(&wanted, node)) {
                Ok(name) => {
                    volumes.take(&wanted);
                    let node = picture.node(&name);
                    if node.is_none_or(|node| volumes.is_ready(&wanted, node)) {
                        placed.push((pod, name));
                    } else {
                        selected.push((wanted, name));
                    }
                }
                Err(why) => {
                    let may = |node: &Node| volumes.check(&wanted, node);
                    let refusal = pass.refuse(&mut picture, &pod, &why, may);
                    refused.push((pod, refusal));
                }
            }
        }
        let bindings: Vec<_> = placed.iter().map(|(pod, node)| self.bind(pod, node)).collect();
        let mut done: Vec<Result<(), ControllerError>> =
            futures::stream::iter(bindings).buffer_unordered(BINDINGS_AT_ONCE).collect().await;
        for (wanted, node) in &selected {
            match select_node(&self.api, wanted, node).await {
                Err(error) if error.source.is_conflict() || error.source.is_not_found() => {}
                outcome => done.push(outcome),
            }
        }
        for (pod, refusal) in &refused {
            // What fails for one pod keeps nobody else's promise from being kept.
            if let Some(preemption) = &refusal.preemption
                && let Err(error) = self.preemptor.carry_out(pod, preemption).await
            {
                done.push(Err(error));
                continue;
            }
            match self.explain(pod, refusal).await {
                Err(error) if error.source.is_conflict() => {}
                outcome => done.push(outcome),
            }
        }
        done.into_iter().collect::<Result<Vec<()>, ControllerError>>()?;
        // What is left of a full batch is looked at without waiting for a change.
        Ok(if unseen { Requeue::After(Duration::ZERO) } else { Requeue::Done })
    }
}
