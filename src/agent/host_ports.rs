//! The ports of the node that a pod asks for.

use std::net::{IpAddr, Ipv4Addr};

use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::events::Gravity;
use super::pod_worker::PodWorker;
use crate::logic::balance::{Transport, VirtualPort};
use crate::logic::restart_plan::is_sidecar;
use crate::model::node_config::Ports;

/// Where people reach the node when nothing else works.
const SSH: u16 = 22;

/// All `hostPort`s of the containers that stay; 0.0.0.0 stands for the node's address.
/// A port of another protocol, or on an address that is none, leads nowhere.
pub(super) fn host_ports(spec: &PodSpec, pod_ip: IpAddr) -> Vec<VirtualPort> {
    let IpAddr::V4(pod_ip) = pod_ip else { return Vec::new() };
    let sidecars = spec.init_containers.iter().flatten().filter(|one| is_sidecar(one));
    sidecars.chain(&spec.containers).flat_map(|container| of_container(container, pod_ip)).collect()
}

fn of_container(container: &Container, pod_ip: Ipv4Addr) -> Vec<VirtualPort> {
    let number = |port: i32| u16::try_from(port).ok().filter(|port| *port != 0);
    let published = container.ports.iter().flatten().filter_map(|port| {
        let transport = Transport::parse(port.protocol.as_deref())?;
        let address = match port.host_ip.as_deref().filter(|address| !address.is_empty()) {
            Some(address) => address.parse().ok()?,
            None => Ipv4Addr::UNSPECIFIED,
        };
        let endpoints = vec![(pod_ip, number(port.container_port)?)];
        Some(VirtualPort { address, transport, port: number(port.host_port?)?, endpoints })
    });
    published.collect()
}

/// Why a port is not published: it is no address of this node, or the node's own port.
pub(super) fn refusal(port: &VirtualPort, node: &str, own: &Ports) -> Option<String> {
    let VirtualPort { address, port: number, .. } = port;
    if !address.is_unspecified() && address.to_string() != node {
        return Some(format!("hostIP {address} is not this node's address, which is {node}"));
    }
    let taken = [own.api, own.peer, own.registry, own.etcd, SSH];
    if port.transport == Transport::Tcp && taken.contains(number) {
        return Some(format!("hostPort {number} is a port of the node itself"));
    }
    None
}

impl PodWorker {
    /// The node's ports that the pod gets; an event says which it does not.
    pub(super) fn published_ports(&self, spec: &PodSpec, ip: IpAddr) -> Vec<VirtualPort> {
        let mut ports = host_ports(spec, ip);
        let (node, own) = (self.context.host_ip(), &self.context.config.node.ports);
        ports.retain(|port| match refusal(port, &node, own) {
            Some(reason) => {
                self.event(None, Gravity::Warning, "HostPortRefused", reason);
                false
            }
            None => true,
        });
        ports
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn neither_foreign_addresses_nor_the_nodes_own_ports_can_be_had() {
        let own = Ports::default();
        let refused = |address: [u8; 4], transport, port| {
            let port = VirtualPort { address: address.into(), transport, port, endpoints: vec![] };
            refusal(&port, "192.0.2.7", &own).is_some()
        };
        assert!(!refused([0, 0, 0, 0], Transport::Tcp, 80));
        assert!(!refused([192, 0, 2, 7], Transport::Udp, 53));
        assert!(refused([192, 0, 2, 8], Transport::Tcp, 80), "another node's");
        assert!(refused([10, 96, 0, 10], Transport::Udp, 53), "the cluster's DNS");
        for port in [own.api, own.peer, own.registry, own.etcd, 22] {
            assert!(refused([0, 0, 0, 0], Transport::Tcp, port), "{port}");
        }
    }

    #[test]
    fn only_host_ports_are_published() {
        let spec: PodSpec = serde_json::from_value(json!({"containers": [{"name": "c", "ports": [
            {"containerPort": 80},
            {"containerPort": 81, "hostPort": 8081},
            {"containerPort": 53, "hostPort": 53, "protocol": "UDP", "hostIP": "10.0.0.9"},
            {"containerPort": 99, "hostPort": 99, "protocol": "SCTP"},
        ]}]}))
        .unwrap();
        let pod: Ipv4Addr = [10, 1, 0, 2].into();
        let port = |address: [u8; 4], transport, port, inside| VirtualPort {
            address: address.into(),
            transport,
            port,
            endpoints: vec![(pod, inside)],
        };
        assert_eq!(
            host_ports(&spec, pod.into()),
            [
                port([0, 0, 0, 0], Transport::Tcp, 8_081, 81),
                port([10, 0, 0, 9], Transport::Udp, 53, 53),
            ]
        );
    }
}
