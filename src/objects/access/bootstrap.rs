//! Keeps the default roles and bindings as they should be, at each start of a leader.
//!
//! What is missing is added, what an operator added stays; an object whose annotation
//! `rbac.authorization.kubernetes.io/autoupdate` says `false` is left alone.
//! Source: `pkg/registry/rbac/reconciliation`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::default_roles::{self, AUTOUPDATE, DefaultBinding, DefaultRole};
use crate::logic::rbac::not_covered;
use crate::model::kinds::{self, Kind};
use crate::model::rbac::{GROUP, RoleRef, Rule, Subject};
use crate::model::status::Status;
use crate::objects::{Address, DeleteRequest, ListRequest, Objects, WriteOptions, str_at};

fn kind(plural: &str) -> Result<&'static Kind, Status> {
    kinds::by_path(GROUP, "v1", plural).ok_or_else(Status::unknown_resource)
}

fn list<T: serde::de::DeserializeOwned>(object: &Value, pointer: &str) -> Vec<T> {
    let found = object.pointer(pointer).cloned().unwrap_or_default();
    serde_json::from_value(found).unwrap_or_default()
}

fn is_ours(object: &Value) -> bool {
    let annotations = object.pointer("/metadata/annotations");
    annotations.and_then(|all| all.get(AUTOUPDATE)).is_none_or(|value| value != "false")
}

/// The role with what it lacks; `None` if it lacks nothing.
fn mend_role(wanted: &DefaultRole, found: &Value) -> Option<Value> {
    let mut next = found.clone();
    let rules: Vec<Rule> = list(found, "/rules");
    // What a role gathers is the aggregation's work.
    if wanted.gathers.is_empty() {
        let missing = not_covered(&rules, &wanted.rules);
        if !missing.is_empty() {
            next["rules"] = serde_json::json!([rules, missing].concat());
        }
    } else {
        let mut selectors: Vec<Value> = list(found, "/aggregationRule/clusterRoleSelectors");
        for selector in wanted.selectors() {
            if !selectors.contains(&selector) {
                selectors.push(selector);
            }
        }
        next["aggregationRule"] = serde_json::json!({"clusterRoleSelectors": selectors});
    }
    let object = wanted.object();
    for field in ["labels", "annotations"] {
        for (key, value) in object["metadata"][field].as_object().into_iter().flatten() {
            next["metadata"][field][key] = value.clone();
        }
    }
    (next != *found).then_some(next)
}

/// The binding with the subjects that it lacks; `None` if it lacks none.
fn mend_binding(wanted: &DefaultBinding, found: &Value) -> Option<Value> {
    let mut subjects: Vec<Subject> = list(found, "/subjects");
    let before = subjects.len();
    for subject in wanted.subjects() {
        if !subjects.contains(&subject) {
            subjects.push(subject);
        }
    }
    if subjects.len() == before {
        return None;
    }
    let mut next = found.clone();
    next["subjects"] = subjects
        .iter()
        .map(|subject| {
            let mut object = serde_json::json!({"kind": subject.kind, "name": subject.name});
            let fields = [("apiGroup", &subject.api_group), ("namespace", &subject.namespace)];
            for (field, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
                object[field] = value.as_str().into();
            }
            object
        })
        .collect();
    Some(next)
}

impl Objects {
    /// Makes the first signing key, if the key that it is encrypted with is agreed on, and
    /// mends the default roles and bindings. A leader that cannot make the first goes on
    /// trying, and works meanwhile.
    pub(in crate::objects) async fn ensure_access(&self) -> Result<(), Status> {
        if let Err(status) = self.ensure_signing_key().await {
            tracing::debug!(%status, "there is no key for signing tokens yet");
        }
        let roles = self.by_name(kind("clusterroles")?).await?;
        for wanted in default_roles::roles() {
            let kind = kind("clusterroles")?;
            match roles.get(wanted.name) {
                None => self.make(kind, wanted.object()).await?,
                Some(found) if is_ours(found) => {
                    if let Some(next) = mend_role(&wanted, found) {
                        self.mend(kind, wanted.name, next).await?;
                    }
                }
                Some(_) => {}
            }
        }
        let bindings = self.by_name(kind("clusterrolebindings")?).await?;
        for wanted in default_roles::bindings() {
            let kind = kind("clusterrolebindings")?;
            let found = bindings.get(wanted.name);
            let Some(found) =
                found.filter(|found| !is_ours(found) || role_of(found) == wanted.role())
            else {
                if found.is_some() {
                    // The role of a binding cannot be changed.
                    let address = Address::new(kind, None, wanted.name);
                    self.delete(&address, &DeleteRequest::default()).await?;
                }
                self.make(kind, wanted.object()).await?;
                continue;
            };
            if let Some(next) = mend_binding(&wanted, found).filter(|_| is_ours(found)) {
                self.mend(kind, wanted.name, next).await?;
            }
        }
        Ok(())
    }

    async fn by_name(&self, kind: &'static Kind) -> Result<BTreeMap<String, Value>, Status> {
        let listing = self.list(&ListRequest::all(kind, None)).await?;
        let named = |object: Value| (str_at(&object, "/metadata/name").to_owned(), object);
        Ok(listing.items.into_iter().map(named).collect())
    }

    async fn make(&self, kind: &'static Kind, object: Value) -> Result<(), Status> {
        match self.create(kind, None, object, WriteOptions::server("create", kind)).await {
            Ok(_) => Ok(()),
            // Another leader was faster.
            Err(status) if status.is_conflict() => Ok(()),
            Err(status) => Err(status),
        }
    }

    async fn mend(&self, kind: &'static Kind, name: &str, next: Value) -> Result<(), Status> {
        let address = Address::new(kind, None, name);
        match self.update(&address, None, next, WriteOptions::server("update", kind)).await {
            Ok(_) => Ok(()),
            Err(status) if status.is_conflict() || status.is_not_found() => Ok(()),
            Err(status) => Err(status),
        }
    }
}

fn role_of(binding: &Value) -> RoleRef {
    serde_json::from_value(binding["roleRef"].clone()).unwrap_or_default()
}
