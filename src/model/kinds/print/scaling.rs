//! The columns of disruption budgets, priority classes and autoscalers.

use serde_json::Value;

use super::super::Column;
use super::{AGE, NAME, int_at, list_at, number, str_at, text};

/// A count, a percentage, or nothing.
fn amount(object: &Value, pointer: &str) -> Value {
    match object.pointer(pointer) {
        Some(Value::String(percent)) => percent.as_str().into(),
        Some(Value::Number(count)) => count.to_string().into(),
        _ => "N/A".into(),
    }
}

pub(in super::super) const DISRUPTION_BUDGET: &[Column] = &[
    NAME,
    text("Min Available", false, |budget, _| amount(budget, "/spec/minAvailable")),
    text("Max Unavailable", false, |budget, _| amount(budget, "/spec/maxUnavailable")),
    number("Allowed Disruptions", false, |budget, _| {
        int_at(budget, "/status/disruptionsAllowed").into()
    }),
    AGE,
];

pub(in super::super) const PRIORITY_CLASS: &[Column] = &[
    NAME,
    number("Value", false, |class, _| int_at(class, "/value").into()),
    text("Global-Default", false, |class, _| {
        (class.get("globalDefault") == Some(&Value::Bool(true))).to_string().into()
    }),
    AGE,
    text("PreemptionPolicy", false, |class, _| str_at(class, "/preemptionPolicy").into()),
];

/// The sum over a pod's containers, or a node's own, in the unit that all are told in.
fn usage(object: &Value, resource: &str, unit: &str) -> Value {
    let of = |holder: &Value| {
        let amount = holder.pointer(&format!("/usage/{resource}")).and_then(Value::as_str);
        amount.and_then(|text| text.trim_end_matches(unit).parse::<u64>().ok()).unwrap_or(0)
    };
    let sum: u64 = match object.get("containers").and_then(Value::as_array) {
        Some(containers) => containers.iter().map(of).fold(0, u64::saturating_add),
        None => of(object),
    };
    if sum == 0 { "0".into() } else { format!("{sum}{unit}").into() }
}

pub(in super::super) const METRICS: &[Column] = &[
    NAME,
    text("cpu", false, |object, _| usage(object, "cpu", "n")),
    text("memory", false, |object, _| usage(object, "memory", "Ki")),
    text("Window", false, |object, _| str_at(object, "/window").into()),
];

fn reference(object: &Value) -> Value {
    let at = |field: &str| str_at(object, &format!("/spec/scaleTargetRef/{field}"));
    format!("{}/{}", at("kind"), at("name")).into()
}

/// Metrics that are shown one by one.
const TARGETS_SHOWN: usize = 2;

/// What is measured against what is wanted, for each metric.
fn targets(object: &Value) -> Value {
    let specs = list_at(object, "/spec/metrics");
    let held = list_at(object, "/status/currentMetrics");
    let shown = specs.iter().take(TARGETS_SHOWN).map(|spec| target(spec, held));
    let mut text = shown.collect::<Vec<String>>().join(", ");
    if specs.is_empty() {
        return "<none>".into();
    }
    if specs.len() > TARGETS_SHOWN {
        text.push_str(&format!(" + {} more...", specs.len() - TARGETS_SHOWN));
    }
    text.into()
}

fn target(spec: &Value, held: &[Value]) -> String {
    let kind = str_at(spec, "/type");
    let mut letters = kind.chars();
    let first = letters.next().map(|first| first.to_ascii_lowercase());
    let field: String = first.into_iter().chain(letters).collect();
    let body = &spec[&field];
    let name = match kind {
        "Resource" | "ContainerResource" => str_at(body, "/name"),
        _ => str_at(body, "/metric/name"),
    };
    let same = |metric: &&Value| {
        let own = &metric[&field];
        metric["type"] == kind
            && ["/name", "/container", "/metric/name"]
                .iter()
                .all(|part| own.pointer(part) == body.pointer(part))
    };
    let current = held.iter().find(same).map(|metric| &metric[&field]["current"]);
    let told = |part: &str| match current.and_then(|current| current.get(part)) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => "<unknown>".to_owned(),
    };
    let wanted = &body["target"];
    match wanted.get("averageUtilization") {
        Some(percent) => {
            let told = told("averageUtilization");
            let told = if told == "<unknown>" { told } else { format!("{told}%") };
            format!("{name}: {told}/{percent}%")
        }
        None => {
            let (part, suffix) = match wanted.get("averageValue") {
                Some(_) if kind == "Object" || kind == "External" => ("averageValue", " (avg)"),
                Some(_) => ("averageValue", ""),
                None => ("value", ""),
            };
            let value = wanted.get(part).and_then(Value::as_str).unwrap_or("<auto>");
            match kind {
                "Resource" | "ContainerResource" => format!("{name}: {}/{value}", told(part)),
                _ => format!("{}/{value}{suffix}", told(part)),
            }
        }
    }
}

fn count_or_unset(object: &Value, pointer: &str) -> Value {
    match object.pointer(pointer).and_then(Value::as_i64) {
        Some(count) => count.to_string().into(),
        None => "<unset>".into(),
    }
}

pub(in super::super) const AUTOSCALER: &[Column] = &[
    NAME,
    text("Reference", false, |object, _| reference(object)),
    text("Targets", false, |object, _| targets(object)),
    text("MinPods", false, |object, _| count_or_unset(object, "/spec/minReplicas")),
    number("MaxPods", false, |object, _| int_at(object, "/spec/maxReplicas").into()),
    number("Replicas", false, |object, _| int_at(object, "/status/currentReplicas").into()),
    AGE,
];

/// The one metric that v1 knows.
fn target_v1(object: &Value) -> Value {
    let percent = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64);
    let Some(wanted) = percent("/spec/targetCPUUtilizationPercentage") else {
        return "<none>".into();
    };
    match percent("/status/currentCPUUtilizationPercentage") {
        Some(told) => format!("cpu: {told}%/{wanted}%").into(),
        None => format!("cpu: <unknown>/{wanted}%").into(),
    }
}

pub(in super::super) const AUTOSCALER_V1: &[Column] = &[
    NAME,
    text("Reference", false, |object, _| reference(object)),
    text("Targets", false, |object, _| target_v1(object)),
    text("MinPods", false, |object, _| count_or_unset(object, "/spec/minReplicas")),
    number("MaxPods", false, |object, _| int_at(object, "/spec/maxReplicas").into()),
    number("Replicas", false, |object, _| int_at(object, "/status/currentReplicas").into()),
    AGE,
];
