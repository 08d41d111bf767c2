//! Table columns: what `kubectl get` shows for each kind.
//!
//! Source: Kubernetes' `pkg/printers/internalversion/printers.go`; the texts follow it to
//! the letter because scripts and people read them.

pub(super) mod access;
pub(super) mod batch;
pub(super) mod limits;
pub(super) mod network;
pub(super) mod node;
pub(super) mod objects;
pub(super) mod pod;
pub(super) mod scaling;
pub(super) mod sets;
pub(super) mod storage;
pub(super) mod workload;

use jiff::Timestamp;
use serde_json::Value;

use super::{Column, human};

/// A text column; `wide` shows it only with `-o wide`.
const fn text(name: &'static str, wide: bool, cell: fn(&Value, Timestamp) -> Value) -> Column {
    Column { name, data_type: "string", format: "", priority: if wide { 1 } else { 0 }, cell }
}

/// A column of whole numbers.
const fn number(name: &'static str, wide: bool, cell: fn(&Value, Timestamp) -> Value) -> Column {
    Column { name, data_type: "integer", format: "", priority: if wide { 1 } else { 0 }, cell }
}

const NAME: Column =
    Column { name: "Name", data_type: "string", format: "name", priority: 0, cell: name };
const AGE: Column = text("Age", false, age);

/// The columns of a kind that has no more to say.
pub(super) const NAME_AGE: &[Column] = &[NAME, AGE];

fn name(object: &Value, _: Timestamp) -> Value {
    object.pointer("/metadata/name").cloned().unwrap_or_else(|| "".into())
}

fn age(object: &Value, now: Timestamp) -> Value {
    human::since(object.pointer("/metadata/creationTimestamp"), now).into()
}

fn str_at<'v>(object: &'v Value, pointer: &str) -> &'v str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn int_at(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}

fn list_at<'v>(object: &'v Value, pointer: &str) -> &'v [Value] {
    object.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn or_none(text: &str) -> Value {
    if text.is_empty() { "<none>".into() } else { text.into() }
}

/// `a=b,c=d`, sorted as labels are; `<none>` for an empty set.
fn pairs(map: Option<&Value>) -> Value {
    let Some(map) = map.and_then(Value::as_object) else { return "<none>".into() };
    let mut pairs: Vec<String> = map
        .iter()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    pairs.sort();
    or_none(&pairs.join(","))
}
