//! Disruption budgets, priority classes and autoscalers.
//!
//! Source: `pkg/apis/policy/validation`, `pkg/apis/scheduling/validation` and
//! `pkg/apis/autoscaling/validation`.

use serde_json::Value;

use super::super::{Problems, convert};
use super::pod::one_of;
use super::{list_at, meta, str_at, workload};
use crate::model::priority::{HIGHEST_USER_VALUE, SYSTEM_CLASSES, SYSTEM_PREFIX};
use crate::model::quantity;

pub(in super::super) fn disruption_budget(budget: &Value, problems: &mut Problems) {
    let spec = budget.get("spec").unwrap_or(&Value::Null);
    let (least, most) = (spec.get("minAvailable"), spec.get("maxUnavailable"));
    if least.is_some() && most.is_some() {
        problems.invalid("spec", spec, "minAvailable and maxUnavailable cannot be both set");
    }
    for (field, value) in [("spec.minAvailable", least), ("spec.maxUnavailable", most)] {
        let Some(value) = value else { continue };
        workload::amount(value, field, problems);
        let percent = value.as_str().and_then(|text| text.strip_suffix('%'));
        if percent.and_then(|digits| digits.parse::<u32>().ok()).is_some_and(|part| part > 100) {
            problems.invalid(field, value, "must not be greater than 100%");
        }
    }
    let selector = spec.get("selector").unwrap_or(&Value::Null);
    meta::labels(selector.get("matchLabels"), "spec.selector.matchLabels", problems);
    workload::expressions(selector, problems);
    let policies = ["AlwaysAllow", "IfHealthyBudget"];
    one_of(spec, "/unhealthyPodEvictionPolicy", "spec", &policies, problems);
}

pub(in super::super) fn priority_class(class: &Value, problems: &mut Problems) {
    let name = str_at(class, "/metadata/name");
    let value = class.get("value").and_then(Value::as_i64).unwrap_or_default();
    if name.starts_with(SYSTEM_PREFIX) {
        if let Err(why) = is_known_system_class(class, name, value) {
            let text = format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: {why}"
            );
            problems.forbidden("metadata.name", &text);
        }
    } else if value > HIGHEST_USER_VALUE {
        let text =
            format!("maximum allowed value of a user defined priority is {HIGHEST_USER_VALUE}");
        problems.forbidden("value", &text);
    }
    let policies = ["Never", "PreemptLowerPriority"];
    let policy = str_at(class, "/preemptionPolicy");
    if !policies.contains(&policy) {
        problems.not_supported("preemptionPolicy", policy, &policies);
    }
}

/// Upstream compares the whole class: value and default must be those of the built-in one.
fn is_known_system_class(class: &Value, name: &str, value: i64) -> Result<(), String> {
    let Some(known) = SYSTEM_CLASSES.iter().find(|known| known.name == name) else {
        return Err(format!("{name} is not a known system priority class"));
    };
    if value != known.value {
        return Err(format!("value of {name} PriorityClass must be {}", known.value));
    }
    if class.get("globalDefault") == Some(&Value::Bool(true)) {
        return Err(format!("globalDefault of {name} PriorityClass must be false"));
    }
    Ok(())
}

pub(in super::super) fn priority_class_update(old: &Value, new: &Value, problems: &mut Problems) {
    if old["value"] != new["value"] {
        problems.forbidden("value", "may not be changed in an update.");
    }
    if old["preemptionPolicy"] != new["preemptionPolicy"] {
        problems.invalid("preemptionPolicy", &new["preemptionPolicy"], "field is immutable");
    }
}

/// `autoscaling/v1`: as what it is stored as.
pub(in super::super) fn autoscaler_v1(object: &Value, problems: &mut Problems) {
    let mut stored = object.clone();
    convert::to_v2(&mut stored);
    autoscaler(&stored, problems);
}

pub(in super::super) fn autoscaler(autoscaler: &Value, problems: &mut Problems) {
    let spec = autoscaler.get("spec").unwrap_or(&Value::Null);
    let number = |field: &str| spec.get(field).and_then(Value::as_i64);
    let (least, most) = (number("minReplicas"), number("maxReplicas").unwrap_or_default());
    if let Some(least) = least.filter(|least| *least < 1) {
        let text = "must be greater than or equal to 1";
        problems.invalid("spec.minReplicas", &least.into(), text);
    }
    if most < 1 {
        problems.invalid("spec.maxReplicas", &most.into(), "must be greater than 0");
    } else if least.is_some_and(|least| most < least) {
        let text = "must be greater than or equal to `minReplicas`";
        problems.invalid("spec.maxReplicas", &most.into(), text);
    }
    for field in ["kind", "name"] {
        if str_at(spec, &format!("/scaleTargetRef/{field}")).is_empty() {
            problems.required(&format!("spec.scaleTargetRef.{field}"), "");
        }
    }
    for (index, metric) in list_at(spec, "/metrics").iter().enumerate() {
        check_metric(metric, &format!("spec.metrics[{index}]"), problems);
    }
    for direction in ["scaleUp", "scaleDown"] {
        if let Some(rules) = spec.pointer(&format!("/behavior/{direction}")) {
            check_rules(rules, &format!("spec.behavior.{direction}"), problems);
        }
    }
}

