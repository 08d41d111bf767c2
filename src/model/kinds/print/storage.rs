//! The columns of secrets and volumes.

use serde_json::Value;

use super::super::Column;
use super::{AGE, NAME, number, str_at, text};

pub(in super::super) const SECRET: &[Column] = &[
    NAME,
    text("Type", false, |object, _| str_at(object, "/type").into()),
    number("Data", false, |object, _| {
        object.get("data").and_then(Value::as_object).map_or(0, serde_json::Map::len).into()
    }),
    AGE,
];

pub(in super::super) const VOLUME: &[Column] = &[
    NAME,
    text("Capacity", false, |object, _| str_at(object, "/spec/capacity/storage").into()),
    text("Access Modes", false, |object, _| modes(object, "/spec/accessModes").into()),
    text("Reclaim Policy", false, |object, _| {
        str_at(object, "/spec/persistentVolumeReclaimPolicy").into()
    }),
    text("Status", false, |object, _| phase(object).into()),
    text("Claim", false, |object, _| {
        match (str_at(object, "/spec/claimRef/namespace"), str_at(object, "/spec/claimRef/name")) {
            ("", "") => "".into(),
            (namespace, name) => format!("{namespace}/{name}").into(),
        }
    }),
    text("StorageClass", false, |object, _| str_at(object, "/spec/storageClassName").into()),
    text("VolumeAttributesClass", false, |_, _| UNSET.into()),
    text("Reason", false, |object, _| str_at(object, "/status/reason").into()),
    AGE,
    text("VolumeMode", true, |object, _| str_at(object, "/spec/volumeMode").into()),
];

pub(in super::super) const CLAIM: &[Column] = &[
    NAME,
    text("Status", false, |object, _| phase(object).into()),
    text("Volume", false, |object, _| str_at(object, "/spec/volumeName").into()),
    text("Capacity", false, |object, _| str_at(object, "/status/capacity/storage").into()),
    text("Access Modes", false, |object, _| modes(object, "/status/accessModes").into()),
    text("StorageClass", false, |object, _| str_at(object, "/spec/storageClassName").into()),
    text("VolumeAttributesClass", false, |_, _| UNSET.into()),
    AGE,
    text("VolumeMode", true, |object, _| str_at(object, "/spec/volumeMode").into()),
];

pub(in super::super) const CLASS: &[Column] = &[
    Column { cell: class_name, ..NAME },
    text("Provisioner", false, |object, _| str_at(object, "/provisioner").into()),
    text("ReclaimPolicy", false, |object, _| str_at(object, "/reclaimPolicy").into()),
    text("VolumeBindingMode", false, |object, _| str_at(object, "/volumeBindingMode").into()),
    text("AllowVolumeExpansion", false, |object, _| {
        object
            .get("allowVolumeExpansion")
            .and_then(Value::as_bool)
            .unwrap_or(false)
            .to_string()
            .into()
    }),
    AGE,
];

const UNSET: &str = "<unset>";
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

fn class_name(object: &Value, _: jiff::Timestamp) -> Value {
    let name = str_at(object, "/metadata/name");
    let notes = object.pointer("/metadata/annotations");
    let is_default = notes.and_then(|notes| notes.get(DEFAULT_CLASS)).is_some_and(|v| v == "true");
    if is_default { format!("{name} (default)").into() } else { name.into() }
}

fn phase(object: &Value) -> &str {
    let gone = object.pointer("/metadata/deletionTimestamp").is_some();
    if gone { "Terminating" } else { str_at(object, "/status/phase") }
}

fn modes(object: &Value, pointer: &str) -> String {
    let listed = object.pointer(pointer).and_then(Value::as_array);
    let listed: Vec<&str> = listed.into_iter().flatten().filter_map(Value::as_str).collect();
    let short = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let held = short.iter().filter(|(long, _)| listed.contains(long)).map(|(_, short)| *short);
    held.collect::<Vec<_>>().join(",")
}
