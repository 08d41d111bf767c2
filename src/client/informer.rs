//! A local, always converging copy of one resource: list once, then watch.
//!
//! Why: controllers, the agent and the network ask "what is there now" thousands of
//! times a second; the API is asked once and then only tells what changes.
//!
//! ```text
//! list ──► replace the cache, report the difference ──► watch from the list's version
//!   ▲                                                     │ event: apply, report
//!   └── 410 Expired ◄── stream ends: watch again from the last version seen
//! ```
//!
//! Invariants: a deletion is never lost, because a new list reports what it lacks; an
//! older version of an object never replaces a newer one of the same uid; readers never
//! wait for the API. A reader of changes that falls behind is told so (`Lagged`) and
//! must look at the whole cache again.
//! Not here: what to do about a change (controllers/runner.rs).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use backon::BackoffBuilder;
use futures::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::base::limits;
use crate::client::api::{ApiError, ListOptions, ResourceRef, SharedApi, WatchEvent};
use crate::client::key::ObjectKey;
use crate::client::typed::Kind;

/// What an informer can hold: anything that is read from JSON.
pub trait Cached: DeserializeOwned + fmt::Debug + Send + Sync + 'static {}
impl<T: DeserializeOwned + fmt::Debug + Send + Sync + 'static> Cached for T {}

/// One change of the cache. A replaced object (same name, new uid) comes as one change
/// with both sides set.
#[derive(Debug)]
pub struct Change<T> {
    pub key: ObjectKey,
    pub old: Option<Arc<T>>,
    pub new: Option<Arc<T>>,
}

impl<T> Clone for Change<T> {
    fn clone(&self) -> Self {
        Self { key: self.key.clone(), old: self.old.clone(), new: self.new.clone() }
    }
}

/// Values under which an object can be found, by index name.
pub type IndexFn<T> = fn(&T) -> Vec<String>;

struct Entry<T> {
    object: Arc<T>,
    uid: String,
    version: String,
}

struct Index<T> {
    name: &'static str,
    values: IndexFn<T>,
    keys: HashMap<String, BTreeSet<ObjectKey>>,
}

struct Cache<T> {
    entries: BTreeMap<ObjectKey, Entry<T>>,
    indexes: Vec<Index<T>>,
}

struct Inner<T> {
    api: SharedApi,
    resource: ResourceRef,
    namespace: Option<String>,
    options: ListOptions,
    cache: RwLock<Cache<T>>,
    changes: broadcast::Sender<Change<T>>,
    synced: watch::Sender<bool>,
}

/// The cache of one resource; cheap to clone, all clones share it. Somebody must drive
/// [`Informer::run`].
pub struct Informer<T = Value> {
    inner: Arc<Inner<T>>,
}

/// An informer of a k8s-openapi type.
pub type TypedInformer<K> = Informer<K>;

impl<T> Clone for Informer<T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<T> fmt::Debug for Informer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Informer").field("resource", &self.inner.resource.plural).finish()
    }
}

impl<K: Kind> Informer<K> {
    /// Of a k8s-openapi type, in all namespaces.
    pub fn typed(api: SharedApi, options: ListOptions) -> Self {
        Self::new(api, K::REF, options)
    }

