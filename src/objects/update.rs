//! Update and patch: read, change, check, write if nobody was faster.
//!
//! Invariants: a resourceVersion that the client sent and that is not the newest is a
//! conflict; without one the change is made again on the newest object; a change that
//! changes nothing writes nothing; the status path writes status only, and the main path
//! everything but status.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use serde_json::{Map, Value};

use super::fields::{self, FieldValidation};
use super::stored::{self, Found};
use super::{
    Address, Objects, WriteOptions, admission, ephemeral, key, ownership, pod_security, priority,
    quota, refusal, service_ports, str_at,
};
use crate::logic::patch;
use crate::model::kinds::{self, Kind, Subresource};
use crate::model::kv::{Compare, Op, TxnRequest};
use crate::model::status::Status;

/// Attempts before a contended update gives up.
const ATTEMPTS: usize = 10;

/// How a patch body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    /// RFC 6902.
    Json,
    /// RFC 7396.
    Merge,
    /// By the merge keys of the kind.
    Strategic,
}

/// A change of a part of an object.
#[derive(Clone, Debug)]
pub struct Patch {
    pub kind: PatchType,
    pub body: Value,
}

impl Patch {
    /// The document with the patch applied.
    pub(super) fn apply(&self, kind: &Kind, document: &Value) -> Result<Value, Status> {
        let result = match self.kind {
            PatchType::Json => patch::json_patch(document, &self.body),
            PatchType::Merge => patch::merge_patch(document, &self.body),
            // It would need merge keys, which no definition tells.
            PatchType::Strategic if kind.custom.is_some() => return Err(no_strategic_merge()),
            PatchType::Strategic => patch::strategic::apply(document, &self.body, &kind.schema()),
        };
        result.map_err(|error| {
            let text = crate::base::chain::chain(&error);
            match error {
                patch::PatchError::Operation(_) => Status::failure(
                    422,
                    "Invalid",
                    format!(
                        "the server rejected our request due to an error in our request: {text}"
                    ),
                ),
                patch::PatchError::TooMuch(_) => {
                    Status::failure(413, "RequestEntityTooLarge", text)
                }
                patch::PatchError::NotOperations(_)
                | patch::PatchError::NotAnObject
                | patch::PatchError::Strategic { .. } => Status::bad_request(text),
            }
        })
    }
}

fn no_strategic_merge() -> Status {
    let accepted =
        "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
    let text = format!(
        "the body of the request was in an unknown format - accepted media types include: {accepted}"
    );
    Status::failure(415, "UnsupportedMediaType", text)
}

/// Which fields a change may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Everything but status.
    Main,
    /// Status only.
    Status,
    /// The same, by way of the count of a workload alone.
    Scale,
    /// `spec.finalizers` of a namespace.
    Finalize,
    /// `spec.ephemeralContainers` of a pod.
    EphemeralContainers,
    /// The server's own change: no update rules.
    Server,
}

impl Part {
    pub(super) fn of(subresource: Option<Subresource>) -> Result<Self, Status> {
        match subresource {
            None => Ok(Part::Main),
            Some(Subresource::Status) => Ok(Part::Status),
            Some(Subresource::Finalize) => Ok(Part::Finalize),
            Some(Subresource::EphemeralContainers) => Ok(Part::EphemeralContainers),
            Some(_) => Err(Status::method_not_allowed()),
        }
    }

    /// The subresource that owners of fields are recorded for; `None` if they are not.
    pub(super) fn recorded(self) -> Option<&'static str> {
        match self {
            Part::Main => Some(""),
            Part::Status => Some("status"),
            Part::Scale => Some("scale"),
            Part::Finalize => Some("finalize"),
            Part::EphemeralContainers => Some("ephemeralcontainers"),
            Part::Server => None,
        }
    }

    fn is_main(self) -> bool {
        matches!(self, Part::Main | Part::Scale)
    }
}

