//! Validation against a schema, in Kubernetes' words.
//!
//! Source: kube-openapi `pkg/validation/{validate,errors}` and apiextensions-apiserver
//! `pkg/apiserver/{validation,schema/listtype}`.
//! Invariant: with an old value, a part that did not change is not judged again
//! (`CRDValidationRatcheting`), so a stricter schema never locks an object.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::super::Problems;
use super::format;
use super::node::{JsonType, Listing, Node};

/// The name of a value's type in messages.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn is_whole(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
}

fn has_type(kind: JsonType, value: &Value) -> bool {
    match kind {
        JsonType::Object => value.is_object(),
        JsonType::Array => value.is_array(),
        JsonType::Text => value.is_string(),
        JsonType::Integer => is_whole(value),
        JsonType::Number => value.is_number(),
        JsonType::Bool => value.is_boolean(),
    }
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Judges a value at `path`; `old` is what stood there before.
pub(super) fn check(
    node: &Node,
    value: &Value,
    old: Option<&Value>,
    path: &str,
    problems: &mut Problems,
) {
    if old == Some(value) || (value.is_null() && node.nullable) {
        return;
    }
    let fits = match node.kind {
        _ if node.int_or_string => value.is_string() || is_whole(value),
        Some(kind) => has_type(kind, value),
        None => true,
    };
    if !fits {
        let wanted = match node.kind {
            Some(kind) if !node.int_or_string => kind.name(),
            _ => "integer,string",
        };
        let found = type_of(value);
        let text = format!("{path} in body must be of type {wanted}: {found:?}");
        return problems.type_invalid(path, &found.into(), &text);
    }
    if !node.bounds.allowed.is_empty() && !node.bounds.allowed.iter().any(|one| same(one, value)) {
        problems.not_one_of(path, value, &node.bounds.allowed);
    }
    match value {
        Value::String(text) => of_text(node, text, path, problems),
        Value::Number(_) => of_number(node, value, path, problems),
        Value::Array(items) => of_list(node, items, old, path, problems),
        Value::Object(fields) => of_map(node, fields, old, path, problems),
        _ => {}
    }
    together(node, value, old, path, problems);
}

/// Equal, however a number is written.
fn same(one: &Value, other: &Value) -> bool {
    one == other || (one.is_number() && one.as_f64() == other.as_f64())
}

fn of_text(node: &Node, text: &str, path: &str, problems: &mut Problems) {
    let (bounds, value) = (&node.bounds, Value::from(text));
    let length = text.chars().count() as u64;
    if let Some(min) = bounds.min_length.filter(|min| length < *min) {
        let text = format!("{path} in body should be at least {min} chars long");
        problems.invalid(path, &value, &text);
    }
    if let Some(max) = bounds.max_length.filter(|max| length > *max) {
        problems.too_long(path, usize::try_from(max).unwrap_or(usize::MAX), "bytes");
    }
    if let Some((pattern, compiled)) = &bounds.pattern
        && !compiled.is_match(text)
    {
        problems.invalid(path, &value, &format!("{path} in body should match '{pattern}'"));
    }
    if !bounds.format.is_empty() && !format::fits(&bounds.format, text) {
        let text = format!("{path} in body must be of type {}: {text:?}", bounds.format);
        problems.type_invalid(path, &value, &text);
    }
}

fn of_number(node: &Node, value: &Value, path: &str, problems: &mut Problems) {
    let (bounds, number) = (&node.bounds, value.as_f64().unwrap_or_default());
    if let Some(max) = bounds.maximum {
        let wrong = if bounds.below { number >= max } else { number > max };
        let or_equal = if bounds.below { "" } else { " or equal to" };
        if wrong {
            let text = format!("{path} in body should be less than{or_equal} {max}");
            problems.invalid(path, value, &text);
        }
    }
    if let Some(min) = bounds.minimum {
        let wrong = if bounds.above { number <= min } else { number < min };
        let or_equal = if bounds.above { "" } else { " or equal to" };
        if wrong {
            let text = format!("{path} in body should be greater than{or_equal} {min}");
            problems.invalid(path, value, &text);
        }
    }
    if let Some(factor) = bounds.multiple_of.filter(|factor| *factor > 0.0) {
        let times = number / factor;
        if (times - times.round()).abs() > 1e-9 {
            let text = format!("{path} in body should be a multiple of {factor}");
            problems.invalid(path, value, &text);
        }
    }
}

fn of_list(node: &Node, items: &[Value], old: Option<&Value>, path: &str, problems: &mut Problems) {
    let count = items.len() as u64;
    if let Some(min) = node.bounds.min_items.filter(|min| count < *min) {
        let text = format!("{path} in body should have at least {min} items");
        problems.invalid(path, &count.into(), &text);
    }
    if let Some(max) = node.bounds.max_items.filter(|max| count > *max) {
        problems.too_many(path, count, max);
    }
    let keys: Vec<Option<Value>> = items.iter().map(|item| identity(node, item)).collect();
    for (place, key) in keys.iter().enumerate() {
        if key.is_some() && keys[..place].contains(key) {
            let shown = key.clone().unwrap_or_default();
            problems.duplicate(&format!("{path}[{place}]"), &shown);
        }
    }
    let Some(element) = &node.items else { return };
    let before = old.and_then(Value::as_array);
    for (place, (item, key)) in items.iter().zip(&keys).enumerate() {
        // Elements of a map-like list are found by their keys, others not at all.
        let old = before.into_iter().flatten().find(|old| match &node.listing {
            Listing::Map(_) => key.is_some() && identity(node, old) == *key,
            Listing::Set => *old == item,
            Listing::Atomic => false,
        });
        check(element, item, old, &format!("{path}[{place}]"), problems);
    }
}

/// What tells an element from the others; `None` where nothing does.
fn identity(node: &Node, item: &Value) -> Option<Value> {
    match &node.listing {
        Listing::Atomic => None,
        Listing::Set => Some(item.clone()),
        Listing::Map(keys) => {
            let fields = item.as_object()?;
            let known = keys.iter().filter_map(|key| Some((key.clone(), fields.get(key)?.clone())));
            Some(Value::Object(known.collect::<Map<String, Value>>()))
        }
    }
}

fn of_map(
    node: &Node,
    fields: &Map<String, Value>,
    old: Option<&Value>,
    path: &str,
    problems: &mut Problems,
) {
    let count = fields.len() as u64;
    if let Some(min) = node.bounds.min_properties.filter(|min| count < *min) {
        let text = format!("{path} in body should have at least {min} properties");
        problems.invalid(path, &count.into(), &text);
    }
    if let Some(max) = node.bounds.max_properties.filter(|max| count > *max) {
        problems.too_many(path, count, max);
    }
    for name in node.required.iter().filter(|name| !fields.contains_key(*name)) {
        problems.required(&below(path, name), "");
    }
    if node.embedded {
        for name in ["apiVersion", "kind"] {
            if fields.get(name).and_then(Value::as_str).unwrap_or_default().is_empty() {
                problems.required(&below(path, name), "must not be empty");
            }
        }
    }
    for (name, value) in fields {
        if let Some(inner) = node.field(name) {
            check(inner, value, old.and_then(|old| old.get(name)), &below(path, name), problems);
        }
    }
}

/// `allOf`, `anyOf`, `oneOf` and `not`.
fn together(node: &Node, value: &Value, old: Option<&Value>, path: &str, problems: &mut Problems) {
    let judge = |node: &Node| {
        let mut found = Problems::default();
        check(node, value, old, path, &mut found);
        found
    };
    // Kubernetes names no field here; its own text says where.
    let mut refuse = |text: String| problems.invalid("<nil>", &"".into(), &text);
    let all: Vec<Problems> = node.all_of.iter().map(judge).collect();
    let failed = all.iter().filter(|found| !found.is_empty()).count();
    if failed > 0 {
        let none = if failed == all.len() { ". None validated" } else { "" };
        refuse(format!("{path:?} must validate all the schemas (allOf){none}"));
    }
    let any: Vec<Problems> = node.any_of.iter().map(judge).collect();
    let no_any = !any.is_empty() && any.iter().all(|found| !found.is_empty());
    if no_any {
        refuse(format!("{path:?} must validate at least one schema (anyOf)"));
    }
    let one: Vec<Problems> = node.one_of.iter().map(judge).collect();
    let valid = one.iter().filter(|found| found.is_empty()).count();
    if !one.is_empty() && valid != 1 {
        let found = match valid {
            0 => "Found none valid".to_owned(),
            valid => format!("Found {valid} valid alternatives"),
        };
        refuse(format!("{path:?} must validate one and only one schema (oneOf). {found}"));
    }
    if let Some(not) = &node.not
        && judge(not).is_empty()
    {
        refuse(format!("{path:?} must not validate the schema (not)"));
    }
    all.into_iter().for_each(|found| problems.add(found));
    if no_any {
        problems.add(nearest(any));
    }
    if !one.is_empty() && valid == 0 {
        problems.add(nearest(one));
    }
}

/// What the alternative says that came nearest.
fn nearest(found: Vec<Problems>) -> Problems {
    let fewest = |one: &Problems, other: &Problems| -> Ordering { one.len().cmp(&other.len()) };
    found.into_iter().min_by(fewest).unwrap_or_default()
}
