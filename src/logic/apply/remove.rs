//! A value without some of its fields.

use serde_json::{Map, Value};

use super::element;
use super::fieldset::FieldSet;
use super::path::PathElement;
use crate::model::schema::Type;

/// The value without the members of the set. What loses its last part is null.
pub fn remove(value: &Value, gone: &FieldSet, shape: &Type) -> Value {
    match (shape.resolve(), value) {
        (Type::Struct(own), Value::Object(fields)) if !own.atomic => {
            remaining(fields, gone, |name| shape.field(name))
        }
        (Type::Map { element, atomic: false }, Value::Object(fields)) => {
            remaining(fields, gone, |_| Some(element.as_ref()))
        }
        (Type::List { element, kind }, Value::Array(items)) => {
            let Some(items) = element::all(kind, element, items) else { return value.clone() };
            let kept: Vec<Value> = items
                .into_iter()
                .filter(|(step, _)| !gone.has(step))
                .map(|(step, item)| match gone.below(&step) {
                    Some(below) => remove(item, below, element),
                    None => item.clone(),
                })
                .collect();
            if kept.is_empty() { Value::Null } else { Value::Array(kept) }
        }
        _ => value.clone(),
    }
}

fn remaining<'t>(
    fields: &Map<String, Value>,
    gone: &FieldSet,
    shape: impl Fn(&str) -> Option<&'t Type>,
) -> Value {
    let mut kept = Map::new();
    for (name, value) in fields {
        let step = PathElement::Field(name.clone());
        if gone.has(&step) {
            continue;
        }
        let value = match (gone.below(&step), shape(name)) {
            (Some(below), Some(inner)) => remove(value, below, inner),
            _ => value.clone(),
        };
        kept.insert(name.clone(), value);
    }
    if kept.is_empty() { Value::Null } else { Value::Object(kept) }
}
