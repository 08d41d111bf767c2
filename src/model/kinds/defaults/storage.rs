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
