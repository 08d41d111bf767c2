//! The same calls with k8s-openapi's types instead of JSON values.
//!
//! Why by value and not a second trait: every implementation of the API moves JSON, and
//! one conversion in one place keeps them all honest about what cannot be read.

use std::marker::PhantomData;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{ClusterResourceScope, Metadata, NamespaceResourceScope, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::client::api::{ApiError, DeleteOptions, ListOptions, PatchKind, ResourceRef, SharedApi};
use crate::client::key::ObjectKey;

/// Whether objects of a scope have a namespace.
pub trait Scope {
    const NAMESPACED: bool;
}

impl Scope for NamespaceResourceScope {
    const NAMESPACED: bool = true;
}

impl Scope for ClusterResourceScope {
    const NAMESPACED: bool = false;
}

/// A k8s-openapi type that is a whole object of its own.
pub trait Kind:
    Resource<Scope: Scope>
    + Metadata<Ty = ObjectMeta>
    + Serialize
    + DeserializeOwned
    + Clone
    + Send
    + Sync
    + std::fmt::Debug
    + 'static
{
    /// How the API addresses the type.
    const REF: ResourceRef = ResourceRef::of::<Self>(<Self::Scope as Scope>::NAMESPACED);

    /// The object's own key; empty strings where metadata has none.
    fn key(&self) -> ObjectKey {
        let metadata = self.metadata();
        ObjectKey::new(
            metadata.namespace.clone().unwrap_or_default(),
            metadata.name.clone().unwrap_or_default(),
        )
    }

    /// The object's uid; empty before the API gave one.
    fn uid(&self) -> &str {
        self.metadata().uid.as_deref().unwrap_or_default()
    }

    /// Somebody asked for the object's deletion.
    fn is_terminating(&self) -> bool {
        self.metadata().deletion_timestamp.is_some()
    }
}

impl<K> Kind for K where
    K: Resource<Scope: Scope>
        + Metadata<Ty = ObjectMeta>
        + Serialize
        + DeserializeOwned
        + Clone
        + Send
        + Sync
        + std::fmt::Debug
        + 'static
{
}

/// Converts what came from the API; a mismatch is the API's fault, not the caller's.
pub fn from_value<K: DeserializeOwned>(value: Value) -> Result<K, ApiError> {
    serde_json::from_value(value).map_err(|error| ApiError::Garbled { reason: error.to_string() })
}

/// Converts what goes to the API.
pub fn to_value<K: Serialize>(object: &K) -> Result<Value, ApiError> {
    serde_json::to_value(object).map_err(|error| ApiError::Garbled { reason: error.to_string() })
}

/// Calls about one kind.
#[derive(Clone, Debug)]
pub struct Typed<K> {
    api: SharedApi,
    kind: PhantomData<fn() -> K>,
}

impl<K: Kind> Typed<K> {
    pub fn new(api: SharedApi) -> Self {
        Self { api, kind: PhantomData }
    }

    pub async fn get(&self, key: &ObjectKey) -> Result<K, ApiError> {
        from_value(self.api.get(&K::REF, key.scope(), &key.name).await?)
    }

    /// `None` where the object does not exist.
    pub async fn find(&self, key: &ObjectKey) -> Result<Option<K>, ApiError> {
        match self.get(key).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All objects of one namespace, or of all with `None`; follows the pages.
    pub async fn list(
        &self,
        namespace: Option<&str>,
        options: &ListOptions,
    ) -> Result<Vec<K>, ApiError> {
        let mut options = options.clone();
        let mut objects = Vec::new();
        loop {
            let page = self.api.list(&K::REF, namespace, &options).await?;
            for item in page.items {
                objects.push(from_value(item)?);
            }
            match page.continue_token {
                Some(token) if !token.is_empty() => options.continue_token = Some(token),
                _ => return Ok(objects),
            }
        }
    }

    pub async fn create(&self, object: &K) -> Result<K, ApiError> {
        let namespace = object.metadata().namespace.as_deref();
        from_value(self.api.create(&K::REF, namespace, &to_value(object)?).await?)
    }

    /// Creates it for who does not look at the answer, which costs as much to read as the
    /// object to write.
    pub async fn add(&self, object: &K) -> Result<(), ApiError> {
        let namespace = object.metadata().namespace.as_deref();
        self.api.create(&K::REF, namespace, &to_value(object)?).await.map(drop)
    }

    /// Replaces the object; refused if its resourceVersion is not the newest.
    pub async fn update(&self, object: &K) -> Result<K, ApiError> {
        self.replace(object, None).await
    }

    /// Replaces the object's status only.
    pub async fn update_status(&self, object: &K) -> Result<K, ApiError> {
        self.replace(object, Some("status")).await
    }

    /// The same for who does not look at the answer.
    pub async fn put_status(&self, object: &K) -> Result<(), ApiError> {
        self.put(object, Some("status")).await.map(drop)
    }

    async fn replace(&self, object: &K, subresource: Option<&str>) -> Result<K, ApiError> {
        from_value(self.put(object, subresource).await?)
    }

    async fn put(&self, object: &K, subresource: Option<&str>) -> Result<Value, ApiError> {
        let key = object.key();
        let value = to_value(object)?;
        self.api.update(&K::REF, key.scope(), &key.name, subresource, &value).await
    }

    /// RFC 7396 patch of the object, or of a subresource.
    pub async fn patch_merge(
        &self,
        key: &ObjectKey,
        subresource: Option<&str>,
        patch: &Value,
    ) -> Result<K, ApiError> {
        let merge = PatchKind::Merge;
        let answer =
            self.api.patch(&K::REF, key.scope(), &key.name, subresource, merge, patch).await?;
        from_value(answer)
    }

    pub async fn delete(&self, key: &ObjectKey, options: &DeleteOptions) -> Result<(), ApiError> {
        self.api.delete(&K::REF, key.scope(), &key.name, options).await
    }

    /// Deletes; an object that is gone already, or was replaced by another of the same
    /// name, is no error.
    pub async fn delete_if_same(
        &self,
        object: &K,
        grace_period_seconds: Option<i64>,
    ) -> Result<(), ApiError> {
        let options = DeleteOptions {
            grace_period_seconds,
            uid: object.metadata().uid.clone(),
            ..DeleteOptions::default()
        };
        match self.delete(&object.key(), &options).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
            _ => Ok(()),
        }
    }
}
