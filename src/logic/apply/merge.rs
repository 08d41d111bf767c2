//! A live value with a configuration laid over it.
//!
//! The configuration wins wherever it says something; elements of lists keep the order
//! that it gives them, those that it does not name stay between their neighbours.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::element;
use super::path::PathElement;
use crate::model::schema::Type;

/// Lays `config` over `live`.
pub fn merge(live: &Value, config: &Value, shape: &Type) -> Value {
    value(Some(live), Some(config), shape)
}

fn value(live: Option<&Value>, config: Option<&Value>, shape: &Type) -> Value {
    match shape.resolve() {
        Type::Struct(own) if !own.atomic => {
            if let Some(merged) = fields(live, config, |name| shape.field(name)) {
                return merged;
            }
        }
        Type::Map { element, atomic: false } => {
            if let Some(merged) = fields(live, config, |_| Some(element.as_ref())) {
                return merged;
            }
        }
        Type::List { element, kind } => {
            let (ours, theirs) = (items(live), items(config));
            if !(ours.is_empty() && theirs.is_empty())
                && let (Some(ours), Some(theirs)) =
                    (element::all(kind, element, ours), element::all(kind, element, theirs))
            {
                return Value::Array(interleave(&ours, &theirs, element));
            }
        }
        _ => {}
    }
    config.or(live).cloned().unwrap_or_default()
}

fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn fields<'t>(
    live: Option<&Value>,
    config: Option<&Value>,
    shape: impl Fn(&str) -> Option<&'t Type>,
) -> Option<Value> {
    let of = |value: Option<&'_ Value>| value.and_then(Value::as_object).cloned();
    let (live, config) = (of(live).unwrap_or_default(), of(config).unwrap_or_default());
    if live.is_empty() && config.is_empty() {
        return None;
    }
    let mut merged = Map::new();
    for (name, ours) in &live {
        let after = match (config.get(name), shape(name)) {
            (Some(theirs), Some(inner)) => value(Some(ours), Some(theirs), inner),
            (Some(theirs), None) => theirs.clone(),
            (None, _) => ours.clone(),
        };
        merged.insert(name.clone(), after);
    }
    for (name, theirs) in &config {
        if !live.contains_key(name) {
            merged.insert(name.clone(), theirs.clone());
        }
    }
    Some(Value::Object(merged))
}

type Items<'v> = [(PathElement, &'v Value)];

fn interleave(live: &Items<'_>, config: &Items<'_>, element: &Type) -> Vec<Value> {
    let ours: BTreeMap<&PathElement, &Value> =
        live.iter().map(|(step, item)| (step, *item)).collect();
    let wanted: BTreeSet<&PathElement> = config.iter().map(|(step, _)| step).collect();
    let mut shared = config.iter().map(|(step, _)| step).filter(|step| ours.contains_key(step));
    let mut next_shared = shared.next();
    let mut done: BTreeSet<&PathElement> = BTreeSet::new();
    let mut merged = Vec::with_capacity(live.len() + config.len());
    let (mut left, mut right) = (0, 0);
    while left < live.len() || right < config.len() {
        if let (Some((own, _)), Some((theirs, _))) = (live.get(left), config.get(right))
            && own != theirs
            && wanted.contains(own)
            && next_shared.is_some_and(|next| next != own)
        {
            // Named by the configuration, but not the one whose turn it is.
            left += 1;
            continue;
        }
        if let Some((own, item)) = live.get(left) {
            if !wanted.contains(own) {
                merged.push((*item).clone());
                left += 1;
                continue;
            }
            if done.contains(own) {
                left += 1;
                continue;
            }
        }
        let Some((theirs, item)) = config.get(right) else {
            left += 1;
            continue;
        };
        done.insert(theirs);
        merged.push(value(ours.get(theirs).copied(), Some(item), element));
        if live.get(left).is_some_and(|(own, _)| own == theirs) {
            left += 1;
        }
        right += 1;
        if next_shared == Some(theirs) {
            next_shared = shared.next();
        }
    }
    merged
}
