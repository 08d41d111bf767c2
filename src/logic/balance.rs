//! From Services and EndpointSlices to what the kernel has to balance.
//!
//! Why pure: the same objects must give the same table on every node and after every
//! restart, byte for byte, so that an unchanged table is not written again.
//! Invariants: output is sorted; a Service without ready endpoints appears in no entry,
//! and the ruleset rejects what is in no entry.
//! Not here: the ruleset's text (network/ruleset.rs).

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;

/// The label by which a slice names its Service.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// A transport that can be balanced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    /// From the API's word; empty means TCP, and SCTP is not balanced.
    pub fn parse(text: Option<&str>) -> Option<Self> {
        match text {
            None | Some("" | "TCP") => Some(Transport::Tcp),
            Some("UDP") => Some(Transport::Udp),
            Some(_) => None,
        }
    }

    /// Lower case, as nftables and DNS write it.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        }
    }
}

/// One port of a virtual address and who answers there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VirtualPort {
    pub address: Ipv4Addr,
    pub transport: Transport,
    pub port: u16,
    /// Ready ones, sorted, never empty.
    pub endpoints: Vec<(Ipv4Addr, u16)>,
}

/// `namespace/name` to its slices.
pub type SlicesByService<'a> = BTreeMap<(String, String), Vec<&'a EndpointSlice>>;

/// Groups slices under the Services that they belong to.
pub fn by_service(slices: &[Arc<EndpointSlice>]) -> SlicesByService<'_> {
    let mut grouped = SlicesByService::new();
    for slice in slices {
        let labels = slice.metadata.labels.as_ref();
        let Some(service) = labels.and_then(|labels| labels.get(SERVICE_NAME_LABEL)) else {
            continue;
        };
        let namespace = slice.metadata.namespace.clone().unwrap_or_default();
        grouped.entry((namespace, service.clone())).or_default().push(slice);
    }
    grouped
}

/// All balanced ports of the cluster.
pub fn virtual_ports(services: &[Arc<Service>], slices: &[Arc<EndpointSlice>]) -> Vec<VirtualPort> {
    let grouped = by_service(slices);
    let mut result = Vec::new();
    for service in services {
        let Some(spec) = &service.spec else { continue };
        let Some(address) = cluster_address(service) else { continue };
        let key = (
            service.metadata.namespace.clone().unwrap_or_default(),
            service.metadata.name.clone().unwrap_or_default(),
        );
        let own = grouped.get(&key).map(Vec::as_slice).unwrap_or_default();
        let unready_too = spec.publish_not_ready_addresses.unwrap_or(false);
        for port in spec.ports.iter().flatten() {
            let Some(transport) = Transport::parse(port.protocol.as_deref()) else { continue };
            let Ok(number) = u16::try_from(port.port) else { continue };
            let endpoints = endpoints_of(own, port, transport, unready_too);
            if !endpoints.is_empty() {
                result.push(VirtualPort { address, transport, port: number, endpoints });
            }
        }
    }
    result.sort();
    // Two Services with one address and port cannot be told apart; the first wins.
    result.dedup_by_key(|entry| (entry.address, entry.transport, entry.port));
    result
}

/// The Service's virtual IPv4 address; `None` for headless and ExternalName Services.
pub fn cluster_address(service: &Service) -> Option<Ipv4Addr> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    spec.cluster_ip.as_deref()?.parse().ok()
}

/// Whether an endpoint takes traffic: unknown readiness counts as ready, as the API says.
pub fn is_ready(endpoint: &k8s_openapi::api::discovery::v1::Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
}

fn endpoints_of(
    slices: &[&EndpointSlice],
    port: &ServicePort,
    transport: Transport,
    unready_too: bool,
) -> Vec<(Ipv4Addr, u16)> {
    let wanted = port.name.as_deref().unwrap_or("");
    let mut found = BTreeSet::new();
    for slice in slices.iter().filter(|slice| slice.address_type == "IPv4") {
        for slice_port in slice.ports.iter().flatten() {
            let same = slice_port.name.as_deref().unwrap_or("") == wanted
                && Transport::parse(slice_port.protocol.as_deref()) == Some(transport);
            let number = slice_port.port.and_then(|number| u16::try_from(number).ok());
            let (true, Some(number)) = (same, number) else { continue };
            for endpoint in slice.endpoints.iter().flatten().filter(|e| unready_too || is_ready(e))
            {
                // All addresses of one endpoint are the same endpoint; the API says to
                // use the first.
                let address = endpoint.addresses.first().and_then(|text| text.parse().ok());
                found.extend(address.map(|address: Ipv4Addr| (address, number)));
            }
        }
    }
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn service(spec: Value) -> Arc<Service> {
        let value = json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": spec});
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
        let expected = VirtualPort {
            address: Ipv4Addr::new(10, 96, 0, 20),
            transport: Transport::Tcp,
            port: 80,
            endpoints: vec![(Ipv4Addr::new(10, 1, 0, 2), 8080), (Ipv4Addr::new(10, 1, 0, 9), 8080)],
        };
        assert_eq!(virtual_ports(&services, &slices), vec![expected]);
    }

    #[test]
    fn headless_external_and_endpointless_services_have_no_entry() {
        let port = json!([{"port": 80}]);
        let slices = [slice(json!([{"addresses": ["10.1.0.2"]}]), json!([{"port": 80}]))];
        let headless = service(json!({"clusterIP": "None", "ports": port}));
        let external = service(json!({"type": "ExternalName", "externalName": "a.b"}));
        assert_eq!(virtual_ports(&[headless, external], &slices), vec![]);
        let plain = service(json!({"clusterIP": "10.96.0.20", "ports": port}));
        assert_eq!(virtual_ports(std::slice::from_ref(&plain), &[]), vec![]);
        assert_eq!(virtual_ports(&[plain], &slices).len(), 1);
    }
}