impl Objects {
    /// Replaces an object, or the part that the subresource stands for.
    pub async fn update(
        &self,
        address: &Address,
        subresource: Option<Subresource>,
        object: Value,
        options: WriteOptions,
    ) -> Result<Value, Status> {
        if subresource == Some(Subresource::Scale) {
            return self.update_scale(address, &object, &options).await;
        }
        check_identity(address, &object)?;
        let part = Part::of(subresource)?;
        self.modify(address, part, &options, |_| Ok(object.clone())).await
    }

    /// Changes a part of an object; answers with it and with warnings about its fields.
    pub async fn patch(
        &self,
        address: &Address,
        subresource: Option<Subresource>,
        patch: &Patch,
        validation: FieldValidation,
        options: WriteOptions,
    ) -> Result<(Value, Vec<String>), Status> {
        if subresource == Some(Subresource::Scale) {
            return Ok((self.patch_scale(address, patch, &options).await?, Vec::new()));
        }
        let part = Part::of(subresource)?;
        let warnings = Mutex::new(Vec::new());
        let object = self
            .modify(address, part, &options, |current| {
                let changed = patch.apply(address.kind, current)?;
                check_identity(address, &changed)?;
                let found = fields::look_over(address.kind, &changed, validation)?;
                *warnings.lock().unwrap_or_else(PoisonError::into_inner) = found;
                Ok(changed)
            })
            .await?;
        Ok((object, warnings.into_inner().unwrap_or_else(PoisonError::into_inner)))
    }

    /// The loop under every change. `change` sees the current object and gives the whole
    /// new one; it is called again when another writer was faster.
    pub(super) async fn modify(
        &self,
        address: &Address,
        part: Part,
        options: &WriteOptions,
        change: impl Fn(&Value) -> Result<Value, Status> + Send + Sync,
    ) -> Result<Value, Status> {
        for _ in 0..ATTEMPTS {
            let found = self.fetch(address).await?.ok_or_else(|| address.not_found())?;
            let mut wanted = change(&found.object)?;
            check_version(address, &found, &wanted)?;
            let managed = ownership::before(&found.object, &mut wanted, part.recorded())?;
            let mut next = next_object(address.kind, part, &found.object, wanted)?;
            self.admit_change(address, part, &found.object, &next, options).await?;
            let writer = part.recorded().map(|name| ownership::writer(address.kind, options, name));
            match writer {
                Some(writer) if !managed.is_empty() => {
                    let live = Some(&found.object);
                    ownership::record(address.kind, managed, live, &mut next, &writer);
                }
                _ => ownership::write(&mut next, &managed),
            }
            if let Some(done) = self.replace(address, &found, next, options).await? {
                return Ok(done);
            }
        }
        Err(Status::timeout("the update was overtaken by other writers too often; try again")
            .retry_after(1))
    }

    /// Whether the cluster lets a change be.
    pub(super) async fn admit_change(
        &self,
        address: &Address,
        part: Part,
        old: &Value,
        new: &Value,
        options: &WriteOptions,
    ) -> Result<(), Status> {
        if !matches!(part, Part::Main | Part::EphemeralContainers) {
            return Ok(());
        }
        let author = options.author.as_deref();
        self.admit_node(address, Some(old), new, author).await?;
        if !pod_security::are_about(address.kind) {
            return Ok(());
        }
        self.admit_pod_security(address, None, Some(old), new, author).await
    }

