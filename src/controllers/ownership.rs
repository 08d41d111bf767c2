//! Who owns whom: controller references, adoption and release.
//!
//! Invariants: an object has at most one controller; it is adopted only while its
//! adopter really exists and is not being deleted (asked from the API, not the cache).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::json;

use crate::client::api::ApiError;
use crate::client::key::ObjectKey;
use crate::client::typed::{Kind, Typed};

/// The reference to the controller among the owners.
pub(super) fn controller_of(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// The key of the object's controller, if it is of kind `kind`.
pub(super) fn controller_key(metadata: &ObjectMeta, kind: &str) -> Option<ObjectKey> {
    let owner = controller_of(metadata).filter(|owner| owner.kind == kind)?;
    let namespace = metadata.namespace.clone().unwrap_or_default();
    Some(ObjectKey::new(namespace, owner.name.clone()))
}

/// Index: the controller's uid.
pub(super) fn by_controller<K: Kind>(object: &K) -> Vec<String> {
    controller_of(object.metadata()).map(|owner| owner.uid.clone()).into_iter().collect()
}

/// Index: the namespace of objects that nobody controls.
pub(super) fn by_orphanage<K: Kind>(object: &K) -> Vec<String> {
    let metadata = object.metadata();
    match controller_of(metadata) {
        None => metadata.namespace.clone().into_iter().collect(),
        Some(_) => Vec::new(),
    }
}

/// The reference that makes `owner` the controller of something.
pub(super) fn controller_reference<K: Kind>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::API_VERSION.to_owned(),
        kind: K::KIND.to_owned(),
        name: owner.key().name,
        uid: owner.uid().to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Whether the owner still stands, asked from the API.
pub(super) async fn still_stands<K: Kind>(owners: &Typed<K>, owner: &K) -> Result<bool, ApiError> {
    let found = owners.find(&owner.key()).await?;
    Ok(found.is_some_and(|found| found.uid() == owner.uid() && !found.is_terminating()))
}

/// Makes `owner` the object's controller.
pub(super) async fn adopt<O: Kind, K: Kind>(
    objects: &Typed<K>,
    owner: &O,
    object: &K,
) -> Result<K, ApiError> {
    let mut owners = object.metadata().owner_references.clone().unwrap_or_default();
    owners.push(controller_reference(owner));
    set_owners(objects, object, &owners).await
}

/// Takes the owner with this uid out of the object's owners.
pub(super) async fn release<K: Kind>(
    objects: &Typed<K>,
    object: &K,
    owner_uid: &str,
) -> Result<K, ApiError> {
    let owners = object.metadata().owner_references.iter().flatten();
    let owners: Vec<_> = owners.filter(|owner| owner.uid != owner_uid).cloned().collect();
    set_owners(objects, object, &owners).await
}

async fn set_owners<K: Kind>(
    objects: &Typed<K>,
    object: &K,
    owners: &[OwnerReference],
) -> Result<K, ApiError> {
    let patch = json!({"metadata": {
        "uid": object.uid(),
        "resourceVersion": object.metadata().resource_version,
        "ownerReferences": owners,
    }});
    objects.patch_merge(&object.key(), None, &patch).await
}
