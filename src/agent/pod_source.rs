//! The pods that the API has bound to this node, kept current by list and watch.
//!
//! Invariants: `live` is false until a list has succeeded in this life of the agent, and
//! until then the pods are those of the checkpoint; a lost watch is followed by a new
//! list, with growing waits while the API does not answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::checkpoint::Checkpoint;
use super::labels::PodIdentity;
use crate::client::api::SharedApi;
use crate::client::{ApiError, ListOptions, ResourceRef, WatchEvent};

pub(crate) const PODS: ResourceRef = ResourceRef::of::<Pod>(true);

const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// A pod as the API has it, raw for writing back and typed for reading.
#[derive(Clone, Debug)]
pub(crate) struct DesiredPod {
    pub raw: Value,
    pub pod: Pod,
    pub identity: PodIdentity,
}

impl DesiredPod {
    /// `None` for what is not a pod with a uid.
    pub(crate) fn parse(raw: Value) -> Option<Self> {
        let pod: Pod = match serde_json::from_value(raw.clone()) {
            Ok(pod) => pod,
            Err(error) => {
                tracing::warn!(%error, "the API gave a pod that cannot be read");
                return None;
            }
        };
        let identity = PodIdentity {
            namespace: pod.metadata.namespace.clone()?,
            name: pod.metadata.name.clone()?,
            uid: pod.metadata.uid.clone()?,
        };
        Some(Self { raw, pod, identity })
    }

    pub(crate) fn is_being_deleted(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some()
    }

    pub(crate) fn version(&self) -> &str {
        self.pod.metadata.resource_version.as_deref().unwrap_or_default()
    }
}

/// All pods of this node by uid.
#[derive(Clone, Debug, Default)]
pub(crate) struct DesiredPods {
    pub pods: BTreeMap<String, Arc<DesiredPod>>,
    /// The API was listed in this life of the agent, so absence means something.
    pub live: bool,
}

/// Feeds a [`DesiredPods`] channel.
#[derive(Debug)]
pub(crate) struct PodSource {
    api: SharedApi,
    node: String,
    checkpoint: Checkpoint,
    sender: watch::Sender<DesiredPods>,
}

impl PodSource {
    pub(crate) fn new(
        api: SharedApi,
        node: String,
        checkpoint: Checkpoint,
    ) -> (Self, watch::Receiver<DesiredPods>) {
        let kept = checkpoint.all().into_iter().filter_map(DesiredPod::parse);
        let pods = kept.map(|pod| (pod.identity.uid.clone(), Arc::new(pod))).collect();
        let (sender, receiver) = watch::channel(DesiredPods { pods, live: false });
        (Self { api, node, checkpoint, sender }, receiver)
    }

    pub(crate) async fn run(self, cancel: CancellationToken) {
        let mut wait = RETRY_FIRST;
        loop {
            let outcome = tokio::select! {
                () = cancel.cancelled() => return,
                outcome = self.follow() => outcome,
            };
            match outcome {
                Ok(()) => wait = RETRY_FIRST,
                Err(error) => {
                    tracing::warn!(%error, "cannot follow this node's pods; trying again");
                    wait = (wait * 2).min(RETRY_MAX);
                }
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Lists, then watches until the watch ends.
    async fn follow(&self) -> Result<(), ApiError> {
        let selector = Some(format!("spec.nodeName={}", self.node));
        let mut options = ListOptions { field_selector: selector, ..ListOptions::default() };
        let mut items = Vec::new();
        loop {
            let page = self.api.list(&PODS, None, &options).await?;
            items.extend(page.items);
            match page.continue_token {
                Some(token) if !token.is_empty() => options.continue_token = Some(token),
                _ => {
                    options.continue_token = None;
                    options.resource_version = Some(page.resource_version);
                    break;
                }
            }
        }
        self.replace(items);
        let mut events = self.api.watch(&PODS, None, &options).await?;
        while let Some(event) = events.next().await {
            match event? {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) => self.put(pod),
                WatchEvent::Deleted(pod) => self.remove(pod),
                WatchEvent::Bookmark(_) => {}
                WatchEvent::Error(status) if status.is_expired() => return Ok(()),
                WatchEvent::Error(status) => return Err(ApiError::Refused(status)),
            }
        }
        Ok(())
    }

    fn mine(&self, raw: Value) -> Option<DesiredPod> {
        let desired = DesiredPod::parse(raw)?;
        let node = desired.pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        (node == Some(self.node.as_str())).then_some(desired)
    }

    fn replace(&self, items: Vec<Value>) {
        let fresh: BTreeMap<String, Arc<DesiredPod>> = items
            .into_iter()
            .filter_map(|raw| self.mine(raw))
            .map(|pod| (pod.identity.uid.clone(), Arc::new(pod)))
            .collect();
        self.sender.send_modify(|all| {
            for (uid, pod) in &fresh {
                if all.pods.get(uid).is_none_or(|old| old.version() != pod.version()) {
                    self.checkpoint.keep(uid, &pod.raw);
                }
            }
            for uid in all.pods.keys().filter(|uid| !fresh.contains_key(*uid)) {
                self.checkpoint.forget(uid);
            }
            *all = DesiredPods { pods: fresh, live: true };
        });
    }

    fn put(&self, raw: Value) {
        let Some(pod) = self.mine(raw) else { return };
        self.checkpoint.keep(&pod.identity.uid, &pod.raw);
        self.sender.send_modify(|all| {
            all.pods.insert(pod.identity.uid.clone(), Arc::new(pod));
        });
    }

    fn remove(&self, raw: Value) {
        let uid = raw.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
        self.checkpoint.forget(uid);
        self.sender.send_modify(|all| {
            all.pods.remove(uid);
        });
    }
}
