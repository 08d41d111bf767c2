//! Services and endpoint slices.

use std::net::IpAddr;

use serde_json::Value;

use super::super::Problems;
use super::{list_at, meta, pod, str_at};

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const POLICIES: [&str; 2] = ["Cluster", "Local"];
const DISTRIBUTIONS: [&str; 3] = ["PreferClose", "PreferSameNode", "PreferSameZone"];
const ONLY_BALANCED: &str = "may only be used when `type` is 'LoadBalancer'";
/// Longest time that a client may be kept with one endpoint, seconds.
const AFFINITY_MAX_S: i64 = 86_400;
const CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
pub(super) const ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

pub(super) fn set(value: Option<&Value>) -> bool {
    value.is_some_and(|value| !value.is_null() && *value != "" && *value != 0)
}

pub(in super::super) fn service(service: &Value, problems: &mut Problems) {
    let spec = service.get("spec").unwrap_or(&Value::Null);
    let kind = str_at(spec, "/type");
    let ip = str_at(spec, "/clusterIP");
    let ports = list_at(spec, "/ports");
    if ["NodePort", "LoadBalancer"].contains(&kind) && ip == "None" {
        let text = format!("may not be set to 'None' for {kind} services");
        problems.invalid("spec.clusterIPs[0]", &ip.into(), &text);
    }
    if kind == "ExternalName" && str_at(spec, "/externalName").is_empty() {
        problems.required("spec.externalName", "");
    }
    if ports.is_empty() && kind != "ExternalName" && ip != "None" {
        problems.required("spec.ports", "");
    }
    if !ip.is_empty() && ip != "None" && ip.parse::<IpAddr>().is_err() {
        problems.invalid("spec.clusterIPs[0]", &ip.into(), ADDRESS);
    }
    meta::labels(spec.get("selector"), "spec.selector", problems);
    check_affinity(spec, problems);
    check_ports(ports, kind, problems);
    if !TYPES.contains(&kind) {
        problems.not_supported("spec.type", kind, &TYPES);
    }
    check_outside(spec, kind, problems);
    check_balanced(spec, kind, problems);
}

fn check_affinity(spec: &Value, problems: &mut Problems) {
    let affinity = str_at(spec, "/sessionAffinity");
    let config = spec.get("sessionAffinityConfig").filter(|config| !config.is_null());
    match affinity {
        "None" => {
            if config.is_some() {
                let text = "must not be set when session affinity is None";
                problems.forbidden("spec.sessionAffinityConfig", text);
            }
        }
        "ClientIP" => {
            let at = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
            let seconds = config.and_then(|config| config.pointer("/clientIP/timeoutSeconds"));
            match seconds.and_then(Value::as_i64) {
                Some(1..=AFFINITY_MAX_S) => {}
                Some(other) => {
                    let text = format!("must be greater than 0 and less than {AFFINITY_MAX_S}");
                    problems.invalid(at, &other.into(), &text);
                }
                None => problems.required(at, ""),
            }
        }
        other => problems.not_supported("spec.sessionAffinity", other, &["ClientIP", "None"]),
    }
}

/// What may only be said of services that are reached from outside.
fn check_outside(spec: &Value, kind: &str, problems: &mut Problems) {
    let addresses = list_at(spec, "/externalIPs");
    for (index, address) in addresses.iter().enumerate() {
        let at = format!("spec.externalIPs[{index}]");
        match address.as_str().and_then(|text| text.parse::<IpAddr>().ok()) {
            None => problems.invalid(&at, address, ADDRESS),
            Some(ip) => {
                if let Some(text) = special(ip) {
                    problems.invalid(&at, address, text);
                }
            }
        }
    }
    let open = ["NodePort", "LoadBalancer"].contains(&kind) || !addresses.is_empty();
    let policy = spec.get("externalTrafficPolicy").filter(|policy| set(Some(policy)));
    if let Some(policy) = policy {
        let at = "spec.externalTrafficPolicy";
        if !open {
            problems.invalid(at, policy, "may only be set for externally-accessible services");
        } else if !POLICIES.contains(&policy.as_str().unwrap_or_default()) {
            problems.not_supported(at, policy.as_str().unwrap_or_default(), &POLICIES);
        }
    }
    let inside = str_at(spec, "/internalTrafficPolicy");
    if !inside.is_empty() && !POLICIES.contains(&inside) {
        problems.not_supported("spec.internalTrafficPolicy", inside, &POLICIES);
    }
    let spread = str_at(spec, "/trafficDistribution");
    if !spread.is_empty() && !DISTRIBUTIONS.contains(&spread) {
        problems.not_supported("spec.trafficDistribution", spread, &DISTRIBUTIONS);
    }
    let checked = kind == "LoadBalancer" && policy.is_some_and(|policy| policy == "Local");
    if let Some(port) = spec.get("healthCheckNodePort").filter(|port| set(Some(port)))
        && !checked
    {
        let text =
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        problems.invalid("spec.healthCheckNodePort", port, text);
    }
}

