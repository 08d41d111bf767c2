//! What a CustomResourceDefinition leaves unsaid.

use serde_json::{Value, json};

use super::{object, set};

fn storage_version(definition: &Value) -> Option<String> {
    let versions = definition["spec"]["versions"].as_array()?;
    let stored = versions.iter().find(|version| version["storage"] == true)?;
    stored["name"].as_str().map(str::to_owned)
}

pub(in super::super) fn definition(definition: &mut Value) {
    if let Some(spec) = object(definition, "spec") {
        let conversion = spec.entry("conversion").or_insert_with(|| json!({}));
        if let Some(conversion) = conversion.as_object_mut() {
            set(conversion, "strategy", "None");
        }
        if let Some(names) = spec.get_mut("names").and_then(Value::as_object_mut) {
            let kind = names.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
            if !kind.is_empty() {
                set(names, "singular", kind.to_lowercase());
                set(names, "listKind", format!("{kind}List"));
            }
        }
    }
    // Whatever was ever stored under a version is read by it.
    let Some(version) = storage_version(definition) else { return };
    if let Some(stored) = definition
        .pointer_mut("/status/storedVersions")
        .and_then(Value::as_array_mut)
        .filter(|stored| !stored.iter().any(|one| *one == *version))
    {
        stored.push(version.into());
    }
}

pub(in super::super) fn definition_on_create(definition: &mut Value) {
    let stored: Vec<String> = storage_version(definition).into_iter().collect();
    definition["status"] = json!({
        "acceptedNames": {"kind": "", "plural": ""},
        "conditions": [],
        "storedVersions": stored,
    });
}
