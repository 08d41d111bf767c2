//! An API in memory for tests: versions, conflicts, selectors, watches, pod deletion.
//!
//! Why so faithful: controllers are wrong where two writers meet or where their cache
//! is old, so the fake has real resourceVersions and can freeze, break or expire its
//! watches and be unreachable.
//! Not here: validation, defaults, patch kinds other than merge.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::api::*;
use crate::model::status::Status;

#[path = "fake/selector.rs"]
mod selector;

type Place = (&'static str, String, String);

#[derive(Debug, Clone)]
struct Happened {
    version: u64,
    plural: &'static str,
    kind: &'static str,
    object: Value,
}

#[derive(Debug, Default)]
struct World {
    version: u64,
    uids: u64,
    compacted: u64,
    objects: BTreeMap<Place, Value>,
    history: Vec<Happened>,
    /// How often a create of (plural) succeeded.
    creations: BTreeMap<&'static str, usize>,
}

#[derive(Debug)]
struct Shared {
    world: Mutex<World>,
    /// Grows with every write and every switch, so that watches look again.
    pulse: watch::Sender<u64>,
    frozen: AtomicBool,
    reachable: AtomicBool,
    epoch: AtomicUsize,
    lists: AtomicUsize,
}

/// The fake; clones share one world.
#[derive(Debug, Clone)]
pub(crate) struct FakeApi {
    shared: Arc<Shared>,
}

/// Waits until the condition holds, 20 s at most.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    eventually_async(what, || std::future::ready(holds())).await;
}

