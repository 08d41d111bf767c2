//! A live list of one kind of object, by list and watch.
//!
//! Why not poll: an endpoint that went away must stop receiving within a second.
//! Invariants: a view is `None` until the first complete list, so that nobody takes
//! "not known yet" for "there are none"; after a lost connection the last list stays
//! in use until a new one is complete; a snapshot is drawn when somebody looks and not for
//! each change, because in a large cluster objects change faster than anybody looks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
type Objects<K> = BTreeMap<(String, String), Arc<K>>;

/// What a source and its views share.
#[derive(Debug)]
struct Held<K> {
    /// `None` before the first list.
    objects: Option<Objects<K>>,
    /// Drawn since the last change.
    snapshot: Snapshot<K>,
}

type Shelf<K> = Arc<Mutex<Held<K>>>;

fn open<K>(shelf: &Shelf<K>) -> MutexGuard<'_, Held<K>> {
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The objects as last heard of.
#[derive(Debug)]
pub(super) struct View<K> {
    shelf: Shelf<K>,
    receiver: watch::Receiver<()>,
    wanted: watch::Sender<bool>,
}

impl<K> Clone for View<K> {
    fn clone(&self) -> Self {
        let (shelf, receiver) = (self.shelf.clone(), self.receiver.clone());
        Self { shelf, receiver, wanted: self.wanted.clone() }
    }
}

impl<K> View<K> {
    /// The objects in order of namespace and name; `None` before the first list.
    pub(super) fn current(&mut self) -> Snapshot<K> {
        // What comes after this line is a change again.
        self.receiver.mark_unchanged();
        let mut held = open(&self.shelf);
        if held.snapshot.is_none() {
            held.snapshot = held.objects.as_ref().map(|objects| {
                let all: Vec<Arc<K>> = objects.values().cloned().collect();
                Arc::new(all)
            });
        }
        held.snapshot.clone()
    }

