//! Network policies. Source: `pkg/apis/networking/validation`.

use serde_json::Value;

use super::super::Problems;
use super::service::is_cidr;
use super::{list_at, meta, str_at};

const CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const PORT: &str = "must be between 1 and 65535, inclusive";

pub(in super::super) fn policy(policy: &Value, problems: &mut Problems) {
    let spec = policy.get("spec").unwrap_or(&Value::Null);
    selector(spec.get("podSelector"), "spec.podSelector", problems);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for (index, rule) in list_at(spec, &format!("/{direction}")).iter().enumerate() {
            let at = format!("spec.{direction}[{index}]");
            for (index, port) in list_at(rule, "/ports").iter().enumerate() {
                check_port(port, &format!("{at}.ports[{index}]"), problems);
            }
            for (index, peer) in list_at(rule, &format!("/{peers}")).iter().enumerate() {
                check_peer(peer, &format!("{at}.{peers}[{index}]"), problems);
            }
        }
    }
    let types = list_at(spec, "/policyTypes");
    if types.len() > 2 {
        let given = spec.get("policyTypes").unwrap_or(&Value::Null);
        problems.invalid("spec.policyTypes", given, "may not specify more than two policyTypes");
        return;
    }
    for (index, one) in types.iter().enumerate() {
        let one = one.as_str().unwrap_or_default();
        if !["Ingress", "Egress"].contains(&one) {
            let at = format!("spec.policyTypes[{index}]");
            problems.not_supported(&at, one, &["Egress", "Ingress"]);
        }
    }
}

/// A selector in the object form.
pub(super) fn selector(selector: Option<&Value>, at: &str, problems: &mut Problems) {
    let Some(selector) = selector else { return };
    meta::labels(selector.get("matchLabels"), &format!("{at}.matchLabels"), problems);
    for (index, term) in list_at(selector, "/matchExpressions").iter().enumerate() {
        let at = format!("{at}.matchExpressions[{index}]");
        let values = list_at(term, "/values");
        match str_at(term, "/operator") {
            "In" | "NotIn" => {
                if values.is_empty() {
                    let text = "must be specified when `operator` is 'In' or 'NotIn'";
                    problems.required(&format!("{at}.values"), text);
                }
            }
            "Exists" | "DoesNotExist" => {
                if !values.is_empty() {
                    let text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                    problems.forbidden(&format!("{at}.values"), text);
                }
            }
            other => {
                let text = "not a valid selector operator";
                problems.invalid(&format!("{at}.operator"), &other.into(), text);
            }
        }
        let key = str_at(term, "/key");
        if !meta::is_qualified_name(key) {
            problems.invalid(&format!("{at}.key"), &key.into(), meta::QUALIFIED_TEXT);
        }
    }
}

fn check_port(port: &Value, at: &str, problems: &mut Problems) {
    let protocol = str_at(port, "/protocol");
    if !protocol.is_empty() && !PROTOCOLS.contains(&protocol) {
        problems.not_supported(&format!("{at}.protocol"), protocol, &PROTOCOLS);
    }
    let end = port.get("endPort").and_then(Value::as_i64);
    let end_at = format!("{at}.endPort");
    match port.get("port") {
        None => {
            if end.is_some() {
                let text = "must be specified when `endPort` is specified";
                problems.required(&format!("{at}.port"), text);
            }
        }
        Some(Value::String(name)) => {
            if let Some(text) = meta::port_name(name) {
                problems.invalid(&format!("{at}.port"), &port["port"], text);
            }
            if let Some(end) = end {
                let text = "may not be specified when `port` is non-numeric";
                problems.invalid(&end_at, &end.into(), text);
            }
        }
        Some(number) => {
            let first = number.as_i64().unwrap_or_default();
            if !(1..=65_535).contains(&first) {
                problems.invalid(&format!("{at}.port"), number, PORT);
            }
            let Some(end) = end else { return };
            if end < first {
                let text = "must be greater than or equal to `port`";
                problems.invalid(&end_at, &end.into(), text);
            } else if !(1..=65_535).contains(&end) {
                problems.invalid(&end_at, &end.into(), PORT);
            }
        }
    }
}

fn check_peer(peer: &Value, at: &str, problems: &mut Problems) {
    let (pods, namespaces) = (peer.get("podSelector"), peer.get("namespaceSelector"));
    selector(pods, &format!("{at}.podSelector"), problems);
    selector(namespaces, &format!("{at}.namespaceSelector"), problems);
    let Some(block) = peer.get("ipBlock") else {
        if pods.is_none() && namespaces.is_none() {
            problems.required(at, "must specify a peer");
        }
        return;
    };
    if pods.is_some() || namespaces.is_some() {
        problems.forbidden(at, "may not specify both ipBlock and another peer");
    }
    check_block(block, &format!("{at}.ipBlock"), problems);
}

fn check_block(block: &Value, at: &str, problems: &mut Problems) {
    let cidr = str_at(block, "/cidr");
    if cidr.is_empty() {
        problems.required(&format!("{at}.cidr"), "");
        return;
    }
    let Ok(outer) = cidr.parse::<ipnet::IpNet>() else {
        problems.invalid(&format!("{at}.cidr"), &cidr.into(), CIDR);
        return;
    };
    for (index, except) in list_at(block, "/except").iter().enumerate() {
        let at = format!("{at}.except[{index}]");
        let text = except.as_str().unwrap_or_default();
        if !is_cidr(text) {
            problems.invalid(&at, except, CIDR);
        } else if let Ok(inner) = text.parse::<ipnet::IpNet>()
            && !(outer.contains(&inner.network()) && inner.prefix_len() > outer.prefix_len())
        {
            problems.invalid(&at, except, "must be a strict subset of `cidr`");
        }
    }
}
