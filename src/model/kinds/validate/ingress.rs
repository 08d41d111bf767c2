//! Ingresses and their classes. Source: `pkg/apis/networking/validation`.

use std::net::IpAddr;

use serde_json::Value;

use super::super::Problems;
use super::{list_at, meta, str_at};

const WILDCARD: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const PATH_TYPES: [&str; 3] = ["Exact", "ImplementationSpecific", "Prefix"];
const INSIDE: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
const AT_END: [&str; 2] = ["/..", "/."];
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const CONTROLLER_MAX: usize = 250;

pub(in super::super) fn ingress(ingress: &Value, problems: &mut Problems) {
    let spec = ingress.get("spec").unwrap_or(&Value::Null);
    let rules = list_at(spec, "/rules");
    let default = spec.get("defaultBackend");
    if rules.is_empty() && default.is_none() {
        let text = "either `defaultBackend` or `rules` must be specified";
        problems.invalid("spec", &Value::Array(Vec::new()), text);
    }
    if let Some(default) = default {
        backend(default, "spec.defaultBackend", problems);
    }
    for (index, rule) in rules.iter().enumerate() {
        let at = format!("spec.rules[{index}]");
        host(str_at(rule, "/host"), &format!("{at}.host"), problems);
        let Some(http) = rule.get("http") else { continue };
        let paths = list_at(http, "/paths");
        if paths.is_empty() {
            problems.required(&format!("{at}.http.paths"), "");
        }
        for (index, one) in paths.iter().enumerate() {
            let at = format!("{at}.http.paths[{index}]");
            path(one, &at, problems);
            backend(one.get("backend").unwrap_or(&Value::Null), &format!("{at}.backend"), problems);
        }
    }
    for (index, tls) in list_at(spec, "/tls").iter().enumerate() {
        for (place, name) in list_at(tls, "/hosts").iter().enumerate() {
            let at = format!("spec.tls[{index}].hosts[{place}]");
            host(name.as_str().unwrap_or_default(), &at, problems);
        }
        let secret = str_at(tls, "/secretName");
        if !secret.is_empty() && !meta::is_subdomain(secret) {
            let at = format!("spec.tls[{index}].secretName");
            problems.invalid(&at, &secret.into(), meta::SUBDOMAIN_TEXT);
        }
    }
    let class = str_at(spec, "/ingressClassName");
    if !class.is_empty() && !meta::is_subdomain(class) {
        problems.invalid("spec.ingressClassName", &class.into(), meta::SUBDOMAIN_TEXT);
    }
    let notes = ingress.pointer("/metadata/annotations");
    if let Some(noted) = notes.and_then(|notes| notes.get(CLASS_ANNOTATION))
        && !class.is_empty()
        && *noted != class
    {
        let at = "metadata.annotations.kubernetes.io/ingress.class";
        problems.invalid(at, noted, "can not be set when the class field is also set");
    }
}

fn host(name: &str, at: &str, problems: &mut Problems) {
    if name.is_empty() {
        return;
    }
    if name.parse::<IpAddr>().is_ok() {
        problems.invalid(at, &name.into(), "must be a DNS name, not an IP address");
    } else if name.contains('*') {
        if !name.strip_prefix("*.").is_some_and(meta::is_subdomain) {
            problems.invalid(at, &name.into(), WILDCARD);
        }
    } else if !meta::is_subdomain(name) {
        problems.invalid(at, &name.into(), meta::SUBDOMAIN_TEXT);
    }
}

fn path(one: &Value, at: &str, problems: &mut Problems) {
    let text = str_at(one, "/path");
    let path_at = format!("{at}.path");
    let absolute = "must be an absolute path";
    match str_at(one, "/pathType") {
        "" => problems.required(&format!("{at}.pathType"), "pathType must be specified"),
        "Exact" | "Prefix" => {
            if !text.starts_with('/') {
                problems.invalid(&path_at, &text.into(), absolute);
                return;
            }
            for wrong in INSIDE.iter().filter(|wrong| text.contains(**wrong)) {
                problems.invalid(&path_at, &text.into(), &format!("must not contain '{wrong}'"));
            }
            for wrong in AT_END.iter().filter(|wrong| text.ends_with(**wrong)) {
                problems.invalid(&path_at, &text.into(), &format!("cannot end with '{wrong}'"));
            }
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && !text.starts_with('/') {
                problems.invalid(&path_at, &text.into(), absolute);
            }
        }
        other => problems.not_supported(&format!("{at}.pathType"), other, &PATH_TYPES),
    }
}

fn backend(backend: &Value, at: &str, problems: &mut Problems) {
    let (service, resource) = (backend.get("service"), backend.get("resource"));
    match (service, resource) {
        (Some(_), Some(_)) => {
            let text = "cannot set both resource and service backends";
            problems.invalid(at, &"".into(), text);
        }
        (None, Some(_)) => {}
        (Some(service), None) => service_backend(service, at, problems),
        (None, None) => {
            problems.required(at, "either service or resource must be specified");
        }
    }
}

fn is_label_1035(name: &str) -> bool {
    meta::is_dns_label(name) && name.starts_with(|first: char| first.is_ascii_lowercase())
}

fn service_backend(service: &Value, at: &str, problems: &mut Problems) {
    let name = str_at(service, "/name");
    if name.is_empty() {
        problems.required(&format!("{at}.service.name"), "");
    } else if !is_label_1035(name) {
        problems.invalid(&format!("{at}.service.name"), &name.into(), meta::LABEL_1035_TEXT);
    }
    let named = str_at(service, "/port/name");
    let number = service.pointer("/port/number").and_then(Value::as_i64).unwrap_or_default();
    if !named.is_empty() && number != 0 {
        problems.invalid(at, &"".into(), "cannot set both port name & port number");
    } else if !named.is_empty() {
        if let Some(text) = meta::port_name(named) {
            problems.invalid(&format!("{at}.service.port.name"), &named.into(), text);
        }
    } else if number == 0 {
        problems.required(at, "port name or number is required");
    } else if !(1..=65_535).contains(&number) {
        let text = "must be between 1 and 65535, inclusive";
        problems.invalid(&format!("{at}.service.port.number"), &number.into(), text);
    }
}

pub(in super::super) fn class(class: &Value, problems: &mut Problems) {
    let controller = str_at(class, "/spec/controller");
    let at = "spec.controller";
    if controller.is_empty() {
        problems.required(at, "");
    } else if controller.len() > CONTROLLER_MAX {
        problems.too_long(at, CONTROLLER_MAX, "characters");
    } else {
        let parts = controller.split_once('/');
        if !parts.is_some_and(|(domain, path)| meta::is_subdomain(domain) && !path.is_empty()) {
            let text = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            problems.invalid(at, &controller.into(), text);
        }
    }
}

pub(in super::super) fn class_update(old: &Value, new: &Value, problems: &mut Problems) {
    let controller = |object: &Value| object.pointer("/spec/controller").cloned();
    if controller(old) != controller(new) {
        let value = controller(new).unwrap_or_default();
        problems.invalid("spec.controller", &value, "field is immutable");
    }
}
