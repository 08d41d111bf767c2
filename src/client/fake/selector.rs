//! Equality selectors over labels and fields, as far as the tests use them.

use serde_json::Value;

use super::ListOptions;

pub(super) fn matches(object: &Value, options: &ListOptions) -> bool {
    let labels = options.label_selector.iter().flat_map(|text| text.split(','));
    let fields = options.field_selector.iter().flat_map(|text| text.split(','));
    labels.filter_map(|term| term.split_once('=')).all(|(key, value)| {
        object["metadata"]["labels"].get(key).and_then(Value::as_str) == Some(value)
    }) && fields.filter_map(|term| term.split_once('=')).all(|(path, value)| {
        let pointer = format!("/{}", path.replace('.', "/"));
        object.pointer(&pointer).and_then(Value::as_str).unwrap_or_default() == value
    })
}
