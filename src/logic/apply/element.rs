//! Which element of a list is meant.

use serde_json::Value;

use super::path::PathElement;
use crate::model::schema::{ListKind, Type};

/// The step to an element of a list that is not atomic; the reason if it has none.
pub fn of(kind: &ListKind, element: &Type, item: &Value) -> Result<PathElement, String> {
    match kind {
        ListKind::Atomic => Err("an atomic list has no elements of its own".into()),
        ListKind::Set => match item {
            Value::Null => {
                Err("associative list without keys has an element that's an explicit null".into())
            }
            Value::Object(_) => {
                Err("associative list without keys has an element that's a map type".into())
            }
            Value::Array(_) => Err("not supported: associative list with lists as elements".into()),
            scalar => Ok(PathElement::value(scalar)),
        },
        ListKind::Map(keys) => keyed(keys, element, item),
    }
}

fn keyed(keys: &[&str], element: &Type, item: &Value) -> Result<PathElement, String> {
    if item.is_null() {
        return Err("associative list with keys may not have a null element".into());
    }
    let fields =
        item.as_object().ok_or("associative list with keys may not have non-map elements")?;
    let mut pairs = Vec::with_capacity(keys.len());
    for key in keys {
        let default = || element.declared(key).and_then(|field| field.default).map(Value::from);
        match fields.get(*key).filter(|value| !value.is_null()).cloned().or_else(default) {
            Some(value) => pairs.push((*key, value)),
            None => {
                return Err(format!(
                    "associative list with keys has an element that omits key field {key:?} (and doesn't have default value)"
                ));
            }
        }
    }
    Ok(PathElement::key(pairs))
}

/// All elements of a list with their steps; `None` if one has none: then the list is one
/// value, whatever its type says.
pub fn all<'v>(
    kind: &ListKind,
    element: &Type,
    items: &'v [Value],
) -> Option<Vec<(PathElement, &'v Value)>> {
    if *kind == ListKind::Atomic {
        return None;
    }
    items.iter().map(|item| Some((of(kind, element, item).ok()?, item))).collect()
}
