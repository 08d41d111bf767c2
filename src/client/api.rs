//! The port to the Kubernetes-shaped API that controllers, agent and network use.
//!
//! Why a trait: on a control node it is the object layer in process, on a worker it is
//! HTTPS; the code above must not care. Objects travel as JSON values; the typed layer
//! (`Typed`) converts them with k8s-openapi's types.

use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use serde_json::Value;

use crate::model::status::Status;

/// Which resource a call is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ResourceRef {
    /// Empty for the core group.
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub namespaced: bool,
}

impl ResourceRef {
    /// Taken from a k8s-openapi type.
    pub const fn of<K: k8s_openapi::Resource>(namespaced: bool) -> Self {
        Self {
            group: K::GROUP,
            version: K::VERSION,
            kind: K::KIND,
            plural: K::URL_PATH_SEGMENT,
            namespaced,
        }
    }
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum ApiError {
    /// The server answered no.
    #[error(transparent)]
    Refused(#[from] Status),
    /// No server answered.
    #[error("cannot reach the API: {reason}")]
    Unreachable { reason: String },
    /// The server answered something that is not what was asked for.
    #[error("cannot understand the API's answer: {reason}")]
    Garbled { reason: String },
}

impl ApiError {
    pub fn is_not_found(&self) -> bool {
        matches!(self, ApiError::Refused(status) if status.is_not_found())
    }

    pub fn is_conflict(&self) -> bool {
        matches!(self, ApiError::Refused(status) if status.is_conflict())
    }

    pub fn is_expired(&self) -> bool {
        matches!(self, ApiError::Refused(status) if status.is_expired())
    }
}

#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    pub label_selector: Option<String>,
    pub field_selector: Option<String>,
    /// For a list: at least this version. For a watch: start after it.
    pub resource_version: Option<String>,
    pub limit: Option<u32>,
    pub continue_token: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// Seconds; `None` takes the object's own, `Some(0)` removes at once.
    pub grace_period_seconds: Option<i64>,
    /// `Foreground`, `Background` or `Orphan`.
    pub propagation_policy: Option<String>,
    /// Refuse unless the object has this uid.
    pub uid: Option<String>,
    /// Refuse unless the object has this resourceVersion.
    pub resource_version: Option<String>,
}

#[derive(Clone, Debug)]
pub struct ObjectList {
    pub items: Vec<Value>,
    pub resource_version: String,
    pub continue_token: Option<String>,
    /// How many follow after a page; unknown where a selector was given.
    pub remaining: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// RFC 6902.
    Json,
    /// RFC 7396.
    Merge,
    Strategic,
    Apply,
}

#[derive(Clone, Debug)]
pub enum WatchEvent {
    Added(Value),
    Modified(Value),
    Deleted(Value),
    /// Everything up to this resourceVersion was delivered.
    Bookmark(String),
    /// The watch ended; `Expired` means list again.
    Error(Status),
}

/// The calls. `subresource` is `Some("status")` or the like, or `None`.
#[async_trait]
pub trait ObjectApi: Send + Sync + std::fmt::Debug + 'static {
    async fn get(
        &self,
        resource: &ResourceRef,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Value, ApiError>;

    /// `namespace` `None` lists all namespaces.
    async fn list(
        &self,
        resource: &ResourceRef,
        namespace: Option<&str>,
        options: &ListOptions,
    ) -> Result<ObjectList, ApiError>;

    async fn create(
        &self,
        resource: &ResourceRef,
        namespace: Option<&str>,
        object: &Value,
    ) -> Result<Value, ApiError>;

    async fn update(
        &self,
        resource: &ResourceRef,
        namespace: Option<&str>,
        name: &str,
        subresource: Option<&str>,
        object: &Value,
    ) -> Result<Value, ApiError>;

    async fn patch(
        &self,
        resource: &ResourceRef,
        namespace: Option<&str>,
        name: &str,
        subresource: Option<&str>,
        kind: PatchKind,
        patch: &Value,
    ) -> Result<Value, ApiError>;

    async fn delete(
        &self,
        resource: &ResourceRef,
        namespace: Option<&str>,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<(), ApiError>;

    /// Ends with an item when the watch breaks; the caller watches or lists again.
    async fn watch(
        &self,
        resource: &ResourceRef,
        namespace: Option<&str>,
        options: &ListOptions,
    ) -> Result<BoxStream<'static, Result<WatchEvent, ApiError>>, ApiError>;
}

/// How most of the code holds it.
pub type SharedApi = Arc<dyn ObjectApi>;
