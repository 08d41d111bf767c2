//! From Services and EndpointSlices to what one node's kernel has to balance.
//!
//! Why pure: the same objects must give the same table after every restart, byte for
//! byte, so that an unchanged table is not written again.
//!
//! ```text
//! ready endpoints, or where there is none, ended ones that still serve
//!    ├─ near ones by the slices' hints ──► `endpoints`, for the policy Cluster
//!    └─ those on this node ──────────────► `local`, for the policy Local
//! ```
//! Invariants: output is sorted; a port without endpoints has an entry too, so that the
//! ruleset can refuse at addresses outside the Service range.
//! Not here: the ruleset's text (network/ruleset.rs), the hints (logic/endpoints.rs).

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::{Service, ServicePort as ApiPort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use super::balance::{Transport, by_service, cluster_address, is_ready};

/// How long a client stays with one endpoint where the Service does not say, seconds.
const AFFINITY_DEFAULT_S: u32 = 10_800;

/// An address and port that answers.
pub type Target = (Ipv4Addr, u16);

/// The node that the table is for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Here<'a> {
    pub node: &'a str,
    /// Its center.
    pub zone: Option<&'a str>,
}

/// One port of a Service, as one node balances it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServicePort {
    pub address: Ipv4Addr,
    pub transport: Transport,
    pub port: u16,
    /// A client that comes again within so many seconds meets the same endpoint.
    pub affinity_s: Option<u32>,
    /// Sorted.
    pub endpoints: Vec<Target>,
    /// Those on this node; filled where one of the policies is Local.
    pub local: Vec<Target>,
    /// `internalTrafficPolicy: Local`.
    pub inside_local: bool,
    /// How it is reached from outside, if it is.
    pub outside: Option<Outside>,
}

/// How a Service's port is reached from outside the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Outside {
    /// Of load balancers; `source_ranges` bind here.
    pub balanced: Vec<Ipv4Addr>,
    /// `externalIPs`.
    pub named: Vec<Ipv4Addr>,
    pub node_port: Option<u16>,
    /// `externalTrafficPolicy: Local`: only endpoints of this node, which see the client.
    pub local: bool,
    /// Who may come; empty is everybody.
    pub source_ranges: Vec<Ipv4Net>,
}

/// All balanced ports of the cluster.
pub fn service_ports(
    services: &[Arc<Service>],
    slices: &[Arc<EndpointSlice>],
    here: Here<'_>,
) -> Vec<ServicePort> {
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
        for port in spec.ports.iter().flatten() {
            let Some(transport) = Transport::parse(port.protocol.as_deref()) else { continue };
            let Ok(number) = u16::try_from(port.port) else { continue };
            let outside = outside(service, spec, port);
            let inside_local = spec.internal_traffic_policy.as_deref() == Some("Local");
            let found = usable(own, port, transport, spec.publish_not_ready_addresses);
            let local = inside_local || outside.as_ref().is_some_and(|outside| outside.local);
            result.push(ServicePort {
                address,
                transport,
                port: number,
                affinity_s: affinity(spec),
                endpoints: targets(near(&found, here)),
                local: if local { targets(on_node(&found, here)) } else { Vec::new() },
                inside_local,
                outside,
            });
        }
    }
    result.sort();
    // Two Services with one address and port cannot be told apart; the first wins.
    result.dedup_by_key(|entry| (entry.address, entry.transport, entry.port));
    result
}

/// How many ready endpoints of a Service are on a node, for load balancers that ask.
pub fn local_count(service: &Service, slices: &[Arc<EndpointSlice>], node: &str) -> usize {
    let grouped = by_service(slices);
    let key = (
        service.metadata.namespace.clone().unwrap_or_default(),
        service.metadata.name.clone().unwrap_or_default(),
    );
    let own = grouped.get(&key).map(Vec::as_slice).unwrap_or_default();
    let endpoints = own.iter().flat_map(|slice| slice.endpoints.iter().flatten());
    let here = endpoints.filter(|one| is_ready(one) && one.node_name.as_deref() == Some(node));
    here.filter_map(|one| one.addresses.first()).collect::<BTreeSet<_>>().len()
}

/// Who answers at a Service's TCP port, wherever in the cluster.
pub fn ready_addresses(
    service: &Service,
    port: &ApiPort,
    slices: &[Arc<EndpointSlice>],
) -> Vec<SocketAddr> {
    let named = |text: &Option<String>| text.clone().unwrap_or_default();
    let key = (named(&service.metadata.namespace), named(&service.metadata.name));
    let grouped = by_service(slices);
    let own = grouped.get(&key).map(Vec::as_slice).unwrap_or_default();
    let unready_too = service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses);
    let found = usable(own, port, Transport::Tcp, unready_too);
    targets(&found).into_iter().map(SocketAddr::from).collect()
}

fn affinity(spec: &ServiceSpec) -> Option<u32> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let config = spec.session_affinity_config.as_ref();
    let seconds = config.and_then(|config| config.client_ip.as_ref()?.timeout_seconds);
    Some(seconds.and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or(AFFINITY_DEFAULT_S))
}

