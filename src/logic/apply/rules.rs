//! What an update and an apply do to an object and to its managers.

use std::sync::OnceLock;

use serde_json::{Value, json};

use super::check::check;
use super::compare::{Comparison, compare};
use super::fieldset::FieldSet;
use super::managed::{Managed, Manager, Operation};
use super::merge::merge;
use super::path::{PathElement, print};
use super::remove::remove;
use super::to_set;
use crate::model::schema::Type;

/// Who owns what was there before anybody applied, where nobody was recorded.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
const KUBECTL: &str = "kubectl";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A field that another manager owns and that the apply would change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Printed, as in Kubernetes' message.
    pub manager: String,
    pub field: String,
}

/// Why an apply is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The configuration does not fit its type.
    #[error("{}", .0.join("\n"))]
    Invalid(Vec<String>),
    #[error("{}", conflict_text(.0))]
    Conflicts(Vec<Conflict>),
}

/// Kubernetes' message about conflicts.
fn conflict_text(conflicts: &[Conflict]) -> String {
    if let [only] = conflicts {
        let Conflict { manager, field } = only;
        return format!("Apply failed with 1 conflict: conflict with {manager}: {field}");
    }
    let mut managers: Vec<&str> = conflicts.iter().map(|one| one.manager.as_str()).collect();
    managers.sort_unstable();
    managers.dedup();
    let mut lines = Vec::new();
    for manager in managers {
        lines.push(format!("conflicts with {manager}:"));
        let own = conflicts.iter().filter(|one| one.manager == manager);
        lines.extend(own.map(|one| format!("- {}", one.field)));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

/// The fields that nobody owns: the server's, and those that say which object it is.
fn unowned() -> &'static FieldSet {
    static SET: OnceLock<FieldSet> = OnceLock::new();
    SET.get_or_init(|| {
        let field = |name: &str| PathElement::Field(name.to_owned());
        let mut set = FieldSet::default();
        for name in ["apiVersion", "kind", "metadata"] {
            set.insert(&[field(name)]);
        }
        for name in [
            "name",
            "namespace",
            "creationTimestamp",
            "selfLink",
            "uid",
            "generation",
            "managedFields",
            "resourceVersion",
        ] {
            set.insert(&[field("metadata"), field(name)]);
        }
        set
    })
}

/// The managers after an update from `live` (absent: a create) to `new`.
pub fn update(
    mut managed: Managed,
    live: Option<&Value>,
    new: &Value,
    shape: &Type,
    writer: &Manager,
    now: &str,
) -> Managed {
    let Comparison { added, removed, modified } = compare(live, new, shape);
    let changed = added.union(&modified);
    managed.take(&changed.clone().union(&removed), None);
    // What the writer owned and did not change it still owns.
    managed.add(writer, &changed.difference(unowned()), now);
    managed
}

/// An apply that is allowed.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    pub object: Value,
    pub managed: Managed,
}

/// What is applied, by whom, to what.
#[derive(Clone, Copy, Debug)]
pub struct Apply<'a> {
    /// `None`: the object does not exist yet.
    pub live: Option<&'a Value>,
    pub config: &'a Value,
    pub shape: &'a Type,
    pub applier: &'a Manager,
    pub force: bool,
    /// RFC 3339.
    pub now: &'a str,
}

impl Apply<'_> {
    /// Does it: the object to write and its managers.
    pub fn run(&self, managed: Managed) -> Result<Applied, ApplyError> {
        let problems = check(self.config, self.shape);
        if !problems.is_empty() {
            return Err(ApplyError::Invalid(problems));
        }
        let managed = self.first_managers(managed);
        let last_applied = self.last_applied();
        let outcome = match (self.apply(managed.clone(), self.force), &last_applied) {
            // kubectl's older way to apply left its fields to a manager of another name;
            // what that applied last, kubectl may take over.
            (Err(ApplyError::Conflicts(conflicts)), Some(last)) => {
                let own: Vec<String> =
                    to_set::of(last, self.shape).paths().iter().map(|path| print(path)).collect();
                let others: Vec<Conflict> =
                    conflicts.into_iter().filter(|one| !own.contains(&one.field)).collect();
                if !others.is_empty() {
                    return Err(ApplyError::Conflicts(others));
                }
                self.apply(managed, true)
            }
            (outcome, _) => outcome,
        };
        let mut applied = outcome?;
        if last_applied.is_some() {
            applied.object["metadata"]["annotations"][LAST_APPLIED] =
                format!("{}\n", self.config).into();
        }
        Ok(applied)
    }

    /// Where nobody was recorded, everything belongs to one manager of a telling name.
    fn first_managers(&self, managed: Managed) -> Managed {
        match self.live {
            Some(live) if managed.is_empty() => {
                let before = Manager {
                    name: BEFORE_FIRST_APPLY.into(),
                    operation: Operation::Update,
                    ..self.applier.clone()
                };
                update(managed, None, live, self.shape, &before, self.now)
            }
            _ => managed,
        }
    }

    /// The configuration that kubectl's older apply left in an annotation.
    fn last_applied(&self) -> Option<Value> {
        if self.applier.name != KUBECTL {
            return None;
        }
        let text = self.live?.get("metadata")?.get("annotations")?.get(LAST_APPLIED)?.as_str()?;
        serde_json::from_str(text).ok()
    }

    fn apply(&self, mut managed: Managed, force: bool) -> Result<Applied, ApplyError> {
        let nothing = json!({});
        let live = self.live.unwrap_or(&nothing);
        let merged = merge(live, self.config, self.shape);
        let set = to_set::of(self.config, self.shape).difference(unowned());
        let last = managed.fields_of(self.applier).cloned().unwrap_or_default();
        managed.set(self.applier, set.clone(), None);
        let object = self.prune(&merged, &managed, &last);
        let Comparison { added, removed, modified } = compare(self.live, &object, self.shape);
        let changed = added.union(&modified);
        let conflicts = managed.owned_by_others(self.applier, &changed);
        if !force && !conflicts.is_empty() {
            let each = conflicts.iter().flat_map(|(manager, fields)| {
                let paths = fields.paths().into_iter();
                paths.map(|path| Conflict { manager: manager.print(), field: print(&path) })
            });
            return Err(ApplyError::Conflicts(each.collect()));
        }
        managed.take(&changed.union(&removed), Some(self.applier));
        if object != *live || set != last {
            managed.set(self.applier, set, Some(self.now));
        }
        Ok(Applied { object, managed })
    }

    /// Drops what the applier said last time, says no more, and nobody else owns.
    fn prune(&self, merged: &Value, managed: &Managed, last: &FieldSet) -> Value {
        if last.is_empty() {
            return merged.clone();
        }
        let named = |set: &FieldSet| set.with_named_fields(self.shape);
        let fields = |value: &Value| named(&to_set::of(value, self.shape));
        let all = fields(merged);
        let without_last = remove(merged, &named(last), self.shape);
        // An element that was removed whole may hold fields of others: they bring it back.
        let owned = fields(&without_last).union(&named(&managed.owned()));
        let with_owned = remove(merged, &all.difference(&owned), self.shape);
        // What went with it and was never the applier's comes back as well.
        let dropped = all.difference(&fields(&with_owned)).intersection(&named(last));
        remove(merged, &dropped, self.shape)
    }
}
