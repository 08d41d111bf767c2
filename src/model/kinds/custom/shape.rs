//! A structural schema as a type of the table, for apply and for unknown fields.
//!
//! Source: kube-openapi `pkg/schemaconv`. Of fields that a schema does not know
//! (`x-kubernetes-preserve-unknown-fields`) each is owned as one value.

use super::fill::{METADATA, OWN_FIELDS};
use super::node::{JsonType, Listing, Node};
use crate::model::schema::{self, Field, ListKind, Scalar, Struct, Type, intern};

fn plain(shape: Type) -> Field {
    Field {
        shape,
        required: false,
        merge_key: None,
        retain_keys: false,
        replace: false,
        default: None,
    }
}

/// The type of whole objects.
pub(super) fn of_object(node: &Node) -> Type {
    Type::Struct(structure(node, true))
}

fn of(node: &Node) -> Type {
    if node.int_or_string {
        return Type::Scalar(Scalar::IntOrString, "");
    }
    match node.kind {
        Some(JsonType::Object) => of_map(node),
        Some(JsonType::Array) => {
            let element = node.items.as_deref().map_or(Type::Any, of);
            let kind = match &node.listing {
                Listing::Atomic => ListKind::Atomic,
                Listing::Set => ListKind::Set,
                Listing::Map(keys) => ListKind::Map(keys.iter().map(|key| intern(key)).collect()),
            };
            Type::List { element: Box::new(element), kind }
        }
        Some(JsonType::Text) => Type::Scalar(Scalar::Text, ""),
        Some(JsonType::Integer) => Type::Scalar(Scalar::Integer, ""),
        Some(JsonType::Number) => Type::Scalar(Scalar::Number, ""),
        Some(JsonType::Bool) => Type::Scalar(Scalar::Bool, ""),
        None => Type::Any,
    }
}

fn of_map(node: &Node) -> Type {
    match &node.additional {
        Some(element) if node.properties.is_empty() && !node.embedded => {
            Type::Map { element: Box::new(of(element)), atomic: node.atomic_map }
        }
        _ => Type::Struct(structure(node, node.embedded)),
    }
}

fn structure(node: &Node, is_object: bool) -> Struct {
    let mut own = Struct { atomic: node.atomic_map, open: node.preserve, ..Struct::default() };
    for (name, inner) in &node.properties {
        let default = inner.default.as_ref().and_then(|default| default.as_str()).map(intern);
        let field = Field { required: node.required.contains(name), default, ..plain(of(inner)) };
        own.fields.insert(intern(name), field);
    }
    if is_object {
        for name in OWN_FIELDS {
            let shape = match name {
                "metadata" => schema::named(METADATA).expect("metadata has a type"),
                _ => Type::Scalar(Scalar::Text, ""),
            };
            own.fields.insert(name, plain(shape));
        }
    }
    own
}
