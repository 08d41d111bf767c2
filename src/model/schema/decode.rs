//! Brings JSON into a type of the table: what the type does not have goes, what has
//! another type is refused.
//!
//! Why beside k8s-openapi's types: each kind that goes through one of those costs the
//! program a hundred kilobytes of generated code; this costs nothing more per kind.
//! Invariant: what comes out decodes to itself. Not here: defaults and validation.

use serde::de::Error as _;
use serde_json::{Map, Value};

use super::{Scalar, Type};

/// The value with the fields of its type only; nulls are fields that are not there.
pub fn decode(shape: &Type, value: Value) -> Result<Value, serde_json::Error> {
    at(shape, value, &mut Vec::new())
}

fn refuse(wanted: &str, value: &Value, path: &[String]) -> serde_json::Error {
    let found = match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => format!("boolean `{flag}`"),
        Value::Number(number) => format!("number `{number}`"),
        Value::String(text) => format!("string {text:?}"),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a map".to_owned(),
    };
    let place = path.join(".");
    serde_json::Error::custom(format!("invalid type: {found}, expected {wanted} in {place:?}"))
}

fn at(shape: &Type, value: Value, path: &mut Vec<String>) -> Result<Value, serde_json::Error> {
    let shape = shape.resolve();
    match (shape, value) {
        (Type::Any, value) => Ok(value),
        // A manifest may say an amount without quotes.
        (Type::Scalar(Scalar::Quantity, _), Value::Number(number)) => {
            Ok(Value::String(number.to_string()))
        }
        (Type::Scalar(scalar, format), value) => {
            if is_scalar(*scalar, format, &value) {
                Ok(value)
            } else {
                Err(refuse(name_of(*scalar, format), &value, path))
            }
        }
        (Type::List { element, .. }, Value::Array(items)) => {
            let mut kept = Vec::with_capacity(items.len());
            for (index, item) in items.into_iter().enumerate() {
                path.push(index.to_string());
                kept.push(at(element, item, path)?);
                path.pop();
            }
            Ok(Value::Array(kept))
        }
        (Type::Map { element, .. }, Value::Object(fields)) => {
            within(fields, path, |_| Some(element.as_ref()))
        }
        (Type::Struct(own), Value::Object(fields)) => {
            within(fields, path, |name| own.fields.get(name).map(|field| &field.shape))
        }
        (Type::List { .. }, value) => Err(refuse("a list", &value, path)),
        (_, value) => Err(refuse("a map", &value, path)),
    }
}

fn within<'t>(
    fields: Map<String, Value>,
    path: &mut Vec<String>,
    shape_of: impl Fn(&str) -> Option<&'t Type>,
) -> Result<Value, serde_json::Error> {
    let mut kept = Map::new();
    for (name, value) in fields {
        let Some(shape) = shape_of(&name).filter(|_| !value.is_null()) else { continue };
        path.push(name.clone());
        kept.insert(name, at(shape, value, path)?);
        path.pop();
    }
    Ok(Value::Object(kept))
}

fn name_of(scalar: Scalar, format: &str) -> &'static str {
    match scalar {
        Scalar::Text if format == "date-time" => "a time",
        Scalar::Text | Scalar::Quantity => "a string",
        Scalar::Integer => "an integer",
        Scalar::Number => "a number",
        Scalar::Bool => "a boolean",
        Scalar::IntOrString => "a number or a string",
    }
}

fn is_scalar(scalar: Scalar, format: &str, value: &Value) -> bool {
    match scalar {
        Scalar::Text if format == "date-time" => {
            value.as_str().is_some_and(|text| text.parse::<jiff::Timestamp>().is_ok())
        }
        Scalar::Text | Scalar::Quantity => value.is_string(),
        Scalar::Integer if format == "int32" => {
            value.as_i64().is_some_and(|number| i32::try_from(number).is_ok())
        }
        Scalar::Integer => value.is_i64(),
        Scalar::Number => value.is_number(),
        Scalar::Bool => value.is_boolean(),
        Scalar::IntOrString => value.is_string() || value.is_i64(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::decode;
    use crate::model::schema::by_kind;

    #[test]
    fn unknown_fields_go_and_wrong_types_are_named() {
        let role = by_kind("rbac.authorization.k8s.io/v1", "Role").unwrap();
        let sent = json!({
            "metadata": {"name": "r", "labels": {"a": "b"}, "colour": "red", "annotations": null,
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "managedFields": [{"fieldsV1": {"f:rules": {}}}]},
            "rules": [{"verbs": ["get"], "speed": 1}], "more": {}
        });
        let kept = decode(role, sent).unwrap();
        let expected = json!({
            "metadata": {"name": "r", "labels": {"a": "b"},
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "managedFields": [{"fieldsV1": {"f:rules": {}}}]},
            "rules": [{"verbs": ["get"]}]
        });
        assert_eq!(kept, expected);
        assert_eq!(decode(role, kept.clone()).unwrap(), kept);
        for (wrong, place) in [
            (json!({"rules": {}}), "expected a list in \"rules\""),
            (json!({"rules": [{"verbs": [1]}]}), "expected a string in \"rules.0.verbs.0\""),
            (json!({"metadata": {"creationTimestamp": "now"}}), "expected a time"),
            (json!({"metadata": {"generation": 1.5}}), "expected an integer"),
            (json!({"metadata": []}), "expected a map in \"metadata\""),
        ] {
            let error = decode(role, wrong).unwrap_err().to_string();
            assert!(error.contains(place), "{error}");
        }
    }
}
