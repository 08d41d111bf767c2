//! The types of Kubernetes: fields, list keys, merge keys, in one table.
//!
//! Server-side apply, strategic merge patch, field validation and OpenAPI all ask here, so
//! that a list is never merged by one key and published with another. `types.txt` and
//! `docs.txt` are written by `generate.py` from k8s-openapi; the words travel compressed.
//!
//! ```text
//! io.k8s.api.core.v1.Container            a type; `kind=`, `atomic`, `=scalar` may follow
//!  name! string                           field (! required), type
//!  ports [containerPort,protocol]@TYPE merge=containerPort
//! ```
//! Before a type: `[]` an atomic list, `[set]`, `[keys]`; `{}` a map, `{atomic}`; `@` names
//! a type. After it: `merge[=key]`, `retainKeys`, `replace` for strategic merge patch,
//! `default=` for a key that may be left out.
//! Not here: what is done with them (`logic/apply`, `logic/patch`, `api/kube/openapi`).

mod decode;
mod intern;
mod parse;

use std::collections::BTreeMap;

pub use decode::decode;
pub use intern::intern;
pub use parse::{all, by_kind, by_name, named};

/// Words about types and fields, gzip; lines as in `types.txt`: JSON text, then the name.
pub static DOCS_GZ: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/kubernetes-docs.gz"));

/// A value that is never merged, only replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    Text,
    Integer,
    Number,
    Bool,
    /// Text, or a number that is read as text.
    Quantity,
    IntOrString,
}

/// How the elements of a list are told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListKind {
    /// Not at all: the list is one value.
    Atomic,
    /// By value.
    Set,
    /// By these fields together.
    Map(Vec<&'static str>),
}

/// What a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// The scalar and its OpenAPI format, empty if none.
    Scalar(Scalar, &'static str),
    /// Any JSON, as one value.
    Any,
    List {
        element: Box<Type>,
        kind: ListKind,
    },
    Map {
        element: Box<Type>,
        atomic: bool,
    },
    Struct(Struct),
    /// A place in the table; see [`Type::resolve`].
    Named(usize),
}

static ANY: Type = Type::Any;

impl Type {
    /// The type itself in the place of its name.
    pub fn resolve(&self) -> &Type {
        match self {
            Type::Named(place) => &all()[*place].shape,
            own => own,
        }
    }

    /// The type of a field of a struct or a map.
    pub fn field(&self, name: &str) -> Option<&Type> {
        match self.resolve() {
            Type::Struct(own) => {
                let known = own.fields.get(name).map(|field| &field.shape);
                known.or(own.open.then_some(&ANY))
            }
            Type::Map { element, .. } => Some(element),
            _ => None,
        }
    }

    /// The field with its rules, of a struct only.
    pub fn declared(&self, name: &str) -> Option<&Field> {
        match self.resolve() {
            Type::Struct(fields) => fields.fields.get(name),
            _ => None,
        }
    }
}

/// Named fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Struct {
    pub fields: BTreeMap<&'static str, Field>,
    /// Applied as one value.
    pub atomic: bool,
    /// Has fields beside those that are named; of what type, nobody says.
    pub open: bool,
}

/// One field and its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub shape: Type,
    pub required: bool,
    /// What identifies its elements in a strategic merge patch: a field's name, or nothing
    /// for a set of scalars. `None`: the list is replaced.
    pub merge_key: Option<&'static str>,
    /// A strategic merge patch drops the fields that it does not name (`$retainKeys`).
    pub retain_keys: bool,
    /// A strategic merge patch replaces the value.
    pub replace: bool,
    pub default: Option<&'static str>,
}

/// One named type.
#[derive(Clone, Debug)]
pub struct Definition {
    pub name: &'static str,
    /// apiVersion and kind, where objects of the type travel by themselves.
    pub kind: Option<(&'static str, &'static str)>,
    pub shape: Type,
}

#[cfg(test)]
mod tests {
    use super::{ListKind, Type, all, by_kind};

    #[test]
    fn ports_of_containers_have_two_keys_and_merge_by_one() {
        let pod = by_kind("v1", "Pod").unwrap();
        let containers = pod.field("spec").unwrap().declared("containers").unwrap();
        assert_eq!(containers.merge_key, Some("name"));
        let Type::List { element, kind } = &containers.shape else { panic!("{containers:?}") };
        assert_eq!(*kind, ListKind::Map(vec!["name"]));
        let ports = element.declared("ports").unwrap();
        assert_eq!(ports.merge_key, Some("containerPort"));
        let Type::List { element, kind } = &ports.shape else { panic!("{ports:?}") };
        assert_eq!(*kind, ListKind::Map(vec!["containerPort", "protocol"]));
        assert_eq!(element.declared("protocol").unwrap().default, Some("TCP"));
    }

    #[test]
    fn list_keys_are_fields_that_are_there() {
        fn check(name: &str, shape: &Type) {
            match shape {
                Type::List { element, kind } => {
                    if let ListKind::Map(keys) = kind {
                        for key in keys {
                            let field = element.declared(key);
                            let field = field.unwrap_or_else(|| panic!("{name}: no {key}"));
                            let known = field.required || field.default.is_some();
                            assert!(known || *key != "protocol", "{name}: {key}");
                        }
                    }
                    check(name, element);
                }
                Type::Map { element, .. } => check(name, element),
                Type::Struct(fields) => {
                    fields.fields.values().for_each(|field| check(name, &field.shape));
                }
                Type::Scalar(..) | Type::Any | Type::Named(_) => {}
            }
        }
        all().iter().for_each(|definition| check(definition.name, &definition.shape));
    }
}
