//! Pod network, Service balancing and cluster DNS on one node.
//!
//! ```text
//!  Node objects ──► node_routes ──► routes to the other nodes' pod ranges
//!  Services,    ──► services    ──► nftables table `ip holdfast`
//!  EndpointSlices └► dns        ──► answers on the DNS address of the Service range
//!  Services     ──► announce    ──► addresses of load balancers on this node's link
//!  Ingresses    ──► ingress     ──► ports 80 and 443 of this node
//!  policies     ──► policies    ──► nftables table `ip holdfast-policy`
//!  agent        ──► pod_net     ──► address ledger, veth pair, pod routes
//! ```
//! Why no bridge, no overlay, no translation between pods: a packet on the wire carries
//! the two pods' addresses, so that a bank's routers, captures and firewalls see who
//! speaks with whom.
//!
//! Invariants: only the tables `ip holdfast` and `ip
//! holdfast-policy`, addresses that load balancers have, routes of our own protocol number and links
//! named `hf…` are touched; all state in the kernel is derived again at every start.
//! Not here: choosing the nodes' pod ranges (install), endpoints (controllers). IPv4
//! only: a node configuration with IPv6 ranges is refused.

mod announce;
mod clean_up;
mod dns;
mod error;
mod host;
mod ingress;
mod ledger;
mod node_routes;
mod pod_net;
mod policies;
mod policy_rules;
mod ruleset;
mod services;
mod source;
mod table;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use clean_up::clean_up;
pub use error::NetworkError;
pub use pod_net::PodNet;

use crate::client::api::SharedApi;
use crate::model::node_config::ClusterNetwork;

/// What a node's network is made from.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    pub node_name: String,
    /// The address other nodes reach this one at.
    pub node_address: IpAddr,
    /// This node's slice of the pod range.
    pub pod_range: IpNet,
    pub cluster: ClusterNetwork,
    /// The node's data directory; the ledger lies in `network/` below it.
    pub data_dir: PathBuf,
    /// The `nft` program, in the product `/opt/holdfast/engine/bin/nft`.
    pub nft: PathBuf,
}

/// The checked configuration that all parts share.
#[derive(Clone, Debug)]
struct Plan {
    node_name: String,
    node_address: Ipv4Addr,
    pod_range: Ipv4Net,
    cluster_pods: Ipv4Net,
    services: Ipv4Net,
    dns: Ipv4Addr,
    domain: String,
    nft: PathBuf,
}

/// One node's network.
#[derive(Debug)]
pub struct Network {
    plan: Arc<Plan>,
    pods: Arc<PodNet>,
    api: SharedApi,
}

impl Network {
    /// Checks the configuration and reads the address ledger; changes nothing yet.
    pub fn new(config: NetworkConfig, api: SharedApi) -> Result<Self, NetworkError> {
        let address = |what, address| match address {
            IpAddr::V4(address) => Ok(address),
            IpAddr::V6(other) => Err(NetworkError::NotIpv4 { what, value: other.to_string() }),
        };
        let range = |what, range| match range {
            IpNet::V4(range) => Ok(range.trunc()),
            IpNet::V6(other) => Err(NetworkError::NotIpv4 { what, value: other.to_string() }),
        };
        let plan = Arc::new(Plan {
            node_name: config.node_name,
            node_address: address("node address", config.node_address)?,
            pod_range: range("node's pod range", config.pod_range)?,
            cluster_pods: range("cluster's pod range", config.cluster.pod_range)?,
            services: range("Service range", config.cluster.service_range)?,
            dns: address("DNS address", config.cluster.dns_address())?,
            domain: config.cluster.cluster_domain,
            nft: config.nft,
        });
        let pods = Arc::new(PodNet::open(plan.clone(), &config.data_dir.join("network"))?);
        Ok(Self { plan, pods, api })
    }

    /// Connects and disconnects pods; usable before and beside [`Network::run`].
    pub fn pod_net(&self) -> Arc<PodNet> {
        self.pods.clone()
    }

    /// Keeps routes, Services and DNS as the cluster's objects say, until cancelled.
    /// Failures are logged and tried again; what works goes on working meanwhile.
    pub async fn run(self, cancel: CancellationToken) {
        let (nodes, node_view) = source::nodes(self.api.clone());
        let (services, service_view) = source::services(self.api.clone());
        let (slices, slice_view) = source::endpoint_slices(self.api.clone());
        let mut parts = JoinSet::new();
        parts.spawn(nodes.run(cancel.clone()));
        parts.spawn(services.run(cancel.clone()));
        parts.spawn(slices.run(cancel.clone()));
        parts.spawn(host::run(self.plan.clone(), cancel.clone()));
        parts.spawn(node_routes::run(self.plan.clone(), node_view.clone(), cancel.clone()));
        let inputs = services::Inputs {
            services: service_view.clone(),
            slices: slice_view.clone(),
            nodes: node_view.clone(),
            published: self.pods.published(),
        };
        parts.spawn(services::run(self.plan.clone(), inputs, cancel.clone()));
        let (policies, policy_view) = source::policies(self.api.clone());
        let (namespaces, namespace_view) = source::namespaces(self.api.clone());
        let (pods, pod_view) = source::pods(self.api.clone());
        parts.spawn(policies.run(cancel.clone()));
        parts.spawn(namespaces.run(cancel.clone()));
        parts.spawn(pods.run_when_wanted(cancel.clone()));
        let inputs = policies::Inputs {
            policies: policy_view,
            namespaces: namespace_view,
            pods: pod_view,
            own: self.pods.own(),
        };
        let (plan, guarded) = (self.plan.clone(), self.pods.guarded());
        parts.spawn(policies::run(plan, inputs, guarded, cancel.clone()));
        let (plan, api) = (self.plan.clone(), self.api.clone());
        parts.spawn(announce::run(plan, api, service_view.clone(), cancel.clone()));
        let (ingresses, ingress_view) = source::ingresses(self.api.clone());
        let (classes, class_view) = source::ingress_classes(self.api.clone());
        parts.spawn(ingresses.run(cancel.clone()));
        parts.spawn(classes.run(cancel.clone()));
        let inputs = ingress::Inputs {
            ingresses: ingress_view,
            classes: class_view,
            services: service_view.clone(),
            slices: slice_view.clone(),
            nodes: node_view,
        };
        let (plan, api) = (self.plan.clone(), self.api.clone());
        parts.spawn(ingress::run(plan, api, inputs, cancel.clone()));
        parts.spawn(dns::run(self.plan.clone(), service_view, slice_view, cancel.clone()));
        while let Some(ended) = parts.join_next().await {
            if let Err(error) = ended
                && error.is_panic()
            {
                // The whole network stops, so that the supervisor notices and restarts
                // the program instead of running on without one part of it.
                cancel.cancel();
                parts.shutdown().await;
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }
}
