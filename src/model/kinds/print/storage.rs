//! The columns of secrets and volumes.

use serde_json::Value;

use super::super::Column;
use super::{AGE, NAME, number, str_at, text};

pub(in super::super) const SECRET: &[Column] = &[
    NAME,
    text("Type", false, |object, _| str_at(object, "/type").into()),
    number("Data", false, |object, _| {
        object.get("data").and_then(Value::as_object).map_or(0, serde_json::Map::len).into()
    }),
    AGE,
];