    /// Has a source begin that waits until it is wanted.
    pub(super) fn want(&self) {
        self.wanted.send_if_modified(|wanted| !std::mem::replace(wanted, true));
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
    shelf: Shelf<K>,
    sender: watch::Sender<()>,
    wanted: watch::Receiver<bool>,
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

impl<K: DeserializeOwned + PartialEq + Send + Sync + 'static> Source<K> {
    fn new(api: SharedApi, resource: ResourceRef) -> (Self, View<K>) {
        let (sender, receiver) = watch::channel(());
        let shelf = Arc::new(Mutex::new(Held { objects: None, snapshot: None }));
        let (want, wanted) = watch::channel(false);
        let view = View { shelf: shelf.clone(), receiver, wanted: want };
        (Self { api, resource, shelf, sender, wanted }, view)
    }

    /// As [`Source::run`], once somebody wants it: every pod of the cluster is much to follow
    /// on every node while nothing there depends on them.
    pub(super) async fn run_when_wanted(mut self, cancel: CancellationToken) {
        let wanted = tokio::select! {
            () = cancel.cancelled() => return,
            wanted = self.wanted.wait_for(|wanted| *wanted) => wanted.is_ok(),
        };
        if wanted {
            self.run(cancel).await;
        }
    }

    /// Lists and watches until cancelled.
    pub(super) async fn run(self, cancel: CancellationToken) {
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

    async fn relist(&self) -> Result<String, ApiError> {
        let mut objects = BTreeMap::new();
        let mut options = ListOptions { limit: Some(PAGE), ..ListOptions::default() };
        loop {
            let page = self.api.list(&self.resource, None, &options).await?;
            for value in page.items {
                let key = key_of(&value);
                if let Some(object) = self.decode(&key, value) {
                    objects.insert(key, object);
                }
            }
            match page.continue_token.filter(|token| !token.is_empty()) {
                Some(token) => options.continue_token = Some(token),
                None => {
                    self.change(|held| *held = objects);
                    return Ok(page.resource_version);
                }
            }
        }
    }

    async fn follow(&self, mut version: String) -> Result<(), ApiError> {
        let options =
            ListOptions { resource_version: Some(version.clone()), ..ListOptions::default() };
        let mut events = self.api.watch(&self.resource, None, &options).await?;
        while let Some(event) = events.next().await {
            match event? {
                WatchEvent::Added(value) | WatchEvent::Modified(value) => {
                    version = version_of(&value).unwrap_or(version);
                    let key = key_of(&value);
                    if let Some(object) = self.decode(&key, value)
                        && !self.holds(&key, &object)
                    {
                        self.change(|objects| drop(objects.insert(key, object)));
                    }
                }
                WatchEvent::Deleted(value) => {
                    version = version_of(&value).unwrap_or(version);
                    self.change(|objects| drop(objects.remove(&key_of(&value))));
                }
                WatchEvent::Bookmark(newer) => version = newer,
                WatchEvent::Error(status) => return Err(ApiError::Refused(status)),
            }
        }
        tracing::debug!(kind = self.resource.kind, version, "a watch ended");
        Ok(())
    }

    /// An object that cannot be understood keeps its last understood form.
    fn decode(&self, key: &(String, String), value: Value) -> Option<Arc<K>> {
        match serde_json::from_value::<K>(value) {
            Ok(object) => Some(Arc::new(object)),
            Err(error) => {
                let kind = self.resource.kind;
                tracing::warn!(kind, name = key.1, %error, "cannot understand an object");
                open(&self.shelf).objects.as_ref().and_then(|objects| objects.get(key).cloned())
            }
        }
    }

    /// Whether nothing has changed of what is looked at.
    fn holds(&self, key: &(String, String), object: &K) -> bool {
        let held = open(&self.shelf);
        let same = held.objects.as_ref().and_then(|objects| objects.get(key));
        same.is_some_and(|held| **held == *object)
    }

    /// Changes what is held and says so.
    fn change(&self, how: impl FnOnce(&mut Objects<K>)) {
        let mut held = open(&self.shelf);
        how(held.objects.get_or_insert_default());
        held.snapshot = None;
        drop(held);
        self.sender.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::client::fake::FakeApi;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn pod(name: &str, ip: Option<&str>) -> Value {
        json!({"metadata": {"name": name, "namespace": "shop", "uid": name},
            "status": {"podIP": ip}})
    }

    async fn names(view: &mut View<PodFacts>, wanted: &[&str]) -> Arc<Vec<Arc<PodFacts>>> {
        let until = async {
            loop {
                if let Some(found) = view.current() {
                    let uids: Vec<&str> = found.iter().map(|one| one.uid.as_str()).collect();
                    if uids == wanted {
                        return found;
                    }
                }
                view.changed().await;
            }
        };
        tokio::time::timeout(PATIENCE, until).await.expect("the view shows it")
    }

    #[tokio::test]
    async fn a_source_begins_when_it_is_wanted_and_a_snapshot_is_drawn_once() {
        let fake = FakeApi::new();
        let resource = ResourceRef::of::<Pod>(true);
        let api = fake.shared();
        api.create(&resource, Some("shop"), &pod("a", None)).await.unwrap();
        let (source, mut view) = pods(api.clone());
        let cancel = CancellationToken::new();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(source.run_when_wanted(cancel.clone()));
        tokio::task::yield_now().await;
        assert!(view.current().is_none(), "nobody asked");
        view.want();
        let mut other = view.clone();
        let first = names(&mut view, &["uid-1"]).await;
        assert!(Arc::ptr_eq(&first, &view.current().unwrap()));
        assert!(Arc::ptr_eq(&first, &other.current().unwrap()), "all views share it");
        api.create(&resource, Some("shop"), &pod("b", Some("10.1.0.2"))).await.unwrap();
        let second = names(&mut view, &["uid-1", "uid-2"]).await;
        assert_eq!(second[1].address, Some("10.1.0.2".parse().unwrap()));
        assert_eq!(first.len(), 1, "what was drawn stays as it was");
        api.delete(&resource, Some("shop"), "a", &Default::default()).await.unwrap();
        names(&mut other, &["uid-2"]).await;
        cancel.cancel();
        while tasks.join_next().await.is_some() {}
    }
}
