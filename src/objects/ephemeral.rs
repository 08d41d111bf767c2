//! Ephemeral containers: put into a running pod to look around, never taken out again.
//!
//! Invariant: those that are there stay as they are, because they may be running.

use serde_json::Value;

use super::str_at;
use crate::model::kinds::{Kind, Problems};
use crate::model::status::Status;

const FIELD: &str = "spec.ephemeralContainers";

fn list(pod: &Value) -> &[Value] {
    let list = pod.pointer("/spec/ephemeralContainers").and_then(Value::as_array);
    list.map(Vec::as_slice).unwrap_or_default()
}

/// The pod as it is, with `wanted`'s ephemeral containers.
pub(super) fn with_wanted(old: &Value, wanted: &Value) -> Value {
    let mut next = old.clone();
    if let Some(spec) = next.get_mut("spec").and_then(Value::as_object_mut) {
        match list(wanted) {
            [] => spec.shift_remove("ephemeralContainers"),
            wanted => spec.insert("ephemeralContainers".into(), wanted.to_vec().into()),
        };
    }
    next
}

/// Refuses changes of what is there, and containers that cannot be started so late.
pub(super) fn check(kind: &Kind, old: &Value, next: &Value) -> Result<(), Status> {
    let mut problems = Problems::default();
    for before in list(old) {
        let name = str_at(before, "/name");
        match list(next).iter().find(|one| str_at(one, "/name") == name) {
            Some(now) if now == before => {}
            Some(_) => problems.forbidden(
                FIELD,
                &format!("existing ephemeral containers {name:?} may not be changed"),
            ),
            None => problems.forbidden(
                FIELD,
                &format!("existing ephemeral containers {name:?} may not be removed"),
            ),
        }
    }
    let containers = next.pointer("/spec/containers").and_then(Value::as_array);
    for (index, one) in list(next).iter().enumerate() {
        let at = |field: &str| format!("{FIELD}[{index}].{field}");
        for field in ["ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle"] {
            if one.get(field).is_some_and(|value| !value.is_null()) {
                problems.forbidden(&at(field), "cannot be set for an Ephemeral Container");
            }
        }
        let target = str_at(one, "/targetContainerName");
        let known = containers.into_iter().flatten().any(|other| str_at(other, "/name") == target);
        if !target.is_empty() && !known {
            problems.not_found(&at("targetContainerName"), target);
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    let name = str_at(next, "/metadata/name");
    Err(Status::invalid(kind.kind, kind.group, name, problems.into_causes()))
}
