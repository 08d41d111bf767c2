//! Objects as bytes in the store.
//!
//! Format 1 is JSON, recognized by its first byte `{`. A later format begins with
//! another byte, so that both can be read side by side during an upgrade.
//! Kinds that are sealed pass through [`super::SealedKv`], which leaves an envelope as it is
//! when it cannot open it: then the reader is told why.
//! Invariant: `resourceVersion` is not stored; it is the key's revision.

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::model::kinds::Kind;
use crate::model::kv::{KeyValue, Revision};
use crate::model::status::Status;
use crate::pki;
use crate::sys::clock;

/// An object and the revision it was last changed at.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// With its resourceVersion.
    pub(super) object: Value,
    pub(super) revision: Revision,
}

/// Bytes for the store.
pub(super) fn encode(kind: &Kind, object: &Value) -> Result<Bytes, Status> {
    let mut object = object.clone();
    strip(&mut object);
    kind.store(&mut object);
    serde_json::to_vec(&object).map(Bytes::from).map_err(Status::internal)
}

/// An object from the store, with its resourceVersion.
pub(super) fn decode(kind: &Kind, kv: &KeyValue) -> Result<Value, Status> {
    let key = || String::from_utf8_lossy(&kv.key).into_owned();
    if let Some(id) = pki::key_of(&kv.value) {
        return Err(Status::internal(format!(
            "{} cannot be decrypted: either this node lacks key {id} (`holdfast secrets status` \
             names what is missing), or what stands there was changed or moved",
            key()
        )));
    }
    if kv.value.first() != Some(&b'{') {
        return Err(Status::internal(format!("{} is stored in an unknown format", key())));
    }
    let mut object: Value = serde_json::from_slice(&kv.value)
        .map_err(|error| Status::internal(format!("{} cannot be read: {error}", key())))?;
    kind.load(&mut object);
    set_version(&mut object, kv.mod_revision);
    Ok(object)
}

/// Writes the resourceVersion into an object.
pub(super) fn set_version(object: &mut Value, revision: Revision) {
    if let Some(metadata) = metadata(object) {
        metadata.insert("resourceVersion".into(), revision.to_string().into());
    }
}

/// A copy without the owners of its fields, which are as large as the rest.
pub(super) fn without_owners(object: &Value) -> Value {
    let without = |fields: &Map<String, Value>| {
        let kept = fields.iter().filter(|(name, _)| *name != "managedFields");
        kept.map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    let Some(fields) = object.as_object() else { return object.clone() };
    let parts = fields.iter().map(|(name, value)| match value {
        Value::Object(metadata) if name == "metadata" => {
            (name.clone(), Value::Object(without(metadata)))
        }
        value => (name.clone(), value.clone()),
    });
    Value::Object(parts.collect())
}

/// Whether all fields are equal but these; their order does not count.
pub(super) fn is_same_but(
    one: &Map<String, Value>,
    other: &Map<String, Value>,
    but: &[&str],
) -> bool {
    let counts = |name: &String| !but.contains(&name.as_str());
    one.keys().filter(|name| counts(name)).count()
        == other.keys().filter(|name| counts(name)).count()
        && one.iter().all(|(name, value)| !counts(name) || other.get(name) == Some(value))
}

/// Removes what the store does not keep.
pub(super) fn strip(object: &mut Value) {
    if let Some(metadata) = metadata(object) {
        for field in ["resourceVersion", "selfLink"] {
            metadata.shift_remove(field);
        }
    }
}

/// The metadata, made if absent.
pub(super) fn metadata(object: &mut Value) -> Option<&mut Map<String, Value>> {
    let fields = object.as_object_mut()?;
    let metadata = fields.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if metadata.is_null() {
        *metadata = Value::Object(Map::new());
    }
    metadata.as_object_mut()
}

/// Now, whole seconds, as Kubernetes writes times.
pub(super) fn timestamp() -> String {
    jiff::Timestamp::from_second(clock::now().as_second()).unwrap_or_default().to_string()
}
