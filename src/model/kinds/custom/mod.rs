//! Kinds that a CustomResourceDefinition makes while the cluster runs.
//!
//! ```text
//! definition ─ read ─► Identity (names, scope, parts) ─ once ─► &'static Kind ─┐
//!                └───► Custom (schema, columns, scale) ── each time ─► Slot ◄──┘
//! ```
//! Why two halves: a kind's names rarely change and are wanted as `&'static` everywhere, so
//! they are kept for ever, once; its schema is large and changes with every release of a
//! chart, so it is replaced in its slot and freed when the last request that reads it ends.
//! Not here: which definitions there are (`objects/custom_kinds`), what a definition may
//! say (`validate/definition`).

mod check;
mod columns;
mod definition;
mod fill;
mod format;
mod json_path;
pub(super) mod node;
mod shape;

use std::ops::Deref;
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde_json::Value;

use self::columns::CustomColumn;
use self::node::Node;
use super::Problems;
use crate::model::schema::Type;

pub use definition::{Identity, Version, precedence, read};
pub(super) use json_path::JsonPath;

/// What of a kind may change while it is served.
#[derive(Debug)]
pub struct Custom {
    schema: Node,
    shape: Type,
    columns: Vec<CustomColumn>,
    /// The schema as it is published: the definition's own words.
    pub published: Value,
    pub list_kind: String,
    /// `group/version` that objects are stored in.
    stored_as: String,
    api_version: String,
    /// JSON pointers of the scale subresource.
    pub scale: Option<ScalePaths>,
    /// What clients of a deprecated version are told.
    pub deprecation: Option<String>,
}

/// Where the parts of a `Scale` stand in an object, as JSON pointers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    pub spec: String,
    pub status: String,
    pub selector: Option<String>,
}

impl Custom {
    /// Known fields only, each nothing or something; metadata of its own type.
    pub(super) fn decode(&self, mut object: Value) -> Result<Value, serde_json::Error> {
        fill::prune(&self.schema, &mut object)?;
        Ok(object)
    }

    pub(super) fn default(&self, object: &mut Value) {
        fill::defaults(&self.schema, object);
    }

    /// Judges a new object, or what of it differs from `old`.
    pub(super) fn validate(&self, object: &Value, old: Option<&Value>, problems: &mut Problems) {
        check::check(&self.schema, object, old, "", problems);
    }

    /// From the version that is stored to this kind's: only the name of the version differs
    /// (conversion strategy `None`). What a newer schema says of old objects is filled in.
    pub(super) fn load(&self, object: &mut Value) {
        object["apiVersion"] = self.api_version.as_str().into();
        // What an older schema let in stays readable, whatever its metadata is.
        if let Ok(pruned) = self.decode(object.clone()) {
            *object = pruned;
        }
        self.default(object);
    }

    pub(super) fn store(&self, object: &mut Value) {
        object["apiVersion"] = self.stored_as.as_str().into();
    }
}

/// Judges the default of a place: it must be what the schema would make of it, and valid.
pub(super) fn check_default(schema: &Value, default: &Value, at: &str, problems: &mut Problems) {
    // A schema that cannot be read is refused for that.
    let Ok(node) = Node::compile(schema) else { return };
    let mut pruned = default.clone();
    if fill::prune_part(&node, &mut pruned).is_err() || pruned != *default {
        problems.invalid(at, default, "must not have unknown fields");
        return;
    }
    fill::defaults(&node, &mut pruned);
    check::check(&node, &pruned, None, at, problems);
}

/// What of a definition is kept and published but not enforced.
pub fn unenforced(definition: &Value) -> Vec<String> {
    let versions = definition["spec"]["versions"].as_array().into_iter().flatten();
    let ruled = versions.filter_map(|version| {
        let rules = super::validate::definition_schema::rules_of(&version["schema"]);
        (rules > 0).then(|| (version["name"].as_str().unwrap_or_default(), rules))
    });
    ruled
        .map(|(version, rules)| {
            format!("{rules} x-kubernetes-validations (CEL) of version {version} are stored and published but not evaluated")
        })
        .collect()
}

/// Where a kind finds its newest [`Custom`].
#[derive(Debug)]
pub struct Slot(ArcSwap<Custom>);

impl Slot {
    pub fn new(custom: Arc<Custom>) -> Self {
        Self(ArcSwap::new(custom))
    }

    pub fn now(&self) -> Arc<Custom> {
        self.0.load_full()
    }

    pub fn replace(&self, custom: Arc<Custom>) {
        self.0.store(custom);
    }
}

/// A kind's type, wherever it comes from.
#[derive(Clone, Debug)]
pub enum Shape {
    Table(&'static Type),
    Custom(Arc<Custom>),
}

impl Deref for Shape {
    type Target = Type;

    fn deref(&self) -> &Type {
        match self {
            Shape::Table(shape) => shape,
            Shape::Custom(custom) => &custom.shape,
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
