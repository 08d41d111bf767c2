//! Client-side apply: the patch from what was applied last to what is wanted now.
//!
//! Why three documents: a field that the last manifest set and the new one lacks must go,
//! while a field that somebody else set (a default, a controller) must stay. The last
//! manifest stands in the object's annotation, as kubectl writes it.
//! Invariants: lists are replaced whole (RFC 7396), never merged by key; that is what a
//! merge patch can say, and the server's strategic merge is not relied on.

use serde_json::{Map, Value};

/// The annotation that holds the last applied manifest.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The manifest with itself noted in its annotation.
pub fn annotated(manifest: &Value) -> Value {
    let mut bare = manifest.clone();
    if let Some(metadata) = bare.get_mut("metadata").and_then(Value::as_object_mut)
        && let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut)
    {
        annotations.remove(LAST_APPLIED);
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
    }
    let mut object = bare.clone();
    object["metadata"]["annotations"][LAST_APPLIED] = Value::String(format!("{bare}\n"));
    object
}

/// What the object says was applied last.
pub fn last_applied(object: &Value) -> Option<Value> {
    let text = object.get("metadata")?.get("annotations")?.get(LAST_APPLIED)?.as_str()?;
    serde_json::from_str(text).ok()
}

/// The merge patch that brings `current` to `wanted`; `None` if nothing differs.
pub fn patch(last: Option<&Value>, current: &Value, wanted: &Value) -> Option<Value> {
    let empty = Value::Object(Map::new());
    let patch = object_patch(last.unwrap_or(&empty), current, wanted);
    (!patch.is_empty()).then_some(Value::Object(patch))
}

fn object_patch(last: &Value, current: &Value, wanted: &Value) -> Map<String, Value> {
    let mut patch = Map::new();
    for (key, value) in wanted.as_object().into_iter().flatten() {
        let held = current.get(key);
        match (value, held) {
            (Value::Object(_), Some(held @ Value::Object(_))) => {
                let before = last.get(key).unwrap_or(&Value::Null);
                let inner = object_patch(before, held, value);
                if !inner.is_empty() {
                    patch.insert(key.clone(), Value::Object(inner));
                }
            }
            (Value::Null, None) => {}
            _ if held.is_some_and(|held| covers(held, value)) => {}
            _ => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    for key in last.as_object().into_iter().flatten().map(|(key, _)| key) {
        if wanted.get(key).is_none() && current.get(key).is_some() {
            patch.insert(key.clone(), Value::Null);
        }
    }
    patch
}

/// Whether `held` is `wanted` plus fields that were filled in. Without this every apply
/// of a list (containers, ports) would rewrite it because the server added defaults.
fn covers(held: &Value, wanted: &Value) -> bool {
    match (held, wanted) {
        (Value::Object(held), Value::Object(wanted)) => wanted.iter().all(|(key, value)| {
            held.get(key).is_some_and(|held| covers(held, value)) || value.is_null()
        }),
        (Value::Array(held), Value::Array(wanted)) => {
            held.len() == wanted.len() && held.iter().zip(wanted).all(|(h, w)| covers(h, w))
        }
        _ => held == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn dropped_fields_go_and_foreign_ones_stay() {
        let last = json!({"spec": {"replicas": 3, "paused": true}});
        let current = json!({"spec": {"replicas": 3, "paused": true, "default": 1}});
        let wanted = json!({"spec": {"replicas": 5}});
        let patch = patch(Some(&last), &current, &wanted).unwrap();
        assert_eq!(patch, json!({"spec": {"replicas": 5, "paused": null}}));
    }

    #[test]
    fn defaults_inside_lists_are_no_difference() {
        let wanted = json!({"spec": {"containers": [{"name": "c", "image": "hello:1"}]}});
        let mut current = wanted.clone();
        current["spec"]["containers"][0]["imagePullPolicy"] = json!("IfNotPresent");
        assert_eq!(patch(Some(&wanted), &current, &wanted), None);
        let other = json!({"spec": {"containers": [{"name": "c", "image": "hello:2"}]}});
        assert_eq!(patch(Some(&wanted), &current, &other), Some(other));
    }

    #[test]
    fn the_annotation_holds_the_bare_manifest() {
        let manifest = json!({"metadata": {"name": "web"}, "spec": {"replicas": 1}});
        let object = annotated(&manifest);
        assert_eq!(last_applied(&object).unwrap()["spec"], manifest["spec"]);
        let again = annotated(&object);
        assert_eq!(again, object);
    }
}
