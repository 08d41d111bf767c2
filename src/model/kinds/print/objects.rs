//! The columns of namespaces, config maps, events and leases.

use jiff::Timestamp;
use serde_json::Value;

use super::super::{Column, human};
use super::{AGE, NAME, int_at, number, str_at, text};

pub(in super::super) const NAMESPACE: &[Column] =
    &[NAME, text("Status", false, |object, _| str_at(object, "/status/phase").into()), AGE];

pub(in super::super) const DEFINITION: &[Column] = &[
    NAME,
    Column {
        data_type: "date",
        ..text("Created At", false, |object, _| {
            str_at(object, "/metadata/creationTimestamp").into()
        })
    },
];

pub(in super::super) const CONFIG_MAP: &[Column] = &[
    NAME,
    number("Data", false, |object, _| {
        let count =
            |field: &str| object.get(field).and_then(Value::as_object).map_or(0, |map| map.len());
        (count("data") + count("binaryData")).into()
    }),
    AGE,
];

pub(in super::super) const LEASE: &[Column] =
    &[NAME, text("Holder", false, |object, _| str_at(object, "/spec/holderIdentity").into()), AGE];

pub(in super::super) const EVENT: &[Column] = &[
    text("Last Seen", false, last_seen),
    text("Type", false, |event, _| str_at(event, "/type").into()),
    text("Reason", false, |event, _| str_at(event, "/reason").into()),
    text("Object", false, |event, _| {
        let kind = str_at(event, "/involvedObject/kind").to_lowercase();
        format!("{kind}/{}", str_at(event, "/involvedObject/name")).into()
    }),
    text("Subobject", true, |event, _| str_at(event, "/involvedObject/fieldPath").into()),
    text("Source", true, source),
    text("Message", false, |event, _| str_at(event, "/message").trim().into()),
    text("First Seen", true, first_seen),
    number("Count", true, count),
    Column { priority: 1, ..NAME },
];

fn first_time(event: &Value) -> Option<&Value> {
    let set = |pointer: &str| event.pointer(pointer).filter(|time| !time.is_null());
    set("/firstTimestamp").or_else(|| set("/eventTime"))
}

fn first_seen(event: &Value, now: Timestamp) -> Value {
    human::since(first_time(event), now).into()
}

fn last_seen(event: &Value, now: Timestamp) -> Value {
    let set = |pointer: &str| event.pointer(pointer).filter(|time| !time.is_null());
    let time = set("/series/lastObservedTime").or_else(|| set("/lastTimestamp"));
    human::since(time.or_else(|| first_time(event)), now).into()
}

fn source(event: &Value, _: Timestamp) -> Value {
    let component = match str_at(event, "/source/component") {
        "" => str_at(event, "/reportingComponent"),
        component => component,
    };
    let host = match str_at(event, "/source/host") {
        "" => str_at(event, "/reportingInstance"),
        host => host,
    };
    if host.is_empty() { component.into() } else { format!("{component}, {host}").into() }
}

fn count(event: &Value, _: Timestamp) -> Value {
    let series = int_at(event, "/series/count");
    if series > 0 {
        return series.into();
    }
    int_at(event, "/count").max(1).into()
}
