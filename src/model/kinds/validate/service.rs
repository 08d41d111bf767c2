//! Services and endpoint slices.
//!
//! Node ports and load balancers are refused: nothing here serves them, and accepting
//! them would promise what does not happen.

use std::net::IpAddr;

use serde_json::Value;

use super::super::Problems;
use super::{list_at, meta, pod, str_at};

pub(in super::super) fn service(service: &Value, problems: &mut Problems) {
    let spec = service.get("spec").unwrap_or(&Value::Null);
    let kind = str_at(spec, "/type");
    match kind {
        "ClusterIP" => {}
        "ExternalName" => {
            if str_at(spec, "/externalName").is_empty() {
                problems.required("spec.externalName", "");
            }
        }
        other => problems.not_supported("spec.type", other, &["ClusterIP", "ExternalName"]),
    }
    let ip = str_at(spec, "/clusterIP");
    let ports = list_at(spec, "/ports");
    if ports.is_empty() && kind == "ClusterIP" && ip != "None" {
        problems.required("spec.ports", "");
    }
    if !ip.is_empty() && ip != "None" && ip.parse::<IpAddr>().is_err() {
        let text = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        problems.invalid("spec.clusterIPs[0]", &ip.into(), text);
    }
    meta::labels(spec.get("selector"), "spec.selector", problems);
    let affinity = str_at(spec, "/sessionAffinity");
    if !["None", "ClientIP"].contains(&affinity) {
        problems.not_supported("spec.sessionAffinity", affinity, &["ClientIP", "None"]);
    }
    check_ports(ports, problems);
}

fn check_ports(ports: &[Value], problems: &mut Problems) {
    let mut names: Vec<&str> = Vec::new();
    let mut seen: Vec<(&Value, &str)> = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let at = format!("spec.ports[{index}]");
        let name = str_at(port, "/name");
        if name.is_empty() && ports.len() > 1 {
            problems.required(&format!("{at}.name"), "");
        } else if !name.is_empty() && names.contains(&name) {
            problems.duplicate(&format!("{at}.name"), &name.into());
        }
        names.push(name);
        pod::port(&port["port"], &format!("{at}.port"), problems);
        if let Some(target) = port.get("targetPort")
            && target.is_number()
        {
            pod::port(target, &format!("{at}.targetPort"), problems);
        }
        if port.get("nodePort").is_some_and(|node| *node != 0) {
            let text = "may not be used when `type` is 'ClusterIP'";
            problems.forbidden(&format!("{at}.nodePort"), text);
        }
        let protocol = str_at(port, "/protocol");
        if !["SCTP", "TCP", "UDP"].contains(&protocol) {
            let allowed = ["SCTP", "TCP", "UDP"];
            problems.not_supported(&format!("{at}.protocol"), protocol, &allowed);
        }
        let pair = (&port["port"], protocol);
        if seen.contains(&pair) {
            problems.duplicate(&at, port);
        }
        seen.push(pair);
    }
}

pub(in super::super) fn service_update(old: &Value, new: &Value, problems: &mut Problems) {
    let kept = |object: &Value| str_at(object, "/spec/type") != "ExternalName";
    let (before, after) = (str_at(old, "/spec/clusterIP"), str_at(new, "/spec/clusterIP"));
    if kept(old) && kept(new) && !before.is_empty() && before != after {
        let text = "may not change once set";
        problems.invalid("spec.clusterIPs[0]", &new["spec"]["clusterIPs"], text);
    }
}

pub(in super::super) fn endpoint_slice(slice: &Value, problems: &mut Problems) {
    let kind = str_at(slice, "/addressType");
    let kinds = ["FQDN", "IPv4", "IPv6"];
    if kind.is_empty() {
        problems.required("addressType", "");
    } else if !kinds.contains(&kind) {
        problems.not_supported("addressType", kind, &kinds);
    }
    for (index, endpoint) in list_at(slice, "/endpoints").iter().enumerate() {
        let at = format!("endpoints[{index}].addresses");
        let addresses = list_at(endpoint, "/addresses");
        if addresses.is_empty() {
            problems.required(&at, "must contain at least 1 address");
        }
        for (place, address) in addresses.iter().enumerate() {
            let valid = address.as_str().is_some_and(|text| match kind {
                "IPv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
                "IPv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
                _ => true,
            });
            if !valid {
                let text = format!("must be a valid {kind} address");
                problems.invalid(&format!("{at}[{place}]"), address, &text);
            }
        }
    }
}
