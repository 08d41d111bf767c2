//! Schemas of kinds that definitions make: their own words, with what every object has.
//!
//! Source: apiextensions-apiserver `pkg/controller/openapi/builder`.

use serde_json::{Map, Value, json};

use super::Flavour;
use crate::model::kinds::Kind;

const METADATA: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const OBJECT_META: &str = "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";
/// What version 2 cannot say.
const ONLY_V3: [&str; 6] = ["oneOf", "anyOf", "allOf", "not", "nullable", "default"];

/// The name and the schema of a custom kind; nothing for those of the table.
pub(super) fn schema(kind: &Kind, flavour: Flavour) -> Option<(String, Value)> {
    let custom = kind.custom()?;
    let mut made = custom.published.clone();
    if flavour == Flavour::V2 {
        simplify(&mut made);
    }
    let own = made.as_object_mut()?;
    let properties = own.entry("properties").or_insert_with(|| json!({}));
    properties["apiVersion"] = json!({"type": "string", "description": API_VERSION});
    properties["kind"] = json!({"type": "string", "description": KIND});
    let reference = flavour.reference(METADATA);
    properties["metadata"] = match flavour {
        Flavour::V2 => reference,
        // Beside a `$ref` version 3 reads nothing.
        Flavour::V3 => json!({"allOf": [reference], "description": OBJECT_META}),
    };
    own.insert("type".into(), "object".into());
    own.insert(
        "x-kubernetes-group-version-kind".into(),
        json!([{"group": kind.group, "version": kind.version, "kind": kind.kind}]),
    );
    let mut parts: Vec<&str> = kind.group.split('.').collect();
    parts.reverse();
    Some((format!("{}.{}.{}", parts.join("."), kind.version, kind.kind), made))
}

/// Leaves out what version 2 cannot say, in a schema and all below it.
fn simplify(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else { return };
    for name in ONLY_V3 {
        fields.shift_remove(name);
    }
    if fields.get("x-kubernetes-preserve-unknown-fields") == Some(&true.into()) {
        fields.shift_remove("items");
        fields.shift_remove("properties");
    }
    for one in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get_mut(one) {
            simplify(inner);
        }
    }
    let properties: Option<&mut Map<String, Value>> =
        fields.get_mut("properties").and_then(Value::as_object_mut);
    for (_, inner) in properties.into_iter().flatten() {
        simplify(inner);
    }
}
