//! What definitions go through: names are accepted, then they are established; when one is
//! deleted, its objects go first.
//!
//! ```text
//! created ─► NamesAccepted, Established ─► served
//! deleted ─► finalizer, Terminating ─► its objects deleted ─► what they owned collected
//!         ─► finalizer removed ─► gone
//! ```
//! Why one pass over all of them: whether a name is free depends on all others, and they
//! are few. The leader makes it whenever one changed (`app/leadership`).
//! Invariants: an object is made only while its definition lives (its key is a guard of the
//! transaction); a definition goes only after the store itself listed no object of it, and
//! none that names one of them as its owner.

use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::custom_kinds::definition_kind;
use super::stored::{self, Found};
use super::update::Part;
use super::{Address, DeleteRequest, ListRequest, Objects, WriteOptions, str_at};
use crate::base::chain::chain;
use crate::logic::conditions::condition;
use crate::logic::definition::{holds, settled, with_condition};
use crate::model::kinds::custom::unenforced;
use crate::model::kinds::{self, Kind, Subresource};
use crate::model::status::Status;

/// Set when a definition is deleted, until its objects are gone.
pub(super) const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";
const TERMINATING: &str = "Terminating";
/// How soon a pass is made again that could not finish.
const AGAIN: Duration = Duration::from_millis(250);

/// Whether the kind is that of definitions.
pub(super) fn is_definition(kind: &Kind) -> bool {
    kind.kind == "CustomResourceDefinition" && kind.group == "apiextensions.k8s.io"
}

/// What the writer of an object is told about it.
pub fn warnings(kind: &Kind, object: &Value) -> Vec<String> {
    if is_definition(kind) { unenforced(object) } else { Vec::new() }
}

/// Marks a definition that is deleted: its objects go first.
pub(super) fn mark(definition: Value) -> Value {
    let message =
        "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
    let now = stored::timestamp();
    let mut next =
        with_condition(definition, TERMINATING, true, "InstanceDeletionPending", message, &now);
    if let Some(metadata) = stored::metadata(&mut next) {
        let finalizers = metadata.entry("finalizers").or_insert_with(|| json!([]));
        if let Some(finalizers) = finalizers.as_array_mut()
            && !finalizers.iter().any(|one| one == CLEANUP)
        {
            finalizers.push(CLEANUP.into());
        }
    }
    next
}

/// What a look at one definition came to.
enum Settled {
    Done,
    Written(Value),
    /// For its objects to go.
    Waits,
}

impl Objects {
    /// The definition of a custom kind, if new objects may be made of it.
    pub(super) async fn admit_definition(
        &self,
        kind: &'static Kind,
    ) -> Result<Option<Found>, Status> {
        if kind.custom.is_none() {
            return Ok(None);
        }
        let found = self.fetch(&definition_of(kind)).await?;
        let found = found.ok_or_else(Status::unknown_resource)?;
        if found.object.pointer("/metadata/deletionTimestamp").is_some() {
            let mut status = Status::method_not_allowed();
            status.message =
                "create not allowed while custom resource definition is terminating".into();
            return Err(status);
        }
        Ok(Some(found))
    }

    /// Brings all definitions on, whenever one changed, until cancelled.
    pub async fn keep_definitions(&self, cancel: CancellationToken) {
        let mut steps = self.kinds().steps();
        loop {
            steps.mark_unchanged();
            let settled = tokio::select! {
                () = cancel.cancelled() => return,
                settled = self.settle_definitions() => settled,
            };
            let is_done = match settled {
                Ok(is_done) => is_done,
                Err(error) => {
                    tracing::debug!(error = chain(&error), "cannot settle definitions yet");
                    false
                }
            };
            tokio::select! {
                () = cancel.cancelled() => return,
                changed = steps.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(AGAIN), if !is_done => {}
            }
        }
    }

    /// One pass over all definitions; whether nothing is left to do.
    pub(super) async fn settle_definitions(&self) -> Result<bool, Status> {
        let listing = self.list(&ListRequest::all(definition_kind(), None)).await?;
        let mut all = listing.items;
        let mut is_done = true;
        // The older has the right to its names.
        all.sort_by_cached_key(|own| {
            let made = str_at(own, "/metadata/creationTimestamp").to_owned();
            (!holds(own, "Established"), made, str_at(own, "/metadata/name").to_owned())
        });
        for place in 0..all.len() {
            // What is wrong with one holds no other up.
            match self.settle_one(&all, place).await {
                Ok(Settled::Done) => {}
                Ok(Settled::Written(written)) => all[place] = written,
                Ok(Settled::Waits) => is_done = false,
                // Somebody was faster: its change makes the next pass.
                Err(status) if status.is_conflict() || status.is_not_found() => is_done = false,
                Err(status) => {
                    let name = str_at(&all[place], "/metadata/name");
                    tracing::debug!(name, error = chain(&status), "a definition does not settle");
                    is_done = false;
                }
            }
        }
        Ok(is_done)
    }

