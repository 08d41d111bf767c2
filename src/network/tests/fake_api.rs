//! An API in memory: lists what was put, tells watchers what changes.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::Value;
use tokio::sync::broadcast;

use crate::client::api::{
    ApiError, DeleteOptions, ListOptions, ObjectApi, ObjectList, PatchKind, ResourceRef, WatchEvent,
};
use crate::model::status::Status;

#[derive(Debug)]
pub(super) struct FakeApi {
    objects: Mutex<BTreeMap<(String, String), Value>>,
    changes: broadcast::Sender<(String, WatchEvent)>,
    silent: AtomicBool,
}

impl FakeApi {
    pub(super) fn new() -> Self {
        Self {
            objects: Mutex::default(),
            changes: broadcast::channel(100).0,
            silent: AtomicBool::new(false),
        }
    }

    /// Answers no more questions about single objects, like a network that is cut.
    pub(super) fn set_silent(&self, silent: bool) {
        self.silent.store(silent, Ordering::SeqCst);
    }

    pub(super) fn put(&self, plural: &str, object: Value) {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let mut objects = self.objects.lock().unwrap();
        objects.insert((plural.to_owned(), name), object.clone());
        // Nobody may be watching yet.
        let _ = self.changes.send((plural.to_owned(), WatchEvent::Modified(object)));
    }
}

fn unsupported<T>() -> Result<T, ApiError> {
    Err(ApiError::Refused(Status::method_not_allowed()))
}

#[async_trait]
impl ObjectApi for FakeApi {
    async fn get(
        &self,
        resource: &ResourceRef,
        _: Option<&str>,
        name: &str,
    ) -> Result<Value, ApiError> {
        if self.silent.load(Ordering::SeqCst) {
            return Err(ApiError::Unreachable { reason: "the test cut it".into() });
        }
        let key = (resource.plural.to_owned(), name.to_owned());
        let found = self.objects.lock().unwrap().get(&key).cloned();
        found.ok_or_else(|| Status::not_found(resource.plural, resource.group, name).into())
    }

    async fn list(
        &self,
        resource: &ResourceRef,
        _: Option<&str>,
        _: &ListOptions,
    ) -> Result<ObjectList, ApiError> {
        let objects = self.objects.lock().unwrap();
        let items = objects
            .iter()
            .filter(|((plural, _), _)| plural == resource.plural)
            .map(|(_, object)| object.clone())
            .collect();
        Ok(ObjectList { items, resource_version: "1".into(), continue_token: None })
    }

    async fn create(&self, _: &ResourceRef, _: Option<&str>, _: &Value) -> Result<Value, ApiError> {
        unsupported()
    }

    async fn update(
        &self,
        _: &ResourceRef,
        _: Option<&str>,
        _: &str,
        _: Option<&str>,
        _: &Value,
    ) -> Result<Value, ApiError> {
        unsupported()
    }

    async fn patch(
        &self,
        _: &ResourceRef,
        _: Option<&str>,
        _: &str,
        _: Option<&str>,
        _: PatchKind,
        _: &Value,
    ) -> Result<Value, ApiError> {
        unsupported()
    }

    async fn delete(
        &self,
        _: &ResourceRef,
        _: Option<&str>,
        _: &str,
        _: &DeleteOptions,
    ) -> Result<(), ApiError> {
        unsupported()
    }

    async fn watch(
        &self,
        resource: &ResourceRef,
        _: Option<&str>,
        _: &ListOptions,
    ) -> Result<BoxStream<'static, Result<WatchEvent, ApiError>>, ApiError> {
        let plural = resource.plural;
        let changes = tokio_stream::wrappers::BroadcastStream::new(self.changes.subscribe());
        let mine = changes.filter_map(move |change| async move {
            let (changed, event) = change.ok()?;
            (changed == plural).then_some(Ok(event))
        });
        Ok(mine.boxed())
    }
}
