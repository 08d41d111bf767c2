//! The columns of services, endpoints, endpoint slices, policies and ingresses.

use jiff::Timestamp;
use serde_json::Value;

use super::super::Column;
use super::{AGE, NAME, int_at, list_at, or_none, pairs, str_at, text};

pub(in super::super) const SERVICE: &[Column] = &[
    NAME,
    text("Type", false, |service, _| str_at(service, "/spec/type").into()),
    text("Cluster-IP", false, cluster_ip),
    text("External-IP", false, external_ip),
    text("Port(s)", false, service_ports),
    AGE,
    text("Selector", true, |service, _| pairs(service.pointer("/spec/selector"))),
];

pub(in super::super) const ENDPOINTS: &[Column] = &[NAME, text("Endpoints", false, endpoints), AGE];

pub(in super::super) const ENDPOINT_SLICE: &[Column] = &[
    NAME,
    text("AddressType", false, |slice, _| str_at(slice, "/addressType").into()),
    text("Ports", false, slice_ports),
    text("Endpoints", false, slice_endpoints),
    AGE,
];

pub(in super::super) const POLICY: &[Column] = &[
    NAME,
    text("Pod-Selector", false, |policy, _| selector(policy.pointer("/spec/podSelector"))),
    AGE,
];

pub(in super::super) const INGRESS: &[Column] = &[
    NAME,
    text("Class", false, |ingress, _| ingress_class(ingress)),
    text("Hosts", false, |ingress, _| hosts(ingress)),
    text("Address", false, |ingress, _| ingress_addresses(ingress)),
    text("Ports", false, |ingress, _| {
        let secured = !list_at(ingress, "/spec/tls").is_empty();
        if secured { "80, 443".into() } else { "80".into() }
    }),
    AGE,
];

pub(in super::super) const INGRESS_CLASS: &[Column] = &[
    NAME,
    text("Controller", false, |class, _| str_at(class, "/spec/controller").into()),
    text("Parameters", false, |class, _| parameters(class)),
    AGE,
];

fn parameters(class: &Value) -> Value {
    let Some(parameters) = class.pointer("/spec/parameters") else { return "<none>".into() };
    let kind = match str_at(parameters, "/apiGroup") {
        "" => str_at(parameters, "/kind").to_owned(),
        group => format!("{}.{group}", str_at(parameters, "/kind")),
    };
    format!("{kind}/{}", str_at(parameters, "/name")).into()
}

fn ingress_class(ingress: &Value) -> Value {
    match str_at(ingress, "/spec/ingressClassName") {
        "" => or_none(str_at(ingress, "/metadata/annotations/kubernetes.io~1ingress.class")),
        class => class.into(),
    }
}

fn hosts(ingress: &Value) -> Value {
    let rules = list_at(ingress, "/spec/rules");
    let hosts: Vec<String> = rules
        .iter()
        .map(|rule| match str_at(rule, "/host") {
            "" => "*".to_owned(),
            host => host.to_owned(),
        })
        .collect();
    if hosts.is_empty() { "*".into() } else { some_of(&hosts, 3) }
}

fn ingress_addresses(ingress: &Value) -> Value {
    let points = list_at(ingress, "/status/loadBalancer/ingress").iter();
    let addresses = points.map(|point| match str_at(point, "/ip") {
        "" => str_at(point, "/hostname"),
        ip => ip,
    });
    addresses.collect::<Vec<_>>().join(",").into()
}

/// A selector as people write it; `<none>` for the one that selects everything.
fn selector(selector: Option<&Value>) -> Value {
    let Some(selector) = selector else { return "<none>".into() };
    let mut terms = Vec::new();
    for (key, value) in selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten()
    {
        terms.push(format!("{key}={}", value.as_str().unwrap_or_default()));
    }
    for term in list_at(selector, "/matchExpressions") {
        let key = str_at(term, "/key");
        let values: Vec<&str> = list_at(term, "/values").iter().filter_map(Value::as_str).collect();
        let values = values.join(",");
        terms.push(match str_at(term, "/operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    terms.sort();
    or_none(&terms.join(","))
}

fn cluster_ip(service: &Value, _: Timestamp) -> Value {
    or_none(str_at(service, "/spec/clusterIP"))
}

fn external_ip(service: &Value, _: Timestamp) -> Value {
    if str_at(service, "/spec/type") == "ExternalName" {
        return or_none(str_at(service, "/spec/externalName"));
    }
    let mut addresses: Vec<&str> = list_at(service, "/status/loadBalancer/ingress")
        .iter()
        .map(|ingress| match str_at(ingress, "/ip") {
            "" => str_at(ingress, "/hostname"),
            ip => ip,
        })
        .collect();
    addresses.extend(list_at(service, "/spec/externalIPs").iter().filter_map(Value::as_str));
    if addresses.is_empty() && str_at(service, "/spec/type") == "LoadBalancer" {
        return "<pending>".into();
    }
    or_none(&addresses.join(","))
}

fn service_ports(service: &Value, _: Timestamp) -> Value {
    let ports: Vec<String> = list_at(service, "/spec/ports")
        .iter()
        .map(|port| {
            let (number, node) = (int_at(port, "/port"), int_at(port, "/nodePort"));
            let protocol = str_at(port, "/protocol");
            if node == 0 {
                format!("{number}/{protocol}")
            } else {
                format!("{number}:{node}/{protocol}")
            }
        })
        .collect();
    or_none(&ports.join(","))
}

/// The first `max` of a list, then how many more there are.
fn some_of(items: &[String], max: usize) -> Value {
    if items.len() <= max {
        return or_none(&items.join(","));
    }
    format!("{} + {} more...", items[..max].join(","), items.len() - max).into()
}

fn endpoints(object: &Value, _: Timestamp) -> Value {
    let mut found = Vec::new();
    for subset in list_at(object, "/subsets") {
        for address in list_at(subset, "/addresses") {
            let ip = str_at(address, "/ip");
            let ports = list_at(subset, "/ports");
            if ports.is_empty() {
                found.push(ip.to_owned());
            }
            found.extend(ports.iter().map(|port| format!("{ip}:{}", int_at(port, "/port"))));
        }
    }
    some_of(&found, 3)
}

fn slice_ports(slice: &Value, _: Timestamp) -> Value {
    let ports = list_at(slice, "/ports");
    if ports.is_empty() {
        return "<unset>".into();
    }
    let texts: Vec<String> = ports
        .iter()
        .map(|port| match port.get("port").and_then(Value::as_i64) {
            Some(number) => number.to_string(),
            None => "*".to_owned(),
        })
        .collect();
    some_of(&texts, 3)
}

fn slice_endpoints(slice: &Value, _: Timestamp) -> Value {
    let addresses: Vec<String> = list_at(slice, "/endpoints")
        .iter()
        .flat_map(|endpoint| list_at(endpoint, "/addresses"))
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    if addresses.is_empty() {
        return "<unset>".into();
    }
    some_of(&addresses, 3)
}
