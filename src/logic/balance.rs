//! What balancing is about: transports, ports that lead somewhere, slices by Service.
//!
//! Not here: who answers at a Service's ports (logic/service_ports.rs), the ruleset's text
//! (network/ruleset.rs).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
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
