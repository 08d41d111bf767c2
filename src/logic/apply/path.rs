//! One step from a value to a part of it, and how a path is printed.

use serde_json::Value;

/// A step: a field, an element of a list by its keys, by its value, or by its place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathElement {
    Field(String),
    /// The keys and their values, as a JSON object with sorted fields.
    Key(String),
    /// The value, as JSON.
    Value(String),
    Index(i64),
}

impl PathElement {
    /// An element of a list whose keys have these values.
    pub fn key(mut pairs: Vec<(&str, Value)>) -> Self {
        pairs.sort_by(|left, right| left.0.cmp(right.0));
        let pairs = pairs.into_iter().map(|(name, value)| (name.to_owned(), whole(value)));
        PathElement::Key(Value::Object(pairs.collect()).to_string())
    }

    /// An element of a set.
    pub fn value(value: &Value) -> Self {
        PathElement::Value(whole(value.clone()).to_string())
    }
}

/// `1.0` and `1` are one number.
fn whole(value: Value) -> Value {
    match value.as_f64() {
        Some(number) if !value.is_i64() && number.fract() == 0.0 && number.abs() < 1e15 => {
            (number as i64).into()
        }
        _ => value,
    }
}

/// Kubernetes' way to print a path: `.spec.containers[name="a"].image`.
pub fn print(path: &[PathElement]) -> String {
    path.iter().map(step).collect()
}

fn step(element: &PathElement) -> String {
    match element {
        PathElement::Field(name) => format!(".{name}"),
        PathElement::Key(text) => {
            let keys: serde_json::Map<String, Value> =
                serde_json::from_str(text).unwrap_or_default();
            let keys: Vec<String> =
                keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("[{}]", keys.join(","))
        }
        PathElement::Value(text) => format!("[={text}]"),
        PathElement::Index(place) => format!("[{place}]"),
    }
}
