//! Delete: mark first where something must still happen, remove otherwise.
//!
//! ```text
//! pod on a node          deletionTimestamp = now + grace; the agent stops the
//!                        containers and deletes again with grace 0
//! finalizers left        deletionTimestamp = now; the last finalizer's removal removes
//! namespace              Terminating; its controller empties it, then finalizes
//! anything else          removed
//! ```
//! Dependents are the garbage collector's work: the propagation policy only sets the
//! finalizers `foregroundDeletion` and `orphan` that it acts on.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::access::Author;
use super::stored::{self, Found};
use super::{Address, ListRequest, Objects, WriteOptions, definitions, str_at};
use crate::model::priority::SYSTEM_CLASSES;
use crate::model::status::Status;
use crate::sys::clock;

/// Attempts before a contended delete gives up.
const ATTEMPTS: usize = 10;
/// Seconds a pod gets where it does not say.
const POD_GRACE_SECONDS: i64 = 30;
/// Namespaces without which the cluster does not work.
const PROTECTED_NAMESPACES: &[&str] = &["default", "kube-system", "kube-public"];
const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// What happens to the objects that this one owns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    /// They are collected afterwards.
    #[default]
    Background,
    /// They are collected first.
    Foreground,
    /// They stay.
    Orphan,
}

/// How to delete.
#[derive(Clone, Debug, Default)]
pub struct DeleteRequest {
    /// Seconds; `None` takes the object's own, `Some(0)` removes at once.
    pub grace_period_seconds: Option<i64>,
    pub propagation: Propagation,
    /// Refuse unless the object has this uid.
    pub uid: Option<String>,
    /// Refuse unless the object has this resourceVersion.
    pub resource_version: Option<String>,
    pub dry_run: bool,
    /// What the object's status says of its end, written along with the mark.
    pub condition: Option<Value>,
    /// Who is behind it; see [`WriteOptions`].
    pub author: Option<Arc<Author>>,
}

/// What became of the object.
#[derive(Clone, Debug)]
pub struct Deletion {
    pub object: Value,
    /// Whether it is out of the store, or only marked.
    pub gone: bool,
}

impl Objects {
    /// Deletes one object.
    pub async fn delete(
        &self,
        address: &Address,
        request: &DeleteRequest,
    ) -> Result<Deletion, Status> {
        let options = WriteOptions {
            dry_run: request.dry_run,
            author: request.author.clone(),
            ..WriteOptions::default()
        };
        for _ in 0..ATTEMPTS {
            let found = self.fetch(address).await?.ok_or_else(|| address.not_found())?;
            check_preconditions(address, &found, request)?;
            check_protected(address)?;
            let next = mark(address, &found.object, request);
            let waits = waits(&next);
            if let Some(object) = self.replace(address, &found, next, &options).await? {
                return Ok(Deletion { object, gone: !waits });
            }
        }
        Err(Status::timeout("the delete was overtaken by other writers too often; try again")
            .retry_after(1))
    }

    /// Deletes everything that a list selects; answers with what was selected.
    pub async fn delete_collection(
        &self,
        list: &ListRequest,
        request: &DeleteRequest,
    ) -> Result<super::Listing, Status> {
        let listing = self.list(list).await?;
        for object in &listing.items {
            let namespace = str_at(object, "/metadata/namespace");
            let address =
                Address::new(list.kind, Some(namespace), str_at(object, "/metadata/name"));
            match self.delete(&address, request).await {
                Ok(_) => {}
                Err(status) if status.is_not_found() => {}
                Err(status) => return Err(status),
            }
        }
        Ok(listing)
    }
}

/// The cluster's own namespaces and priorities stay.
fn check_protected(address: &Address) -> Result<(), Status> {
    let kind = address.kind;
    if kind.kind == "Namespace" && PROTECTED_NAMESPACES.contains(&address.name.as_str()) {
        let why = "this namespace may not be deleted";
        return Err(Status::forbidden(kind.plural, kind.group, &address.name, why));
    }
    let is_system = |name: &str| SYSTEM_CLASSES.iter().any(|class| class.name == name);
    if kind.kind == "PriorityClass" && is_system(&address.name) {
        let why = "this is a system priority class and cannot be deleted";
        return Err(Status::forbidden(kind.plural, kind.group, &address.name, why));
    }
    Ok(())
}

