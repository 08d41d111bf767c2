//! Disruption budgets, priority classes and autoscalers.
//!
//! Source: `pkg/apis/policy/validation`, `pkg/apis/scheduling/validation` and
//! `pkg/apis/autoscaling/validation`.

use serde_json::Value;

use super::super::Problems;
use super::pod::one_of;
use super::{meta, str_at, workload};
use crate::model::priority::{HIGHEST_USER_VALUE, SYSTEM_CLASSES, SYSTEM_PREFIX};

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
}
