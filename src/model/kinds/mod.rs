//! The one table of kinds: everything that differs between two kinds stands here as data.
//!
//! Why a table: some eighty kinds are served by one generic path (`objects/`, `api/kube/`);
//! names, columns, defaults, validation, merge keys and selectable fields must therefore
//! be looked up and not be scattered over the handlers.
//!
//! Invariants: a kind's `decode` drops what Kubernetes does not know; `default` and
//! `validate` see decoded objects only; all functions are pure (the time is passed in).
//! Not here: how objects are stored (`objects/`), how they travel (`api/kube/`).

mod convert;
pub mod custom;
mod defaults;
mod human;
mod print;
mod problems;
mod table;
mod validate;

use jiff::Timestamp;
use serde_json::Value;

use self::custom::{Custom, Shape, Slot};
use super::schema::by_kind as by_name_and_version;

pub use convert::keep_noted_status;
pub use human::human_duration;
pub use problems::Problems;
pub use table::KINDS;
pub use validate::meta::{is_dns_label, is_label_value, is_qualified_name, validate_metadata};

/// Which names an object of the kind may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// RFC 1123 subdomain: most kinds.
    Subdomain,
    /// RFC 1123 label: namespaces.
    Label,
    /// RFC 1035 label: services.
    Label1035,
    /// What may stand in a path: roles and bindings, such as `system:node`.
    PathSegment,
}

/// A part of an object with a path of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subresource {
    /// `status` is written here and nowhere else.
    Status,
    /// `autoscaling/v1` `Scale`, at the usual places in `spec` and `status`.
    Scale,
    /// A pod's log; answered by `api/kube`.
    Log,
    /// Runs a command in a pod's container; answered by `api/kube`.
    Exec,
    /// Connects to a container's own process; answered by `api/kube`.
    Attach,
    /// Opens ports of a pod; answered by `api/kube`.
    PortForward,
    /// Puts containers into a running pod, to look around in it.
    EphemeralContainers,
    /// Sets a pod's node, once.
    Binding,
    /// A delete that asks the pod's disruption budget first.
    Eviction,
    /// Writes a namespace's `spec.finalizers`.
    Finalize,
    /// Makes a token for a service account; nothing is stored.
    Token,
}

impl Subresource {
    /// Its path segment.
    pub fn name(self) -> &'static str {
        match self {
            Subresource::Status => "status",
            Subresource::Scale => "scale",
            Subresource::Log => "log",
            Subresource::Exec => "exec",
            Subresource::Attach => "attach",
            Subresource::PortForward => "portforward",
            Subresource::EphemeralContainers => "ephemeralcontainers",
            Subresource::Binding => "binding",
            Subresource::Eviction => "eviction",
            Subresource::Finalize => "finalize",
            Subresource::Token => "token",
        }
    }

    /// Group, version and kind of what travels, where it is not the object itself.
    pub fn body_kind(self) -> Option<(&'static str, &'static str, &'static str)> {
        match self {
            Subresource::Scale => Some(("autoscaling", "v1", "Scale")),
            Subresource::Binding => Some(("", "v1", "Binding")),
            Subresource::Exec => Some(("", "v1", "PodExecOptions")),
            Subresource::Attach => Some(("", "v1", "PodAttachOptions")),
            Subresource::PortForward => Some(("", "v1", "PodPortForwardOptions")),
            Subresource::Eviction => Some(("policy", "v1", "Eviction")),
            Subresource::Token => Some(("authentication.k8s.io", "v1", "TokenRequest")),
            Subresource::Status
            | Subresource::Log
            | Subresource::Finalize
            | Subresource::EphemeralContainers => None,
        }
    }

    /// The verbs that discovery lists.
    pub fn verbs(self) -> &'static [&'static str] {
        match self {
            Subresource::Status | Subresource::Scale | Subresource::EphemeralContainers => {
                &["get", "patch", "update"]
            }
            Subresource::Log => &["get"],
            Subresource::Exec | Subresource::Attach | Subresource::PortForward => {
                &["create", "get"]
            }
            Subresource::Binding | Subresource::Eviction | Subresource::Token => &["create"],
            Subresource::Finalize => &["update"],
        }
    }
}

/// One column of a kind's Table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub name: &'static str,
    /// `string` or `integer`.
    pub data_type: &'static str,
    /// `name` for the column that names the object.
    pub format: &'static str,
    /// 0 is always shown; 1 only with `-o wide`.
    pub priority: i32,
    pub cell: fn(&Value, Timestamp) -> Value,
}

/// A field that a field selector may name.
#[derive(Clone, Copy, Debug)]
pub struct SelectableField {
    pub name: &'static str,
    /// JSON pointer of the field; absent reads as empty.
    pub pointer: &'static str,
}

/// Turns a JSON object into the kind's type and back, so that only known fields remain.
pub type Decode = fn(Value) -> Result<Value, serde_json::Error>;

