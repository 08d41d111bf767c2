//! The API as controllers of this process use it: the object layer without HTTP.
//!
//! Why not over HTTPS as the agent does: controllers run where the store is and may do
//! everything; going through a socket would cost them latency and a certificate.
//!
//! Why a bounded number of writes at a time: a controller that has a thousand pods to create
//! would have a thousand writes on their way, and everybody else's would stand behind them.

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::base::limits;
use crate::client::{
    ApiError, DeleteOptions, ListOptions, ObjectApi, ObjectList, PatchKind, ResourceRef, WatchEvent,
};
use crate::logic::selector::{FieldSelector, LabelSelector};
use crate::model::kinds::{Kind, Subresource};
use crate::model::status::Status;
use crate::objects::fields::FieldValidation;
use crate::objects::{
    Address, ApplyRequest, Change, DeleteRequest, ListRequest, Objects, Patch, PatchType,
    Propagation, WatchRequest, WriteOptions,
};

/// [`ObjectApi`] over [`Objects`].
#[derive(Clone, Debug)]
pub(super) struct InProcessApi {
    objects: Arc<Objects>,
    writes: Arc<Semaphore>,
}

impl InProcessApi {
    pub(super) fn new(objects: Arc<Objects>) -> Self {
        Self { objects, writes: Arc::new(Semaphore::new(limits::CONTROLLER_WRITES_AT_ONCE)) }
    }

    async fn kind_of(&self, resource: &ResourceRef) -> Result<&'static Kind, ApiError> {
        let found = self.objects.find_kind(resource.group, resource.version, resource.plural).await;
        found.ok_or_else(|| Status::unknown_resource().into())
    }
}

fn subresource_of(kind: &Kind, name: Option<&str>) -> Result<Option<Subresource>, ApiError> {
    let Some(name) = name else { return Ok(None) };
    let found = kind.subresource(name);
    found.map(Some).ok_or_else(|| Status::method_not_allowed().into())
}

fn labels_of(options: &ListOptions) -> Result<LabelSelector, ApiError> {
    let text = options.label_selector.as_deref().unwrap_or_default();
    LabelSelector::parse(text).map_err(|error| Status::bad_request(error.to_string()).into())
}

fn fields_of(kind: &Kind, options: &ListOptions) -> Result<FieldSelector, ApiError> {
    let text = options.field_selector.as_deref().unwrap_or_default();
    FieldSelector::parse(text, kind.fields)
        .map_err(|error| Status::bad_request(error.to_string()).into())
}

/// Without the owners of fields, which nobody in this process reads from a watch.
fn event_of(change: Change) -> Result<WatchEvent, ApiError> {
    Ok(match change {
        Change::Added(object) => WatchEvent::Added(object.without_owners()),
        Change::Modified(object) => WatchEvent::Modified(object.without_owners()),
        Change::Deleted(object) => WatchEvent::Deleted(object.without_owners()),
        Change::Bookmark { revision, .. } => WatchEvent::Bookmark(revision.to_string()),
        Change::Error(status) => WatchEvent::Error(status),
    })
}

