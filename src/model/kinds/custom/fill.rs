//! Pruning and defaults: an object becomes what its schema knows.
//!
//! Source: apiextensions-apiserver `pkg/apiserver/schema/{pruning,defaulting,objectmeta}`.
//! Invariants: both are idempotent; metadata is Kubernetes' own type wherever an object
//! stands, at the root and embedded.

use serde_json::{Map, Value};

use super::node::Node;
use crate::model::schema;

/// Kubernetes' own fields of every object.
pub(super) const OWN_FIELDS: [&str; 3] = ["apiVersion", "kind", "metadata"];
pub(super) const METADATA: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Drops what the schema does not have, and nulls that it does not allow. Metadata must have
/// its type.
pub(super) fn prune(node: &Node, object: &mut Value) -> Result<(), serde_json::Error> {
    within(node, object, true)
}

/// The same of a part of an object.
pub(super) fn prune_part(node: &Node, value: &mut Value) -> Result<(), serde_json::Error> {
    within(node, value, false)
}

fn within(node: &Node, value: &mut Value, is_object: bool) -> Result<(), serde_json::Error> {
    match value {
        Value::Object(fields) => of_map(node, fields, is_object || node.embedded),
        Value::Array(items) => match &node.items {
            Some(element) => items.iter_mut().try_for_each(|item| within(element, item, false)),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

fn of_map(
    node: &Node,
    fields: &mut Map<String, Value>,
    is_object: bool,
) -> Result<(), serde_json::Error> {
    let own = |name: &str| is_object && OWN_FIELDS.contains(&name);
    if !node.preserve && (node.kind.is_some() || !node.properties.is_empty()) {
        fields.retain(|name, _| own(name) || node.field(name).is_some());
    }
    fields.retain(|name, value| {
        let allowed = own(name) || node.field(name).is_none_or(|inner| inner.nullable);
        !value.is_null() || (allowed && !own(name))
    });
    for (name, value) in fields.iter_mut() {
        if own(name) {
            if name == "metadata" {
                let shape = &schema::by_name(METADATA).expect("metadata has a type").shape;
                *value = schema::decode(shape, value.take())?;
            }
        } else if let Some(inner) = node.field(name) {
            within(inner, value, false)?;
        }
    }
    Ok(())
}

/// Fills in what the schema says of fields that are not there.
pub(super) fn defaults(node: &Node, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, inner) in &node.properties {
                if let Some(default) = &inner.default {
                    let held = fields.get(name);
                    if held.is_none_or(|held| held.is_null() && !inner.nullable) {
                        fields.insert(name.clone(), default.clone());
                    }
                }
            }
            for (name, value) in fields.iter_mut() {
                let Some(inner) = node.field(name) else { continue };
                in_the_place_of_null(inner, value);
                defaults(inner, value);
            }
        }
        Value::Array(items) => {
            let Some(inner) = &node.items else { return };
            for item in items {
                in_the_place_of_null(inner, item);
                defaults(inner, item);
            }
        }
        _ => {}
    }
}

fn in_the_place_of_null(node: &Node, value: &mut Value) {
    if value.is_null()
        && !node.nullable
        && let Some(default) = &node.default
    {
        *value = default.clone();
    }
}
