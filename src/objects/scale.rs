//! The scale subresource: a workload's replica count as `autoscaling/v1` `Scale`.

use serde_json::{Value, json};

use super::update::{Part, Patch};
use super::{Address, Objects, WriteOptions, str_at};
use crate::model::kinds::custom::ScalePaths;
use crate::model::kinds::{Kind, Subresource};
use crate::model::status::Status;

/// The scale of an object of a custom kind, from where its definition says.
fn of_custom(object: &Value, paths: &ScalePaths) -> Value {
    let at = |pointer: &str| object.pointer(pointer).cloned().unwrap_or_else(|| 0.into());
    let mut status = json!({"replicas": at(&paths.status)});
    if let Some(selector) = &paths.selector {
        status["selector"] = str_at(object, selector).into();
    }
    scale(object, at(&paths.spec), status)
}

/// The scale of a workload.
pub(super) fn of(kind: &Kind, object: &Value) -> Value {
    if let Some(paths) = paths(kind) {
        return of_custom(object, &paths);
    }
    let labels = object.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
    let mut selector: Vec<String> = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    selector.sort();
    let expressions = object.pointer("/spec/selector/matchExpressions").and_then(Value::as_array);
    selector.extend(expressions.into_iter().flatten().map(expression));
    let at = |pointer: &str| object.pointer(pointer).cloned().unwrap_or_else(|| 0.into());
    let status = json!({"replicas": at("/status/replicas"), "selector": selector.join(",")});
    scale(object, at("/spec/replicas"), status)
}

fn paths(kind: &Kind) -> Option<ScalePaths> {
    kind.custom()?.scale.clone()
}

/// Writes a count where the kind has it.
pub(super) fn set_replicas(kind: &Kind, object: &mut Value, count: Value) {
    let pointer = paths(kind).map_or_else(|| "/spec/replicas".to_owned(), |paths| paths.spec);
    let mut place = object;
    for name in pointer.split('/').skip(1) {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[name];
    }
    *place = count;
}

fn scale(object: &Value, replicas: Value, status: Value) -> Value {
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": object["metadata"]["name"],
            "namespace": object["metadata"]["namespace"],
            "uid": object["metadata"]["uid"],
            "resourceVersion": object["metadata"]["resourceVersion"],
            "creationTimestamp": object["metadata"]["creationTimestamp"],
        },
        "spec": {"replicas": replicas},
        "status": status,
    })
}

/// A requirement in the words of a selector's text.
fn expression(requirement: &Value) -> String {
    let key = str_at(requirement, "/key");
    let values = requirement.get("values").and_then(Value::as_array);
    let values: Vec<&str> = values.into_iter().flatten().filter_map(Value::as_str).collect();
    match str_at(requirement, "/operator") {
        "In" => format!("{key} in ({})", values.join(",")),
        "NotIn" => format!("{key} notin ({})", values.join(",")),
        "DoesNotExist" => format!("!{key}"),
        _ => key.to_owned(),
    }
}

/// The workload with the count that a scale asks for.
fn with_scale(kind: &Kind, current: &Value, scale: &Value) -> Result<Value, Status> {
    let replicas = match scale.pointer("/spec/replicas") {
        None | Some(Value::Null) => 0,
        Some(count) => count.as_i64().ok_or_else(|| {
            Status::bad_request("Scale in version \"v1\" cannot be handled as a Scale: spec.replicas must be a whole number")
        })?,
    };
    let mut next = current.clone();
    set_replicas(kind, &mut next, replicas.into());
    if let Some(metadata) = next["metadata"].as_object_mut() {
        match str_at(scale, "/metadata/resourceVersion") {
            "" => metadata.shift_remove("resourceVersion"),
            version => metadata.insert("resourceVersion".into(), version.into()),
        };
    }
    Ok(next)
}

impl Objects {
    /// The scale of a workload.
    pub async fn get_scale(&self, address: &Address) -> Result<Value, Status> {
        if !address.kind.has(Subresource::Scale) {
            return Err(Status::unknown_resource());
        }
        Ok(of(address.kind, &self.get(address, None).await?))
    }

    pub(super) async fn update_scale(
        &self,
        address: &Address,
        scale: &Value,
        options: &WriteOptions,
    ) -> Result<Value, Status> {
        let kind = address.kind;
        let done = self
            .modify(address, Part::Scale, options, |current| with_scale(kind, current, scale))
            .await?;
        Ok(of(kind, &done))
    }

    pub(super) async fn patch_scale(
        &self,
        address: &Address,
        patch: &Patch,
        options: &WriteOptions,
    ) -> Result<Value, Status> {
        let kind = address.kind;
        let done = self
            .modify(address, Part::Scale, options, |current| {
                with_scale(kind, current, &patch.apply(kind, &of(kind, current))?)
            })
            .await?;
        Ok(of(kind, &done))
    }
}