#[async_trait]
impl ObjectApi for InProcessApi {
    async fn get(
        &self,
        resource: &ResourceRef,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Value, ApiError> {
        let address = Address::new(self.kind_of(resource).await?, namespace, name);
        Ok(self.objects.get(&address, None).await?)
    }

    async fn list(
        &self,
        resource: &ResourceRef,
        namespace: Option<&str>,
        options: &ListOptions,
    ) -> Result<ObjectList, ApiError> {
        let kind = self.kind_of(resource).await?;
        let listing = self
            .objects
            .list(&ListRequest {
                labels: labels_of(options)?,
                fields: fields_of(kind, options)?,
                limit: options.limit.unwrap_or_default() as usize,
                continue_token: options.continue_token.clone(),
                resource_version: options.resource_version.clone(),
                ..ListRequest::all(kind, namespace)
            })
            .await?;
        Ok(ObjectList {
            items: listing.items,
            resource_version: listing.revision.to_string(),
            continue_token: listing.continue_token,
            remaining: listing.remaining,
        })
    }

    async fn create(
        &self,
        resource: &ResourceRef,
        namespace: Option<&str>,
        object: &Value,
    ) -> Result<Value, ApiError> {
        let _turn = self.writes.acquire().await;
        let kind = self.kind_of(resource).await?;
        let options = WriteOptions::controller("create", kind, None);
        Ok(self.objects.create(kind, namespace, object.clone(), options).await?)
    }

    async fn update(
        &self,
        resource: &ResourceRef,
        namespace: Option<&str>,
        name: &str,
        subresource: Option<&str>,
        object: &Value,
    ) -> Result<Value, ApiError> {
        let kind = self.kind_of(resource).await?;
        let address = Address::new(kind, namespace, name);
        let subresource = subresource_of(kind, subresource)?;
        if subresource == Some(Subresource::Binding) {
            // The scheduler bounds how many of these are on their way, and what is created
            // meanwhile is not to keep it waiting.
            let options = WriteOptions::controller("create", kind, subresource);
            self.objects.bind(&address, object, options).await?;
            return Ok(object.clone());
        }
        let _turn = self.writes.acquire().await;
        let options = WriteOptions::controller("update", kind, subresource);
        Ok(self.objects.update(&address, subresource, object.clone(), options).await?)
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
        let _turn = self.writes.acquire().await;
        let target = self.kind_of(resource).await?;
        let address = Address::new(target, namespace, name);
        let subresource = subresource_of(target, subresource)?;
        let options = WriteOptions::controller("patch", target, subresource);
        let kind = match kind {
            PatchKind::Json => PatchType::Json,
            PatchKind::Merge => PatchType::Merge,
            PatchKind::Strategic => PatchType::Strategic,
            PatchKind::Apply => {
                let request =
                    ApplyRequest { config: patch.clone(), force: true, may_create: Ok(()) };
                let applied = self.objects.apply(&address, subresource, request, options).await?;
                return Ok(applied.object);
            }
        };
        let patch = Patch { kind, body: patch.clone() };
        let patched = self
            .objects
            .patch(&address, subresource, &patch, FieldValidation::Ignore, options)
            .await?;
        Ok(patched.0)
    }

    async fn delete(
        &self,
        resource: &ResourceRef,
        namespace: Option<&str>,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<(), ApiError> {
        let _turn = self.writes.acquire().await;
        let kind = self.kind_of(resource).await?;
        let address = Address::new(kind, namespace, name);
        let propagation = match options.propagation_policy.as_deref() {
            None | Some("Background") => Propagation::Background,
            Some("Foreground") => Propagation::Foreground,
            Some("Orphan") => Propagation::Orphan,
            Some(other) => {
                let text = format!("unknown propagation policy {other:?}");
                return Err(Status::bad_request(text).into());
            }
        };
        let request = DeleteRequest {
            grace_period_seconds: options.grace_period_seconds,
            propagation,
            uid: options.uid.clone(),
            resource_version: options.resource_version.clone(),
            author: WriteOptions::server("delete", kind).author,
            ..DeleteRequest::default()
        };
        self.objects.delete(&address, &request).await?;
        Ok(())
    }

    async fn watch(
        &self,
        resource: &ResourceRef,
        namespace: Option<&str>,
        options: &ListOptions,
    ) -> Result<BoxStream<'static, Result<WatchEvent, ApiError>>, ApiError> {
        let kind = self.kind_of(resource).await?;
        let changes = self
            .objects
            .watch(&WatchRequest {
                kind,
                namespace: namespace.map(str::to_owned),
                labels: labels_of(options)?,
                fields: fields_of(kind, options)?,
                resource_version: options.resource_version.clone(),
                send_initial_events: false,
                bookmarks: true,
            })
            .await?;
        Ok(changes.map(event_of).boxed())
    }
}

#[cfg(test)]
#[path = "custom_kinds_tests.rs"]
mod custom_kinds_tests;
#[cfg(test)]
#[path = "in_process_tests.rs"]
mod tests;
