//! The Endpoints object of a Service, which older programs read, and which people write for
//! Services without a selector.
//!
//! Invariant: an object without our label is written over only where a Service's selector
//! says what must stand in it, and is never deleted.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};

use crate::client::api::{DeleteOptions, ResourceRef, SharedApi};
use crate::client::key::ObjectKey;
use crate::controllers::runner::{Act, ControllerError};
use crate::logic::endpoints::SliceContent;
use crate::logic::endpoints::subsets::subsets;

pub(in crate::controllers) const ENDPOINTS: ResourceRef = ResourceRef::of::<Endpoints>(true);
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const HEADLESS: &str = "service.kubernetes.io/headless";
const TRUNCATED: &str = "endpoints.kubernetes.io/over-capacity";
const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";
/// On objects that only serve an election; nothing stands behind them.
const ELECTION: &str = "control-plane.alpha.kubernetes.io/leader";

fn metadata<'o>(object: &'o Value, map: &str, name: &str) -> Option<&'o str> {
    object.get("metadata")?.get(map)?.get(name)?.as_str()
}

/// Whether the object was written here.
pub(super) fn is_ours(object: &Value) -> bool {
    metadata(object, "labels", MANAGED_BY) == Some(MANAGER)
}

/// Whether the object is somebody's word about what stands behind a Service.
pub(super) fn is_mirrored(object: &Value) -> bool {
    !is_ours(object)
        && metadata(object, "labels", SKIP_MIRROR) != Some("true")
        && metadata(object, "annotations", ELECTION).is_none()
        && object["metadata"]["deletionTimestamp"].is_null()
}

pub(super) fn labels(object: &Value) -> BTreeMap<String, String> {
    let labels = object["metadata"].get("labels").and_then(Value::as_object);
    let text = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
    labels.into_iter().flatten().filter_map(text).collect()
}

/// The reference that makes the object the controller of its slices.
pub(super) fn owner_reference(object: &Value) -> Option<OwnerReference> {
    let text = |name: &str| object["metadata"].get(name)?.as_str().map(str::to_owned);
    Some(OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Endpoints".to_owned(),
        name: text("name")?,
        uid: text("uid")?,
        controller: Some(true),
        block_owner_deletion: Some(true),
    })
}

/// What the object of a Service says.
pub(super) fn told(service: &Service, contents: &[SliceContent]) -> Value {
    let (subsets, truncated) = subsets(contents);
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let spec = service.spec.as_ref();
    if spec.and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    let mut metadata = json!({
        "name": service.metadata.name, "namespace": service.metadata.namespace, "labels": labels,
    });
    if truncated {
        metadata["annotations"] = json!({TRUNCATED: "truncated"});
    }
    json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": subsets})
}

/// Makes the object say it.
pub(super) async fn write(
    api: &SharedApi,
    key: &ObjectKey,
    told: Value,
    held: Option<Arc<Value>>,
) -> Result<(), ControllerError> {
    let Some(held) = held else {
        let created = api.create(&ENDPOINTS, key.scope(), &told).await;
        return created.act("create Endpoints", key).map(drop);
    };
    let empty = json!([]);
    let said = held.get("subsets").filter(|said| !said.is_null()).unwrap_or(&empty);
    let mut changed = (*held).clone();
    changed["metadata"]["labels"] = told["metadata"]["labels"].clone();
    let annotation = told["metadata"]["annotations"].get(TRUNCATED);
    match (annotation, changed["metadata"].get_mut("annotations").and_then(Value::as_object_mut)) {
        (None, None) => {}
        (None, Some(all)) => drop(all.remove(TRUNCATED)),
        (Some(value), Some(all)) => drop(all.insert(TRUNCATED.to_owned(), value.clone())),
        (Some(value), None) => {
            changed["metadata"]["annotations"] = json!({TRUNCATED: value});
        }
    }
    if *said == told["subsets"] && changed["metadata"] == held["metadata"] {
        return Ok(());
    }
    changed["subsets"] = told["subsets"].clone();
    let updated = api.update(&ENDPOINTS, key.scope(), &key.name, None, &changed).await;
    updated.act("update Endpoints", key).map(drop)
}

/// Deletes the object, if it is still this one.
pub(super) async fn delete(
    api: &SharedApi,
    key: &ObjectKey,
    held: &Value,
) -> Result<(), ControllerError> {
    let uid = held["metadata"]["uid"].as_str().map(str::to_owned);
    let options = DeleteOptions { uid, ..DeleteOptions::default() };
    match api.delete(&ENDPOINTS, key.scope(), &key.name, &options).await {
        Err(error) if !error.is_not_found() && !error.is_conflict() => {
            Err(error).act("delete Endpoints", key)
        }
        _ => Ok(()),
    }
}
