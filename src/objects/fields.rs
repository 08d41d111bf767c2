//! Brings what a client sent into the kind's type, and says what did not fit.
//!
//! Invariant: what comes out has known fields only and every field has its type.

use serde_json::Value;

use crate::logic::apply::check::unknown_fields;
use crate::model::kinds::Kind;
use crate::model::status::Status;

/// Maps whose values are quantities; JSON numbers are allowed there as in Kubernetes.
const QUANTITY_MAPS: &[&str] = &["limits", "requests", "capacity", "allocatable", "overhead"];

/// Decodes into the kind's type and back; wrong types are 400.
pub fn decode(kind: &Kind, mut object: Value) -> Result<Value, Status> {
    if let Some(fields) = object.as_object_mut() {
        fields.insert("apiVersion".into(), kind.api_version().into());
        fields.insert("kind".into(), kind.kind.into());
    }
    // An amount of a custom kind is whatever its own schema says.
    if kind.custom.is_none() {
        quantities_to_text(&mut object);
    }
    let decoded = kind.decode(object);
    let mut object = decoded.map_err(|error| cannot_be_handled(kind, &error.to_string()))?;
    drop_empty(&mut object);
    Ok(object)
}

/// What of the metadata says nothing is not kept. (An empty list of owners of fields says
/// something to the one who reads it.)
fn drop_empty(object: &mut Value) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    for name in ["labels", "annotations", "finalizers", "ownerReferences"] {
        let empty = metadata.get(name).is_some_and(|value| match value {
            Value::Object(fields) => fields.is_empty(),
            Value::Array(items) => items.is_empty(),
            _ => false,
        });
        if empty {
            metadata.shift_remove(name);
        }
    }
}

fn cannot_be_handled(kind: &Kind, why: &str) -> Status {
    Status::bad_request(format!(
        "{name} in version {version:?} cannot be handled as a {name}: {why}",
        name = kind.kind,
        version = kind.version,
    ))
}

pub(super) fn quantities_to_text(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if QUANTITY_MAPS.contains(&name.as_str())
                    && let Some(amounts) = field.as_object_mut()
                {
                    for amount in amounts.values_mut().filter(|amount| amount.is_number()) {
                        *amount = amount.to_string().into();
                    }
                } else {
                    quantities_to_text(field);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(quantities_to_text),
        _ => {}
    }
}

/// What Kubernetes does about fields it does not know (`fieldValidation`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    /// Answers with warnings.
    #[default]
    Warn,
    /// Refuses.
    Strict,
}

/// Checks `sent` against the kind; `doubled` are fields that stood in it twice. The answer
/// is the warnings to send.
pub fn check(
    kind: &Kind,
    sent: &Value,
    doubled: &[String],
    validation: FieldValidation,
) -> Result<Vec<String>, Status> {
    if validation == FieldValidation::Ignore {
        return Ok(Vec::new());
    }
    decode(kind, sent.clone())?;
    judge(kind, sent, doubled, validation)
}

/// The same of what is decoded by its next reader anyway; only a strict look goes first.
pub(super) fn look_over(
    kind: &Kind,
    sent: &Value,
    validation: FieldValidation,
) -> Result<Vec<String>, Status> {
    match validation {
        FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Warn => judge(kind, sent, &[], validation),
        FieldValidation::Strict => check(kind, sent, &[], validation),
    }
}

fn judge(
    kind: &Kind,
    sent: &Value,
    doubled: &[String],
    validation: FieldValidation,
) -> Result<Vec<String>, Status> {
    let unknown = unknown_fields(sent, &kind.schema());
    let doubled = doubled.iter().map(|field| format!("duplicate field \"{field}\""));
    let unknown = unknown.iter().map(|field| format!("unknown field \"{field}\""));
    let texts: Vec<String> = doubled.chain(unknown).collect();
    if validation == FieldValidation::Strict && !texts.is_empty() {
        let list = texts.join(", ");
        return Err(cannot_be_handled(kind, &format!("strict decoding error: {list}")));
    }
    Ok(texts)
}
