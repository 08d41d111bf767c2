//! Any kind: its metadata, then every field under its name, nested as it is.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::sheet::Sheet;
use super::{annotations, pairs, scalar, text, time};
use crate::client::discovery::Served;

/// `creationTimestamp` to `Creation Timestamp`.
fn title(field: &str) -> String {
    let mut title = String::new();
    let mut previous = ' ';
    for (at, letter) in field.chars().enumerate() {
        if at == 0 {
            title.extend(letter.to_uppercase());
        } else {
            if letter.is_uppercase() && previous.is_lowercase() {
                title.push(' ');
            }
            title.push(letter);
        }
        previous = letter;
    }
    title
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

fn add(sheet: &mut Sheet, level: usize, name: &str, value: &Value) {
    match value {
        _ if is_empty(value) => {}
        Value::Object(fields) => {
            sheet.heading(level, name);
            for (field, value) in fields {
                add(sheet, level + 1, &title(field), value);
            }
        }
        Value::Array(items) if items.iter().all(|item| !item.is_object() && !item.is_array()) => {
            sheet.many(level, name, &items.iter().map(scalar).collect::<Vec<_>>());
        }
        Value::Array(items) => {
            sheet.heading(level, name);
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    sheet.plain(level + 1, "---");
                }
                match item.as_object() {
                    Some(fields) => {
                        for (field, value) in fields {
                            add(sheet, level + 1, &title(field), value);
                        }
                    }
                    None => sheet.plain(level + 1, &item.to_string()),
                }
            }
        }
        // A file in a ConfigMap keeps its lines.
        Value::String(text) if text.contains('\n') => {
            sheet.heading(level, name);
            text.lines().for_each(|line| sheet.plain(level + 1, line));
        }
        other => sheet.field(level, name, scalar(other)),
    }
}

/// `12 bytes` for base64 of as many.
fn byte_count(value: &Value) -> Value {
    let bytes = STANDARD.decode(value.as_str().unwrap_or_default()).unwrap_or_default();
    format!("{} bytes", bytes.len()).into()
}

/// Writes the page.
pub(super) fn describe(sheet: &mut Sheet, served: &Served, object: &Value) {
    let metadata = &object["metadata"];
    sheet.field(0, "Name", text(object, "/metadata/name"));
    if served.namespaced {
        sheet.field(0, "Namespace", text(object, "/metadata/namespace"));
    }
    sheet.many(0, "Labels", &pairs(&metadata["labels"], "="));
    sheet.many(0, "Annotations", &annotations(object));
    sheet.field(0, "API Version", served.api_version());
    sheet.field(0, "Kind", &served.kind);
    sheet.field(0, "Created", time(&metadata["creationTimestamp"]));
    if metadata["deletionTimestamp"].is_string() {
        sheet.field(0, "Terminating", format!("since {}", time(&metadata["deletionTimestamp"])));
    }
    for owner in super::items(&metadata["ownerReferences"]) {
        sheet.field(0, "Owned By", format!("{}/{}", text(owner, "/kind"), text(owner, "/name")));
    }
    let is_secret = served.kind == "Secret" && served.group.is_empty();
    for (field, value) in object.as_object().into_iter().flatten() {
        if matches!(field.as_str(), "apiVersion" | "kind" | "metadata") {
            continue;
        }
        // Names of files and of settings are not ours to spell.
        match value.as_object().filter(|_| matches!(field.as_str(), "data" | "binaryData")) {
            Some(entries) => {
                sheet.heading(0, &title(field));
                for (name, value) in entries {
                    // What is secret is not shown to whoever looks over a shoulder.
                    let length = is_secret.then(|| byte_count(value));
                    add(sheet, 1, name, length.as_ref().unwrap_or(value));
                }
            }
            None => add(sheet, 0, &title(field), value),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_secret_value_is_counted_and_not_told() {
        assert_eq!(super::byte_count(&"aHVudGVyMg==".into()), "7 bytes");
    }

    #[test]
    fn fields_become_titles() {
        assert_eq!(super::title("leaseDurationSeconds"), "Lease Duration Seconds");
        assert_eq!(super::title("podIP"), "Pod IP");
    }
}
