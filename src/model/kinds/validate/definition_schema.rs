//! Whether a schema is structural, and can be enforced.
//!
//! Source: apiextensions-apiserver `pkg/apiserver/schema/{validation,complete}.go` and
//! `pkg/apis/apiextensions/validation`. Rules of `x-kubernetes-validations` are let through:
//! whoever writes the definition is told that they are not evaluated
//! ([`rules_of`]).

use serde_json::Value;

use super::super::Problems;
use super::super::custom::{check_default, node};
use super::list_at;

const TYPES: &[&str] = &["array", "boolean", "integer", "number", "object", "string"];
const NOT_SUPPORTED: &[&str] =
    &["$ref", "additionalItems", "definitions", "dependencies", "id", "patternProperties"];
/// What only the structure may say, and no alternative of a junctor.
const STRUCTURE: &[&str] = &[
    "additionalProperties",
    "default",
    "description",
    "nullable",
    "title",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    "x-kubernetes-preserve-unknown-fields",
];

/// Judges the schema of a version.
pub(super) fn schema(schema: &Value, at: &str, problems: &mut Problems) {
    match schema["type"].as_str() {
        None | Some("") => {
            problems.required(&format!("{at}.type"), "must not be empty at the root");
        }
        Some("object") => {}
        Some(other) => {
            problems.invalid(&format!("{at}.type"), &other.into(), "must be object at the root");
        }
    }
    structure(schema, at, "at the root", problems);
    let metadata = &schema["properties"]["metadata"];
    let extra = metadata["properties"].as_object().into_iter().flatten();
    if extra.clone().any(|(name, _)| name != "name" && name != "generateName") {
        let text = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        problems.forbidden(&format!("{at}.properties[metadata]"), text);
    }
}

fn said(schema: &Value, field: &str) -> bool {
    schema[field] == true
}

/// A place of the structure; `role` ends the sentence about a type that is missing.
fn structure(schema: &Value, at: &str, role: &str, problems: &mut Problems) {
    unsupported(schema, at, problems);
    let kind = schema["type"].as_str().unwrap_or_default();
    let int_or_string = said(schema, "x-kubernetes-int-or-string");
    let preserve = said(schema, "x-kubernetes-preserve-unknown-fields");
    let type_at = format!("{at}.type");
    if kind.is_empty() {
        if !int_or_string && !preserve && role != "at the root" {
            problems.required(&type_at, &format!("must not be empty {role}"));
        }
    } else if int_or_string {
        let text = "must be empty if x-kubernetes-int-or-string is true";
        problems.invalid(&type_at, &kind.into(), text);
    } else if !TYPES.contains(&kind) {
        problems.not_supported(&type_at, kind, TYPES);
    }
    if schema["x-kubernetes-preserve-unknown-fields"] == false {
        let at = format!("{at}.x-kubernetes-preserve-unknown-fields");
        problems.invalid(&at, &false.into(), "must be true or undefined");
    }
    if said(schema, "x-kubernetes-embedded-resource") {
        if kind != "object" {
            let text = "must be object if x-kubernetes-embedded-resource is true";
            problems.invalid(&type_at, &kind.into(), text);
        }
        if !preserve && schema["properties"].as_object().is_none_or(serde_json::Map::is_empty) {
            let text = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
            problems.required(&format!("{at}.properties"), text);
        }
    }
    if kind == "array" && !schema["items"].is_object() {
        problems.required(&format!("{at}.items"), "must be specified");
    }
    lists(schema, kind, at, problems);
    if let Some(default) = schema.get("default") {
        check_default(schema, default, &format!("{at}.default"), problems);
    }
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        let at = format!("{at}.properties[{name}]");
        structure(inner, &at, "for specified object fields", problems);
    }
    if schema["additionalProperties"].is_object() {
        let at = format!("{at}.additionalProperties");
        structure(&schema["additionalProperties"], &at, "for specified object fields", problems);
    }
    if schema["items"].is_object() {
        let role = "for specified array items";
        structure(&schema["items"], &format!("{at}.items"), role, problems);
    }
    junctors(schema, schema, at, int_or_string, problems);
}

/// What no part of a schema may say.
fn unsupported(schema: &Value, at: &str, problems: &mut Problems) {
    for field in NOT_SUPPORTED.iter().filter(|field| !schema[**field].is_null()) {
        problems.forbidden(&format!("{at}.{field}"), &format!("{field} is not supported"));
    }
    if said(schema, "uniqueItems") {
        let text =
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        problems.forbidden(&format!("{at}.uniqueItems"), text);
    }
    if schema["items"].is_array() {
        let text = "items must be a schema object and not an array";
        problems.forbidden(&format!("{at}.items"), text);
    }
    let additional = format!("{at}.additionalProperties");
    if schema["additionalProperties"] == false {
        problems.forbidden(&additional, "additionalProperties cannot be set to false");
    }
    let has_fields = schema["properties"].as_object().is_some_and(|fields| !fields.is_empty());
    if has_fields && !matches!(schema["additionalProperties"], Value::Null | Value::Bool(false)) {
        let text = "additionalProperties and properties are mutual exclusive";
        problems.forbidden(&additional, text);
    }
    if let Some(text) = schema["pattern"].as_str()
        && let Err(why) = node::pattern(text)
    {
        let why = format!("must be a valid regular expression, but isn't: {why}");
        problems.invalid(&format!("{at}.pattern"), &text.into(), &why);
    }
}

