//! Declares silent nodes dead and takes their pods away, so that others replace them.
//!
//! ```text
//! silent as long as its Lease holds ─► asked the API itself ─► Ready=Unknown ─► taint
//!    ─► pods Ready=False (no traffic) ─► DEAD_NODE_GRACE ─► pods deleted with grace 0
//! heartbeat again ─► taint lifted; the node's agent removes containers without a pod
//! ```
//!
//! A node says that it lives by its Lease in `kube-node-lease`; the heartbeat in its status,
//! which is written when something changes and every few minutes, counts as well.
//!
//! Why delete with grace 0: a dead agent cannot finish a graceful deletion, and of a
//! stateless pod a replacement beside a survivor that nobody can reach does no harm. A
//! StatefulSet's pod must not run twice: its deletion is asked for, and the object stays
//! until the agent is back and confirms it, or an operator vouches for the node's end by
//! the taint `node.kubernetes.io/out-of-service` or by deleting the Node.
//! Invariants: a node is never judged by comparing wall clocks (logic/node_life.rs); it
//! is judged dead only after the API itself confirmed the old heartbeat.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::Resource;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, PodCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::informers::{BY_NODE, Informers, node_of};
use super::ownership::controller_of;
use super::runner::{Act, Controller, ControllerError, Input, Requeue};
use crate::base::limits;
use crate::client::api::{ApiError, ListOptions, ResourceRef, SharedApi};
use crate::client::events::{EventRecorder, Severity};
use crate::client::informer::Informer;
use crate::client::key::ObjectKey;
use crate::client::typed::{Kind, Typed};
use crate::logic::node_life::{LEASES_NAMESPACE, Life, NodeWatch};
use crate::logic::rollout_ranking::{is_ended, is_ready};
use crate::logic::taints::{Stay, by_conditions, stay};
use crate::sys::clock;

const LEASES: ResourceRef = ResourceRef::of::<Lease>(true);
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
pub(super) const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// How long silence and graces are; tests shorten them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) dead_after: Duration,
    pub(super) grace: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { dead_after: limits::NODE_DEAD_AFTER, grace: limits::DEAD_NODE_GRACE }
    }
}

#[derive(Debug)]
pub(super) struct NodeLife {
    api: SharedApi,
    informers: Informers,
    /// The nodes' own; somebody must run it.
    pub(super) leases: Informer,
    nodes: Typed<Node>,
    pods: Typed<Pod>,
    events: EventRecorder,
    patience: Patience,
    watch: Mutex<NodeWatch>,
    dead_since: Mutex<HashMap<String, Instant>>,
    epoch: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ready_condition(node: &Node) -> Option<&NodeCondition> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == "Ready")
}

/// The node's heartbeat as a text that changes with every beat.
fn heartbeat(node: &Node, lease: Option<&Value>) -> String {
    let beat = ready_condition(node).and_then(|ready| ready.last_heartbeat_time.as_ref());
    let beat = beat.map(|beat| beat.0.to_string()).unwrap_or_default();
    let renewed = lease.and_then(|lease| lease.pointer("/spec/renewTime")?.as_str());
    format!("{beat} {}", renewed.unwrap_or_default())
}

/// How long the node's last heartbeat holds, if the node says so.
fn holds(lease: Option<&Value>) -> Option<Duration> {
    lease?.pointer("/spec/leaseDurationSeconds")?.as_u64().map(Duration::from_secs)
}

impl NodeLife {
    pub(super) fn new(
        api: &SharedApi,
        informers: &Informers,
        events: EventRecorder,
        patience: Patience,
    ) -> Self {
        let namespace = Some(LEASES_NAMESPACE.to_owned());
        let all = ListOptions::default();
        Self {
            api: api.clone(),
            informers: informers.clone(),
            leases: Informer::indexed(api.clone(), LEASES, namespace, all, &[]),
            nodes: Typed::new(api.clone()),
            pods: Typed::new(api.clone()),
            events,
            patience,
            watch: Mutex::new(NodeWatch::new(patience.dead_after)),
            dead_since: Mutex::default(),
            epoch: Instant::now(),
        }
    }

