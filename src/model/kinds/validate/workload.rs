//! Deployments and replica sets: selector and template must belong together.

use serde_json::Value;

use super::super::Problems;
use super::{list_at, meta, pod, str_at};

pub(in super::super) fn deployment(deployment: &Value, problems: &mut Problems) {
    common(deployment, problems);
    let strategy = deployment.pointer("/spec/strategy").unwrap_or(&Value::Null);
    match str_at(strategy, "/type") {
        "RollingUpdate" => rolling(strategy, problems),
        "Recreate" => {
            if strategy.get("rollingUpdate").is_some() {
                let text = "may not be specified when strategy `type` is 'Recreate'";
                problems.forbidden("spec.strategy.rollingUpdate", text);
            }
        }
        other => {
            let allowed = ["Recreate", "RollingUpdate"];
            problems.not_supported("spec.strategy.type", other, &allowed);
        }
    }
}

pub(in super::super) fn replica_set(set: &Value, problems: &mut Problems) {
    common(set, problems);
}

pub(super) fn is_zero(amount: Option<&Value>) -> bool {
    match amount {
        Some(Value::String(percent)) => percent == "0%",
        Some(number) => number == 0,
        None => false,
    }
}

/// A count or a percentage, neither negative.
pub(super) fn amount(amount: &Value, field: &str, problems: &mut Problems) {
    let valid = match amount {
        Value::String(text) => {
            text.strip_suffix('%').is_some_and(|digits| digits.parse::<u32>().is_ok())
        }
        number => number.as_i64().is_some_and(|number| number >= 0),
    };
    if !valid {
        problems.invalid(field, amount, "must be an integer or percentage (e.g '5%%')");
    }
}

fn rolling(strategy: &Value, problems: &mut Problems) {
    let at = "spec.strategy.rollingUpdate";
    let rolling = &strategy["rollingUpdate"];
    for name in ["maxSurge", "maxUnavailable"] {
        amount(&rolling[name], &format!("{at}.{name}"), problems);
    }
    if is_zero(rolling.get("maxSurge")) && is_zero(rolling.get("maxUnavailable")) {
        let text = "may not be 0 when `maxSurge` is 0";
        problems.invalid(&format!("{at}.maxUnavailable"), &rolling["maxUnavailable"], text);
    }
}

/// Replicas, selector and template of whatever keeps pods running.
pub(super) fn common(object: &Value, problems: &mut Problems) {
    let spec = object.get("spec").unwrap_or(&Value::Null);
    if let Some(replicas) = spec.get("replicas")
        && replicas.as_i64().is_some_and(|count| count < 0)
    {
        problems.invalid("spec.replicas", replicas, "must be greater than or equal to 0");
    }
    selector(spec, problems);
    let labels = spec.pointer("/template/metadata/labels").unwrap_or(&Value::Null);
    meta::labels(Some(labels), "spec.template.labels", problems);
    let body = spec.pointer("/template/spec").unwrap_or(&Value::Null);
    pod::spec(body, "spec.template.spec", problems);
    let policy = str_at(body, "/restartPolicy");
    if policy != "Always" && !policy.is_empty() {
        problems.not_supported("spec.template.spec.restartPolicy", policy, &["Always"]);
    }
}

/// The selector of a spec, and whether its template belongs to it.
pub(super) fn selector(spec: &Value, problems: &mut Problems) {
    let selector = spec.get("selector").unwrap_or(&Value::Null);
    let empty = |field: &str| {
        selector.get(field).is_none_or(|part| {
            part.as_object().is_none_or(|map| map.is_empty())
                && part.as_array().is_none_or(Vec::is_empty)
        })
    };
    if empty("matchLabels") && empty("matchExpressions") {
        problems.required("spec.selector", "");
    }
    meta::labels(selector.get("matchLabels"), "spec.selector.matchLabels", problems);
    expressions(selector, problems);
    let labels = spec.pointer("/template/metadata/labels").unwrap_or(&Value::Null);
    let matched = selector
        .get("matchLabels")
        .and_then(Value::as_object)
        .is_none_or(|wanted| wanted.iter().all(|(key, value)| labels.get(key) == Some(value)));
    if !matched {
        let text = "`selector` does not match template `labels`";
        problems.invalid("spec.template.metadata.labels", labels, text);
    }
}

pub(super) fn expressions(selector: &Value, problems: &mut Problems) {
    for (index, expression) in list_at(selector, "/matchExpressions").iter().enumerate() {
        let at = format!("spec.selector.matchExpressions[{index}]");
        let values = list_at(expression, "/values");
        match str_at(expression, "/operator") {
            "In" | "NotIn" if values.is_empty() => problems.required(
                &format!("{at}.values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            ),
            "Exists" | "DoesNotExist" if !values.is_empty() => problems.forbidden(
                &format!("{at}.values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            ),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => problems.invalid(
                &format!("{at}.operator"),
                &other.into(),
                "not a valid selector operator",
            ),
        }
        let key = str_at(expression, "/key");
        if !meta::is_qualified_name(key) {
            problems.invalid(&format!("{at}.key"), &key.into(), "must be a valid label key");
        }
    }
}
