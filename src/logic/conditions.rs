//! Conditions in the status of an object that is read as JSON.

use serde_json::Value;

/// The condition of a type.
pub fn condition<'v>(object: &'v Value, kind: &str) -> Option<&'v Value> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)
}
