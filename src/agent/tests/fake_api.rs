//! An API in memory that knows pods well enough for the agent.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::{Value, json};
use tokio::sync::broadcast;

use crate::client::{
    ApiError, DeleteOptions, ListOptions, ObjectApi, ObjectList, PatchKind, ResourceRef, WatchEvent,
};
use crate::model::status::Status;

#[derive(Debug, Default)]
struct Inner {
    objects: BTreeMap<String, Value>,
    version: u64,
    away: bool,
    lists_empty: bool,
}

#[derive(Debug)]
pub(super) struct FakeApi {
    inner: Mutex<Inner>,
    changes: broadcast::Sender<WatchEvent>,
}

impl Default for FakeApi {
    fn default() -> Self {
        Self { inner: Mutex::default(), changes: broadcast::channel(1_024).0 }
    }
}

fn key(resource: &ResourceRef, namespace: Option<&str>, name: &str) -> String {
    format!("{}/{}/{name}", resource.plural, namespace.unwrap_or_default())
}

impl FakeApi {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no test panics while it holds the fake API")
    }

    fn check(&self) -> Result<(), ApiError> {
        if self.lock().away {
            return Err(ApiError::Unreachable { reason: "told to be away".into() });
        }
        Ok(())
    }

    pub(super) fn be_away(&self, away: bool) {
        self.lock().away = away;
    }

    /// Lists miss everything, as a stale replica's would.
    pub(super) fn list_nothing(&self, nothing: bool) {
        self.lock().lists_empty = nothing;
    }

    pub(super) fn put(&self, path: &str, mut object: Value) -> Value {
        let event = {
            let mut inner = self.lock();
            inner.version += 1;
            object["metadata"]["resourceVersion"] = json!(inner.version.to_string());
            match inner.objects.insert(path.to_owned(), object.clone()) {
                Some(_) => WatchEvent::Modified(object.clone()),
                None => WatchEvent::Added(object.clone()),
            }
        };
        if path.starts_with("pods/") {
            let _ = self.changes.send(event);
        }
        object
    }

    pub(super) fn remove(&self, path: &str) {
        let gone = self.lock().objects.remove(path);
        if let Some(object) = gone {
            let _ = self.changes.send(WatchEvent::Deleted(object));
        }
    }

    pub(super) fn object(&self, path: &str) -> Option<Value> {
        self.lock().objects.get(path).cloned()
    }

    pub(super) fn reasons(&self) -> Vec<String> {
        let inner = self.lock();
        let events = inner.objects.iter().filter(|(path, _)| path.starts_with("events/"));
        events.map(|(_, event)| event["reason"].as_str().unwrap_or_default().to_owned()).collect()
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
        self.check()?;
        let found = self.object(&key(resource, namespace, name));
        found.ok_or_else(|| Status::not_found(resource.plural, "", name).into())
    }

    async fn list(
        &self,
        resource: &ResourceRef,
        _namespace: Option<&str>,
        _options: &ListOptions,
    ) -> Result<ObjectList, ApiError> {
        self.check()?;
        let inner = self.lock();
        let prefix = format!("{}/", resource.plural);
        let items = inner.objects.iter().filter(|(path, _)| path.starts_with(&prefix));
        let items = items.map(|(_, object)| object.clone());
        Ok(ObjectList {
            items: if inner.lists_empty { Vec::new() } else { items.collect() },
            resource_version: inner.version.to_string(),
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
        self.check()?;
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        Ok(self.put(&key(resource, namespace, name), object.clone()))
    }

    async fn update(
        &self,
        resource: &ResourceRef,
        namespace: Option<&str>,
        name: &str,
        subresource: Option<&str>,
        object: &Value,
    ) -> Result<Value, ApiError> {
        if subresource == Some("token") {
            self.check()?;
            let pod = &object["spec"]["boundObjectRef"]["uid"];
            let token = format!("token of {name} for {}", pod.as_str().unwrap_or_default());
            let end = "2100-01-01T00:00:00Z";
            return Ok(json!({"status": {"token": token, "expirationTimestamp": end}}));
        }
        let mut old = self.get(resource, namespace, name).await?;
        if old["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] {
            return Err(Status::stale(resource.plural, "", name).into());
        }
        assert_eq!(subresource, Some("status"));
        old["status"] = object["status"].clone();
        Ok(self.put(&key(resource, namespace, name), old))
    }

    async fn patch(
        &self,
        resource: &ResourceRef,
        namespace: Option<&str>,
        name: &str,
        _subresource: Option<&str>,
        _kind: PatchKind,
        patch: &Value,
    ) -> Result<Value, ApiError> {
        let mut old = self.get(resource, namespace, name).await?;
        json_patch::merge(&mut old, patch);
        Ok(self.put(&key(resource, namespace, name), old))
    }

    async fn delete(
        &self,
        resource: &ResourceRef,
        namespace: Option<&str>,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<(), ApiError> {
        let old = self.get(resource, namespace, name).await?;
        if options.uid.as_deref() != old["metadata"]["uid"].as_str() {
            return Err(Status::conflict(resource.plural, "", name, "uid").into());
        }
        self.remove(&key(resource, namespace, name));
        Ok(())
    }

    async fn watch(
        &self,
        _resource: &ResourceRef,
        _namespace: Option<&str>,
        _options: &ListOptions,
    ) -> Result<BoxStream<'static, Result<WatchEvent, ApiError>>, ApiError> {
        self.check()?;
        let stream = tokio_stream::wrappers::BroadcastStream::new(self.changes.subscribe());
        Ok(stream.filter_map(|event| std::future::ready(event.ok().map(Ok))).boxed())
    }
}