    /// As [`Informer::typed`], with indexes for [`Informer::by_index`].
    pub fn typed_indexed(
        api: SharedApi,
        options: ListOptions,
        indexes: &[(&'static str, IndexFn<K>)],
    ) -> Self {
        Self::indexed(api, K::REF, None, options, indexes)
    }
}

impl<T: Cached> Informer<T> {
    /// Of any resource, in all namespaces. `options` may carry selectors.
    pub fn new(api: SharedApi, resource: ResourceRef, options: ListOptions) -> Self {
        Self::indexed(api, resource, None, options, &[])
    }

    /// Of one namespace (or all, with `None`), with named indexes.
    pub fn indexed(
        api: SharedApi,
        resource: ResourceRef,
        namespace: Option<String>,
        options: ListOptions,
        indexes: &[(&'static str, IndexFn<T>)],
    ) -> Self {
        let indexes = indexes
            .iter()
            .map(|&(name, values)| Index { name, values, keys: HashMap::new() })
            .collect();
        Self {
            inner: Arc::new(Inner {
                api,
                resource,
                namespace,
                options,
                cache: RwLock::new(Cache { entries: BTreeMap::new(), indexes }),
                changes: broadcast::Sender::new(limits::WATCH_BUFFER_EVENTS),
                synced: watch::Sender::new(false),
            }),
        }
    }

    /// The object, or `None`. `namespace` is empty for objects that have none.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<T>> {
        self.get_key(&ObjectKey::new(namespace, name))
    }

    pub fn get_key(&self, key: &ObjectKey) -> Option<Arc<T>> {
        self.read().entries.get(key).map(|entry| Arc::clone(&entry.object))
    }

    /// All objects, sorted by namespace and name.
    pub fn list(&self) -> Vec<Arc<T>> {
        self.read().entries.values().map(|entry| Arc::clone(&entry.object)).collect()
    }

    /// All objects with their keys, sorted.
    pub fn entries(&self) -> Vec<(ObjectKey, Arc<T>)> {
        let cache = self.read();
        let pairs = cache.entries.iter();
        pairs.map(|(key, entry)| (key.clone(), Arc::clone(&entry.object))).collect()
    }

    /// All objects of one namespace, sorted by name.
    pub fn list_namespace(&self, namespace: &str) -> Vec<Arc<T>> {
        let cache = self.read();
        let from = cache.entries.range(ObjectKey::new(namespace, "")..);
        from.take_while(|(key, _)| key.namespace == namespace)
            .map(|(_, entry)| Arc::clone(&entry.object))
            .collect()
    }

    /// All objects that the index `index` files under `value`, sorted.
    pub fn by_index(&self, index: &str, value: &str) -> Vec<Arc<T>> {
        let cache = self.read();
        let found = cache.indexes.iter().find(|candidate| candidate.name == index);
        let Some(keys) = found.and_then(|index| index.keys.get(value)) else { return Vec::new() };
        let entries = keys.iter().filter_map(|key| cache.entries.get(key));
        entries.map(|entry| Arc::clone(&entry.object)).collect()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.read().entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the first list has been taken in.
    pub fn is_synced(&self) -> bool {
        *self.inner.synced.borrow()
    }

    /// Waits for the first list.
    pub async fn synced(&self) {
        let mut synced = self.inner.synced.subscribe();
        // The sender lives in `self.inner`, so this can only end by the value.
        let _ = synced.wait_for(|synced| *synced).await;
    }

    /// Changes from now on. On `Lagged` look at the whole cache again.
    pub fn changes(&self) -> broadcast::Receiver<Change<T>> {
        self.inner.changes.subscribe()
    }

    fn read(&self) -> RwLockReadGuard<'_, Cache<T>> {
        self.inner.cache.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Cache<T>> {
        self.inner.cache.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the cache current until cancelled.
    pub async fn run(self, cancel: CancellationToken) {
        let policy = backon::ExponentialBuilder::default()
            .with_min_delay(limits::CLIENT_BACKOFF_MIN)
            .with_max_delay(limits::CLIENT_BACKOFF_MAX)
            .with_jitter()
            .without_max_times();
        let mut pauses = policy.build();
        let mut version = None;
        loop {
            let before = version.clone();
            let outcome = tokio::select! {
                () = cancel.cancelled() => return,
                outcome = self.follow(&mut version) => outcome,
            };
            let Err(error) = outcome;
            let plural = self.inner.resource.plural;
            if error.is_expired() || matches!(error, ApiError::Garbled { .. }) {
                version = None;
            }
            if version != before {
                pauses = policy.build();
            }
            tracing::debug!(plural, %error, "a watch ended; it is taken up again");
            let pause = pauses.next().unwrap_or(limits::CLIENT_BACKOFF_MAX);
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Lists if there is no version to go on from, then watches until that breaks.
    async fn follow(&self, version: &mut Option<String>) -> Result<Infallible, ApiError> {
        let from = match version {
            Some(from) => from.clone(),
            None => {
                let from = self.relist().await?;
                *version = Some(from.clone());
                self.inner.synced.send_replace(true);
                from
            }
        };
        let inner = &self.inner;
        let options = ListOptions { resource_version: Some(from), ..inner.options.clone() };
        let mut events =
            inner.api.watch(&inner.resource, inner.namespace.as_deref(), &options).await?;
        while let Some(event) = events.next().await {
            let seen = match event? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => self.put(object)?,
                WatchEvent::Deleted(object) => self.remove(&object),
                WatchEvent::Bookmark(seen) => Some(seen),
                WatchEvent::Error(status) => return Err(ApiError::Refused(status)),
            };
            if seen.is_some() {
                *version = seen;
            }
        }
        Err(ApiError::Unreachable { reason: "the watch stream ended".into() })
    }

    /// Takes the whole resource in, page by page, and reports every difference.
    async fn relist(&self) -> Result<String, ApiError> {
        let inner = &self.inner;
        let mut options = inner.options.clone();
        options.limit = Some(limits::CLIENT_LIST_PAGE);
        let mut first_version = None;
        let mut present = BTreeSet::new();
        loop {
            let page =
                inner.api.list(&inner.resource, inner.namespace.as_deref(), &options).await?;
            first_version.get_or_insert(page.resource_version);
            for item in page.items {
                if let Some(key) = ObjectKey::of_value(&item) {
                    present.insert(key);
                }
                self.put(item)?;
            }
            match page.continue_token {
                Some(token) if !token.is_empty() => options.continue_token = Some(token),
                _ => break,
            }
        }
        let gone: Vec<ObjectKey> =
            self.read().entries.keys().filter(|key| !present.contains(*key)).cloned().collect();
        for key in gone {
            self.remove_key(&key);
        }
        first_version.ok_or_else(|| ApiError::Garbled { reason: "a list without a version".into() })
    }

    /// Takes one object in; answers its version. Who owns its fields is left out: it is as
    /// large as the object, and an update that does not say it changes none of it.
    fn put(&self, mut object: Value) -> Result<Option<String>, ApiError> {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.shift_remove("managedFields");
        }
        let key = ObjectKey::of_value(&object)
            .ok_or_else(|| ApiError::Garbled { reason: "an object without a name".into() })?;
        let version = metadata_text(&object, "resourceVersion");
        let uid = metadata_text(&object, "uid");
        let parsed = match serde_json::from_value::<T>(object) {
            Ok(parsed) => Arc::new(parsed),
            Err(error) => {
                // One unreadable object must not blind us to all others.
                tracing::error!(%key, plural = self.inner.resource.plural, %error, "unreadable");
                return Ok(Some(version).filter(|version| !version.is_empty()));
            }
        };
        let change = {
            let mut cache = self.write();
            if let Some(held) = cache.entries.get(&key)
                && held.uid == uid
                && !is_newer(&version, &held.version)
            {
                return Ok(None);
            }
            let entry = Entry { object: Arc::clone(&parsed), uid, version: version.clone() };
            let old = cache.entries.insert(key.clone(), entry).map(|entry| entry.object);
            cache.reindex(&key, old.as_deref(), Some(&parsed));
            Change { key, old, new: Some(parsed) }
        };
        // No subscriber is no error.
        let _ = self.inner.changes.send(change);
        Ok(Some(version).filter(|version| !version.is_empty()))
    }

    /// Takes one object out, unless the cache holds a later incarnation of its name.
    fn remove(&self, object: &Value) -> Option<String> {
        let version = metadata_text(object, "resourceVersion");
        let key = ObjectKey::of_value(object)?;
        let uid = metadata_text(object, "uid");
        let same = self.read().entries.get(&key).is_some_and(|held| held.uid == uid);
        if same {
            self.remove_key(&key);
        }
        Some(version).filter(|version| !version.is_empty())
    }

    fn remove_key(&self, key: &ObjectKey) {
        let change = {
            let mut cache = self.write();
            let Some(entry) = cache.entries.remove(key) else { return };
            cache.reindex(key, Some(&entry.object), None);
            Change { key: key.clone(), old: Some(entry.object), new: None }
        };
        let _ = self.inner.changes.send(change);
    }
}

impl<T> Cache<T> {
    fn reindex(&mut self, key: &ObjectKey, old: Option<&T>, new: Option<&T>) {
        for index in &mut self.indexes {
            for value in old.map(index.values).unwrap_or_default() {
                if let Some(keys) = index.keys.get_mut(&value) {
                    keys.remove(key);
                    if keys.is_empty() {
                        index.keys.remove(&value);
                    }
                }
            }
            for value in new.map(index.values).unwrap_or_default() {
                index.keys.entry(value).or_default().insert(key.clone());
            }
        }
    }
}

fn metadata_text(object: &Value, field: &str) -> String {
    let value = object.get("metadata").and_then(|metadata| metadata.get(field));
    value.and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Versions are numbers by Holdfast's own promise; others are taken for newer.
fn is_newer(version: &str, held: &str) -> bool {
    match (version.parse::<u64>(), held.parse::<u64>()) {
        (Ok(version), Ok(held)) => version > held,
        _ => version != held,
    }
}

#[cfg(test)]
#[path = "informer/tests.rs"]
mod tests;