fn lists(schema: &Value, kind: &str, at: &str, problems: &mut Problems) {
    let list_type = schema["x-kubernetes-list-type"].as_str();
    let keys = list_at(schema, "/x-kubernetes-list-map-keys");
    let keys_at = format!("{at}.x-kubernetes-list-map-keys");
    if let Some(list_type) = list_type {
        let at = format!("{at}.x-kubernetes-list-type");
        if kind != "array" {
            problems.invalid(
                &at,
                &list_type.into(),
                "must be array if x-kubernetes-list-type is specified",
            );
        }
        if !["atomic", "set", "map"].contains(&list_type) {
            problems.not_supported(&at, list_type, &["atomic", "map", "set"]);
        }
    }
    if let Some(map_type) = schema["x-kubernetes-map-type"].as_str() {
        let at = format!("{at}.x-kubernetes-map-type");
        if !["granular", "atomic"].contains(&map_type) {
            problems.not_supported(&at, map_type, &["atomic", "granular"]);
        }
    }
    if list_type != Some("map") {
        if !keys.is_empty() {
            let text = "must be empty if x-kubernetes-list-type is not map";
            problems.invalid(&keys_at, &schema["x-kubernetes-list-map-keys"], text);
        }
        return;
    }
    if keys.is_empty() {
        let text = "must not be empty if x-kubernetes-list-type is map";
        problems.required(&keys_at, text);
    }
    let items = &schema["items"];
    if items["type"] != "object" {
        let text = "must be object if parent array's x-kubernetes-list-type is map";
        problems.invalid(&format!("{at}.items.type"), &items["type"], text);
    }
    for (place, key) in keys.iter().enumerate() {
        let name = key.as_str().unwrap_or_default();
        let property = &items["properties"][name];
        if property.is_null() {
            let text = "entries must all be names of item properties";
            problems.invalid(&format!("{keys_at}[{place}]"), key, text);
            continue;
        }
        let required = list_at(items, "/required").iter().any(|one| one == key);
        if !required && property.get("default").is_none() {
            let at = format!("{at}.items.properties[{name}].default");
            let text = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            problems.required(&at, text);
        }
    }
}

/// The alternatives of a place; `outer` is where the structure says what they judge.
fn junctors(schema: &Value, outer: &Value, at: &str, int_or_string: bool, problems: &mut Problems) {
    for field in ["allOf", "anyOf", "oneOf"] {
        for (place, inner) in list_at(schema, &format!("/{field}")).iter().enumerate() {
            let at = format!("{at}.{field}[{place}]");
            alternative(inner, outer, &at, int_or_string, problems);
        }
    }
    if schema["not"].is_object() {
        alternative(&schema["not"], outer, &format!("{at}.not"), int_or_string, problems);
    }
}

fn alternative(
    schema: &Value,
    outer: &Value,
    at: &str,
    int_or_string: bool,
    problems: &mut Problems,
) {
    unsupported(schema, at, problems);
    for field in STRUCTURE.iter().filter(|field| !schema[**field].is_null()) {
        problems.forbidden(&format!("{at}.{field}"), "must be undefined to be structural");
    }
    let kind = schema["type"].as_str().unwrap_or_default();
    let either = int_or_string && ["integer", "string"].contains(&kind);
    if !kind.is_empty() && !either {
        problems.forbidden(&format!("{at}.type"), "must be empty to be structural");
    }
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        let at = format!("{at}.properties[{name}]");
        nested(inner, &outer["properties"][name], &at, problems);
    }
    if schema["items"].is_object() {
        nested(&schema["items"], &outer["items"], &format!("{at}.items"), problems);
    }
    junctors(schema, outer, at, int_or_string, problems);
}

fn nested(schema: &Value, outer: &Value, at: &str, problems: &mut Problems) {
    if outer.is_null() {
        problems
            .required(at, "must be specified outside of the junctor, because it is defined in it");
        return;
    }
    alternative(schema, outer, at, said(outer, "x-kubernetes-int-or-string"), problems);
}

/// How many rules a schema has that only CEL can judge.
pub(in super::super) fn rules_of(schema: &Value) -> usize {
    match schema {
        Value::Object(fields) => {
            let own = list_at(schema, "/x-kubernetes-validations").len();
            // A property may have the name of the keyword; its value is a schema then.
            let below = fields.iter().filter(|(name, value)| {
                name.as_str() != "x-kubernetes-validations" || value.is_object()
            });
            own + below.map(|(_, inner)| rules_of(inner)).sum::<usize>()
        }
        Value::Array(items) => items.iter().map(rules_of).sum(),
        _ => 0,
    }
}
