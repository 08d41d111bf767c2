//! Collects what is wrong with an object's fields, in Kubernetes' words.
//!
//! Source: apimachinery `util/validation/field/errors.go`. All problems are reported at
//! once; clients show them as one list.

use serde_json::Value;

use crate::model::status::StatusCause;

/// The problems found so far.
#[derive(Debug, Default)]
pub struct Problems {
    causes: Vec<StatusCause>,
}

impl Problems {
    fn push(&mut self, reason: &str, field: &str, message: String) {
        self.causes.push(StatusCause { reason: reason.into(), message, field: field.into() });
    }

    /// A field is missing.
    pub fn required(&mut self, field: &str, detail: &str) {
        let message = if detail.is_empty() {
            "Required value".to_owned()
        } else {
            format!("Required value: {detail}")
        };
        self.push("FieldValueRequired", field, message);
    }

    /// A field has a value it may not have.
    pub fn invalid(&mut self, field: &str, value: &Value, detail: &str) {
        self.push("FieldValueInvalid", field, format!("Invalid value: {value}: {detail}"));
    }

    /// A field has a value of another type than its own.
    pub fn type_invalid(&mut self, field: &str, value: &Value, detail: &str) {
        self.push("FieldValueTypeInvalid", field, format!("Invalid value: {value}: {detail}"));
    }

    /// A list or a map has more members than it may.
    pub fn too_many(&mut self, field: &str, count: u64, max: u64) {
        let unit = if max == 1 { "item" } else { "items" };
        let message = format!("Too many: {count}: must have at most {max} {unit}");
        self.push("FieldValueTooMany", field, message);
    }

    /// As [`Problems::not_supported`], for values of any type.
    pub fn not_one_of(&mut self, field: &str, value: &Value, supported: &[Value]) {
        let list: Vec<String> = supported
            .iter()
            .map(|item| {
                item.as_str().map_or_else(|| format!("\"{item}\""), |text| format!("{text:?}"))
            })
            .collect();
        let message = format!("Unsupported value: {value}: supported values: {}", list.join(", "));
        self.push("FieldValueNotSupported", field, message);
    }

    /// A field's value is none of a fixed set.
    pub fn not_supported(&mut self, field: &str, value: &str, supported: &[&str]) {
        let list: Vec<String> = supported.iter().map(|item| format!("{item:?}")).collect();
        let message =
            format!("Unsupported value: {value:?}: supported values: {}", list.join(", "));
        self.push("FieldValueNotSupported", field, message);
    }

    /// A field may not be set or changed here.
    pub fn forbidden(&mut self, field: &str, detail: &str) {
        self.push("FieldValueForbidden", field, format!("Forbidden: {detail}"));
    }

    /// A field names something that is not there.
    pub fn not_found(&mut self, field: &str, value: &str) {
        self.push("FieldValueNotFound", field, format!("Not found: {value:?}"));
    }

    /// A value that must be unique occurs twice.
    pub fn duplicate(&mut self, field: &str, value: &Value) {
        self.push("FieldValueDuplicate", field, format!("Duplicate value: {value}"));
    }

    /// A value is longer than `max` (bytes or items, as `unit` says).
    pub fn too_long(&mut self, field: &str, max: usize, unit: &str) {
        let message = format!("Too long: may not be more than {max} {unit}");
        self.push("FieldValueTooLong", field, message);
    }

    /// Takes those of another in.
    pub fn add(&mut self, other: Problems) {
        self.causes.extend(other.causes);
    }

    pub fn len(&self) -> usize {
        self.causes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.causes.is_empty()
    }

    pub fn into_causes(self) -> Vec<StatusCause> {
        self.causes
    }
}
