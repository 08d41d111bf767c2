//! Kinds that are served in more than one version: what is stored is the newest.
//!
//! Invariant: what a version cannot say is kept in annotations of the object, so that reading
//! and writing it back loses nothing.

use serde_json::{Map, Value, json};

use super::Kind;

/// Metrics, behavior and conditions that `autoscaling/v1` has no fields for, as v2 writes
/// them.
const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";

/// The metric that v1 has a field for.
fn is_cpu_percent(metric: &Value) -> bool {
    metric["type"] == "Resource"
        && metric["resource"]["name"] == "cpu"
        && metric.pointer("/resource/target/averageUtilization").is_some()
}

fn annotations(object: &mut Value) -> Option<&mut Map<String, Value>> {
    let metadata = object.get_mut("metadata")?.as_object_mut()?;
    let held = metadata.entry("annotations").or_insert_with(|| json!({}));
    if held.is_null() {
        *held = json!({});
    }
    held.as_object_mut()
}

fn note(object: &mut Value, name: &str, value: &Value) {
    let is_empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    if !is_empty && let Some(annotations) = annotations(object) {
        annotations.insert(name.to_owned(), value.to_string().into());
    }
}

/// Takes a note back; what is no JSON is nobody's.
fn noted(object: &mut Value, name: &str) -> Option<Value> {
    let metadata = object.get_mut("metadata")?.as_object_mut()?;
    let held = metadata.get_mut("annotations")?.as_object_mut()?;
    let text = held.shift_remove(name)?;
    if held.is_empty() {
        metadata.shift_remove("annotations");
    }
    serde_json::from_str(text.as_str()?).ok()
}

/// `autoscaling/v2` to `autoscaling/v1`.
pub(super) fn to_v1(object: &mut Value) {
    object["apiVersion"] = "autoscaling/v1".into();
    let take = |part: &mut Value, field: &str| match part.as_object_mut() {
        Some(fields) => fields.shift_remove(field).unwrap_or_default(),
        None => Value::Null,
    };
    let spec = &mut object["spec"];
    let (metrics, behavior) = (take(spec, "metrics"), take(spec, "behavior"));
    let metrics = metrics.as_array().cloned().unwrap_or_default();
    let cpu = metrics.iter().position(is_cpu_percent);
    if let Some(cpu) = cpu.and_then(|at| metrics.get(at)) {
        spec["targetCPUUtilizationPercentage"] =
            cpu["resource"]["target"]["averageUtilization"].clone();
    }
    let rest = metrics.into_iter().enumerate().filter(|(at, _)| Some(*at) != cpu);
    let rest = Value::Array(rest.map(|(_, metric)| metric).collect());
    note(object, METRICS, &rest);
    note(object, BEHAVIOR, &behavior);
    if !object["status"].is_object() {
        return;
    }
    let status = &mut object["status"];
    let (current, conditions) = (take(status, "currentMetrics"), take(status, "conditions"));
    let is_cpu = |metric: &&Value| metric["resource"]["name"] == "cpu";
    let cpu = current.as_array().into_iter().flatten().find(is_cpu);
    let cpu = cpu.and_then(|metric| metric.pointer("/resource/current/averageUtilization"));
    if let Some(percent) = cpu {
        status["currentCPUUtilizationPercentage"] = percent.clone();
    }
    note(object, CURRENT, &current);
    note(object, CONDITIONS, &conditions);
}

/// `autoscaling/v1` to `autoscaling/v2`.
pub(super) fn to_v2(object: &mut Value) {
    object["apiVersion"] = "autoscaling/v2".into();
    let mut metrics = Vec::new();
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut)
        && let Some(percent) = spec.shift_remove("targetCPUUtilizationPercentage")
    {
        let target = json!({"type": "Utilization", "averageUtilization": percent});
        metrics.push(json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
    }
    if let Some(Value::Array(more)) = noted(object, METRICS) {
        metrics.extend(more);
    }
    let behavior = noted(object, BEHAVIOR);
    let (current, conditions) = (noted(object, CURRENT), noted(object, CONDITIONS));
    let set = |object: &mut Value, part: &str, field: &str, value: Option<Value>| {
        if let Some(value) = value.filter(|value| !value.is_null())
            && let Some(fields) = object.get_mut(part).and_then(Value::as_object_mut)
        {
            fields.insert(field.to_owned(), value);
        }
    };
    let metrics = (!metrics.is_empty()).then_some(Value::Array(metrics));
    set(object, "spec", "metrics", metrics);
    set(object, "spec", "behavior", behavior);
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        status.shift_remove("currentCPUUtilizationPercentage");
    }
    set(object, "status", "currentMetrics", current);
    set(object, "status", "conditions", conditions);
    super::defaults::scaling::autoscaler(object);
}

/// What the annotations of a v1 object say of its status is its status: a write to the rest
/// of the object changes it as little as `status` itself.
pub fn keep_noted_status(kind: &Kind, old: &Value, next: &mut Value) {
    if (kind.group, kind.version, kind.plural) != ("autoscaling", "v1", "horizontalpodautoscalers")
    {
        return;
    }
    let held = old.pointer("/metadata/annotations");
    for name in [CURRENT, CONDITIONS] {
        let _wished = noted(next, name);
        if let Some(text) = held.and_then(|held| held.get(name))
            && let Some(annotations) = annotations(next)
        {
            annotations.insert(name.to_owned(), text.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_through_v1_leaves_the_noted_status() {
        let kind = super::super::by_path("autoscaling", "v1", "horizontalpodautoscalers").unwrap();
        let held = json!({"metadata": {"annotations": {CONDITIONS: "[1]", "mine": "a"}}});
        for wished in [json!({}), json!({"annotations": {CONDITIONS: "[2]", CURRENT: "[3]"}})] {
            let mut next = json!({"metadata": wished});
            keep_noted_status(kind, &held, &mut next);
            assert_eq!(next, json!({"metadata": {"annotations": {CONDITIONS: "[1]"}}}));
        }
        let other = super::super::by_path("autoscaling", "v2", "horizontalpodautoscalers").unwrap();
        let mut next = json!({"metadata": {"annotations": {CURRENT: "[3]"}}});
        keep_noted_status(other, &held, &mut next);
        assert_eq!(next["metadata"]["annotations"][CURRENT], "[3]");
    }

    #[test]
    fn v1_and_back_loses_nothing() {
        let mut whole = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "web"},
            "spec": {"minReplicas": 2, "maxReplicas": 9,
                "scaleTargetRef": {"kind": "Deployment", "name": "web"},
                "metrics": [
                    {"type": "Resource", "resource": {"name": "cpu",
                        "target": {"type": "Utilization", "averageUtilization": 50}}},
                    {"type": "Resource", "resource": {"name": "memory",
                        "target": {"type": "AverageValue", "averageValue": "20Mi"}}}],
                "behavior": {"scaleUp": {"selectPolicy": "Min"}}},
            "status": {"currentReplicas": 3, "desiredReplicas": 3,
                "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu",
                    "current": {"averageUtilization": 40, "averageValue": "40m"}}}],
                "conditions": [{"type": "AbleToScale", "status": "True"}]}});
        super::super::defaults::scaling::autoscaler(&mut whole);
        let mut other = whole.clone();
        to_v1(&mut other);
        assert_eq!(other["spec"]["targetCPUUtilizationPercentage"], 50);
        assert_eq!(other["status"]["currentCPUUtilizationPercentage"], 40);
        assert!(other["spec"].get("metrics").is_none() && other["spec"].get("behavior").is_none());
        to_v2(&mut other);
        assert_eq!(other, whole);
    }
}
