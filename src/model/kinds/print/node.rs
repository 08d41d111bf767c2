//! A node's columns.

use jiff::Timestamp;
use serde_json::Value;

use super::super::Column;
use super::{AGE, NAME, list_at, str_at, text};

pub(in super::super) const NODE: &[Column] = &[
    NAME,
    text("Status", false, status),
    text("Roles", false, roles),
    AGE,
    text("Version", false, |node, _| str_at(node, "/status/nodeInfo/kubeletVersion").into()),
    text("Internal-IP", true, |node, _| address(node, "InternalIP")),
    text("External-IP", true, |node, _| address(node, "ExternalIP")),
    text("OS-Image", true, |node, _| info(node, "osImage")),
    text("Kernel-Version", true, |node, _| info(node, "kernelVersion")),
    text("Container-Runtime", true, |node, _| info(node, "containerRuntimeVersion")),
];

fn status(node: &Value, _: Timestamp) -> Value {
    let ready = list_at(node, "/status/conditions")
        .iter()
        .find(|condition| str_at(condition, "/type") == "Ready")
        .map(|condition| str_at(condition, "/status"));
    let mut text = match ready {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if node.pointer("/spec/unschedulable") == Some(&Value::Bool(true)) {
        text.push_str(",SchedulingDisabled");
    }
    text.into()
}

fn roles(node: &Value, _: Timestamp) -> Value {
    let mut roles: Vec<&str> = Vec::new();
    if let Some(labels) = node.pointer("/metadata/labels").and_then(Value::as_object) {
        for (key, value) in labels {
            if let Some(role) = key.strip_prefix("node-role.kubernetes.io/") {
                roles.push(role);
            } else if key == "kubernetes.io/role" {
                roles.push(value.as_str().unwrap_or_default());
            }
        }
    }
    roles.retain(|role| !role.is_empty());
    roles.sort_unstable();
    super::or_none(&roles.join(","))
}

fn address(node: &Value, kind: &str) -> Value {
    list_at(node, "/status/addresses")
        .iter()
        .find(|address| str_at(address, "/type") == kind)
        .map_or_else(|| "<none>".into(), |address| str_at(address, "/address").into())
}

fn info(node: &Value, field: &str) -> Value {
    match node.pointer("/status/nodeInfo").map(|info| str_at(info, &format!("/{field}"))) {
        None | Some("") => "<unknown>".into(),
        Some(text) => text.into(),
    }
}
