//! Which addresses stand behind a Service.
//!
//! Source: Kubernetes' EndpointSlice controller. Invariants: the same pods give the same
//! slices whatever their order, so nothing is written when nothing changed; a leaving
//! pod is never `ready`, but keeps `serving` while its readiness holds, so that
//! connections can drain; every set of resolved ports is a group of slices of its own.
//! Not here: reading pods and writing slices (controllers/endpoints).

pub mod subsets;

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, ForNode, ForZone,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::logic::rollout_ranking::{is_ended, is_ready};

/// The content of one slice.
#[derive(Clone, Debug, PartialEq)]
pub struct SliceContent {
    /// `IPv4` or `IPv6`.
    pub address_type: &'static str,
    pub ports: Vec<EndpointPort>,
    /// Sorted by address.
    pub endpoints: Vec<Endpoint>,
}

/// The slices of a Service. `zone` says in which center a node stands.
pub fn slices<'a>(
    service: &Service,
    pods: impl IntoIterator<Item = &'a Pod>,
    zone: impl Fn(&str) -> Option<String>,
    slice_max: usize,
) -> Vec<SliceContent> {
    let mut groups: BTreeMap<(&'static str, String), SliceContent> = BTreeMap::new();
    let publish_all =
        service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
    for pod in pods {
        let Some(endpoint) = endpoint(pod, service, publish_all, &zone) else { continue };
        let address_type = match endpoint.addresses[0].parse() {
            Ok(IpAddr::V4(_)) => "IPv4",
            Ok(IpAddr::V6(_)) => "IPv6",
            Err(_) => continue,
        };
        let ports = resolve_ports(service, pod);
        let group = (address_type, port_text(&ports));
        let empty = SliceContent { address_type, ports, endpoints: Vec::new() };
        groups.entry(group).or_insert(empty).endpoints.push(endpoint);
    }
    let mut slices = Vec::new();
    for group in groups.into_values() {
        let mut endpoints = group.endpoints;
        endpoints.sort_by(|one, other| one.addresses.cmp(&other.addresses));
        for part in endpoints.chunks(slice_max.max(1)) {
            slices.push(SliceContent {
                address_type: group.address_type,
                ports: group.ports.clone(),
                endpoints: part.to_vec(),
            });
        }
    }
    slices
}

/// The pod as an endpoint; `None` while it has no address or will never run again.
fn endpoint(
    pod: &Pod,
    service: &Service,
    publish_all: bool,
    zone: &impl Fn(&str) -> Option<String>,
) -> Option<Endpoint> {
    if is_ended(pod) {
        return None;
    }
    let address = pod.status.as_ref()?.pod_ip.clone().filter(|address| !address.is_empty())?;
    let node = pod.spec.as_ref()?.node_name.clone();
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let serving = is_ready(pod);
    let ready = publish_all || (serving && !terminating);
    let zone = node.as_deref().and_then(zone);
    Some(Endpoint {
        addresses: vec![address],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hints: hints(service, ready, zone.as_deref(), node.as_deref()),
        zone,
        node_name: node,
        hostname: name_in(service, pod),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            name: pod.metadata.name.clone(),
            namespace: pod.metadata.namespace.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    })
}

/// Who should take this endpoint before others, where the Service says that near ones go
/// first: its own center, and for `PreferSameNode` also its own node.
fn hints(
    service: &Service,
    ready: bool,
    zone: Option<&str>,
    node: Option<&str>,
) -> Option<EndpointHints> {
    let wanted = service.spec.as_ref()?.traffic_distribution.as_deref()?;
    if !ready {
        return None;
    }
    let zones = zone.map(|name| vec![ForZone { name: name.to_owned() }]);
    let nodes = node.map(|name| vec![ForNode { name: name.to_owned() }]);
    let for_nodes = nodes.filter(|_| wanted == "PreferSameNode");
    (zones.is_some() || for_nodes.is_some())
        .then_some(EndpointHints { for_nodes, for_zones: zones })
}

/// The name that the pod has below the Service's: its host name, if it says that this
/// Service is its domain.
fn name_in(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let inside = spec.subdomain.is_some() && spec.subdomain == service.metadata.name;
    spec.hostname.clone().filter(|name| inside && !name.is_empty())
}

/// The Service's ports as numbers of this pod; a name the pod does not have is left out.
fn resolve_ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref());
    let mut resolved = Vec::new();
    for port in ports.into_iter().flatten() {
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
        let number = match &port.target_port {
            None => Some(port.port),
            Some(IntOrString::Int(0)) => Some(port.port),
            Some(IntOrString::Int(number)) => Some(*number),
            Some(IntOrString::String(name)) => named_port(pod, name, &protocol),
        };
        if let Some(number) = number {
            resolved.push(EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(number),
                protocol: Some(protocol),
                app_protocol: port.app_protocol.clone(),
            });
        }
    }
    resolved
}

