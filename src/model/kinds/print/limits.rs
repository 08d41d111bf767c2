//! The columns of quotas and ranges.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::Column;
use super::{AGE, NAME, str_at, text};
use crate::model::quantity::Quantity;

pub(in super::super) const QUOTA: &[Column] = &[
    NAME,
    text("Request", false, |object, _| uses(object, false).into()),
    text("Limit", false, |object, _| uses(object, true).into()),
    AGE,
];

pub(in super::super) const RANGE: &[Column] = &[
    NAME,
    text("Created At", false, |object, _| str_at(object, "/metadata/creationTimestamp").into()),
];

/// An amount as Kubernetes writes it; what is no amount stays as it is.
fn canonical(amount: Option<&Value>) -> String {
    let text = amount.and_then(Value::as_str).unwrap_or("0");
    Quantity::parse(text).map_or_else(|| text.to_owned(), |amount| amount.to_string())
}

/// `pods: 1/2, requests.cpu: 0/1`: the limits, or all else.
fn uses(quota: &Value, limits: bool) -> String {
    let (hard, used) = (quota.pointer("/status/hard"), quota.pointer("/status/used"));
    let names: BTreeSet<&String> =
        hard.and_then(Value::as_object).into_iter().flatten().map(|(name, _)| name).collect();
    let own = names.into_iter().filter(|name| name.starts_with("limits.") == limits);
    let parts = own.map(|name| {
        let of = |amounts: Option<&Value>| canonical(amounts.and_then(|all| all.get(name)));
        format!("{name}: {}/{}", of(used), of(hard))
    });
    parts.collect::<Vec<_>>().join(", ")
}
