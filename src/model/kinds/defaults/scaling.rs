//! Defaults of priority classes and autoscalers.

use serde_json::{Value, json};

use super::{object, set};

pub(in super::super) fn priority_class(class: &mut Value) {
    let Some(class) = class.as_object_mut() else { return };
    // A class that does not say its value has Go's: the field is not a pointer.
    if class.get("value").is_none_or(Value::is_null) {
        class.insert("value".into(), 0.into());
    }
    set(class, "preemptionPolicy", "PreemptLowerPriority");
}

/// `autoscaling/v2`: without metrics it is the CPU, and what a rule does not say has a default
/// as soon as there is behavior at all.
pub(in super::super) fn autoscaler(autoscaler: &mut Value) {
    let Some(spec) = object(autoscaler, "spec") else { return };
    set(spec, "minReplicas", 1);
    let unset = spec
        .get("metrics")
        .is_none_or(|metrics| metrics.is_null() || metrics.as_array().is_some_and(Vec::is_empty));
    if unset {
        let target = json!({"type": "Utilization", "averageUtilization": 80});
        let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": target}});
        spec.insert("metrics".into(), json!([cpu]));
    }
    let Some(behavior) = spec.get_mut("behavior").filter(|behavior| behavior.is_object()) else {
        return;
    };
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
    if let Some(up) = object(behavior, "scaleUp") {
        set(up, "stabilizationWindowSeconds", 0);
        set(up, "selectPolicy", "Max");
        set(up, "policies", json!([pods, percent]));
    }
    if let Some(down) = object(behavior, "scaleDown") {
        set(down, "selectPolicy", "Max");
        set(down, "policies", json!([percent]));
    }
}

pub(in super::super) fn autoscaler_v1(autoscaler: &mut Value) {
    if let Some(spec) = object(autoscaler, "spec") {
        set(spec, "minReplicas", 1);
    }
}
