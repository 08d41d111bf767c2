//! The columns of deployments and replica sets.

use jiff::Timestamp;
use serde_json::Value;

use super::super::Column;
use super::{AGE, NAME, int_at, list_at, number, or_none, pairs, str_at, text};

pub(super) const CONTAINERS: Column =
    text("Containers", true, |object, _| containers(object, "/name"));
pub(super) const IMAGES: Column = text("Images", true, |object, _| containers(object, "/image"));
pub(super) const SELECTOR: Column = text("Selector", true, selector);

pub(in super::super) const DEPLOYMENT: &[Column] = &[
    NAME,
    text("Ready", false, |object, _| {
        let wanted = int_at(object, "/spec/replicas");
        format!("{}/{wanted}", int_at(object, "/status/readyReplicas")).into()
    }),
    number("Up-to-date", false, |object, _| int_at(object, "/status/updatedReplicas").into()),
    number("Available", false, |object, _| int_at(object, "/status/availableReplicas").into()),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(in super::super) const REPLICA_SET: &[Column] = &[
    NAME,
    number("Desired", false, |object, _| int_at(object, "/spec/replicas").into()),
    number("Current", false, |object, _| int_at(object, "/status/replicas").into()),
    number("Ready", false, |object, _| int_at(object, "/status/readyReplicas").into()),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

fn containers(object: &Value, field: &str) -> Value {
    joined(object, "/spec/template/spec/containers", field)
}

/// One field of each container of the list at `list`.
pub(super) fn joined(object: &Value, list: &str, field: &str) -> Value {
    let names: Vec<&str> =
        list_at(object, list).iter().map(|container| str_at(container, field)).collect();
    names.join(",").into()
}

/// A label selector as a selector string; expressions in their set notation.
fn selector(object: &Value, _: Timestamp) -> Value {
    let mut parts: Vec<String> = Vec::new();
    if let Value::String(text) = pairs(object.pointer("/spec/selector/matchLabels"))
        && text != "<none>"
    {
        parts.push(text);
    }
    for expression in list_at(object, "/spec/selector/matchExpressions") {
        let key = str_at(expression, "/key");
        let values: Vec<&str> =
            list_at(expression, "/values").iter().filter_map(Value::as_str).collect();
        parts.push(match str_at(expression, "/operator") {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    or_none(&parts.join(","))
}
