//! Takes pods off nodes whose `NoExecute` taints they do not bear (any longer).
//!
//! The time of a bounded toleration runs from when this controller first saw the pod
//! under the taint; a new leader begins it anew, as Kubernetes' does.
//! Not here: the taint of silent nodes, whose pods cannot be ended by asking their agent
//! (node_life.rs).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use tokio::time::Instant;

use super::informers::{BY_NODE, Informers, node_of};
use super::node_life::UNREACHABLE;
use super::runner::{Act, Controller, ControllerError, Input, Requeue};
use crate::client::api::SharedApi;
use crate::client::events::{EventRecorder, Severity};
use crate::client::key::ObjectKey;
use crate::client::typed::{Kind, Typed};
use crate::logic::rollout_ranking::is_ended;
use crate::logic::taints::{Stay, stay};

#[derive(Debug)]
pub(super) struct TaintEviction {
    informers: Informers,
    pods: Typed<Pod>,
    events: EventRecorder,
    /// Since when a pod (by uid) has been under the taints of its node.
    since: Mutex<HashMap<ObjectKey, (String, Instant)>>,
}

fn taints(node: &Node) -> impl Iterator<Item = &Taint> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    let ours = |taint: &&Taint| taint.effect == "NoExecute" && taint.key != UNREACHABLE;
    taints.into_iter().flatten().filter(ours)
}

fn differ(old: &Node, new: &Node) -> bool {
    !taints(old).eq(taints(new))
}

impl TaintEviction {
    pub(super) fn new(api: &SharedApi, informers: &Informers, events: EventRecorder) -> Self {
        let pods = Typed::new(api.clone());
        Self { informers: informers.clone(), pods, events, since: Mutex::default() }
    }

    /// What is left of the pod's time; `None` if it may stay.
    fn left(&self, key: &ObjectKey, pod: &Pod) -> Option<Duration> {
        let node = self.informers.nodes.get("", node_of(pod)?)?;
        let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref());
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        match stay(taints(&node), tolerations.unwrap_or_default()) {
            Stay::Forever => {
                since.remove(key);
                None
            }
            Stay::For(time) => {
                let now = Instant::now();
                let entry = since.entry(key.clone()).or_insert_with(|| (pod.uid().to_owned(), now));
                if entry.0 != pod.uid() {
                    *entry = (pod.uid().to_owned(), now);
                }
                Some(time.saturating_sub(entry.1.elapsed()))
            }
        }
    }

    fn forget(&self, key: &ObjectKey) {
        self.since.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

#[async_trait]
impl Controller for TaintEviction {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "taint-eviction"
    }

    fn inputs(&self) -> Vec<Input<ObjectKey>> {
        let (nodes, pods) = (self.informers.nodes.clone(), self.informers.pods.clone());
        vec![
            Input::new(&self.informers.pods, move |key, pod: &Pod| {
                let node = node_of(pod).and_then(|name| nodes.get("", name));
                let tainted = node.is_some_and(|node| taints(&node).next().is_some());
                if tainted { vec![key.clone()] } else { Vec::new() }
            }),
            Input::on_difference(&self.informers.nodes, differ, move |key, _| {
                pods.by_index(BY_NODE, &key.name).iter().map(|pod| pod.key()).collect()
            }),
        ]
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, ControllerError> {
        let pod = self.informers.pods.get_key(key);
        let Some(pod) = pod.filter(|pod| !pod.is_terminating() && !is_ended(pod)) else {
            self.forget(key);
            return Ok(Requeue::Done);
        };
        let Some(left) = self.left(key, &pod) else { return Ok(Requeue::Done) };
        if !left.is_zero() {
            return Ok(Requeue::After(left));
        }
        let text = format!("Marking for deletion Pod {key}");
        self.events.record(&*pod, Severity::Normal, "TaintManagerEviction", text);
        self.pods.delete_if_same(&*pod, None).await.act("evict pod", key)?;
        self.forget(key);
        Ok(Requeue::Done)
    }
}
