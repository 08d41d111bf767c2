//! `node.yaml`: what one node knows about itself and its cluster before it has a store.
//!
//! Written by `init` and `join`, read by `serve`. Everything that changes while the
//! cluster lives stands in the store instead. Unknown keys are refused.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::threshold::EvictionThresholds;
use crate::base::ids::{ClusterId, Generation, MemberId};

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Carries a member of the store, the API, the controllers and the registry.
    Control,
    /// Runs pods.
    Worker,
}

/// Where things lie on this host; every path is movable by flag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Paths {
    /// Configuration and PKI, `/etc/holdfast`.
    pub config: PathBuf,
    /// Store, registry, engine data, pod volumes, `/var/lib/holdfast`.
    pub data: PathBuf,
    /// Sockets and pid files, `/run/holdfast`.
    pub run: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            config: "/etc/holdfast".into(),
            data: "/var/lib/holdfast".into(),
            run: "/run/holdfast".into(),
        }
    }
}

impl Paths {
    /// Certificates and keys: `ca.crt`, `ca.key` (control nodes), `node.crt`, `node.key`,
    /// `admin.crt`, `admin.key`.
    pub fn pki(&self) -> PathBuf {
        self.config.join("pki")
    }

    pub fn node_config(&self) -> PathBuf {
        self.config.join("node.yaml")
    }

    /// The admin's kubeconfig, written by `init` and by `join` of a control node.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.config.join("admin.kubeconfig")
    }

    pub fn store(&self) -> PathBuf {
        self.data.join("store")
    }

    pub fn registry(&self) -> PathBuf {
        self.data.join("registry")
    }

    /// The data root of our own Docker daemon.
    pub fn engine_data(&self) -> PathBuf {
        self.data.join("engine")
    }

    /// Pod volumes and termination logs.
    pub fn pods(&self) -> PathBuf {
        self.data.join("pods")
    }

    /// Directories of persistent volumes; they outlive their pods.
    pub fn volumes(&self) -> PathBuf {
        self.data.join("volumes")
    }

    pub fn engine_socket(&self) -> PathBuf {
        self.run.join("engine.sock")
    }
}

/// The listening ports; the defaults are part of the product's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ports {
    /// Kubernetes API and admin page.
    pub api: u16,
    /// Raft and forwarding between members.
    pub peer: u16,
    /// OCI registry.
    pub registry: u16,
    /// etcd's protocol, gRPC and JSON; files written before it was served do not name it.
    #[serde(default = "etcd_port")]
    pub etcd: u16,
}

fn etcd_port() -> u16 {
    2379
}

impl Default for Ports {
    fn default() -> Self {
        Self { api: 6443, peer: 2380, registry: 5000, etcd: etcd_port() }
    }
}

/// The cluster's addressing, equal on all nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterNetwork {
    /// Aggregate of all pod ranges.
    pub pod_range: IpNet,
    /// Virtual addresses of Services.
    pub service_range: IpNet,
    /// DNS suffix, `cluster.local`.
    pub cluster_domain: String,
}

impl ClusterNetwork {
    /// Address `index` of the Service range: 1 is `kubernetes.default`, 10 the DNS server.
    pub fn service_address(&self, index: u128) -> IpAddr {
        match self.service_range.network() {
            IpAddr::V4(base) => IpAddr::V4((u32::from(base) + index as u32).into()),
            IpAddr::V6(base) => IpAddr::V6((u128::from(base) + index).into()),
        }
    }

    /// The cluster DNS server's virtual address.
    pub fn dns_address(&self) -> IpAddr {
        self.service_address(10)
    }

    /// The virtual address of Service `kubernetes` in namespace `default`.
    pub fn api_address(&self) -> IpAddr {
        self.service_address(1)
    }
}

/// `node.yaml` itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeConfig {
    pub cluster_name: String,
    pub cluster_id: ClusterId,
    pub generation: Generation,
    pub node_name: String,
    /// The address other nodes reach this one at.
    pub address: IpAddr,
    pub site: String,
    pub center: String,
    pub roles: Vec<Role>,
    /// Present on control nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_id: Option<MemberId>,
    /// This node's slice of the pod range.
    pub pod_range: IpNet,
    pub network: ClusterNetwork,
    /// API addresses of control nodes known when this file was written, own first.
    pub servers: Vec<SocketAddr>,
    #[serde(default)]
    pub paths: Paths,
    #[serde(default)]
    pub ports: Ports,
    /// The pause image, by name in the node's own registry (`holdfast/pause:1`).
    pub pause_image: String,
    /// When this node ends pods because it runs out of something.
    #[serde(default, skip_serializing_if = "EvictionThresholds::is_default")]
    pub eviction: EvictionThresholds,
}

impl NodeConfig {
    pub fn has_role(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Where images come from: this node's own registry, or on a node without one those
    /// of the control nodes that were known when it joined.
    pub fn registries(&self) -> Vec<SocketAddr> {
        if self.has_role(Role::Control) {
            return vec![self.registry_endpoint()];
        }
        let of = |server: &SocketAddr| SocketAddr::new(server.ip(), self.ports.registry);
        self.servers.iter().map(of).collect()
    }

    /// Where this node's registry answers; a non-loopback address on purpose, because
    /// Docker verifies no certificate on 127.0.0.0/8.
    pub fn registry_endpoint(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.ports.registry)
    }
}
