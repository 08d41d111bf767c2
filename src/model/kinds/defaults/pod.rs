//! A pod's defaults, alone and inside templates.

use serde_json::{Map, Value, json};

use super::{each, object, set};

type Fields = Map<String, Value>;

/// Mode of files in projected volumes: 0644.
const FILE_MODE: i64 = 420;

pub(in super::super) fn pod(pod: &mut Value) {
    if let Some(spec) = object(pod, "spec") {
        pod_spec(spec);
        requests_from_limits(spec);
    }
}

pub(in super::super) fn pod_on_create(pod: &mut Value) {
    let class = qos_class(pod);
    pod["status"] = json!({"phase": "Pending", "qosClass": class});
}

/// The template of a workload's spec.
pub(super) fn template(spec: &mut Fields) {
    if let Some(template) = spec.get_mut("template")
        && let Some(pod) = object(template, "spec")
    {
        pod_spec(pod);
    }
}

fn pod_spec(spec: &mut Fields) {
    set(spec, "restartPolicy", "Always");
    set(spec, "terminationGracePeriodSeconds", 30);
    set(spec, "dnsPolicy", "ClusterFirst");
    set(spec, "securityContext", json!({}));
    set(spec, "schedulerName", "default-scheduler");
    set(spec, "enableServiceLinks", true);
    let host_network = spec.get("hostNetwork") == Some(&Value::Bool(true));
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in each(spec, list) {
            fill_container(container, host_network);
        }
    }
    for volume in each(spec, "volumes") {
        fill_volume(volume);
    }
}

fn fill_container(container: &mut Fields, host_network: bool) {
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
    let policy = if is_latest(image) { "Always" } else { "IfNotPresent" };
    set(container, "imagePullPolicy", policy);
    set(container, "resources", json!({}));
    set(container, "terminationMessagePath", "/dev/termination-log");
    set(container, "terminationMessagePolicy", "File");
    for port in each(container, "ports") {
        set(port, "protocol", "TCP");
        if host_network {
            let number = port.get("containerPort").cloned().unwrap_or_default();
            set(port, "hostPort", number);
        }
    }
    for variable in each(container, "env") {
        if let Some(from) = variable.get_mut("valueFrom").and_then(|from| from.get_mut("fieldRef"))
            && let Some(field) = from.as_object_mut()
        {
            set(field, "apiVersion", "v1");
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(name).and_then(Value::as_object_mut) {
            fill_probe(probe);
        }
    }
    for hook in ["postStart", "preStop"] {
        if let Some(action) = container.get_mut("lifecycle").and_then(|life| life.get_mut(hook)) {
            fill_http(action);
        }
    }
}

fn fill_probe(probe: &mut Fields) {
    set(probe, "timeoutSeconds", 1);
    set(probe, "periodSeconds", 10);
    set(probe, "successThreshold", 1);
    set(probe, "failureThreshold", 3);
    if let Some(get) = probe.get_mut("httpGet").and_then(Value::as_object_mut) {
        set(get, "path", "/");
        set(get, "scheme", "HTTP");
    }
    if let Some(grpc) = probe.get_mut("grpc").and_then(Value::as_object_mut)
        && grpc.get("service").is_none_or(Value::is_null)
    {
        grpc.insert("service".into(), "".into());
    }
}

fn fill_http(action: &mut Value) {
    if let Some(get) = action.get_mut("httpGet").and_then(Value::as_object_mut) {
        set(get, "path", "/");
        set(get, "scheme", "HTTP");
    }
}

fn fill_volume(volume: &mut Fields) {
    let named = volume.keys().any(|key| key != "name");
    if !named {
        volume.insert("emptyDir".into(), json!({}));
    }
    for source in ["configMap", "secret", "downwardAPI", "projected"] {
        if let Some(source) = volume.get_mut(source).and_then(Value::as_object_mut) {
            set(source, "defaultMode", FILE_MODE);
        }
    }
    if let Some(path) = volume.get_mut("hostPath").and_then(Value::as_object_mut)
        && path.get("type").is_none_or(Value::is_null)
    {
        path.insert("type".into(), "".into());
    }
}

/// No tag, or the tag `latest`, and no digest: the image may change under its name.
fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or_default();
    last.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

/// A limit without a request is also the request.
fn requests_from_limits(spec: &mut Fields) {
    for list in ["initContainers", "containers"] {
        for container in each(spec, list) {
            let Some(resources) = container.get_mut("resources").and_then(Value::as_object_mut)
            else {
                continue;
            };
            let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else {
                continue;
            };
            let requests = resources.entry("requests").or_insert_with(|| json!({}));
            if let Some(requests) = requests.as_object_mut() {
                for (name, amount) in limits {
                    requests.entry(name).or_insert(amount);
                }
            }
        }
    }
}

/// Guaranteed: every container limits CPU and memory to what it requests. Best effort:
/// nobody says anything. Otherwise burstable.
fn qos_class(pod: &Value) -> &'static str {
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
    let (mut anything, mut guaranteed) = (false, true);
    for container in containers.into_iter().flatten() {
        for resource in ["cpu", "memory"] {
            let limit = container.pointer(&format!("/resources/limits/{resource}"));
            let request = container.pointer(&format!("/resources/requests/{resource}"));
            anything |= limit.is_some() || request.is_some();
            guaranteed &= limit.is_some() && limit == request;
        }
    }
    match (anything, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
