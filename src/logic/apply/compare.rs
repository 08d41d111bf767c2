//! What differs between two values, field by field.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::element;
use super::fieldset::FieldSet;
use super::path::PathElement;
use crate::model::schema::{ListKind, Type};

/// The fields that were added, removed and changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    pub added: FieldSet,
    pub removed: FieldSet,
    pub modified: FieldSet,
}

/// Compares; `old` is absent for a new object.
pub fn compare(old: Option<&Value>, new: &Value, shape: &Type) -> Comparison {
    let mut walk = Walk { path: Vec::new(), found: Comparison::default() };
    walk.value(shape, old, Some(new));
    walk.found
}

struct Walk {
    path: Vec<PathElement>,
    found: Comparison,
}

fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn fields(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object).filter(|fields| !fields.is_empty())
}

impl Walk {
    fn leaf(&mut self, old: Option<&Value>, new: Option<&Value>) {
        match (old, new) {
            (None, _) => self.found.added.insert(&self.path),
            (_, None) => self.found.removed.insert(&self.path),
            (Some(old), Some(new)) if old != new => self.found.modified.insert(&self.path),
            _ => {}
        }
    }

    /// One of the two is there.
    fn value(&mut self, shape: &Type, old: Option<&Value>, new: Option<&Value>) {
        let descended = match shape.resolve() {
            Type::Struct(own) if !own.atomic => self.fields(old, new, |name| shape.field(name)),
            Type::Map { element, atomic: false } => {
                self.fields(old, new, |_| Some(element.as_ref()))
            }
            Type::List { element, kind } => self.list(kind, element, old, new),
            _ => false,
        };
        if !descended {
            self.leaf(old, new);
        } else if old.is_none() {
            self.found.added.insert(&self.path);
        } else if new.is_none() {
            self.found.removed.insert(&self.path);
        }
    }

    /// False if neither has a field: then they are compared as they are, `{}` with null.
    fn fields<'t>(
        &mut self,
        old: Option<&Value>,
        new: Option<&Value>,
        shape: impl Fn(&str) -> Option<&'t Type>,
    ) -> bool {
        let (old, new) = (fields(old), fields(new));
        if old.is_none() && new.is_none() {
            return false;
        }
        let names = old.into_iter().chain(new).flat_map(Map::keys);
        let names: std::collections::BTreeSet<&String> = names.collect();
        for name in names {
            let (old, new) = (old.and_then(|old| old.get(name)), new.and_then(|new| new.get(name)));
            self.path.push(PathElement::Field(name.clone()));
            match shape(name) {
                Some(inner) => self.value(inner, old, new),
                None => self.leaf(old, new),
            }
            self.path.pop();
        }
        true
    }

    fn list(
        &mut self,
        kind: &ListKind,
        element: &Type,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> bool {
        let (before, after) = (items(old), items(new));
        if before.is_empty() && after.is_empty() {
            return false;
        }
        let (Some(before), Some(after)) =
            (element::all(kind, element, before), element::all(kind, element, after))
        else {
            return false;
        };
        let mut all: BTreeMap<PathElement, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
        for (step, item) in before {
            all.entry(step).or_default().0.push(item);
        }
        for (step, item) in after {
            all.entry(step).or_default().1.push(item);
        }
        for (step, (before, after)) in all {
            self.path.push(step);
            match (before.as_slice(), after.as_slice()) {
                ([], [_]) | ([_], [_] | []) => {
                    self.value(element, before.first().copied(), after.first().copied());
                }
                ([], _) => self.found.added.insert(&self.path),
                (_, []) => self.found.removed.insert(&self.path),
                (before, after) if before != after => self.found.modified.insert(&self.path),
                _ => {}
            }
            self.path.pop();
        }
        true
    }
}