    fn judge(&self, node: &Node, lease: Option<&Value>) -> Life {
        let name = node.key().name;
        let now = self.epoch.elapsed();
        let mut watch = lock(&self.watch);
        watch.observe(&name, &heartbeat(node, lease), holds(lease), now);
        watch.judge(&name, now)
    }

    /// The node and its Lease as the API has them now.
    async fn live(&self, key: &ObjectKey) -> Result<Option<(Node, Option<Value>)>, ApiError> {
        let Some(node) = self.nodes.find(key).await? else { return Ok(None) };
        match self.api.get(&LEASES, Some(LEASES_NAMESPACE), &key.name).await {
            Ok(lease) => Ok(Some((node, Some(lease)))),
            Err(error) if error.is_not_found() => Ok(Some((node, None))),
            Err(error) => Err(error),
        }
    }

    /// The verdict; before it says `Dead` the API itself is asked.
    async fn verdict(&self, cached: &Arc<Node>) -> Result<(Life, Arc<Node>), ControllerError> {
        let lease = self.leases.get(LEASES_NAMESPACE, &cached.key().name);
        let life = self.judge(cached, lease.as_deref());
        if life != Life::Dead {
            return Ok((life, Arc::clone(cached)));
        }
        match self.live(&cached.key()).await {
            Ok(Some((live, lease))) => Ok((self.judge(&live, lease.as_ref()), Arc::new(live))),
            Ok(None) => Ok((Life::Unjudged { until: self.epoch.elapsed() }, Arc::clone(cached))),
            Err(error) => {
                lock(&self.watch).was_deaf(self.epoch.elapsed());
                Err(error).act("look up node", &cached.key())
            }
        }
    }

    /// Marks the node as silent: condition first, then taints.
    async fn mark(&self, node: &Node) -> Result<(), ControllerError> {
        let key = node.key();
        let mut node = node.clone();
        if ready_condition(&node).is_none_or(|ready| ready.status != "Unknown") {
            let conditions = node.status.get_or_insert_default().conditions.get_or_insert_default();
            let held = conditions.iter().find(|condition| condition.type_ == "Ready");
            let heartbeat = held.and_then(|held| held.last_heartbeat_time.clone());
            conditions.retain(|condition| condition.type_ != "Ready");
            conditions.push(NodeCondition {
                type_: "Ready".into(),
                status: "Unknown".into(),
                reason: Some("NodeStatusUnknown".into()),
                message: Some("Kubelet stopped posting node status.".into()),
                last_heartbeat_time: heartbeat,
                last_transition_time: Some(Time(clock::now())),
            });
            node = self.nodes.update_status(&node).await.act("mark node", &key)?;
            let message = format!("Node {key} status is now: NodeNotReady");
            self.events.record(&node, Severity::Warning, "NodeNotReady", message);
            tracing::warn!(node = key.name, "the node is silent; its pods will be replaced");
        }
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
        if taints.iter().filter(|taint| taint.key == UNREACHABLE).count() < 2 {
            let mut taints: Vec<Taint> =
                taints.into_iter().filter(|taint| taint.key != UNREACHABLE).collect();
            for effect in ["NoSchedule", "NoExecute"] {
                taints.push(Taint {
                    key: UNREACHABLE.into(),
                    effect: effect.into(),
                    time_added: Some(Time(clock::now())),
                    value: None,
                });
            }
            self.set_taints(&node, taints).await?;
        }
        Ok(())
    }

