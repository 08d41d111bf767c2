//! The columns of disruption budgets, priority classes and autoscalers.

use serde_json::Value;

use super::super::Column;
use super::{AGE, NAME, int_at, number, str_at, text};

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
