//! Endpoints, the older form of what stands behind a Service: made from slices for who
//! still reads it, and made into slices where a person writes it.
//!
//! ```text
//! slices ─► subsets    a Service with a selector: addresses of the same ports together
//! subsets ─► slices    one without: what somebody wrote is what gets the traffic
//! ```
//! Source: Kubernetes' Endpoints and EndpointSlice mirroring controllers. Invariants: the
//! same slices give the same subsets; nobody is told of a pod that is about to go.
//! Not here: which object is whose (controllers/endpoints).

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort};
use serde_json::{Map, Value, json};

use super::SliceContent;

/// Addresses of one Endpoints object, and of one subset that is mirrored (Kubernetes').
const MOST: usize = 1_000;

/// The subsets, and whether addresses were left out because there are too many.
pub fn subsets(slices: &[SliceContent]) -> (Value, bool) {
    let mut groups: BTreeMap<String, (Vec<Value>, [Vec<Value>; 2])> = BTreeMap::new();
    let mut count = 0;
    // Those that are ready first: they are the last to be left out.
    for ready in [true, false] {
        for slice in slices.iter().filter(|slice| slice.address_type == "IPv4") {
            let ports: Vec<Value> = slice.ports.iter().map(port).collect();
            for endpoint in &slice.endpoints {
                let conditions = endpoint.conditions.as_ref();
                let is_ready = conditions.and_then(|all| all.ready) == Some(true);
                let leaving = conditions.and_then(|all| all.terminating) == Some(true);
                if is_ready != ready || (leaving && !is_ready) {
                    continue;
                }
                count += 1;
                if count <= MOST {
                    let key = Value::from(ports.clone()).to_string();
                    let group =
                        groups.entry(key).or_insert_with(|| (ports.clone(), <_>::default()));
                    group.1[usize::from(!ready)].push(address(endpoint));
                }
            }
        }
    }
    let subsets = groups.into_values().map(|(ports, [ready, unready])| {
        let mut subset = Map::new();
        for (name, list) in [("addresses", ready), ("notReadyAddresses", unready), ("ports", ports)]
        {
            if !list.is_empty() {
                subset.insert(name.to_owned(), list.into());
            }
        }
        Value::Object(subset)
    });
    (subsets.collect(), count > MOST)
}

fn port(port: &EndpointPort) -> Value {
    let mut told = json!({"port": port.port, "protocol": port.protocol});
    if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
        told["name"] = name.into();
    }
    if let Some(protocol) = &port.app_protocol {
        told["appProtocol"] = protocol.as_str().into();
    }
    told
}

fn address(endpoint: &Endpoint) -> Value {
    let mut told = json!({"ip": endpoint.addresses[0]});
    if let Some(node) = &endpoint.node_name {
        told["nodeName"] = node.as_str().into();
    }
    if let Some(name) = &endpoint.hostname {
        told["hostname"] = name.as_str().into();
    }
    if let Some(target) = &endpoint.target_ref {
        told["targetRef"] = json!(target);
    }
    told
}

/// The slices that say what the Endpoints object says.
pub fn mirrored(endpoints: &Value, slice_max: usize) -> Vec<SliceContent> {
    let mut slices = Vec::new();
    for subset in list(endpoints, "subsets") {
        let ports: Vec<EndpointPort> = list(subset, "ports").iter().map(read_port).collect();
        let mut by_type: BTreeMap<&'static str, Vec<Endpoint>> = BTreeMap::new();
        let both = [("addresses", true), ("notReadyAddresses", false)];
        let all = both.into_iter().flat_map(|(name, ready)| {
            list(subset, name).iter().map(move |address| (address, ready))
        });
        for (address, ready) in all.take(MOST) {
            let Some(ip) = text(address, "ip") else { continue };
            let address_type = match ip.parse() {
                Ok(IpAddr::V4(_)) => "IPv4",
                Ok(IpAddr::V6(_)) => "IPv6",
                Err(_) => continue,
            };
            let target = address.get("targetRef").cloned();
            by_type.entry(address_type).or_default().push(Endpoint {
                addresses: vec![ip],
                conditions: Some(EndpointConditions {
                    ready: Some(ready),
                    ..EndpointConditions::default()
                }),
                hostname: text(address, "hostname"),
                node_name: text(address, "nodeName"),
                target_ref: target.and_then(|target| serde_json::from_value(target).ok()),
                ..Endpoint::default()
            });
        }
        for (address_type, mut endpoints) in by_type {
            endpoints.sort_by(|one, other| one.addresses.cmp(&other.addresses));
            for part in endpoints.chunks(slice_max.max(1)) {
                let (ports, endpoints) = (ports.clone(), part.to_vec());
                slices.push(SliceContent { address_type, ports, endpoints });
            }
        }
    }
    slices
}

fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text(value: &Value, name: &str) -> Option<String> {
    value.get(name).and_then(Value::as_str).map(str::to_owned)
}

fn read_port(port: &Value) -> EndpointPort {
    let number = port.get("port").and_then(Value::as_i64);
    EndpointPort {
        name: Some(text(port, "name").unwrap_or_default()),
        port: number.and_then(|number| i32::try_from(number).ok()),
        protocol: Some(text(port, "protocol").unwrap_or_else(|| "TCP".to_owned())),
        app_protocol: text(port, "appProtocol"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(port: i32, endpoints: &[(&str, bool, bool)]) -> SliceContent {
        let endpoints = endpoints.iter().map(|(address, ready, leaving)| Endpoint {
            addresses: vec![(*address).to_owned()],
            conditions: Some(EndpointConditions {
                ready: Some(*ready),
                serving: Some(true),
                terminating: Some(*leaving),
            }),
            node_name: Some("a1".into()),
            ..Endpoint::default()
        });
        SliceContent {
            address_type: "IPv4",
            ports: vec![EndpointPort {
                name: Some("web".into()),
                port: Some(port),
                protocol: Some("TCP".into()),
                app_protocol: None,
            }],
            endpoints: endpoints.collect(),
        }
    }

    #[test]
    fn addresses_of_the_same_ports_are_one_subset_without_those_that_go() {
        let slices = [
            slice(80, &[("10.0.0.1", true, false), ("10.0.0.2", false, true)]),
            slice(80, &[("10.0.0.3", false, false)]),
            slice(81, &[("10.0.0.4", true, true)]),
        ];
        let port = |number: i32| json!([{"name": "web", "port": number, "protocol": "TCP"}]);
        let address = |ip: &str| json!([{"ip": ip, "nodeName": "a1"}]);
        let wanted = json!([
            {"addresses": address("10.0.0.1"), "notReadyAddresses": address("10.0.0.3"),
                "ports": port(80)},
            {"addresses": address("10.0.0.4"), "ports": port(81)},
        ]);
        assert_eq!(subsets(&slices), (wanted, false));
        assert_eq!(subsets(&[]), (json!([]), false));
    }

    #[test]
    fn those_that_are_not_ready_are_the_first_to_be_left_out() {
        let names: Vec<String> =
            (0..1_001).map(|n| format!("10.1.{}.{}", n / 256, n % 256)).collect();
        let all: Vec<_> =
            names.iter().enumerate().map(|(n, ip)| (ip.as_str(), n > 0, false)).collect();
        let (told, truncated) = subsets(&[slice(80, &all)]);
        assert!(truncated);
        assert_eq!(told[0]["addresses"].as_array().unwrap().len(), 1_000);
        assert_eq!(told[0].get("notReadyAddresses"), None);
        assert!(!subsets(&[slice(80, &all[..1_000])]).1);
    }

    #[test]
    fn what_a_person_wrote_becomes_slices_and_reads_the_same() {
        let written = json!({"subsets": [
            {"addresses": [{"ip": "192.0.2.9"}, {"ip": "2001:db8::1"}, {"ip": "192.0.2.10"}],
                "notReadyAddresses": [{"ip": "192.0.2.8", "hostname": "db"}],
                "ports": [{"port": 5432}]},
        ]});
        let slices = mirrored(&written, 2);
        let told: Vec<_> = slices
            .iter()
            .map(|slice| {
                let ready = |one: &Endpoint| one.conditions.as_ref().unwrap().ready.unwrap();
                let ends =
                    slice.endpoints.iter().map(|one| (one.addresses[0].as_str(), ready(one)));
                (slice.address_type, ends.collect::<Vec<_>>())
            })
            .collect();
        assert_eq!(
            told,
            [
                ("IPv4", vec![("192.0.2.10", true), ("192.0.2.8", false)]),
                ("IPv4", vec![("192.0.2.9", true)]),
                ("IPv6", vec![("2001:db8::1", true)]),
            ]
        );
        assert_eq!(slices[0].endpoints[1].hostname.as_deref(), Some("db"));
        let back = subsets(&slices).0;
        assert_eq!(back[0]["ports"], json!([{"port": 5432, "protocol": "TCP"}]));
        assert_eq!(back[0]["addresses"], json!([{"ip": "192.0.2.10"}, {"ip": "192.0.2.9"}]));
        assert!(mirrored(&json!({"subsets": [{"addresses": [{"ip": "x"}]}]}), 2).is_empty());
        assert!(mirrored(&json!({}), 2).is_empty());
    }
}