fn outside(service: &Service, spec: &ServiceSpec, port: &ApiPort) -> Option<Outside> {
    let kind = spec.type_.as_deref().unwrap_or_default();
    let parse = |text: &String| text.parse::<Ipv4Addr>().ok();
    let named: Vec<Ipv4Addr> = spec.external_ips.iter().flatten().filter_map(parse).collect();
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_ref());
    let balanced = ingress.into_iter().flatten().filter(|one| {
        // With ipMode Proxy somebody else takes the packets, and they must reach him.
        kind == "LoadBalancer" && one.ip_mode.as_deref() != Some("Proxy")
    });
    let balanced: Vec<Ipv4Addr> =
        balanced.filter_map(|one| one.ip.as_ref().and_then(parse)).collect();
    let node_port = port.node_port.and_then(|port| u16::try_from(port).ok());
    let node_port = node_port.filter(|port| *port != 0 && kind != "ClusterIP");
    if named.is_empty() && balanced.is_empty() && node_port.is_none() {
        return None;
    }
    let ranges = spec.load_balancer_source_ranges.iter().flatten();
    let mut source_ranges: Vec<Ipv4Net> = ranges
        .filter_map(|text| text.trim().parse::<Ipv4Net>().ok())
        .map(|net| net.trunc())
        .collect();
    // One that means everybody is no bound, and ranges that overlap are no set.
    source_ranges = Ipv4Net::aggregate(&source_ranges);
    if source_ranges.iter().any(|range| range.prefix_len() == 0) {
        source_ranges.clear();
    }
    Some(Outside {
        balanced,
        named,
        node_port,
        local: spec.external_traffic_policy.as_deref() == Some("Local"),
        source_ranges,
    })
}

/// An endpoint that may be chosen.
struct Usable<'a> {
    endpoint: &'a Endpoint,
    target: Target,
}

/// The ready ones; while there is none, those on their way out that still serve, so that
/// the last of a Service loses nothing that comes before its successor is ready.
fn usable<'a>(
    slices: &[&'a EndpointSlice],
    port: &ApiPort,
    transport: Transport,
    unready_too: Option<bool>,
) -> Vec<Usable<'a>> {
    let wanted = port.name.as_deref().unwrap_or("");
    let mut all = Vec::new();
    for slice in slices.iter().filter(|slice| slice.address_type == "IPv4") {
        for slice_port in slice.ports.iter().flatten() {
            let same = slice_port.name.as_deref().unwrap_or("") == wanted
                && Transport::parse(slice_port.protocol.as_deref()) == Some(transport);
            let number = slice_port.port.and_then(|number| u16::try_from(number).ok());
            let (true, Some(number)) = (same, number) else { continue };
            for endpoint in slice.endpoints.iter().flatten() {
                // All addresses of one endpoint are the same endpoint; the API says to
                // use the first.
                let address = endpoint.addresses.first().and_then(|text| text.parse().ok());
                if let Some(address) = address {
                    all.push(Usable { endpoint, target: (address, number) });
                }
            }
        }
    }
    let serves = |endpoint: &Endpoint| {
        let conditions = endpoint.conditions.as_ref();
        conditions.is_some_and(|conditions| {
            conditions.serving == Some(true) && conditions.terminating == Some(true)
        })
    };
    let any_ready = all.iter().any(|one| is_ready(one.endpoint));
    all.retain(|one| {
        let ready = is_ready(one.endpoint);
        unready_too == Some(true) || ready || (!any_ready && serves(one.endpoint))
    });
    all
}

fn targets<'a>(endpoints: impl IntoIterator<Item = &'a Usable<'a>>) -> Vec<Target> {
    let sorted: BTreeSet<Target> = endpoints.into_iter().map(|one| one.target).collect();
    sorted.into_iter().collect()
}

fn on_node<'a>(endpoints: &'a [Usable<'a>], here: Here<'_>) -> Vec<&'a Usable<'a>> {
    endpoints.iter().filter(|one| one.endpoint.node_name.as_deref() == Some(here.node)).collect()
}

/// Those that the hints name for this node or its center; all of them unless every one
/// has a hint and at least one is for here, as in Kubernetes.
fn near<'a>(endpoints: &'a [Usable<'a>], here: Here<'_>) -> Vec<&'a Usable<'a>> {
    let nodes = |one: &Usable<'_>| {
        let hints = one.endpoint.hints.as_ref()?.for_nodes.as_ref()?;
        Some(hints.iter().any(|hint| hint.name == here.node))
    };
    let zones = |one: &Usable<'_>| {
        let hints = one.endpoint.hints.as_ref()?.for_zones.as_ref()?;
        Some(hints.iter().any(|hint| Some(hint.name.as_str()) == here.zone))
    };
    let chosen = |hinted: &dyn Fn(&Usable<'_>) -> Option<bool>| {
        let all = endpoints.iter().all(|one| hinted(one).is_some());
        let mine: Vec<&Usable<'_>> =
            endpoints.iter().filter(|one| hinted(one) == Some(true)).collect();
        (all && !mine.is_empty()).then_some(mine)
    };
    chosen(&nodes).or_else(|| chosen(&zones)).unwrap_or_else(|| endpoints.iter().collect())
}

#[cfg(test)]
#[path = "service_ports_tests.rs"]
mod tests;