    /// Writes the next state of an object over the one found; `None` if it was not the
    /// newest. Removes the object when that was the last thing it waited for.
    pub(super) async fn replace(
        &self,
        address: &Address,
        found: &Found,
        mut next: Value,
        options: &WriteOptions,
    ) -> Result<Option<Value>, Status> {
        let gone = is_finished(&next);
        let after = if gone { None } else { Some(&mut next) };
        let addresses = self.plan_service(address, Some(&found.object), after).await?;
        if !gone && is_same(&next, &found.object) {
            return Ok(Some(found.object.clone()));
        }
        let author = options.author.as_ref();
        if !gone {
            self.admit_default(address, &next).await?;
        }
        self.admit_rights(address, Some(&found.object), &next, author.map(AsRef::as_ref)).await?;
        let quotas = if gone {
            quota::Plan::default()
        } else {
            self.plan_quota(address, Some(&found.object), &next, options.dry_run).await?
        };
        let bytes = stored::encode(address.kind, &next)?;
        stored::set_version(&mut next, found.revision);
        if options.dry_run {
            return Ok(Some(next));
        }
        let object_key = Bytes::from(key::object(address));
        let mut compare = vec![Compare::mod_revision(object_key.clone(), found.revision)];
        compare.extend(addresses.compare);
        compare.extend(quotas.compare);
        let write = if gone { Op::delete(object_key) } else { Op::put(object_key, bytes) };
        let mut success = vec![write];
        success.extend(addresses.ops);
        success.extend(quotas.ops);
        success.extend(author.and_then(|author| author.op(address, author.success_code())));
        let request = TxnRequest { compare, success, failure: Vec::new() };
        let answer = self.kv.txn(request).await.map_err(refusal::of)?;
        if !answer.succeeded {
            return Ok(None);
        }
        if let Some(author) = author {
            author.was_recorded();
        }
        self.rights.note_write(address.kind, answer.revision);
        stored::set_version(&mut next, answer.revision);
        Ok(Some(next))
    }
}

/// Equal but for what the store does not keep, and for when a manager last wrote; the
/// order of fields does not count.
fn is_same(next: &Value, found: &Value) -> bool {
    let (Some(next), Some(found)) = (next.as_object(), found.as_object()) else {
        return next == found;
    };
    stored::is_same_but(next, found, &["metadata"]) && is_same_metadata(next, found)
}

fn is_same_metadata(next: &Map<String, Value>, found: &Map<String, Value>) -> bool {
    let none = Map::new();
    let next = next.get("metadata").and_then(Value::as_object).unwrap_or(&none);
    let found = found.get("metadata").and_then(Value::as_object).unwrap_or(&none);
    stored::is_same_but(next, found, &["resourceVersion", "selfLink", "managedFields"])
        && ownership::are_same(next.get("managedFields"), found.get("managedFields"))
}

/// Deleted, and nothing left to wait for.
fn is_finished(object: &Value) -> bool {
    let empty =
        |pointer: &str| object.pointer(pointer).and_then(Value::as_array).is_none_or(Vec::is_empty);
    let waits_for_grace = object
        .pointer("/metadata/deletionGracePeriodSeconds")
        .and_then(Value::as_i64)
        .is_some_and(|seconds| seconds > 0);
    let is_namespace = object["kind"] == "Namespace" && object["apiVersion"] == "v1";
    object.pointer("/metadata/deletionTimestamp").is_some()
        && empty("/metadata/finalizers")
        && !waits_for_grace
        && (!is_namespace || empty("/spec/finalizers"))
}

/// The body must be about the object that the path names.
pub(super) fn check_identity(address: &Address, object: &Value) -> Result<(), Status> {
    if !object.is_object() {
        return Err(Status::bad_request("the body of the request must be an object"));
    }
    let name = str_at(object, "/metadata/name");
    if !name.is_empty() && name != address.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            address.name
        )));
    }
    let namespace = str_at(object, "/metadata/namespace");
    if !namespace.is_empty() && namespace != address.namespace {
        return Err(Status::bad_request(format!(
            "the namespace of the provided object does not match the namespace sent on the request ({namespace} != {})",
            address.namespace
        )));
    }
    Ok(())
}

pub(super) fn check_version(
    address: &Address,
    found: &Found,
    wanted: &Value,
) -> Result<(), Status> {
    let version = str_at(wanted, "/metadata/resourceVersion");
    if !version.is_empty() && version != "0" && version != found.revision.to_string() {
        return Err(Status::stale(address.kind.plural, address.kind.group, &address.name));
    }
    let (uid, own) = (str_at(wanted, "/metadata/uid"), str_at(&found.object, "/metadata/uid"));
    if !uid.is_empty() && uid != own {
        return Err(address.conflict(&format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {own}"
        )));
    }
    Ok(())
}

