//! The fields that a value has.

use serde_json::Value;

use super::element;
use super::fieldset::FieldSet;
use super::path::PathElement;
use crate::model::schema::Type;

/// Every field of a value that its type merges by itself.
pub fn of(value: &Value, shape: &Type) -> FieldSet {
    let mut walk = Walk { path: Vec::new(), set: FieldSet::default() };
    walk.value(value, shape);
    walk.set
}

struct Walk {
    path: Vec<PathElement>,
    set: FieldSet,
}

impl Walk {
    fn own(&mut self) {
        self.set.insert(&self.path);
    }

    fn value(&mut self, value: &Value, shape: &Type) {
        match (shape.resolve(), value) {
            (Type::Struct(own), Value::Object(fields)) if !own.atomic => {
                for (name, inner) in fields {
                    self.field(name, inner, shape.field(name));
                }
            }
            (Type::Map { element, atomic: false }, Value::Object(fields)) => {
                for (name, inner) in fields {
                    self.field(name, inner, Some(element));
                }
            }
            (Type::List { element, kind }, Value::Array(items)) => {
                match element::all(kind, element, items) {
                    Some(items) => self.list(&items, element),
                    None => self.own(),
                }
            }
            (Type::Struct(own), Value::Null) if !own.atomic => {}
            (Type::Map { atomic: false, .. }, Value::Null) => {}
            _ => self.own(),
        }
    }

    fn field(&mut self, name: &str, value: &Value, shape: Option<&Type>) {
        self.path.push(PathElement::Field(name.to_owned()));
        match shape {
            Some(shape) => self.value(value, shape),
            None => self.own(),
        }
        if value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty) {
            self.own();
        }
        self.path.pop();
    }

    fn list(&mut self, items: &[(PathElement, &Value)], element: &Type) {
        for (place, (step, item)) in items.iter().enumerate() {
            let twice =
                items.iter().enumerate().any(|(other, (twin, _))| other != place && twin == step);
            self.path.push(step.clone());
            // Of elements that cannot be told apart only the step itself is owned.
            if !twice {
                self.value(item, element);
            }
            self.own();
            self.path.pop();
        }
    }
}