/// The types of metrics, and the fields that they stand in.
const METRICS: &[(&str, &str)] = &[
    ("ContainerResource", "containerResource"),
    ("External", "external"),
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
];

fn check_metric(metric: &Value, at: &str, problems: &mut Problems) {
    let kind = str_at(metric, "/type");
    let Some((_, field)) = METRICS.iter().find(|(name, _)| *name == kind) else {
        if kind.is_empty() {
            problems.required(&format!("{at}.type"), "must specify a metric source type");
        } else {
            let names: Vec<&str> = METRICS.iter().map(|(name, _)| *name).collect();
            problems.not_supported(&format!("{at}.type"), kind, &names);
        }
        return;
    };
    for (_, other) in METRICS.iter().filter(|(_, other)| other != field) {
        if metric.get(*other).is_some() {
            let text = "must populate the given metric source only";
            problems.forbidden(&format!("{at}.{other}"), text);
        }
    }
    let Some(body) = metric.get(*field) else {
        let text = "must populate information for the given metric source";
        problems.required(&format!("{at}.{field}"), text);
        return;
    };
    let at = format!("{at}.{field}");
    let is_resource = field.ends_with("esource");
    let name = if is_resource { "/name" } else { "/metric/name" };
    if str_at(body, name).is_empty() {
        let text =
            if is_resource { "must specify a resource name" } else { "must specify a metric name" };
        problems.required(&format!("{at}{}", name.replace('/', ".")), text);
    }
    if *field == "containerResource" && str_at(body, "/container").is_empty() {
        problems.required(&format!("{at}.container"), "must specify a container");
    }
    check_target(body.get("target").unwrap_or(&Value::Null), is_resource, &at, problems);
}

fn check_target(target: &Value, is_resource: bool, at: &str, problems: &mut Problems) {
    let at = format!("{at}.target");
    let kinds = ["Utilization", "Value", "AverageValue"];
    let kind = str_at(target, "/type");
    if kind.is_empty() {
        problems.required(&format!("{at}.type"), "must specify a metric target type");
    } else if !kinds.contains(&kind) {
        let text = "must be either Utilization, Value, or AverageValue";
        problems.invalid(&format!("{at}.type"), &kind.into(), text);
    }
    let percent = target.get("averageUtilization");
    if let Some(percent) = percent.filter(|percent| percent.as_i64().is_none_or(|value| value < 1))
    {
        problems.invalid(&format!("{at}.averageUtilization"), percent, "must be greater than 0");
    }
    for field in ["value", "averageValue"] {
        let Some(amount) = target.get(field) else { continue };
        let parsed = amount.as_str().and_then(quantity::milli);
        if parsed.is_none_or(|milli| milli <= 0) {
            problems.invalid(&format!("{at}.{field}"), amount, "must be positive");
        }
    }
    let averaged = target.get("averageValue").is_some();
    if is_resource && percent.is_none() && !averaged {
        let text = "must set either a target raw value or a target utilization";
        problems.required(&format!("{at}.averageUtilization"), text);
    }
    if is_resource && percent.is_some() && averaged {
        let text = "may not set both a target raw value and a target utilization";
        problems.forbidden(&format!("{at}.averageValue"), text);
    }
    if !is_resource && target.get("value").is_none() && !averaged {
        let text = "must set either a target value or averageValue";
        problems.required(&format!("{at}.averageValue"), text);
    }
}

/// Longest window and period, seconds.
const WINDOW_MAX: i64 = 3_600;
const PERIOD_MAX: i64 = 1_800;