/// The object as it will be written: the allowed part from `wanted`, the rest kept.
pub(super) fn next_object(
    kind: &Kind,
    part: Part,
    current: &Value,
    wanted: Value,
) -> Result<Value, Status> {
    // Decoded first, so that what follows meets objects where it expects them.
    let wanted = fields::decode(kind, wanted)?;
    let mut old = current.clone();
    stored::strip(&mut old);
    let mut next = match part {
        Part::Main | Part::Scale | Part::Server => {
            let mut next = wanted;
            if part.is_main() && kind.has(Subresource::Status) {
                copy_field(&old, &mut next, "status");
                kinds::keep_noted_status(kind, &old, &mut next);
            }
            if part.is_main() && kind.has(Subresource::Finalize) {
                copy_finalizers(&old, &mut next);
            }
            if kind.kind == "Service" && kind.group.is_empty() {
                service_ports::carry_over(&old, &mut next);
            }
            priority::keep(kind, &old, &mut next);
            next
        }
        Part::Status => {
            let mut next = old.clone();
            copy_field(&wanted, &mut next, "status");
            next
        }
        Part::Finalize => {
            let mut next = old.clone();
            copy_finalizers(&wanted, &mut next);
            next
        }
        Part::EphemeralContainers => ephemeral::with_wanted(&old, &wanted),
    };
    stored::strip(&mut next);
    if let Some(metadata) = stored::metadata(&mut next) {
        for field in ["name", "namespace"] {
            if let Some(value) = old.pointer(&format!("/metadata/{field}")) {
                metadata.insert(field.into(), value.clone());
            }
        }
    }
    admission::keep_server_fields(&old, &mut next);
    refuse_new_finalizers(kind, &old, &next)?;
    let mut next = admission::prepare_changed(kind, &old, next, !part.is_main())?;
    if part == Part::EphemeralContainers {
        ephemeral::check(kind, &old, &next)?;
    }
    if kind.generation && part != Part::Status && differs_beyond_metadata(kind, &old, &next) {
        let generation = old.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0);
        next["metadata"]["generation"] = (generation + 1).into();
    }
    Ok(next)
}

fn copy_field(from: &Value, to: &mut Value, field: &str) {
    if let Some(fields) = to.as_object_mut() {
        match from.get(field) {
            Some(value) => fields.insert(field.to_owned(), value.clone()),
            None => fields.shift_remove(field),
        };
    }
}

/// Those of a namespace's spec.
fn copy_finalizers(from: &Value, to: &mut Value) {
    if let Some(list) = from.pointer("/spec/finalizers") {
        to["spec"]["finalizers"] = list.clone();
    } else if let Some(spec) = to.get_mut("spec").and_then(Value::as_object_mut) {
        spec.shift_remove("finalizers");
    }
}

fn refuse_new_finalizers(kind: &Kind, old: &Value, next: &Value) -> Result<(), Status> {
    if old.pointer("/metadata/deletionTimestamp").is_none() {
        return Ok(());
    }
    let list = |object: &Value| {
        let items = object.pointer("/metadata/finalizers").and_then(Value::as_array);
        items.cloned().unwrap_or_default()
    };
    let (before, after) = (list(old), list(next));
    if after.iter().all(|finalizer| before.contains(finalizer)) {
        return Ok(());
    }
    let mut problems = crate::model::kinds::Problems::default();
    let text = "no new finalizers can be added if the object is being deleted";
    problems.forbidden("metadata.finalizers", text);
    let name = str_at(old, "/metadata/name");
    Err(Status::invalid(kind.kind, kind.group, name, problems.into_causes()))
}

fn differs_beyond_metadata(kind: &Kind, old: &Value, new: &Value) -> bool {
    let (Some(before), Some(after)) = (old.as_object(), new.as_object()) else {
        return old != new;
    };
    let status_apart = kind.custom.is_none() || kind.has(Subresource::Status);
    let apart: &[&str] = if status_apart { &["metadata", "status"] } else { &["metadata"] };
    !stored::is_same_but(before, after, apart)
}
