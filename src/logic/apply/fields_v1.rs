//! Field sets as Kubernetes writes them in `managedFields` (`FieldsV1`).
//!
//! ```text
//! {"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:image": {}}}}}
//! ```
//! `f:` a field, `k:` an element by its keys, `v:` by its value, `i:` by its place; `.` is
//! the thing itself where there is more below it.

use serde_json::{Map, Value};

use super::fieldset::{FieldSet, Node};
use super::path::PathElement;

/// Deeper than any type of Kubernetes; custom types may nest, but not without end.
const DEPTH_MAX: usize = 64;

/// The set as JSON.
pub fn to_json(set: &FieldSet) -> Value {
    Value::Object(set.nodes.iter().map(|(element, node)| (name(element), content(node))).collect())
}

fn content(node: &Node) -> Value {
    let mut fields = Map::new();
    if node.member && !node.below.is_empty() {
        fields.insert(".".into(), Value::Object(Map::new()));
    }
    if let Value::Object(below) = to_json(&node.below) {
        fields.extend(below);
    }
    Value::Object(fields)
}

fn name(element: &PathElement) -> String {
    match element {
        PathElement::Field(name) => format!("f:{name}"),
        PathElement::Key(text) => format!("k:{text}"),
        PathElement::Value(text) => format!("v:{text}"),
        PathElement::Index(place) => format!("i:{place}"),
    }
}

/// The set that JSON stands for; what is wrong with it otherwise.
pub fn from_json(json: &Value) -> Result<FieldSet, String> {
    read(json, 0).map(|(_, set)| set)
}

fn read(json: &Value, depth: usize) -> Result<(bool, FieldSet), String> {
    let fields = json.as_object().ok_or_else(|| format!("expected an object, got {json}"))?;
    if depth > DEPTH_MAX {
        return Err("fields are nested too deeply".into());
    }
    let (mut member, mut set) = (fields.is_empty(), FieldSet::default());
    for (key, value) in fields {
        if key == "." {
            member = true;
            continue;
        }
        let (own, below) = read(value, depth + 1)?;
        set.nodes.insert(element(key)?, Node { member: own, below });
    }
    Ok((member, set))
}

fn element(text: &str) -> Result<PathElement, String> {
    let wrong = || format!("{text:?} names no field");
    let (mark, rest) = text.split_once(':').ok_or_else(wrong)?;
    let json = || serde_json::from_str::<Value>(rest).map_err(|error| format!("{text:?}: {error}"));
    match mark {
        "f" => Ok(PathElement::Field(rest.to_owned())),
        "k" => match json()? {
            Value::Object(keys) => {
                let pairs = keys.iter().map(|(name, value)| (name.as_str(), value.clone()));
                Ok(PathElement::key(pairs.collect()))
            }
            _ => Err(wrong()),
        },
        "v" => Ok(PathElement::value(&json()?)),
        "i" => rest.parse().map(PathElement::Index).map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}