    async fn settle_one(&self, all: &[Value], place: usize) -> Result<Settled, Status> {
        let own = &all[place];
        if own.pointer("/metadata/deletionTimestamp").is_some() {
            return Ok(if self.end(own).await? { Settled::Done } else { Settled::Waits });
        }
        let others: Vec<&Value> = all.iter().collect();
        let next = settled(own, &others, &unenforced(own), &stored::timestamp());
        if next["status"] == own["status"] {
            return Ok(Settled::Done);
        }
        self.write_status(&next).await.map(Settled::Written)
    }

    async fn write_status(&self, definition: &Value) -> Result<Value, Status> {
        let kind = definition_kind();
        let address = Address::new(kind, None, str_at(definition, "/metadata/name"));
        let part = Some(Subresource::Status);
        let options = WriteOptions::controller("update", kind, part);
        self.update(&address, part, definition.clone(), options).await
    }

    /// Deletes the objects of a definition that is deleted; lets it go when none are left.
    async fn end(&self, definition: &Value) -> Result<bool, Status> {
        let finalizers = definition.pointer("/metadata/finalizers").and_then(Value::as_array);
        if !finalizers.into_iter().flatten().any(|one| one == CLEANUP) {
            return Ok(true);
        }
        let now = stored::timestamp();
        let said = |reason: &str, message: &str, status: bool| {
            with_condition(definition.clone(), TERMINATING, status, reason, message, &now)
        };
        let reason = condition(definition, TERMINATING).map(|held| str_at(held, "/reason"));
        if reason != Some("InstanceDeletionInProgress") {
            let message = "CustomResource deletion is in progress";
            self.write_status(&said("InstanceDeletionInProgress", message, true)).await?;
            return Ok(false);
        }
        let stored = self.kinds().stored(definition).map_err(Status::internal)?;
        if let Some(kind) = stored {
            if self.delete_all(kind).await? > 0 {
                return Ok(false);
            }
            if is_collected(definition) && self.has_dependents(kind).await? {
                let message = "CustomResource deletion is in progress; what the instances owned \
                               is not collected yet";
                let waits = said("InstanceDeletionInProgress", message, true);
                if waits["status"] != definition["status"] {
                    self.write_status(&waits).await?;
                }
                return Ok(false);
            }
        }
        let gone = said("InstanceDeletionCompleted", "removed all instances", false);
        let written = self.write_status(&gone).await?;
        let kind = definition_kind();
        let address = Address::new(kind, None, str_at(definition, "/metadata/name"));
        let options = WriteOptions::controller("update", kind, None);
        self.modify(&address, Part::Server, &options, |current| {
            let mut next = current.clone();
            next["metadata"]["resourceVersion"] = written["metadata"]["resourceVersion"].clone();
            if let Some(list) =
                next.pointer_mut("/metadata/finalizers").and_then(Value::as_array_mut)
            {
                list.retain(|one| one != CLEANUP);
            }
            Ok(next)
        })
        .await?;
        Ok(true)
    }

    /// Whether anything still names an object of a kind, of which none is left, as its owner.
    ///
    /// Why asked: with the definition goes what tells that such an owner is gone, and a name
    /// that nothing explains must not be taken for one. A leader that comes after this one
    /// still finds the definition, and collects.
    async fn has_dependents(&self, kind: &'static Kind) -> Result<bool, Status> {
        let custom = self.kinds().preferred().borrow().clone();
        for place in kinds::collected().into_iter().chain(custom.iter().copied()) {
            // What belongs to no namespace cannot be owned by what does.
            if kind.namespaced && !place.namespaced {
                continue;
            }
            let listing = self.list(&ListRequest::all(place, None)).await?;
            if listing.items.iter().any(|object| is_owned(object, kind)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Asks for the deletion of every object of a kind; answers how many there are.
    async fn delete_all(&self, kind: &'static Kind) -> Result<usize, Status> {
        let listing = self.list(&ListRequest::all(kind, None)).await?;
        for object in &listing.items {
            if object.pointer("/metadata/deletionTimestamp").is_some() {
                continue;
            }
            let namespace = Some(str_at(object, "/metadata/namespace"));
            let address = Address::new(kind, namespace, str_at(object, "/metadata/name"));
            let author = WriteOptions::server("delete", kind).author;
            match self.delete(&address, &DeleteRequest { author, ..DeleteRequest::default() }).await
            {
                Err(status) if !status.is_not_found() => return Err(status),
                _ => {}
            }
        }
        Ok(listing.items.len())
    }
}

/// Whether the objects of a definition were known to the collector as owners.
fn is_collected(definition: &Value) -> bool {
    let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
    let is_served = versions.into_iter().flatten().any(|version| version["served"] == true);
    is_served && holds(definition, "Established")
}

/// Whether an object that stays names one of a kind as its owner.
fn is_owned(object: &Value, kind: &Kind) -> bool {
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    let is_one = |owner: &Value| {
        let group = str_at(owner, "/apiVersion").split_once('/').map_or("", |(group, _)| group);
        group == kind.group && str_at(owner, "/kind") == kind.kind
    };
    object.pointer("/metadata/deletionTimestamp").is_none()
        && owners.into_iter().flatten().any(is_one)
}

/// Where the definition of a custom kind stands.
pub(super) fn definition_of(kind: &Kind) -> Address {
    Address::new(definition_kind(), None, &format!("{}.{}", kind.plural, kind.group))
}