pub(super) fn check_preconditions(
    address: &Address,
    found: &Found,
    request: &DeleteRequest,
) -> Result<(), Status> {
    let uid = str_at(&found.object, "/metadata/uid");
    if let Some(wanted) = request.uid.as_deref().filter(|wanted| *wanted != uid) {
        return Err(address.conflict(&format!(
            "Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}"
        )));
    }
    let version = found.revision.to_string();
    if let Some(wanted) = request.resource_version.as_deref().filter(|wanted| *wanted != version) {
        return Err(address.conflict(&format!("Precondition failed: ResourceVersion in precondition: {wanted}, ResourceVersion in object meta: {version}")));
    }
    Ok(())
}

/// Whether a marked object stays in the store for now.
fn waits(object: &Value) -> bool {
    let some = |pointer: &str| {
        object.pointer(pointer).and_then(Value::as_array).is_some_and(|list| !list.is_empty())
    };
    let grace = object.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64);
    let namespace = object["kind"] == "Namespace" && object["apiVersion"] == "v1";
    some("/metadata/finalizers")
        || grace.is_some_and(|seconds| seconds > 0)
        || (namespace && some("/spec/finalizers"))
}

/// The object with its deletion written into it.
fn mark(address: &Address, object: &Value, request: &DeleteRequest) -> Value {
    let mut next = object.clone();
    let grace = grace_seconds(address, object, request);
    let earlier = object.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64);
    let marked = object.pointer("/metadata/deletionTimestamp").is_some();
    if let Some(metadata) = stored::metadata(&mut next) {
        // A second delete may shorten the time that is left, never lengthen it.
        if !marked || earlier.is_some_and(|earlier| grace < earlier) {
            let now = Timestamp::from_second(clock::now().as_second()).unwrap_or_default();
            let end = now.checked_add(SignedDuration::from_secs(grace)).unwrap_or(now);
            metadata.insert("deletionTimestamp".into(), end.to_string().into());
            metadata.insert("deletionGracePeriodSeconds".into(), grace.into());
        }
        if !marked {
            set_propagation(metadata, request.propagation);
        }
    }
    if !marked && let Some(condition) = &request.condition {
        add_condition(&mut next, condition);
    }
    if !marked && definitions::is_definition(address.kind) {
        next = definitions::mark(next);
    }
    if next["kind"] == "Namespace" && next["apiVersion"] == "v1" {
        next["status"]["phase"] = "Terminating".into();
    }
    next
}

/// Replaces the condition of the same type.
fn add_condition(object: &mut Value, condition: &Value) {
    if !object["status"].is_object() {
        object["status"] = Value::Object(serde_json::Map::new());
    }
    let held = object["status"].get("conditions").and_then(Value::as_array);
    let others = held.into_iter().flatten().filter(|one| one["type"] != condition["type"]);
    let mut conditions: Vec<Value> = others.cloned().collect();
    conditions.push(condition.clone());
    object["status"]["conditions"] = Value::Array(conditions);
}

fn set_propagation(metadata: &mut serde_json::Map<String, Value>, propagation: Propagation) {
    let mut finalizers = match metadata.get("finalizers") {
        Some(Value::Array(list)) => list.clone(),
        _ => Vec::new(),
    };
    finalizers.retain(|finalizer| finalizer != FOREGROUND && finalizer != ORPHAN);
    match propagation {
        Propagation::Background => {}
        Propagation::Foreground => finalizers.push(FOREGROUND.into()),
        Propagation::Orphan => finalizers.push(ORPHAN.into()),
    }
    if finalizers.is_empty() {
        metadata.shift_remove("finalizers");
    } else {
        metadata.insert("finalizers".into(), Value::Array(finalizers));
    }
}

/// Only a pod that runs on a node has something to finish.
fn grace_seconds(address: &Address, object: &Value, request: &DeleteRequest) -> i64 {
    let phase = str_at(object, "/status/phase");
    let is_pod = address.kind.kind == "Pod" && address.kind.group.is_empty();
    let runs = !str_at(object, "/spec/nodeName").is_empty();
    if !is_pod || !runs || phase == "Succeeded" || phase == "Failed" {
        return 0;
    }
    let own = object.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_i64);
    request.grace_period_seconds.or(own).unwrap_or(POD_GRACE_SECONDS).max(0)
}
