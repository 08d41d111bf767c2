//! Whether a value fits its type.

use serde_json::Value;

use super::element;
use super::path::{PathElement, print};
use crate::model::schema::{ListKind, Scalar, Type};

/// What is wrong with a value, in structured-merge-diff's words; empty if nothing.
pub fn check(value: &Value, shape: &Type) -> Vec<String> {
    let mut walk = Walk { path: Vec::new(), problems: Vec::new() };
    walk.value(value, shape);
    walk.problems
}

struct Walk {
    path: Vec<PathElement>,
    problems: Vec<String>,
}

impl Walk {
    fn problem(&mut self, text: String) {
        self.problems.push(format!("{}: {text}", print(&self.path)));
    }

    fn value(&mut self, value: &Value, shape: &Type) {
        if value.is_null() {
            return;
        }
        match (shape.resolve(), value) {
            (Type::Any, _) => {}
            (Type::Scalar(scalar, _), value) => {
                if let Some(expected) = misfit(*scalar, value) {
                    self.problem(format!("expected {expected}, got {value}"));
                }
            }
            (Type::Struct(_), Value::Object(fields)) => {
                for (name, inner) in fields {
                    self.path.push(PathElement::Field(name.clone()));
                    match shape.field(name) {
                        Some(shape) => self.value(inner, shape),
                        None => self.problem("field not declared in schema".into()),
                    }
                    self.path.pop();
                }
            }
            (Type::Map { element, .. }, Value::Object(fields)) => {
                for (name, inner) in fields {
                    self.path.push(PathElement::Field(name.clone()));
                    self.value(inner, element);
                    self.path.pop();
                }
            }
            (Type::List { element, kind }, Value::Array(items)) => self.list(items, element, kind),
            (Type::List { .. }, value) => self.problem(format!("expected list, got {value}")),
            (_, value) => self.problem(format!("expected map, got {value}")),
        }
    }

    fn list(&mut self, items: &[Value], element: &Type, kind: &ListKind) {
        let mut seen = std::collections::BTreeSet::new();
        for (place, item) in items.iter().enumerate() {
            let step = match element::of(kind, element, item) {
                _ if *kind == ListKind::Atomic => PathElement::Index(place as i64),
                Ok(step) => step,
                Err(why) => {
                    self.problem(format!("element {place}: {why}"));
                    continue;
                }
            };
            if !seen.insert(step.clone()) {
                let key = print(std::slice::from_ref(&step));
                self.problem(format!("duplicate entries for key {key}"));
            }
            self.path.push(step);
            self.value(item, element);
            self.path.pop();
        }
    }
}

/// What a scalar should have been.
fn misfit(scalar: Scalar, value: &Value) -> Option<&'static str> {
    let (fits, expected) = match scalar {
        Scalar::Text => (value.is_string(), "string"),
        Scalar::Integer => (value.is_i64() || value.is_u64(), "numeric (int or float)"),
        Scalar::Number => (value.is_number(), "numeric (int or float)"),
        Scalar::Bool => (value.is_boolean(), "boolean"),
        Scalar::Quantity | Scalar::IntOrString => {
            (value.is_string() || value.is_number(), "string or number")
        }
    };
    (!fits).then_some(expected)
}

/// Fields that the type does not have, as Kubernetes' strict decoder names them.
pub fn unknown_fields(value: &Value, shape: &Type) -> Vec<String> {
    let mut found = Vec::new();
    collect_unknown(value, shape, "", &mut found);
    found
}

fn collect_unknown(value: &Value, shape: &Type, path: &str, found: &mut Vec<String>) {
    match (shape.resolve(), value) {
        (Type::Struct(_) | Type::Map { .. }, Value::Object(fields)) => {
            for (name, inner) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                match shape.field(name) {
                    Some(shape) => collect_unknown(inner, shape, &path, found),
                    None => found.push(path),
                }
            }
        }
        (Type::List { element, .. }, Value::Array(items)) => {
            for (place, item) in items.iter().enumerate() {
                collect_unknown(item, element, &format!("{path}[{place}]"), found);
            }
        }
        _ => {}
    }
}