/// Everything the generic layers must know about a kind.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Empty for the core group.
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
    pub short_names: &'static [&'static str],
    pub categories: &'static [&'static str],
    pub namespaced: bool,
    pub name_rule: NameRule,
    pub verbs: &'static [&'static str],
    /// Objects are encrypted before they reach the store.
    pub sealed: bool,
    /// Objects are stored; those of other kinds are questions that are answered.
    pub kept: bool,
    pub subresources: &'static [Subresource],
    /// `metadata.generation` counts changes of everything but metadata and status.
    pub generation: bool,
    pub columns: &'static [Column],
    pub fields: &'static [SelectableField],
    /// JSON pointers that never change after creation.
    pub immutable: &'static [&'static str],
    pub decode: Decode,
    /// From the form that is stored to this version's, and back; the same for most kinds.
    pub from_stored: fn(&mut Value),
    pub to_stored: fn(&mut Value),
    pub default: fn(&mut Value),
    pub validate: fn(&Value, &mut Problems),
    /// What an update may not do: `(old, new)`; both decoded and defaulted.
    pub validate_update: fn(&Value, &Value, &mut Problems),
    /// A status sent with a create is kept; otherwise it is for the status path only.
    pub status_on_create: bool,
    /// What only the server sets on a new object, such as a first status.
    pub on_create: fn(&mut Value),
    /// Of a kind that a CustomResourceDefinition made: what takes the place of the functions
    /// above. They are called by the methods of the same names, which know.
    pub custom: Option<&'static Slot>,
}

impl Kind {
    /// `v1` or `group/version`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// What a definition says of the kind now; nothing for those of the table.
    pub fn custom(&self) -> Option<std::sync::Arc<Custom>> {
        self.custom.map(Slot::now)
    }

    /// Its fields, and how they merge.
    pub fn schema(&self) -> Shape {
        if let Some(custom) = self.custom() {
            return Shape::Custom(custom);
        }
        Shape::Table(
            by_name_and_version(&self.api_version(), self.kind)
                .expect("a test finds every kind in the table of types"),
        )
    }

    /// The kind of its lists.
    pub fn list_kind(&self) -> String {
        match self.custom() {
            Some(custom) => custom.list_kind.clone(),
            None => format!("{}List", self.kind),
        }
    }

    /// Known fields only, each of its type.
    pub fn decode(&self, object: Value) -> Result<Value, serde_json::Error> {
        match self.custom() {
            Some(custom) => custom.decode(object),
            None => (self.decode)(object),
        }
    }

    pub fn default(&self, object: &mut Value) {
        match self.custom() {
            Some(custom) => custom.default(object),
            None => (self.default)(object),
        }
    }

    /// Judges a new object.
    pub fn validate(&self, object: &Value, problems: &mut Problems) {
        match self.custom() {
            Some(custom) => custom.validate(object, None, problems),
            None => (self.validate)(object, problems),
        }
    }

    /// Judges a changed object; `own_fields_only` skips what an update may not do.
    pub fn validate_change(
        &self,
        old: &Value,
        new: &Value,
        own_fields_only: bool,
        problems: &mut Problems,
    ) {
        if let Some(custom) = self.custom() {
            return custom.validate(new, Some(old), problems);
        }
        (self.validate)(new, problems);
        if !own_fields_only {
            (self.validate_update)(old, new, problems);
        }
    }

    /// From the form that is stored to this version's.
    pub fn load(&self, object: &mut Value) {
        match self.custom() {
            Some(custom) => custom.load(object),
            None => (self.from_stored)(object),
        }
    }

    /// From this version's form to the one that is stored.
    pub fn store(&self, object: &mut Value) {
        match self.custom() {
            Some(custom) => custom.store(object),
            None => (self.to_stored)(object),
        }
    }

    pub fn has(&self, subresource: Subresource) -> bool {
        self.subresources.contains(&subresource)
    }

    pub fn subresource(&self, name: &str) -> Option<Subresource> {
        self.subresources.iter().copied().find(|subresource| subresource.name() == name)
    }
}

/// The kind served at a path.
pub fn by_path(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    KINDS
        .iter()
        .find(|kind| kind.group == group && kind.version == version && kind.plural == plural)
}

/// The kind by the words in a manifest.
pub fn by_kind(api_version: &str, name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.kind == name && kind.api_version() == api_version)
}

/// One version of every kind of the table whose objects can own, be owned, and go with their
/// namespace. Not Events: they come by thousands and end by themselves.
pub fn collected() -> Vec<&'static Kind> {
    let mut found: Vec<&'static Kind> = Vec::new();
    for kind in KINDS.iter().filter(|kind| kind.kept && kind.kind != "Event") {
        if !found.iter().any(|held| held.group == kind.group && held.plural == kind.plural) {
            found.push(kind);
        }
    }
    found
}

/// Every group and version served, core first, in table order.
pub fn group_versions() -> Vec<(&'static str, &'static str)> {
    let mut seen = Vec::new();
    for kind in KINDS {
        if !seen.contains(&(kind.group, kind.version)) {
            seen.push((kind.group, kind.version));
        }
    }
    seen
}

#[cfg(test)]
mod definition_tests;
#[cfg(test)]
mod fuzz_tests;
#[cfg(test)]
mod network_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod workload_tests;
