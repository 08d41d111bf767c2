//! Defaults of secrets and volumes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{object, set};

/// `stringData` is for writing only: it goes into `data`, over what stands there.
pub(in super::super) fn secret(secret: &mut Value) {
    let Some(fields) = secret.as_object_mut() else { return };
    set(fields, "type", "Opaque");
    let Some(Value::Object(texts)) = fields.shift_remove("stringData") else { return };
    if texts.is_empty() {
        return;
    }
    if let Some(data) = object(secret, "data") {
        for (key, text) in texts {
            let bytes = text.as_str().unwrap_or_default();
            data.insert(key, STANDARD.encode(bytes).into());
        }
    }
}

pub(in super::super) fn volume(volume: &mut Value) {
    let Some(spec) = object(volume, "spec") else { return };
    set(spec, "persistentVolumeReclaimPolicy", "Retain");
    set(spec, "volumeMode", "Filesystem");
    if let Some(path) = spec.get_mut("hostPath").and_then(Value::as_object_mut)
        && path.get("type").is_none_or(Value::is_null)
    {
        path.insert("type".into(), "".into());
    }
}

pub(in super::super) fn claim(claim: &mut Value) {
    if let Some(spec) = object(claim, "spec") {
        claim_spec(spec);
    }
}

/// A claim's spec, also inside a template.
pub(super) fn claim_spec(spec: &mut serde_json::Map<String, Value>) {
    set(spec, "volumeMode", "Filesystem");
}

pub(in super::super) fn class(class: &mut Value) {
    let Some(fields) = class.as_object_mut() else { return };
    set(fields, "reclaimPolicy", "Delete");
    set(fields, "volumeBindingMode", "Immediate");
}

/// A volume that is bound, and a claim that a pod uses, stay until they are let go.
pub(in super::super) fn volume_on_create(volume: &mut Value) {
    protect(volume, "kubernetes.io/pv-protection");
    volume["status"] = serde_json::json!({"phase": "Pending"});
}

pub(in super::super) fn claim_on_create(claim: &mut Value) {
    protect(claim, "kubernetes.io/pvc-protection");
    claim["status"] = serde_json::json!({"phase": "Pending"});
}

fn protect(value: &mut Value, finalizer: &str) {
    let Some(metadata) = object(value, "metadata") else { return };
    let list = metadata.entry("finalizers").or_insert_with(|| Value::Array(Vec::new()));
    if list.is_null() {
        *list = Value::Array(Vec::new());
    }
    if let Some(list) = list.as_array_mut()
        && !list.iter().any(|held| held == finalizer)
    {
        list.push(finalizer.into());
    }
}