/// Why an address cannot lead to a service.
fn special(ip: IpAddr) -> Option<&'static str> {
    let local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let group = match ip {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.segments()[0] == 0xff02,
    };
    if ip.is_unspecified() {
        Some("may not be unspecified (0.0.0.0 or ::)")
    } else if ip.is_loopback() {
        Some("may not be in the loopback range (127.0.0.0/8, ::1/128)")
    } else if local {
        Some("may not be in the link-local range (169.254.0.0/16, fe80::/10)")
    } else if group {
        Some("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")
    } else {
        None
    }
}

/// What may only be said of load balancers.
fn check_balanced(spec: &Value, kind: &str, problems: &mut Problems) {
    let balanced = kind == "LoadBalancer";
    for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
        let given = spec.get(field).is_some_and(|value| !value.is_null() && *value != "");
        if !balanced && given {
            problems.forbidden(&format!("spec.{field}"), ONLY_BALANCED);
        }
    }
    let class = str_at(spec, "/loadBalancerClass");
    if balanced && !class.is_empty() && !meta::is_qualified_name(class) {
        problems.invalid("spec.loadBalancerClass", &class.into(), meta::QUALIFIED_TEXT);
    }
    let ranges = list_at(spec, "/loadBalancerSourceRanges");
    if !balanced && !ranges.is_empty() {
        problems.forbidden("spec.loadBalancerSourceRanges", ONLY_BALANCED);
    }
    for (index, range) in ranges.iter().enumerate() {
        if !is_cidr(range.as_str().unwrap_or_default().trim()) {
            problems.invalid(&format!("spec.loadBalancerSourceRanges[{index}]"), range, CIDR);
        }
    }
}

pub(super) fn is_cidr(text: &str) -> bool {
    text.parse::<ipnet::IpNet>().is_ok()
}

fn check_ports(ports: &[Value], kind: &str, problems: &mut Problems) {
    let mut names: Vec<&str> = Vec::new();
    let mut seen: Vec<(&Value, &str)> = Vec::new();
    let mut on_nodes: Vec<(&Value, &str)> = Vec::new();
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
        let protocol = str_at(port, "/protocol");
        if !["SCTP", "TCP", "UDP"].contains(&protocol) {
            let allowed = ["SCTP", "TCP", "UDP"];
            problems.not_supported(&format!("{at}.protocol"), protocol, &allowed);
        }
        if let Some(node) = port.get("nodePort").filter(|node| set(Some(node))) {
            let at = format!("{at}.nodePort");
            if ["ClusterIP", "ExternalName"].contains(&kind) {
                let text = format!("may not be used when `type` is '{kind}'");
                problems.forbidden(&at, &text);
            }
            if on_nodes.contains(&(node, protocol)) {
                problems.duplicate(&at, node);
            }
            on_nodes.push((node, protocol));
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
    let both = |kind: &str| str_at(old, "/spec/type") == kind && str_at(new, "/spec/type") == kind;
    if !both("LoadBalancer") {
        return;
    }
    if old["spec"]["loadBalancerClass"] != new["spec"]["loadBalancerClass"] {
        let class = &new["spec"]["loadBalancerClass"];
        problems.invalid("spec.loadBalancerClass", class, "may not change once set");
    }
    let check = |object: &Value| object["spec"].get("healthCheckNodePort").cloned();
    let local = |object: &Value| str_at(object, "/spec/externalTrafficPolicy") == "Local";
    if local(old) && local(new) && check(old) != check(new) {
        let value = check(new).unwrap_or_default();
        problems.invalid("spec.healthCheckNodePort", &value, "field is immutable");
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
