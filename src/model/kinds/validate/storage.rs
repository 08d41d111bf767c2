//! Volumes, claims and classes.
//!
//! Kinds of volumes that no node here can mount are refused when they are made, not when
//! the first pod waits for them.

use serde_json::Value;

use super::super::Problems;
use super::pod::one_of;
use super::{list_at, str_at};

const MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const SERVED: &[&str] = &["hostPath", "local", "nfs"];
/// Fields of a volume's spec that are no source.
const PLAIN: &[&str] = &[
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];
/// What a claim may change.
const CLAIM_TEXT: &str = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";

fn access_modes(spec: &Value, at: &str, problems: &mut Problems) {
    let modes = list_at(spec, "/accessModes");
    let field = format!("{at}.accessModes");
    if modes.is_empty() {
        problems.required(&field, "at least 1 access mode is required");
    }
    for mode in modes.iter().filter_map(Value::as_str).filter(|mode| !MODES.contains(mode)) {
        problems.not_supported(&field, mode, MODES);
    }
    if modes.len() > 1 && modes.iter().any(|mode| mode == "ReadWriteOncePod") {
        problems.forbidden(&field, "may not use ReadWriteOncePod with other access modes");
    }
}

fn size(amount: Option<&Value>, field: &str, problems: &mut Problems) {
    match amount.and_then(Value::as_str) {
        None => problems.required(field, ""),
        Some(text) if text.starts_with('-') || text == "0" => {
            problems.invalid(field, &text.into(), "must be greater than zero");
        }
        Some(_) => {}
    }
}

pub(in super::super) fn volume(volume: &Value, problems: &mut Problems) {
    let spec = volume.get("spec").unwrap_or(&Value::Null);
    access_modes(spec, "spec", problems);
    size(spec.pointer("/capacity/storage"), "spec.capacity.storage", problems);
    one_of(spec, "/persistentVolumeReclaimPolicy", "spec", &["Delete", "Retain"], problems);
    one_of(spec, "/volumeMode", "spec", &["Filesystem"], problems);
    let sources: Vec<&String> = spec
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, value)| !PLAIN.contains(&name.as_str()) && !value.is_null())
        .map(|(name, _)| name)
        .collect();
    match sources.as_slice() {
        [] => problems.required("spec", "must specify a volume type"),
        [one] if SERVED.contains(&one.as_str()) => {}
        [one] => problems.not_supported("spec", one, SERVED),
        [_, rest @ ..] => {
            for name in rest {
                let text = "may not specify more than 1 volume type";
                problems.forbidden(&format!("spec.{name}"), text);
            }
        }
    }
    for source in ["hostPath", "local", "nfs"] {
        let Some(body) = spec.get(source) else { continue };
        let (path, field) = (str_at(body, "/path"), format!("spec.{source}.path"));
        if path.is_empty() {
            problems.required(&field, "");
        } else if source != "hostPath" && !path.starts_with('/') {
            problems.invalid(&field, &path.into(), "must be an absolute path");
        } else if path.split('/').any(|part| part == "..") {
            problems.invalid(&field, &path.into(), "must not contain '..'");
        }
    }
    if spec.get("nfs").is_some_and(|nfs| str_at(nfs, "/server").is_empty()) {
        problems.required("spec.nfs.server", "");
    }
    if spec.get("local").is_some()
        && list_at(spec, "/nodeAffinity/required/nodeSelectorTerms").is_empty()
    {
        problems.required("spec.nodeAffinity", "Local volume requires node affinity");
    }
}

pub(in super::super) fn volume_update(old: &Value, new: &Value, problems: &mut Problems) {
    let source = |object: &Value| {
        let mut spec = object["spec"].clone();
        if let Some(fields) = spec.as_object_mut() {
            fields.retain(|name, _| !PLAIN.contains(&name.as_str()));
        }
        spec
    };
    if source(old) != source(new) {
        let text = "spec.persistentvolumesource is immutable after creation";
        problems.forbidden("spec.persistentvolumesource", text);
    }
    for field in ["volumeMode", "nodeAffinity"] {
        let (before, after) = (&old["spec"][field], &new["spec"][field]);
        if !before.is_null() && before != after {
            problems.invalid(&format!("spec.{field}"), after, "field is immutable");
        }
    }
}

pub(in super::super) fn claim(claim: &Value, problems: &mut Problems) {
    claim_spec(claim.get("spec").unwrap_or(&Value::Null), "spec", problems);
}