fn check_rules(rules: &Value, at: &str, problems: &mut Problems) {
    if let Some(window) = rules.get("stabilizationWindowSeconds") {
        let field = format!("{at}.stabilizationWindowSeconds");
        match window.as_i64().unwrap_or_default() {
            seconds if seconds < 0 => {
                problems.invalid(&field, window, "must be greater than or equal to zero");
            }
            seconds if seconds > WINDOW_MAX => {
                let text = format!("must be less than or equal to {WINDOW_MAX}");
                problems.invalid(&field, window, &text);
            }
            _ => {}
        }
    }
    one_of(rules, "/selectPolicy", at, &["Disabled", "Max", "Min"], problems);
    let policies = list_at(rules, "/policies");
    if policies.is_empty() {
        problems.required(&format!("{at}.policies"), "must specify at least one Policy");
    }
    for (index, policy) in policies.iter().enumerate() {
        let at = format!("{at}.policies[{index}]");
        let kind = str_at(policy, "/type");
        if !["Percent", "Pods"].contains(&kind) {
            problems.not_supported(&format!("{at}.type"), kind, &["Percent", "Pods"]);
        }
        let number = |field: &str| policy.get(field).and_then(Value::as_i64).unwrap_or_default();
        if number("value") <= 0 {
            let text = "must be greater than zero";
            problems.invalid(&format!("{at}.value"), &number("value").into(), text);
        }
        let period = number("periodSeconds");
        if period <= 0 {
            let text = "must be greater than zero";
            problems.invalid(&format!("{at}.periodSeconds"), &period.into(), text);
        } else if period > PERIOD_MAX {
            let text = format!("must be less than or equal to {PERIOD_MAX}");
            problems.invalid(&format!("{at}.periodSeconds"), &period.into(), &text);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn texts(check: fn(&Value, &mut Problems), object: Value) -> Vec<String> {
        let mut problems = Problems::default();
        check(&object, &mut problems);
        let causes = problems.into_causes().into_iter();
        causes.map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn a_budget_says_one_amount_that_can_be() {
        let of = |spec: Value| texts(disruption_budget, json!({"spec": spec}));
        let none: [&str; 0] = [];
        assert_eq!(of(json!({"minAvailable": 1, "selector": {}})), none);
        assert_eq!(of(json!({"maxUnavailable": "50%"})), none);
        assert!(
            of(json!({"minAvailable": 1, "maxUnavailable": 1}))[0]
                .ends_with("minAvailable and maxUnavailable cannot be both set")
        );
        assert_eq!(
            of(json!({"minAvailable": "101%"})),
            ["spec.minAvailable: Invalid value: \"101%\": must not be greater than 100%"]
        );
        assert_eq!(of(json!({"minAvailable": "some"})).len(), 1);
        assert_eq!(of(json!({"minAvailable": -1})).len(), 1);
        assert_eq!(
            of(json!({"unhealthyPodEvictionPolicy": "Ever"})),
            [
                "spec.unhealthyPodEvictionPolicy: Unsupported value: \"Ever\": supported values: \"AlwaysAllow\", \"IfHealthyBudget\""
            ]
        );
    }

    #[test]
    fn names_and_values_of_the_system_are_kept_apart() {
        let of = |name: &str, value: i64| {
            let class = json!({"metadata": {"name": name}, "value": value,
                "preemptionPolicy": "PreemptLowerPriority"});
            texts(priority_class, class)
        };
        let none: [&str; 0] = [];
        assert_eq!(of("high", 1_000_000_000), none);
        assert_eq!(of("low", -5), none);
        assert_eq!(
            of("high", 1_000_000_001),
            ["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"]
        );
        assert_eq!(of("system-node-critical", 2_000_001_000), none);
        assert_eq!(of("system-node-critical", 5).len(), 1);
        assert_eq!(of("system-mine", 5).len(), 1);
    }

    #[test]
    fn an_autoscaler_has_bounds_a_target_and_metrics_that_make_sense() {
        let of = |spec: Value| texts(autoscaler, json!({"spec": spec}));
        let target = json!({"kind": "Deployment", "name": "web"});
        let none: [&str; 0] = [];
        assert_eq!(of(json!({"maxReplicas": 3, "scaleTargetRef": target})), none);
        let found = of(json!({"minReplicas": 5, "maxReplicas": 3, "scaleTargetRef": {}}));
        assert_eq!(
            found,
            [
                "spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`",
                "spec.scaleTargetRef.kind: Required value",
                "spec.scaleTargetRef.name: Required value",
            ]
        );
        let with = |metric: Value| {
            of(json!({"maxReplicas": 3, "scaleTargetRef": target, "metrics": [metric]}))
        };
        let fine = json!({"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": 50}}});
        assert_eq!(with(fine), none);
        let wrong = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization"}}});
        assert_eq!(
            with(wrong),
            [
                "spec.metrics[0].resource.target.averageUtilization: Required value: must set either a target raw value or a target utilization"
            ]
        );
        let policy = |policy: Value| {
            of(json!({"maxReplicas": 3, "scaleTargetRef": target,
                "behavior": {"scaleUp": {"policies": [policy]}}}))
        };
        assert_eq!(policy(json!({"type": "Pods", "value": 1, "periodSeconds": 15})), none);
        assert_eq!(policy(json!({"type": "Some", "value": 0, "periodSeconds": 1801})).len(), 3);
    }
}
