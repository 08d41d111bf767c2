//! A live list of one kind of object, by list and watch.
//!
//! Why not poll: an endpoint that went away must stop receiving within a second.
//! Invariants: a view is `None` until the first complete list, so that nobody takes
//! "not known yet" for "there are none"; after a lost connection the last list stays
//! in use until a new one is complete.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::base::chain::chain;
use crate::client::api::{ApiError, ListOptions, ResourceRef, SharedApi, WatchEvent};
use crate::logic::network_policy::PodFacts;

/// Objects a list call may bring at once.
const PAGE: u32 = 500;

type Snapshot<K> = Option<Arc<Vec<Arc<K>>>>;

/// The objects as last heard of.
#[derive(Debug)]
pub(super) struct View<K> {
    receiver: watch::Receiver<Snapshot<K>>,
}

impl<K> Clone for View<K> {
    fn clone(&self) -> Self {
        Self { receiver: self.receiver.clone() }
    }
}

impl<K> View<K> {
    /// The objects in order of namespace and name; `None` before the first list.
    pub(super) fn current(&mut self) -> Snapshot<K> {
        self.receiver.borrow_and_update().clone()
    }

    /// Returns when there is something newer than the last `current`; never after the
    /// source has stopped.
    pub(super) async fn changed(&mut self) {
        if self.receiver.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Keeps a [`View`] current.
#[derive(Debug)]
pub(super) struct Source<K> {
    api: SharedApi,
    resource: ResourceRef,
    objects: BTreeMap<(String, String), Arc<K>>,
    sender: watch::Sender<Snapshot<K>>,
}

pub(super) fn nodes(api: SharedApi) -> (Source<Node>, View<Node>) {
    Source::new(api, ResourceRef::of::<Node>(false))
}

pub(super) fn services(api: SharedApi) -> (Source<Service>, View<Service>) {
    Source::new(api, ResourceRef::of::<Service>(true))
}

pub(super) fn endpoint_slices(api: SharedApi) -> (Source<EndpointSlice>, View<EndpointSlice>) {
    Source::new(api, ResourceRef::of::<EndpointSlice>(true))
}

const POLICIES: ResourceRef = ResourceRef {
    group: "networking.k8s.io",
    version: "v1",
    kind: "NetworkPolicy",
    plural: "networkpolicies",
    namespaced: true,
};

const INGRESSES: ResourceRef = ResourceRef { kind: "Ingress", plural: "ingresses", ..POLICIES };
const CLASSES: ResourceRef =
    ResourceRef { kind: "IngressClass", plural: "ingressclasses", namespaced: false, ..POLICIES };

pub(super) fn ingresses(api: SharedApi) -> (Source<Value>, View<Value>) {
    Source::new(api, INGRESSES)
}

pub(super) fn ingress_classes(api: SharedApi) -> (Source<Value>, View<Value>) {
    Source::new(api, CLASSES)
}

pub(super) fn policies(api: SharedApi) -> (Source<Value>, View<Value>) {
    Source::new(api, POLICIES)
}

pub(super) fn namespaces(api: SharedApi) -> (Source<Value>, View<Value>) {
    Source::new(api, ResourceRef::of::<Namespace>(false))
}

pub(super) fn pods(api: SharedApi) -> (Source<PodFacts>, View<PodFacts>) {
    Source::new(api, ResourceRef::of::<Pod>(true))
}

fn key_of(object: &Value) -> (String, String) {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}

fn version_of(object: &Value) -> Option<String> {
    object["metadata"]["resourceVersion"].as_str().map(str::to_owned)
}

impl<K: DeserializeOwned + Send + Sync + 'static> Source<K> {
    fn new(api: SharedApi, resource: ResourceRef) -> (Self, View<K>) {
        let (sender, receiver) = watch::channel(None);
        (Self { api, resource, objects: BTreeMap::new(), sender }, View { receiver })
    }

    /// Lists and watches until cancelled.
    pub(super) async fn run(mut self, cancel: CancellationToken) {
        let back_off = || {
            ExponentialBuilder::default()
                .with_min_delay(Duration::from_millis(100))
                .with_max_delay(Duration::from_secs(5))
                .with_jitter()
                .without_max_times()
                .build()
        };
        let mut delays = back_off();
        loop {
            let round = async {
                let version = self.relist().await?;
                delays = back_off();
                self.follow(version).await
            };
            let ended = tokio::select! {
                () = cancel.cancelled() => return,
                ended = round => ended,
            };
            match ended {
                // A watch that merely ended (a server going away) is begun again with a
                // list: that is always right, and cheap at this size.
                Ok(()) => {}
                Err(error) if error.is_expired() => {}
                Err(error) => {
                    let kind = self.resource.kind;
                    tracing::warn!(kind, error = chain(&error), "cannot follow objects");
                }
            }
            let delay = delays.next().unwrap_or(Duration::from_secs(5));
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(delay) => {}
            }
        }
    }

    async fn relist(&mut self) -> Result<String, ApiError> {
        let mut objects = BTreeMap::new();
        let mut options = ListOptions { limit: Some(PAGE), ..ListOptions::default() };
        loop {
            let page = self.api.list(&self.resource, None, &options).await?;
            for value in page.items {
                self.decode(value, &mut objects);
            }
            match page.continue_token.filter(|token| !token.is_empty()) {
                Some(token) => options.continue_token = Some(token),
                None => {
                    self.objects = objects;
                    self.publish();
                    return Ok(page.resource_version);
                }
            }
        }
    }

    async fn follow(&mut self, mut version: String) -> Result<(), ApiError> {
        let options =
            ListOptions { resource_version: Some(version.clone()), ..ListOptions::default() };
        let mut events = self.api.watch(&self.resource, None, &options).await?;
        while let Some(event) = events.next().await {
            match event? {
                WatchEvent::Added(value) | WatchEvent::Modified(value) => {
                    version = version_of(&value).unwrap_or(version);
                    let mut objects = std::mem::take(&mut self.objects);
                    self.decode(value, &mut objects);
                    self.objects = objects;
                    self.publish();
                }
                WatchEvent::Deleted(value) => {
                    version = version_of(&value).unwrap_or(version);
                    self.objects.remove(&key_of(&value));
                    self.publish();
                }
                WatchEvent::Bookmark(newer) => version = newer,
                WatchEvent::Error(status) => return Err(ApiError::Refused(status)),
            }
        }
        tracing::debug!(kind = self.resource.kind, version, "a watch ended");
        Ok(())
    }

    /// An object that cannot be understood keeps its last understood form.
    fn decode(&self, value: Value, into: &mut BTreeMap<(String, String), Arc<K>>) {
        let key = key_of(&value);
        match serde_json::from_value::<K>(value) {
            Ok(object) => {
                into.insert(key, Arc::new(object));
            }
            Err(error) => {
                let kind = self.resource.kind;
                tracing::warn!(kind, name = key.1, %error, "cannot understand an object");
                if let Some(old) = self.objects.get(&key) {
                    into.insert(key, old.clone());
                }
            }
        }
    }

    fn publish(&self) {
        self.sender.send_replace(Some(Arc::new(self.objects.values().cloned().collect())));
    }
}
