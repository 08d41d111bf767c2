//! What every new or changed object passes before it is written.

use serde_json::Value;

use super::stored::{self, Found};
use super::{Address, Objects, str_at};
use crate::model::kinds::{self, Kind, Problems, validate_metadata};
use crate::model::status::{Status, StatusCause};

/// Fields of metadata that only the server writes.
const SERVER_FIELDS: &[&str] =
    &["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"];

/// The kind of namespaces.
pub(super) fn namespace_kind() -> &'static Kind {
    kinds::by_path("", "v1", "namespaces").expect("namespaces are in the table of kinds")
}

fn refuse(kind: &Kind, object: &Value, problems: Problems) -> Result<(), Status> {
    if problems.is_empty() {
        return Ok(());
    }
    let name = str_at(object, "/metadata/name");
    Err(Status::invalid(kind.kind, kind.group, name, problems.into_causes()))
}

/// Fills in and checks a new object, which was decoded before.
pub(super) fn prepare_new(kind: &Kind, mut object: Value) -> Result<Value, Status> {
    kind.default(&mut object);
    let mut problems = Problems::default();
    validate_metadata(kind, &object, &mut problems);
    kind.validate(&object, &mut problems);
    refuse(kind, &object, problems)?;
    Ok(object)
}

/// Fills in and checks a changed object, which was decoded before, against the old one.
/// `own_fields_only` skips the kind's update rules: for the server's own changes, such as a
/// binding.
pub(super) fn prepare_changed(
    kind: &Kind,
    old: &Value,
    mut object: Value,
    own_fields_only: bool,
) -> Result<Value, Status> {
    kind.default(&mut object);
    let mut problems = Problems::default();
    validate_metadata(kind, &object, &mut problems);
    kind.validate_change(old, &object, own_fields_only, &mut problems);
    for pointer in kind.immutable {
        let (before, after) = (old.pointer(pointer), object.pointer(pointer));
        if before != after {
            let field = pointer.trim_start_matches('/').replace('/', ".");
            problems.invalid(&field, after.unwrap_or(&Value::Null), "field is immutable");
        }
    }
    refuse(kind, &object, problems)?;
    Ok(object)
}

/// Copies the server's own metadata from the old object to the new.
pub(super) fn keep_server_fields(old: &Value, new: &mut Value) {
    let kept: Vec<(&str, Option<Value>)> = SERVER_FIELDS
        .iter()
        .map(|field| (*field, old.pointer(&format!("/metadata/{field}")).cloned()))
        .collect();
    if let Some(metadata) = stored::metadata(new) {
        for (field, value) in kept {
            match value {
                Some(value) => metadata.insert(field.to_owned(), value),
                None => metadata.shift_remove(field),
            };
        }
    }
}

/// Removes what a client may not set on a new object.
pub(super) fn drop_server_fields(object: &mut Value) {
    stored::strip(object);
    if let Some(metadata) = stored::metadata(object) {
        for field in SERVER_FIELDS {
            metadata.shift_remove(*field);
        }
    }
}

impl Objects {
    /// The namespace that a new object goes into; it must exist and live.
    pub(super) async fn admit_namespace(&self, address: &Address) -> Result<Option<Found>, Status> {
        if !address.kind.namespaced {
            return Ok(None);
        }
        let namespace = Address::new(namespace_kind(), None, &address.namespace);
        let found = self.fetch(&namespace).await?.ok_or_else(|| namespace.not_found())?;
        if found.object.pointer("/metadata/deletionTimestamp").is_none() {
            return Ok(Some(found));
        }
        let why = format!(
            "unable to create new content in namespace {} because it is being terminated",
            address.namespace
        );
        let kind = address.kind;
        let mut status = Status::forbidden(kind.plural, kind.group, &address.name, &why);
        if let Some(details) = &mut status.details {
            details.causes.push(StatusCause {
                reason: "NamespaceTerminating".into(),
                message: format!("namespace {} is being terminated", address.namespace),
                field: "metadata.namespace".into(),
            });
        }
        Err(status)
    }
}