fn named_port(pod: &Pod, name: &str, protocol: &str) -> Option<i32> {
    let containers = &pod.spec.as_ref()?.containers;
    let mut ports = containers.iter().flat_map(|container| container.ports.iter().flatten());
    let found = ports.find(|port| {
        port.name.as_deref() == Some(name) && port.protocol.as_deref().unwrap_or("TCP") == protocol
    })?;
    Some(found.container_port)
}

fn port_text(ports: &[EndpointPort]) -> String {
    let one = |port: &EndpointPort| {
        let name = port.name.as_deref().unwrap_or_default();
        let protocol = port.protocol.as_deref().unwrap_or_default();
        format!("{name}/{protocol}/{}", port.port.unwrap_or_default())
    };
    ports.iter().map(one).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(port: serde_json::Value) -> Service {
        serde_json::from_value(json!({"spec": {"ports": [port]}})).unwrap()
    }

    fn pod(name: &str, address: &str, ready: bool, leaving: bool) -> Pod {
        let status = if ready { "True" } else { "False" };
        let deleted = leaving.then_some("2026-01-01T00:00:00Z");
        serde_json::from_value(json!({
            "metadata": {"name": name, "deletionTimestamp": deleted},
            "spec": {"nodeName": "a1", "containers": [
                {"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]},
            "status": {"podIP": address, "conditions": [{"type": "Ready", "status": status}]}}))
        .unwrap()
    }

    fn zone(_: &str) -> Option<String> {
        Some("a".into())
    }

    #[test]
    fn conditions_tell_ready_serving_and_terminating_apart() {
        let service = service(json!({"port": 80, "targetPort": "http"}));
        let pods = [
            pod("ready", "10.0.0.3", true, false),
            pod("leaving", "10.0.0.2", true, true),
            pod("young", "10.0.0.1", false, false),
        ];
        let slices = slices(&service, &pods, zone, 100);
        assert_eq!(slices.len(), 1);
        assert_eq!(slices[0].ports[0].port, Some(8080));
        let told: Vec<_> = slices[0]
            .endpoints
            .iter()
            .map(|endpoint| {
                let conditions = endpoint.conditions.as_ref().unwrap();
                (
                    endpoint.addresses[0].as_str(),
                    conditions.ready.unwrap(),
                    conditions.serving.unwrap(),
                    conditions.terminating.unwrap(),
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                ("10.0.0.1", false, false, false),
                ("10.0.0.2", false, true, true),
                ("10.0.0.3", true, true, false)
            ]
        );
        assert_eq!(slices[0].endpoints[0].zone.as_deref(), Some("a"));
    }

    #[test]
    fn a_pod_has_a_name_below_the_service_that_is_its_domain() {
        let mut peers = service(json!({"port": 80}));
        peers.metadata.name = Some("peers".into());
        let mut db = pod("db-0", "10.0.0.1", true, false);
        let name = |service: &Service, pod: &Pod| {
            slices(service, std::slice::from_ref(pod), zone, 100)[0].endpoints[0].hostname.clone()
        };
        assert_eq!(name(&peers, &db), None);
        let spec = db.spec.as_mut().unwrap();
        (spec.hostname, spec.subdomain) = (Some("db-0".into()), Some("peers".into()));
        assert_eq!(name(&peers, &db).as_deref(), Some("db-0"));
        peers.metadata.name = Some("other".into());
        assert_eq!(name(&peers, &db), None);
    }

    #[test]
    fn ready_endpoints_are_for_their_own_center_where_the_service_asks() {
        let mut near = service(json!({"port": 80}));
        near.spec.as_mut().unwrap().traffic_distribution = Some("PreferClose".into());
        let pods = [pod("a", "10.0.0.1", true, false), pod("b", "10.0.0.2", false, false)];
        let slices = slices(&near, &pods, zone, 100);
        let hints: Vec<_> = slices[0].endpoints.iter().map(|one| one.hints.clone()).collect();
        let own =
            EndpointHints { for_nodes: None, for_zones: Some(vec![ForZone { name: "a".into() }]) };
        assert_eq!(hints, [Some(own), None]);
    }

    #[test]
    fn slices_are_cut_at_their_bound_and_do_not_depend_on_order() {
        let service = service(json!({"port": 80}));
        let mut pods: Vec<Pod> =
            (0..250).map(|n| pod(&format!("p{n}"), &format!("10.0.1.{n}"), true, false)).collect();
        let one = slices(&service, &pods, zone, 100);
        assert_eq!(
            one.iter().map(|slice| slice.endpoints.len()).collect::<Vec<_>>(),
            [100, 100, 50]
        );
        pods.reverse();
        assert_eq!(slices(&service, &pods, zone, 100), one);
    }

    #[test]
    fn pods_without_address_and_ended_pods_are_left_out() {
        let service = service(json!({"port": 80}));
        let mut ended = pod("ended", "10.0.0.1", true, false);
        ended.status.as_mut().unwrap().phase = Some("Succeeded".into());
        let bare = pod("bare", "", true, false);
        assert!(slices(&service, &[ended, bare], zone, 100).is_empty());
    }
}