    async fn lift(&self, node: &Node) -> Result<(), ControllerError> {
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
        let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
        let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
        let mut wanted = by_conditions(conditions.map_or(&[], Vec::as_slice), cordoned, &taints);
        wanted.retain(|taint| taint.key != UNREACHABLE);
        if wanted == taints {
            return Ok(());
        }
        let was_silent = taints.iter().any(|taint| taint.key == UNREACHABLE);
        self.set_taints(node, wanted).await?;
        if was_silent {
            tracing::info!(node = node.key().name, "the node is back");
        }
        Ok(())
    }

    async fn set_taints(&self, node: &Node, taints: Vec<Taint>) -> Result<(), ControllerError> {
        let mut changed = node.clone();
        changed.spec.get_or_insert_default().taints = Some(taints);
        self.nodes.update(&changed).await.act("taint node", &node.key()).map(drop)
    }

    async fn silence_pods(&self, pods: &[Arc<Pod>]) -> Result<(), ControllerError> {
        for pod in pods.iter().filter(|pod| is_ready(pod)) {
            let mut conditions = pod
                .status
                .as_ref()
                .and_then(|status| status.conditions.clone())
                .unwrap_or_default();
            for condition in &mut conditions {
                if condition.type_ == "Ready" {
                    condition.status = "False".into();
                    condition.reason = Some("NodeNotReady".into());
                    condition.last_transition_time = Some(Time(clock::now()));
                }
            }
            let patch = json!({
                "metadata": {"resourceVersion": pod.metadata.resource_version},
                "status": {"conditions": conditions},
            });
            match self.pods.patch_merge(&pod.key(), Some("status"), &patch).await {
                Err(error) if !error.is_not_found() && !error.is_conflict() => {
                    return Err(error).act("mark pod", &pod.key());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes away what does not bear the silence, `silent_for` so far; answers when the
    /// next pod's time is over.
    async fn remove_pods(
        &self,
        node: &Node,
        pods: &[Arc<Pod>],
        silent_for: Duration,
    ) -> Result<Requeue, ControllerError> {
        let fenced = is_out_of_service(node);
        let mut again = Requeue::Done;
        for pod in pods.iter().filter(|pod| !is_ended(pod)) {
            match patience_of(pod, self.patience.grace) {
                None if !fenced => continue,
                Some(time) if !fenced && time > silent_for => {
                    again = again.sooner(Requeue::After(time - silent_for));
                    continue;
                }
                _ => {}
            }
            let waits = has_identity(pod) && !fenced;
            if waits && pod.is_terminating() {
                continue;
            }
            let why = format!("Deleting pod: node {} is dead", node.key());
            self.events.record(&**pod, Severity::Normal, "TaintManagerEviction", why);
            self.lose(pod, if waits { None } else { Some(0) }).await?;
        }
        Ok(again)
    }

    /// Deletes the pod of a node that will not answer for it. One that somebody waits
    /// for by a finalizer says first how it ended, since nobody else will.
    async fn lose(&self, pod: &Pod, grace: Option<i64>) -> Result<(), ControllerError> {
        let held = pod.metadata.finalizers.as_ref().is_some_and(|held| !held.is_empty());
        if held && grace == Some(0) && !is_ended(pod) {
            let mut conditions =
                pod.status.as_ref().and_then(|held| held.conditions.clone()).unwrap_or_default();
            conditions.retain(|one| one.type_ != "DisruptionTarget");
            conditions.push(PodCondition {
                type_: "DisruptionTarget".into(),
                status: "True".into(),
                reason: Some("DeletionByTaintManager".into()),
                message: Some("the pod's node does not answer".into()),
                last_transition_time: Some(Time(clock::now())),
                ..PodCondition::default()
            });
            let patch = json!({"metadata": {"uid": pod.uid()},
                "status": {"phase": "Failed", "conditions": conditions}});
            match self.pods.patch_merge(&pod.key(), Some("status"), &patch).await {
                Err(error) if !error.is_not_found() && !error.is_conflict() => {
                    return Err(error).act("mark as lost pod", &pod.key());
                }
                _ => {}
            }
        }
        let deleted = self.pods.delete_if_same(pod, grace).await;
        deleted.act("remove from a dead node pod", &pod.key())
    }

    /// The node object is gone: so are, once the API confirms it, the pods bound to it.
    async fn node_gone(&self, key: &ObjectKey) -> Result<Requeue, ControllerError> {
        lock(&self.watch).forget(&key.name);
        lock(&self.dead_since).remove(&key.name);
        let pods = self.informers.pods.by_index(BY_NODE, &key.name);
        if pods.is_empty() || self.nodes.find(key).await.act("look up node", key)?.is_some() {
            return Ok(Requeue::Done);
        }
        for pod in &pods {
            self.lose(pod, Some(0)).await?;
        }
        Ok(Requeue::Done)
    }

    fn until(&self, at: Duration) -> Requeue {
        let left = at.saturating_sub(self.epoch.elapsed());
        Requeue::After(left.max(Duration::from_millis(1)))
    }
}

/// How long the pod stays with a silent node: `None` for ever, as those of a DaemonSet
/// do, else for its `tolerationSeconds`, and where it says nothing for the cluster's grace.
fn patience_of(pod: &Pod, grace: Duration) -> Option<Duration> {
    let taint = Taint { key: UNREACHABLE.into(), effect: "NoExecute".into(), ..Taint::default() };
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref());
    match stay(std::iter::once(&taint), tolerations.unwrap_or_default()) {
        Stay::Forever => None,
        Stay::For(time) => Some(time.max(grace)),
    }
}

/// The operator's word that nothing runs on the node any more.
fn is_out_of_service(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    taints.into_iter().flatten().any(|taint| taint.key == OUT_OF_SERVICE)
}

/// A pod whose second copy would do harm.
fn has_identity(pod: &Pod) -> bool {
    controller_of(&pod.metadata).is_some_and(|owner| owner.kind == StatefulSet::KIND)
}

#[async_trait]
impl Controller for NodeLife {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "node-life"
    }

    fn inputs(&self) -> Vec<Input<ObjectKey>> {
        let nodes = self.informers.nodes.clone();
        vec![
            Input::new(&self.informers.nodes, |key, _| vec![key.clone()]),
            Input::new(&self.leases, |key, _| vec![ObjectKey::cluster(&key.name)]),
            // A pod concerns us only where its node is missing or silent.
            Input::new(&self.informers.pods, move |_, pod: &Pod| {
                let Some(name) = node_of(pod) else { return Vec::new() };
                let node = nodes.get("", name);
                let fine = node.as_deref().and_then(ready_condition);
                let fine = fine.is_some_and(|ready| ready.status != "Unknown");
                if fine { Vec::new() } else { vec![ObjectKey::cluster(name)] }
            }),
        ]
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, ControllerError> {
        let Some(cached) = self.informers.nodes.get_key(key) else {
            return self.node_gone(key).await;
        };
        let (life, node) = self.verdict(&cached).await?;
        match life {
            Life::Unjudged { until } => Ok(self.until(until)),
            Life::Alive { until } => {
                lock(&self.dead_since).remove(&key.name);
                self.lift(&node).await?;
                Ok(self.until(until))
            }
            Life::Dead => {
                let since =
                    *lock(&self.dead_since).entry(key.name.clone()).or_insert_with(Instant::now);
                if let Err(error) = self.mark(&node).await {
                    if !error.source.is_conflict() {
                        // Nothing can be written: no sign of life either, so this one may well
                        // be alive, and is given its whole time again.
                        lock(&self.watch).was_deaf(self.epoch.elapsed());
                        lock(&self.dead_since).remove(&key.name);
                    }
                    return Err(error);
                }
                let pods = self.informers.pods.by_index(BY_NODE, &key.name);
                self.silence_pods(&pods).await?;
                let again = self.remove_pods(&node, &pods, since.elapsed()).await?;
                Ok(again.sooner(Requeue::After(self.patience.dead_after)))
            }
        }
    }
}
