//! Where objects stand in the store: `/registry/<group|core>/<plural>/[<namespace>/]<name>`.
//!
//! Invariant: every prefix ends with `/`, so no kind's range holds another kind's keys.

use super::Address;
use crate::model::kinds::Kind;

/// Root of everything that the object layer owns.
const ROOT: &str = "/registry";

/// The range of a kind, or of a kind in one namespace.
pub(super) fn prefix(kind: &Kind, namespace: Option<&str>) -> String {
    let group = if kind.group.is_empty() { "core" } else { kind.group };
    match namespace {
        Some(namespace) if kind.namespaced => {
            format!("{ROOT}/{group}/{}/{namespace}/", kind.plural)
        }
        _ => format!("{ROOT}/{group}/{}/", kind.plural),
    }
}

/// The key of one object.
pub(super) fn object(address: &Address) -> String {
    let namespace = address.kind.namespaced.then_some(address.namespace.as_str());
    format!("{}{}", prefix(address.kind, namespace), address.name)
}

/// Cluster addresses in use; one key each, written with the service that holds it.
pub(super) const SERVICE_IPS: &str = "/registry/core/serviceips/";

/// Ports of the nodes in use; one key each, as with addresses.
pub(super) const NODE_PORTS: &str = "/registry/core/servicenodeports/";

/// The key that reserves one port of the nodes.
pub(super) fn node_port(port: i64) -> String {
    format!("{NODE_PORTS}{port}")
}

/// The key that reserves one address of load balancers.
pub(super) fn balancer_ip(ip: std::net::Ipv4Addr) -> String {
    format!("/registry/core/loadbalancerips/{ip}")
}

/// The key that reserves one cluster address.
pub(super) fn service_ip(ip: std::net::Ipv4Addr) -> String {
    format!("{SERVICE_IPS}{ip}")
}
