//! What Kubernetes fills in where a manifest says nothing.
//!
//! Source: `pkg/apis/*/v1/defaults.go` and the registries' `PrepareForCreate`.
//! Invariant: defaulting twice changes nothing more.

pub(super) mod access;
pub(super) mod batch;
pub(super) mod definition;
pub(super) mod limits;
pub(super) mod pod;
pub(super) mod scaling;
pub(super) mod sets;
pub(super) mod storage;

use serde_json::{Map, Value, json};

/// The object at a field, made if absent or null.
fn object<'v>(value: &'v mut Value, field: &str) -> Option<&'v mut Map<String, Value>> {
    let map = value.as_object_mut()?;
    let entry = map.entry(field).or_insert_with(|| Value::Object(Map::new()));
    if entry.is_null() {
        *entry = Value::Object(Map::new());
    }
    entry.as_object_mut()
}

/// Sets a field that is absent, null or the empty string.
fn set(map: &mut Map<String, Value>, field: &str, value: impl Into<Value>) {
    let unset = match map.get(field) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(_) => false,
    };
    if unset {
        map.insert(field.to_owned(), value.into());
    }
}

fn each<'v>(
    map: &'v mut Map<String, Value>,
    field: &str,
) -> impl Iterator<Item = &'v mut Map<String, Value>> {
    map.get_mut(field)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
}

pub(super) fn namespace(namespace: &mut Value) {
    // A name that is still to be made is no label yet.
    let name = namespace.pointer("/metadata/name").and_then(Value::as_str).map(str::to_owned);
    if let Some(name) = name
        && let Some(labels) = object(namespace, "metadata")
        && let Some(labels) =
            labels.entry("labels").or_insert_with(|| Value::Object(Map::new())).as_object_mut()
    {
        labels.insert("kubernetes.io/metadata.name".into(), name.into());
    }
    if let Some(status) = object(namespace, "status") {
        set(status, "phase", "Active");
    }
}

pub(super) fn namespace_on_create(namespace: &mut Value) {
    namespace["spec"] = json!({"finalizers": ["kubernetes"]});
    namespace["status"] = json!({"phase": "Active"});
}

pub(super) fn service(service: &mut Value) {
    let Some(spec) = object(service, "spec") else { return };
    set(spec, "sessionAffinity", "None");
    set(spec, "type", "ClusterIP");
    if spec["sessionAffinity"] == "ClientIP" {
        set(spec, "sessionAffinityConfig", json!({"clientIP": {"timeoutSeconds": 10_800}}));
    }
    for port in each(spec, "ports") {
        set(port, "protocol", "TCP");
        let number = port.get("port").cloned().unwrap_or_default();
        set(port, "targetPort", number);
    }
    if spec["type"] != "ExternalName" {
        set(spec, "internalTrafficPolicy", "Cluster");
        set(spec, "ipFamilies", json!(["IPv4"]));
        set(spec, "ipFamilyPolicy", "SingleStack");
    }
    let kind = spec["type"].clone();
    let named =
        spec.get("externalIPs").and_then(Value::as_array).is_some_and(|ips| !ips.is_empty());
    if kind == "NodePort" || kind == "LoadBalancer" || named {
        set(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        set(spec, "allocateLoadBalancerNodePorts", true);
    }
}

pub(super) fn service_on_create(service: &mut Value) {
    service["status"] = json!({"loadBalancer": {}});
}

/// A policy is about incoming traffic, and about outgoing where it has rules for that.
pub(super) fn network_policy(policy: &mut Value) {
    let Some(spec) = object(policy, "spec") else { return };
    for field in ["ingress", "egress"] {
        for rule in each(spec, field) {
            for port in each(rule, "ports") {
                set(port, "protocol", "TCP");
            }
        }
    }
    let has_egress = spec.get("egress").and_then(Value::as_array).is_some_and(|e| !e.is_empty());
    let types = spec.get("policyTypes").and_then(Value::as_array);
    if types.is_none_or(Vec::is_empty) {
        let types = if has_egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
        spec.insert("policyTypes".into(), types);
    }
}

pub(super) fn deployment(deployment: &mut Value) {
    let Some(spec) = object(deployment, "spec") else { return };
    set(spec, "replicas", 1);
    set(spec, "revisionHistoryLimit", 10);
    set(spec, "progressDeadlineSeconds", 600);
    let strategy = spec.entry("strategy").or_insert_with(|| json!({}));
    if let Some(strategy) = strategy.as_object_mut() {
        set(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate" {
            let rolling = strategy.entry("rollingUpdate").or_insert_with(|| json!({}));
            if let Some(rolling) = rolling.as_object_mut() {
                set(rolling, "maxSurge", "25%");
                set(rolling, "maxUnavailable", "25%");
            }
        }
    }
    pod::template(spec);
}

pub(super) fn replica_set(set_object: &mut Value) {
    let Some(spec) = object(set_object, "spec") else { return };
    set(spec, "replicas", 1);
    pod::template(spec);
}

pub(super) fn replica_set_on_create(set_object: &mut Value) {
    set_object["status"] = json!({"replicas": 0});
}

pub(super) fn endpoint_slice(slice: &mut Value) {
    let Some(map) = slice.as_object_mut() else { return };
    for port in each(map, "ports") {
        if port.get("name").is_none_or(Value::is_null) {
            port.insert("name".into(), "".into());
        }
        set(port, "protocol", "TCP");
    }
}
