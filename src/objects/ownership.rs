//! Who owns which field of an object: `managedFields` in and out.
//!
//! The rules stand in [`crate::logic::apply`]; here they meet objects, clocks and options.
//! Invariants: an object that nobody is recorded for (it is older, or its list was
//! emptied) gets owners with its first apply and not before; a subresource never takes
//! owners from a request.

use serde_json::Value;

use super::{WriteOptions, stored};
use crate::logic::apply::managed::{Managed, Manager, Operation, is_reset};
use crate::logic::apply::rules;
use crate::model::kinds::Kind;
use crate::model::status::Status;

const FIELD: &str = "managedFields";
/// Who writes without a name.
const NAMELESS: &str = "unknown";

/// The managers before a change, taken out of the object that the client wants. Those in
/// the request count, if it says any; those of `live` otherwise.
pub(super) fn before(
    live: &Value,
    wanted: &mut Value,
    subresource: Option<&str>,
) -> Result<Managed, Status> {
    let said = wanted
        .get_mut("metadata")
        .and_then(Value::as_object_mut)
        .and_then(|metadata| metadata.shift_remove(FIELD))
        .filter(|list| !list.is_null());
    let known =
        || Managed::from_json(live.pointer("/metadata/managedFields").unwrap_or(&Value::Null));
    match said {
        Some(list) if subresource == Some("") => {
            if is_reset(&list) {
                return Ok(Managed::default());
            }
            Managed::from_json(&list)
                .map_err(|why| Status::bad_request(format!("metadata.managedFields: {why}")))
        }
        _ => known().map_err(Status::internal),
    }
}

/// The manager that an update belongs to.
pub(super) fn writer(kind: &Kind, options: &WriteOptions, subresource: &str) -> Manager {
    manager(kind, options, subresource, Operation::Update)
}

/// The manager that an apply belongs to.
pub(super) fn applier(kind: &Kind, options: &WriteOptions, subresource: &str) -> Manager {
    manager(kind, options, subresource, Operation::Apply)
}

fn manager(
    kind: &Kind,
    options: &WriteOptions,
    subresource: &str,
    operation: Operation,
) -> Manager {
    let name = if options.manager.is_empty() { NAMELESS } else { &options.manager };
    Manager {
        name: name.to_owned(),
        operation,
        api_version: kind.api_version(),
        subresource: subresource.to_owned(),
    }
}

/// What is compared: the object without its owners and its version.
pub(super) fn bare(object: &Value) -> Value {
    let mut bare = stored::without_owners(object);
    if let Some(metadata) = stored::metadata(&mut bare) {
        metadata.shift_remove("resourceVersion");
    }
    bare
}

/// Finds what the writer changed and writes the owners into the new object.
pub(super) fn record(
    kind: &Kind,
    managed: Managed,
    live: Option<&Value>,
    next: &mut Value,
    writer: &Manager,
) {
    let live = live.map(bare);
    let now = stored::timestamp();
    let shape = kind.schema();
    let managed = rules::update(managed, live.as_ref(), &bare(next), &shape, writer, &now);
    write(next, &managed);
}

/// Writes the owners into an object.
pub(super) fn write(object: &mut Value, managed: &Managed) {
    let Some(metadata) = stored::metadata(object) else { return };
    match managed.to_json() {
        Some(list) => metadata.insert(FIELD.into(), list),
        None => metadata.shift_remove(FIELD),
    };
}

/// Whether two objects' owners are the same, whenever each of them wrote.
pub(super) fn are_same(one: Option<&Value>, other: Option<&Value>) -> bool {
    let lists = (one.and_then(Value::as_array), other.and_then(Value::as_array));
    let (Some(one), Some(other)) = lists else { return one == other };
    let same = |(one, other): (&Value, &Value)| match (one.as_object(), other.as_object()) {
        (Some(one), Some(other)) => stored::is_same_but(one, other, &["time"]),
        _ => one == other,
    };
    one.len() == other.len() && one.iter().zip(other).all(same)
}