/// A claim's spec at `at`, also inside a template.
pub(super) fn claim_spec(spec: &Value, at: &str, problems: &mut Problems) {
    access_modes(spec, at, problems);
    match spec.pointer("/resources/requests/storage") {
        None => problems.required(&format!("{at}.resources[storage]"), ""),
        asked => size(asked, &format!("{at}.resources[storage]"), problems),
    }
    one_of(spec, "/volumeMode", at, &["Filesystem"], problems);
    for field in ["dataSource", "dataSourceRef"] {
        if spec.get(field).is_some_and(|source| !source.is_null()) {
            problems.forbidden(&format!("{at}.{field}"), "copies of volumes are not served");
        }
    }
}

pub(in super::super) fn claim_update(old: &Value, new: &Value, problems: &mut Problems) {
    let (before, mut after) = (&old["spec"], new["spec"].clone());
    for field in ["volumeName", "storageClassName"] {
        let unset = before[field].is_null() || (field == "volumeName" && before[field] == "");
        if unset && let Some(fields) = after.as_object_mut() {
            match before.get(field) {
                Some(value) => fields.insert(field.to_owned(), value.clone()),
                None => fields.shift_remove(field),
            };
        }
    }
    if before["resources"] != after["resources"] {
        let text = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
        problems.forbidden("spec.resources.requests.storage", text);
        after["resources"] = before["resources"].clone();
    }
    if *before != after {
        problems.forbidden("spec", CLAIM_TEXT);
    }
}

pub(in super::super) fn class(class: &Value, problems: &mut Problems) {
    if str_at(class, "/provisioner").is_empty() {
        problems.required("provisioner", "");
    }
    for (field, allowed) in [
        ("reclaimPolicy", ["Delete", "Retain"]),
        ("volumeBindingMode", ["Immediate", "WaitForFirstConsumer"]),
    ] {
        let value = class.get(field).and_then(Value::as_str).unwrap_or_default();
        if !allowed.contains(&value) {
            problems.not_supported(field, value, &allowed);
        }
    }
}

pub(in super::super) fn class_update(old: &Value, new: &Value, problems: &mut Problems) {
    for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
        if old[field] != new[field] {
            problems.forbidden(field, &format!("updates to {field} are forbidden."));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(check: fn(&Value, &mut Problems), object: Value) -> Vec<String> {
        let mut problems = Problems::default();
        check(&object, &mut problems);
        problems.into_causes().into_iter().map(|cause| cause.field).collect()
    }

    #[test]
    fn volumes_that_no_node_can_mount_are_refused() {
        let of = |spec: Value| {
            let mut whole = json!({"spec": {"capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Retain"}});
            json_patch::merge(&mut whole["spec"], &spec);
            fields(volume, whole)
        };
        let none: [&str; 0] = [];
        assert_eq!(of(json!({"hostPath": {"path": "/data"}})), none);
        assert_eq!(of(json!({"nfs": {"server": "10.0.0.9", "path": "/data"}})), none);
        assert_eq!(of(json!({"local": {"path": "/data"}})), ["spec.nodeAffinity"]);
        assert_eq!(of(json!({"nfs": {"path": "data"}})), ["spec.nfs.path", "spec.nfs.server"]);
        assert_eq!(of(json!({"csi": {"driver": "x"}})), ["spec"]);
        assert_eq!(of(json!({})), ["spec"]);
        let recycle =
            json!({"hostPath": {"path": "/d"}, "persistentVolumeReclaimPolicy": "Recycle"});
        assert_eq!(of(recycle), ["spec.persistentVolumeReclaimPolicy"]);
        let both = json!({"hostPath": {"path": "/d"}, "accessModes": ["ReadWriteOncePod", "ReadWriteOnce"]});
        assert_eq!(of(both), ["spec.accessModes"]);
    }

    #[test]
    fn a_claim_changes_only_by_being_bound() {
        let old = json!({"spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}});
        let after = |patch: Value| {
            let mut new = old.clone();
            json_patch::merge(&mut new["spec"], &patch);
            let mut problems = Problems::default();
            claim_update(&old, &new, &mut problems);
            problems.into_causes().into_iter().map(|cause| cause.field).collect::<Vec<_>>()
        };
        let none: [&str; 0] = [];
        assert_eq!(after(json!({"volumeName": "v", "storageClassName": "k"})), none);
        assert_eq!(after(json!({"accessModes": ["ReadWriteMany"]})), ["spec"]);
        let grown = json!({"resources": {"requests": {"storage": "2Gi"}}});
        assert_eq!(after(grown), ["spec.resources.requests.storage"]);
    }
}
