//! What a range leaves unsaid about containers.

use serde_json::{Map, Value};

use super::{each, object};

/// Copies what `into` lacks.
fn complete(into: &mut Map<String, Value>, from: &Map<String, Value>) {
    for (name, amount) in from {
        into.entry(name.clone()).or_insert_with(|| amount.clone());
    }
}

fn map(item: &Map<String, Value>, field: &str) -> Map<String, Value> {
    item.get(field).and_then(Value::as_object).cloned().unwrap_or_default()
}

pub(in super::super) fn range(range: &mut Value) {
    let Some(spec) = object(range, "spec") else { return };
    for item in each(spec, "limits") {
        if item.get("type").is_none_or(|kind| kind != "Container") {
            continue;
        }
        let (mut limits, mut requests) = (map(item, "default"), map(item, "defaultRequest"));
        complete(&mut limits, &map(item, "max"));
        complete(&mut requests, &limits);
        complete(&mut requests, &map(item, "min"));
        for (field, amounts) in [("default", limits), ("defaultRequest", requests)] {
            if !amounts.is_empty() {
                item.insert(field.to_owned(), Value::Object(amounts));
            }
        }
    }
}
