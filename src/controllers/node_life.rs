//! Declares silent nodes dead and takes their pods away, so that others replace them.
//!
//! ```text
//! silent for NODE_DEAD_AFTER ─► asked the API itself ─► Ready=Unknown ─► taint
//!    ─► pods Ready=False (no traffic) ─► DEAD_NODE_GRACE ─► pods deleted with grace 0
//! heartbeat again ─► taint lifted; the node's agent removes containers without a pod
//! ```
//!
//! Why delete with grace 0: a dead agent cannot finish a graceful deletion, and the kinds
//! served here are stateless, so a replacement beside a survivor that nobody can reach
//! does no harm. Before a kind with identity or exclusive volumes is served, this must
//! wait for fencing.
//! Invariants: a node is never judged by comparing wall clocks (logic/node_life.rs); it
//! is judged dead only after the API itself confirmed the old heartbeat.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;
use tokio::time::Instant;

use super::informers::{BY_NODE, Informers, node_of};
use super::runner::{Act, Controller, ControllerError, Input, Requeue};
use crate::base::limits;
use crate::client::api::SharedApi;
use crate::client::events::{EventRecorder, Severity};
use crate::client::key::ObjectKey;
use crate::client::typed::{Kind, Typed};
use crate::logic::node_life::{Life, NodeWatch};
use crate::logic::rollout_ranking::{is_ended, is_ready};
use crate::sys::clock;

const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

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
    informers: Informers,
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
fn heartbeat(node: &Node) -> String {
    let beat = ready_condition(node).and_then(|ready| ready.last_heartbeat_time.as_ref());
    beat.map(|beat| beat.0.to_string()).unwrap_or_default()
}

impl NodeLife {
    pub(super) fn new(
        api: &SharedApi,
        informers: &Informers,
        events: EventRecorder,
        patience: Patience,
    ) -> Self {
        Self {
            informers: informers.clone(),
            nodes: Typed::new(api.clone()),
            pods: Typed::new(api.clone()),
            events,
            patience,
            watch: Mutex::new(NodeWatch::new(patience.dead_after)),
            dead_since: Mutex::default(),
            epoch: Instant::now(),
        }
    }

    fn judge(&self, node: &Node) -> Life {
        let name = node.key().name;
        let now = self.epoch.elapsed();
        let mut watch = lock(&self.watch);
        watch.observe(&name, &heartbeat(node), now);
        watch.judge(&name, now)
    }

    /// The verdict; before it says `Dead` the API itself is asked.
    async fn verdict(&self, cached: &Arc<Node>) -> Result<(Life, Arc<Node>), ControllerError> {
        let life = self.judge(cached);
        if life != Life::Dead {
            return Ok((life, Arc::clone(cached)));
        }
        match self.nodes.find(&cached.key()).await {
            Ok(Some(live)) => Ok((self.judge(&live), Arc::new(live))),
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
        if taints.iter().any(|taint| taint.key == UNREACHABLE) {
            let kept = taints.into_iter().filter(|taint| taint.key != UNREACHABLE).collect();
            self.set_taints(node, kept).await?;
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

    async fn remove_pods(&self, pods: &[Arc<Pod>], why: &str) -> Result<(), ControllerError> {
        for pod in pods {
            if is_ended(pod) || tolerates_death(pod) {
                continue;
            }
            self.events.record(&**pod, Severity::Normal, "TaintManagerEviction", why.to_owned());
            let deleted = self.pods.delete_if_same(&**pod, Some(0)).await;
            deleted.act("remove from a dead node pod", &pod.key())?;
        }
        Ok(())
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
            let deleted = self.pods.delete_if_same(&**pod, Some(0)).await;
            deleted.act("remove from a deleted node pod", &pod.key())?;
        }
        Ok(Requeue::Done)
    }

    fn until(&self, at: Duration) -> Requeue {
        let left = at.saturating_sub(self.epoch.elapsed());
        Requeue::After(left.max(Duration::from_millis(1)))
    }
}

/// The pod asked to stay with its node for ever, as those of a DaemonSet do. A bounded
/// `tolerationSeconds` does not count: the admission that adds 300 s to every pod would
/// otherwise keep the cluster's bound from ever being met.
fn tolerates_death(pod: &Pod) -> bool {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref());
    tolerations.unwrap_or_default().iter().any(|toleration| {
        let key = toleration.key.as_deref().unwrap_or_default();
        let effect = toleration.effect.as_deref().unwrap_or_default();
        toleration.toleration_seconds.is_none()
            && toleration.operator.as_deref() == Some("Exists")
            && (key.is_empty() || key == UNREACHABLE)
            && (effect.is_empty() || effect == "NoExecute")
    })
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
                self.mark(&node).await?;
                let pods = self.informers.pods.by_index(BY_NODE, &key.name);
                self.silence_pods(&pods).await?;
                let left = self.patience.grace.saturating_sub(since.elapsed());
                if !left.is_zero() {
                    return Ok(Requeue::After(left));
                }
                let why = format!("Deleting pod: node {key} is dead");
                self.remove_pods(&pods, &why).await?;
                Ok(Requeue::After(self.patience.dead_after))
            }
        }
    }
}
