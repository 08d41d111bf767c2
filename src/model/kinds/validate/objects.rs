//! Config maps, events and nodes.

use serde_json::Value;

use super::super::Problems;
use super::str_at;

/// Data of one config map, bytes.
const CONFIG_MAP_MAX_BYTES: usize = 1024 * 1024;

pub(in super::super) fn config_map(map: &Value, problems: &mut Problems) {
    let mut total = 0;
    for part in ["data", "binaryData"] {
        for (key, value) in map.get(part).and_then(Value::as_object).into_iter().flatten() {
            data_key(part, key, problems);
            total += value.as_str().map_or(0, str::len);
        }
    }
    if total > CONFIG_MAP_MAX_BYTES {
        problems.too_long("", CONFIG_MAP_MAX_BYTES, "bytes");
    }
}

/// The key of a config map's or secret's data, which may become a file's name.
pub(super) fn data_key(part: &str, key: &str, problems: &mut Problems) {
    let valid = !key.is_empty()
        && key.len() <= 253
        && key != "."
        && !key.starts_with("..")
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if !valid {
        let text = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
        problems.invalid(&format!("{part}[{key}]"), &key.into(), text);
    }
}

pub(in super::super) fn config_map_update(old: &Value, new: &Value, problems: &mut Problems) {
    if old["immutable"] != Value::Bool(true) {
        return;
    }
    if new["immutable"] != Value::Bool(true) {
        problems.forbidden("immutable", "field is immutable when `immutable` is set");
    }
    for part in ["data", "binaryData"] {
        if old[part] != new[part] {
            problems.forbidden(part, "field is immutable when `immutable` is set");
        }
    }
}

pub(in super::super) fn event(event: &Value, problems: &mut Problems) {
    let about = str_at(event, "/involvedObject/namespace");
    let own = str_at(event, "/metadata/namespace");
    let cluster_wide = about.is_empty() && own == "default";
    if about != own && !cluster_wide {
        let text = "does not match event.namespace";
        problems.invalid("involvedObject.namespace", &about.into(), text);
    }
}

pub(in super::super) fn node(node: &Value, problems: &mut Problems) {
    let taints = node.pointer("/spec/taints").and_then(Value::as_array);
    for (index, taint) in taints.into_iter().flatten().enumerate() {
        let at = format!("spec.taints[{index}]");
        if str_at(taint, "/key").is_empty() {
            problems.required(&format!("{at}.key"), "");
        }
        let effect = str_at(taint, "/effect");
        let allowed = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        if !allowed.contains(&effect) {
            problems.not_supported(&format!("{at}.effect"), effect, &allowed);
        }
    }
}

pub(in super::super) fn node_update(old: &Value, new: &Value, problems: &mut Problems) {
    for field in ["podCIDR", "providerID"] {
        let before = str_at(old, &format!("/spec/{field}"));
        if !before.is_empty() && before != str_at(new, &format!("/spec/{field}")) {
            let text = "node updates may not change it once set";
            problems.forbidden(&format!("spec.{field}"), text);
        }
    }
}
