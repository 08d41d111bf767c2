//! Pods: the spec, also inside templates, and what an update may change.

use serde_json::Value;

use super::super::Problems;
use super::{list_at, meta, str_at, volumes};

const UPDATE_TEXT: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(in super::super) fn pod(pod: &Value, problems: &mut Problems) {
    match pod.get("spec") {
        Some(body) => spec(body, "spec", problems),
        None => problems.required("spec", ""),
    }
}

/// A pod spec at `at`.
pub(super) fn spec(spec: &Value, at: &str, problems: &mut Problems) {
    let mut known: Vec<&str> = Vec::new();
    for (index, volume) in list_at(spec, "/volumes").iter().enumerate() {
        let field = format!("{at}.volumes[{index}]");
        let name = str_at(volume, "/name");
        volumes::volume(volume, &field, problems);
        unique_label(name, &known, &format!("{field}.name"), problems);
        known.push(name);
    }
    if list_at(spec, "/containers").is_empty() {
        problems.required(&format!("{at}.containers"), "");
    }
    let mut names: Vec<&str> = Vec::new();
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for (index, one) in list_at(spec, &format!("/{list}")).iter().enumerate() {
            let field = format!("{at}.{list}[{index}]");
            let name = str_at(one, "/name");
            unique_label(name, &names, &format!("{field}.name"), problems);
            names.push(name);
            container(one, &field, &known, problems);
        }
    }
    one_of(spec, "/restartPolicy", at, &["Always", "OnFailure", "Never"], problems);
    let dns = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    one_of(spec, "/dnsPolicy", at, &dns, problems);
    meta::labels(spec.get("nodeSelector"), &format!("{at}.nodeSelector"), problems);
    not_negative(spec, "/terminationGracePeriodSeconds", at, problems);
}

fn unique_label(name: &str, seen: &[&str], field: &str, problems: &mut Problems) {
    if name.is_empty() {
        problems.required(field, "");
    } else if !meta::is_dns_label(name) {
        problems.invalid(field, &name.into(), "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')");
    } else if seen.contains(&name) {
        problems.duplicate(field, &name.into());
    }
}

pub(super) fn one_of(
    value: &Value,
    pointer: &str,
    at: &str,
    allowed: &[&str],
    problems: &mut Problems,
) {
    let text = str_at(value, pointer);
    if !text.is_empty() && !allowed.contains(&text) {
        problems.not_supported(&format!("{at}{}", pointer.replace('/', ".")), text, allowed);
    }
}

pub(super) fn not_negative(value: &Value, pointer: &str, at: &str, problems: &mut Problems) {
    if let Some(number) = value.pointer(pointer)
        && number.as_i64().is_some_and(|number| number < 0)
    {
        let field = format!("{at}{}", pointer.replace('/', "."));
        problems.invalid(&field, number, "must be greater than or equal to 0");
    }
}

/// A port number in `1..=65535`.
pub(super) fn port(value: &Value, field: &str, problems: &mut Problems) {
    if value.as_i64().is_none_or(|number| !(1..=65_535).contains(&number)) {
        problems.invalid(field, value, "must be between 1 and 65535, inclusive");
    }
}

fn container(container: &Value, at: &str, known: &[&str], problems: &mut Problems) {
    if str_at(container, "/image").is_empty() {
        problems.required(&format!("{at}.image"), "");
    }
    let policies = ["Always", "IfNotPresent", "Never"];
    one_of(container, "/imagePullPolicy", at, &policies, problems);
    for (index, one) in list_at(container, "/ports").iter().enumerate() {
        let field = format!("{at}.ports[{index}]");
        match one.get("containerPort") {
            Some(number) if number != 0 => {
                port(number, &format!("{field}.containerPort"), problems);
            }
            _ => problems.required(&format!("{field}.containerPort"), ""),
        }
        one_of(one, "/protocol", &field, &["SCTP", "TCP", "UDP"], problems);
    }
    for (index, variable) in list_at(container, "/env").iter().enumerate() {
        let field = format!("{at}.env[{index}]");
        if str_at(variable, "/name").is_empty() {
            problems.required(&format!("{field}.name"), "");
        }
        if !str_at(variable, "/value").is_empty() && variable.get("valueFrom").is_some() {
            let value = &variable["valueFrom"];
            let text = "may not be specified when `value` is not empty";
            problems.invalid(&format!("{field}.valueFrom"), value, text);
        }
    }
    mounts(container, at, known, problems);
    resources(container, at, problems);
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get(name) {
            check_probe(probe, &format!("{at}.{name}"), problems);
        }
    }
}

