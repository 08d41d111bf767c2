//! Who answers at a Service's ports, by the policies.

use super::*;
use serde_json::{Value, json};

const HERE: Here<'_> = Here { node: "n1", zone: Some("a") };

fn service(spec: Value) -> Arc<Service> {
    let value = json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": spec,
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9", "ipMode": "VIP"}]}}});
    Arc::new(serde_json::from_value(value).unwrap())
}

fn slice(endpoints: Value, ports: Value) -> Arc<EndpointSlice> {
    let value = json!({
        "metadata": {"name": "web-1", "namespace": "shop",
                     "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "endpoints": endpoints, "ports": ports,
    });
    Arc::new(serde_json::from_value(value).unwrap())
}

fn only(spec: Value, endpoints: Value) -> ServicePort {
    let slices = [slice(endpoints, json!([{"port": 8080}]))];
    let mut found = service_ports(&[service(spec)], &slices, HERE);
    assert_eq!(found.len(), 1);
    found.remove(0)
}

fn addresses(targets: &[Target]) -> Vec<String> {
    targets.iter().map(|(address, _)| address.to_string()).collect()
}

#[test]
fn only_ready_endpoints_of_the_named_port_are_balanced() {
    let services = [service(json!({"clusterIP": "10.96.0.20", "ports": [
        {"name": "http", "port": 80, "protocol": "TCP"},
        {"name": "dns", "port": 53, "protocol": "UDP"}]}))];
    let slices = [slice(
        json!([
            {"addresses": ["10.1.0.9"]},
            {"addresses": ["10.1.0.2"], "conditions": {"ready": true}},
            {"addresses": ["10.1.0.3"], "conditions": {"ready": false}},
        ]),
        json!([{"name": "http", "port": 8080, "protocol": "TCP"}]),
    )];
    let found = service_ports(&services, &slices, HERE);
    assert_eq!(found.len(), 2);
    assert_eq!(
        found[0].endpoints,
        [(Ipv4Addr::new(10, 1, 0, 2), 8080), (Ipv4Addr::new(10, 1, 0, 9), 8080)]
    );
    assert_eq!((found[1].transport, found[1].endpoints.len()), (Transport::Udp, 0));
    assert_eq!(found[0].outside, None);
}

#[test]
fn headless_and_external_services_have_no_entry() {
    let port = json!([{"port": 80}]);
    let headless = service(json!({"clusterIP": "None", "ports": port}));
    let external = service(json!({"type": "ExternalName", "externalName": "a.b"}));
    assert_eq!(service_ports(&[headless, external], &[], HERE), vec![]);
}

#[test]
fn ended_endpoints_serve_only_while_no_other_is_ready() {
    let leaving = json!({"addresses": ["10.1.0.2"],
        "conditions": {"ready": false, "serving": true, "terminating": true}});
    let broken = json!({"addresses": ["10.1.0.4"],
        "conditions": {"ready": false, "serving": false, "terminating": true}});
    let spec = json!({"clusterIP": "10.96.0.20", "ports": [{"port": 80}]});
    let alone = only(spec.clone(), json!([leaving, broken]));
    assert_eq!(addresses(&alone.endpoints), ["10.1.0.2"]);
    let ready = json!({"addresses": ["10.1.0.3"]});
    let both = only(spec, json!([leaving, broken, ready]));
    assert_eq!(addresses(&both.endpoints), ["10.1.0.3"]);
}

#[test]
fn local_policies_choose_among_this_nodes_endpoints() {
    let endpoints = json!([{"addresses": ["10.1.0.2"], "nodeName": "n1"},
                           {"addresses": ["10.2.0.2"], "nodeName": "n2"}]);
    let port = only(
        json!({"type": "LoadBalancer", "clusterIP": "10.96.0.20", "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
            "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local",
            "externalIPs": ["192.0.2.7"], "loadBalancerSourceRanges": ["10.0.0.0/9", "10.1.0.0/16"],
            "ports": [{"port": 80, "nodePort": 30080}]}),
        endpoints.clone(),
    );
    assert_eq!(addresses(&port.endpoints), ["10.1.0.2", "10.2.0.2"]);
    assert_eq!(addresses(&port.local), ["10.1.0.2"]);
    assert!(port.inside_local);
    assert_eq!(port.affinity_s, Some(60));
    let expected = Outside {
        balanced: vec![Ipv4Addr::new(192, 0, 2, 9)],
        named: vec![Ipv4Addr::new(192, 0, 2, 7)],
        node_port: Some(30080),
        local: true,
        source_ranges: vec!["10.0.0.0/9".parse().unwrap()],
    };
    assert_eq!(port.outside, Some(expected));
    let web = service(json!({"clusterIP": "10.96.0.20"}));
    let slices = [slice(endpoints, json!([{"port": 8080}, {"name": "b", "port": 81}]))];
    assert_eq!(local_count(&web, &slices, "n1"), 1);
    assert_eq!(local_count(&web, &slices, "n3"), 0);
}

#[test]
fn hints_count_when_every_endpoint_has_one_and_one_is_for_here() {
    let for_zone = |address: &str, zone: &str| json!({"addresses": [address], "zone": zone, "hints": {"forZones": [{"name": zone}]}});
    let spec = json!({"clusterIP": "10.96.0.20", "ports": [{"port": 80}]});
    let near = json!([for_zone("10.1.0.2", "a"), for_zone("10.2.0.2", "b")]);
    assert_eq!(addresses(&only(spec.clone(), near).endpoints), ["10.1.0.2"]);
    let bare = json!([for_zone("10.1.0.2", "a"), {"addresses": ["10.2.0.2"]}]);
    assert_eq!(only(spec.clone(), bare).endpoints.len(), 2);
    let far = json!([for_zone("10.1.0.2", "c"), for_zone("10.2.0.2", "b")]);
    assert_eq!(only(spec, far).endpoints.len(), 2);
}
