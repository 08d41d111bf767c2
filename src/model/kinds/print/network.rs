//! The columns of services, endpoints and endpoint slices.

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