pub(crate) async fn eventually_async<F: Future<Output = bool>>(
    what: &str,
    mut holds: impl FnMut() -> F,
) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "it never came true: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl FakeApi {
    pub(crate) fn new() -> Self {
        let shared = Shared {
            world: Mutex::new(World { version: 1, ..World::default() }),
            pulse: watch::Sender::new(0),
            frozen: AtomicBool::new(false),
            reachable: AtomicBool::new(true),
            epoch: AtomicUsize::new(0),
            lists: AtomicUsize::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    pub(crate) fn shared(&self) -> SharedApi {
        Arc::new(self.clone())
    }

    /// Watches deliver nothing until thawed.
    pub(crate) fn freeze(&self, frozen: bool) {
        self.shared.frozen.store(frozen, Ordering::SeqCst);
        self.beat();
    }

    pub(crate) fn set_reachable(&self, reachable: bool) {
        self.shared.reachable.store(reachable, Ordering::SeqCst);
    }

    /// Ends all open watches.
    pub(crate) fn break_watches(&self) {
        self.shared.epoch.fetch_add(1, Ordering::SeqCst);
        self.beat();
    }

    /// Forgets history: watches from older versions are refused with 410.
    pub(crate) fn compact(&self) {
        let mut world = self.world();
        world.compacted = world.version;
        world.history.clear();
    }

    pub(crate) fn list_count(&self) -> usize {
        self.shared.lists.load(Ordering::SeqCst)
    }

    pub(crate) fn creations(&self, plural: &str) -> usize {
        self.world().creations.get(plural).copied().unwrap_or_default()
    }

    /// All objects of one plural, in order.
    pub(crate) fn all(&self, plural: &str) -> Vec<Value> {
        let world = self.world();
        let found = world.objects.iter().filter(|(place, _)| place.0 == plural);
        found.map(|(_, object)| object.clone()).collect()
    }

    /// Every event of one plural ever recorded: kind and object.
    pub(crate) fn history(&self, plural: &str) -> Vec<(&'static str, Value)> {
        let world = self.world();
        let found = world.history.iter().filter(|happened| happened.plural == plural);
        found.map(|happened| (happened.kind, happened.object.clone())).collect()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.shared.world.lock().unwrap()
    }

    fn beat(&self) {
        self.shared.pulse.send_modify(|beat| *beat += 1);
    }

    fn reach(&self) -> Result<(), ApiError> {
        if self.shared.reachable.load(Ordering::SeqCst) {
            Ok(())
        } else {
            Err(ApiError::Unreachable { reason: "the fake is unplugged".into() })
        }
    }
}

fn place(resource: &ResourceRef, namespace: Option<&str>, name: &str) -> Place {
    let namespace = if resource.namespaced { namespace.unwrap_or_default() } else { "" };
    (resource.plural, namespace.to_owned(), name.to_owned())
}

impl World {
    fn find(&self, resource: &ResourceRef, place: &Place) -> Result<&Value, ApiError> {
        let missing = || Status::not_found(resource.plural, resource.group, &place.2);
        Ok(self.objects.get(place).ok_or_else(missing)?)
    }

    fn happen(&mut self, plural: &'static str, kind: &'static str, object: &mut Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let object = object.clone();
        self.history.push(Happened { version: self.version, plural, kind, object });
    }

    /// Stores a changed object, or removes it once nothing holds it.
    fn store(&mut self, place: Place, mut object: Value) -> Value {
        let metadata = &object["metadata"];
        let held = metadata["finalizers"].as_array().is_some_and(|list| !list.is_empty())
            || object["spec"]["finalizers"].as_array().is_some_and(|list| !list.is_empty());
        let graceful = metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or_default() > 0;
        if !metadata["deletionTimestamp"].is_null() && !held && !graceful {
            self.objects.remove(&place);
            self.happen(place.0, "DELETED", &mut object);
            return object;
        }
        let kind = if self.objects.contains_key(&place) { "MODIFIED" } else { "ADDED" };
        if kind == "MODIFIED" && self.objects[&place] == object {
            return object;
        }
        self.happen(place.0, kind, &mut object);
        self.objects.insert(place, object.clone());
        object
    }

    fn replace(
        &mut self,
        resource: &ResourceRef,
        place: Place,
        subresource: Option<&str>,
        new: &Value,
    ) -> Result<Value, ApiError> {
        let held = self.find(resource, &place)?.clone();
        if let Some(version) = new["metadata"]["resourceVersion"].as_str()
            && held["metadata"]["resourceVersion"] != version
        {
            return Err(Status::stale(resource.plural, resource.group, &place.2).into());
        }
        let mut merged = match subresource {
            Some("status") => {
                let mut merged = held.clone();
                merged["status"] = new["status"].clone();
                merged
            }
            Some("finalize") => {
                let mut merged = held.clone();
                merged["spec"]["finalizers"] = new["spec"]["finalizers"].clone();
                merged
            }
            Some("binding") => {
                let mut merged = held.clone();
                if merged["spec"]["nodeName"].is_string() {
                    let why = "pod is already assigned to a node";
                    return Err(Status::conflict("pods", "", &place.2, why).into());
                }
                merged["spec"]["nodeName"] = new["target"]["name"].clone();
                merged
            }
            _ => {
                let mut merged = new.clone();
                merged["status"] = held["status"].clone();
                for field in ["uid", "creationTimestamp", "deletionTimestamp", "generation"] {
                    merged["metadata"][field] = held["metadata"][field].clone();
                }
                if merged["spec"] != held["spec"] {
                    let generation = held["metadata"]["generation"].as_i64().unwrap_or(1);
                    merged["metadata"]["generation"] = json!(generation + 1);
                }
                merged
            }
        };
        merged["metadata"]["resourceVersion"] = held["metadata"]["resourceVersion"].clone();
        Ok(self.store(place, merged))
    }

    fn delete(
        &mut self,
        resource: &ResourceRef,
        place: Place,
        options: &DeleteOptions,
    ) -> Result<(), ApiError> {
        let mut object = self.find(resource, &place)?.clone();
        if options.uid.is_some() && object["metadata"]["uid"].as_str() != options.uid.as_deref() {
            let why = "the UID in the precondition differs";
            return Err(Status::conflict(resource.plural, resource.group, &place.2, why).into());
        }
        let bound = object["spec"]["nodeName"].is_string();
        let own = object["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
        let grace = match resource.plural {
            "pods" if bound => options.grace_period_seconds.unwrap_or(own),
            _ => 0,
        };
        let finalizer = match options.propagation_policy.as_deref() {
            Some("Foreground") => Some("foregroundDeletion"),
            Some("Orphan") => Some("orphan"),
            _ => None,
        };
        let metadata = &mut object["metadata"];
        if metadata["deletionTimestamp"].is_null() {
            metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        metadata["deletionGracePeriodSeconds"] = json!(grace);
        if let Some(finalizer) = finalizer {
            if !metadata["finalizers"].is_array() {
                metadata["finalizers"] = json!([]);
            }
            metadata["finalizers"].as_array_mut().unwrap().push(json!(finalizer));
        }
        self.store(place, object);
        Ok(())
    }
}

#[async_trait]
impl ObjectApi for FakeApi {
    async fn get(
        &self,
        resource: &ResourceRef,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Value, ApiError> {
        self.reach()?;
        self.world().find(resource, &place(resource, namespace, name)).cloned()
    }

    async fn list(
        &self,
        resource: &ResourceRef,
        namespace: Option<&str>,
        options: &ListOptions,
    ) -> Result<ObjectList, ApiError> {
        self.reach()?;
        self.shared.lists.fetch_add(1, Ordering::SeqCst);
        let world = self.world();
        let items = world.objects.iter().filter(|(place, object)| {
            place.0 == resource.plural
                && namespace.is_none_or(|namespace| place.1 == namespace)
                && selector::matches(object, options)
        });
        Ok(ObjectList {
            items: items.map(|(_, object)| object.clone()).collect(),
            resource_version: world.version.to_string(),
            continue_token: None,
            remaining: None,
        })
    }

    async fn create(
        &self,
        resource: &ResourceRef,
        namespace: Option<&str>,
        object: &Value,
    ) -> Result<Value, ApiError> {
        self.reach()?;
        let mut object = object.clone();
        let mut world = self.world();
        world.uids += 1;
        let serial = world.uids;
        if object["metadata"]["name"].is_null() {
            let prefix = object["metadata"]["generateName"].as_str().unwrap_or_default();
            object["metadata"]["name"] = json!(format!("{prefix}{serial:05}"));
        }
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let place = place(resource, namespace, &name);
        if world.objects.contains_key(&place) {
            return Err(Status::already_exists(resource.plural, resource.group, &name).into());
        }
        if resource.namespaced {
            object["metadata"]["namespace"] = json!(place.1);
        }
        object["metadata"]["uid"] = json!(format!("uid-{serial}"));
        object["metadata"]["generation"] = json!(1);
        object["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        *world.creations.entry(resource.plural).or_default() += 1;
        let stored = world.store(place, object);
        drop(world);
        self.beat();
        Ok(stored)
    }

    async fn update(
        &self,
        resource: &ResourceRef,
        namespace: Option<&str>,
        name: &str,
        subresource: Option<&str>,
        object: &Value,
    ) -> Result<Value, ApiError> {
        self.reach()?;
        let place = place(resource, namespace, name);
        let stored = self.world().replace(resource, place, subresource, object);
        self.beat();
        stored
    }

    async fn patch(
        &self,
        resource: &ResourceRef,
        namespace: Option<&str>,
        name: &str,
        subresource: Option<&str>,
        kind: PatchKind,
        patch: &Value,
    ) -> Result<Value, ApiError> {
        self.reach()?;
        assert_eq!(kind, PatchKind::Merge, "the fake knows merge patches only");
        let place = place(resource, namespace, name);
        let mut world = self.world();
        let mut object = world.find(resource, &place)?.clone();
        json_patch::merge(&mut object, patch);
        let stored = world.replace(resource, place, subresource, &object);
        drop(world);
        self.beat();
        stored
    }

    async fn delete(
        &self,
        resource: &ResourceRef,
        namespace: Option<&str>,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<(), ApiError> {
        self.reach()?;
        let done = self.world().delete(resource, place(resource, namespace, name), options);
        self.beat();
        done
    }

    async fn watch(
        &self,
        resource: &ResourceRef,
        namespace: Option<&str>,
        options: &ListOptions,
    ) -> Result<BoxStream<'static, Result<WatchEvent, ApiError>>, ApiError> {
        self.reach()?;
        let from: u64 = options.resource_version.as_deref().unwrap_or("0").parse().unwrap();
        if from < self.world().compacted {
            return Err(Status::expired("too old resource version").into());
        }
        let watcher = Watcher {
            fake: self.clone(),
            pulse: self.shared.pulse.subscribe(),
            epoch: self.shared.epoch.load(Ordering::SeqCst),
            plural: resource.plural,
            namespace: namespace.map(str::to_owned),
            options: options.clone(),
            seen: from,
        };
        Ok(stream::unfold(watcher, |mut watcher| async {
            let event = watcher.next().await?;
            Some((Ok(event), watcher))
        })
        .boxed())
    }
}

struct Watcher {
    fake: FakeApi,
    pulse: watch::Receiver<u64>,
    epoch: usize,
    plural: &'static str,
    namespace: Option<String>,
    options: ListOptions,
    seen: u64,
}

impl Watcher {
    async fn next(&mut self) -> Option<WatchEvent> {
        loop {
            self.pulse.mark_unchanged();
            if self.epoch != self.fake.shared.epoch.load(Ordering::SeqCst) {
                return None;
            }
            if !self.fake.shared.frozen.load(Ordering::SeqCst)
                && let Some(happened) = self.next_in_history()
            {
                let object = happened.object;
                return Some(match happened.kind {
                    "ADDED" => WatchEvent::Added(object),
                    "DELETED" => WatchEvent::Deleted(object),
                    _ => WatchEvent::Modified(object),
                });
            }
            self.pulse.changed().await.ok()?;
        }
    }

    fn next_in_history(&mut self) -> Option<Happened> {
        let world = self.fake.world();
        let at = world.history.partition_point(|happened| happened.version <= self.seen);
        let found = world.history[at..].iter().find(|happened| {
            happened.plural == self.plural
                && self.namespace.as_ref().is_none_or(|namespace| {
                    happened.object["metadata"]["namespace"] == namespace.as_str()
                })
                && selector::matches(&happened.object, &self.options)
        });
        let found = found.cloned()?;
        self.seen = found.version;
        Some(found)
    }
}