fn mounts(container: &Value, at: &str, known: &[&str], problems: &mut Problems) {
    let mut places: Vec<&str> = Vec::new();
    for (index, mount) in list_at(container, "/volumeMounts").iter().enumerate() {
        let field = format!("{at}.volumeMounts[{index}]");
        let name = str_at(mount, "/name");
        if name.is_empty() {
            problems.required(&format!("{field}.name"), "");
        } else if !known.contains(&name) {
            problems.not_found(&format!("{field}.name"), name);
        }
        let place = str_at(mount, "/mountPath");
        if place.is_empty() {
            problems.required(&format!("{field}.mountPath"), "");
        }
        if places.contains(&place) {
            problems.invalid(&format!("{field}.mountPath"), &place.into(), "must be unique");
        }
        places.push(place);
        sub_path(mount, &field, problems);
    }
}

fn sub_path(mount: &Value, at: &str, problems: &mut Problems) {
    let (path, expression) = (str_at(mount, "/subPath"), str_at(mount, "/subPathExpr"));
    if !path.is_empty() {
        volumes::descending(path, &format!("{at}.subPath"), problems);
    }
    if !expression.is_empty() {
        let field = format!("{at}.subPathExpr");
        if !path.is_empty() {
            let text = "subPathExpr and subPath are mutually exclusive";
            problems.invalid(&field, &expression.into(), text);
        }
        volumes::descending(expression, &field, problems);
    }
}

fn resources(container: &Value, at: &str, problems: &mut Problems) {
    for side in ["limits", "requests"] {
        let amounts = container.pointer(&format!("/resources/{side}")).and_then(Value::as_object);
        for (resource, amount) in amounts.into_iter().flatten() {
            let text = amount.as_str().unwrap_or_default();
            if !is_quantity(text) {
                let field = format!("{at}.resources.{side}[{resource}]");
                problems.invalid(&field, amount, "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'");
            }
        }
    }
}

/// Digits with at most one point, then a suffix that Kubernetes knows. Never negative.
fn is_quantity(text: &str) -> bool {
    let digits = text.trim_start_matches('+');
    let end = digits.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(digits.len());
    let (number, suffix) = digits.split_at(end);
    let is_number = number.parse::<f64>().is_ok();
    let exponent = suffix.strip_prefix(['e', 'E']).is_some_and(|rest| rest.parse::<i32>().is_ok());
    let known =
        ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    is_number && (exponent || known.contains(&suffix))
}

fn check_probe(probe: &Value, at: &str, problems: &mut Problems) {
    let handlers = ["exec", "httpGet", "tcpSocket", "grpc"];
    let given = handlers.iter().filter(|handler| probe.get(**handler).is_some()).count();
    if given == 0 {
        problems.required(at, "must specify a handler type");
    } else if given > 1 {
        problems.forbidden(at, "may not specify more than 1 handler type");
    }
    for number in ["/initialDelaySeconds", "/timeoutSeconds", "/periodSeconds", "/failureThreshold"]
    {
        not_negative(probe, number, at, problems);
    }
}

pub(in super::super) fn pod_update(old: &Value, new: &Value, problems: &mut Problems) {
    let mut allowed = old["spec"].clone();
    let wanted = &new["spec"];
    for list in ["containers", "initContainers"] {
        let images = list_at(wanted, &format!("/{list}"));
        if let Some(containers) = allowed.get_mut(list).and_then(Value::as_array_mut)
            && containers.len() == images.len()
        {
            for (container, update) in containers.iter_mut().zip(images) {
                if let Some(image) = update.get("image") {
                    container["image"] = image.clone();
                }
            }
        }
    }
    let kept = list_at(&old["spec"], "/tolerations");
    let tolerations = list_at(wanted, "/tolerations");
    let may_tolerate = kept.iter().all(|toleration| tolerations.contains(toleration));
    for field in ["activeDeadlineSeconds", "tolerations"] {
        if field == "tolerations" && !may_tolerate {
            continue;
        }
        if let Some(spec) = allowed.as_object_mut() {
            match wanted.get(field) {
                Some(value) => spec.insert(field.to_owned(), value.clone()),
                None => spec.remove(field),
            };
        }
    }
    if allowed != *wanted {
        problems.forbidden("spec", UPDATE_TEXT);
    }
}
