//! Direct routes to the other nodes' pod ranges, from the Node objects.
//!
//! Invariants: a node's range is routed over its InternalIP and only inside the
//! cluster's pod range, so that a wrong Node object cannot take other traffic; before
//! the first list of nodes nothing is removed.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node;
use tokio_util::sync::CancellationToken;

use crate::base::chain::chain;
use crate::network::source::View;
use crate::network::{NetworkError, Plan};
use crate::sys::routes;

/// How often the kernel's table is compared even if no Node changed.
const RECHECK: Duration = Duration::from_secs(30);

/// The routes that this node needs.
fn wanted(plan: &Plan, nodes: &[Arc<Node>]) -> BTreeMap<Ipv4Net, Ipv4Addr> {
    let mut routes = BTreeMap::new();
    for node in nodes {
        if node.metadata.name.as_deref() == Some(plan.node_name.as_str()) {
            continue;
        }
        let range = node.spec.as_ref().and_then(|spec| spec.pod_cidr.as_deref());
        let Some(range) = range.and_then(|text| text.parse::<Ipv4Net>().ok()) else { continue };
        let addresses = node.status.as_ref().and_then(|status| status.addresses.as_ref());
        let gateway = addresses.into_iter().flatten().find_map(|address| {
            let internal = address.type_ == "InternalIP";
            internal.then(|| address.address.parse::<Ipv4Addr>().ok()).flatten()
        });
        let Some(gateway) = gateway else { continue };
        let range = range.trunc();
        if plan.cluster_pods.contains(&range) && range != plan.pod_range {
            routes.insert(range, gateway);
        } else {
            tracing::warn!(%range, %gateway, "ignoring a node whose pod range is not its own");
        }
    }
    routes
}

async fn reconcile(plan: &Plan, nodes: &[Arc<Node>]) -> Result<(), NetworkError> {
    let refused = routes::set_gateway_routes(&wanted(plan, nodes), plan.node_address)
        .await
        .map_err(NetworkError::Routes)?;
    for (route, error) in refused {
        let (range, gateway) = (route.range, route.gateway);
        tracing::warn!(%range, %gateway, error = chain(&error), "a pod range cannot be reached directly");
    }
    Ok(())
}

/// Keeps the routes as the nodes say until cancelled.
pub(super) async fn run(plan: Arc<Plan>, mut nodes: View<Node>, cancel: CancellationToken) {
    loop {
        if let Some(list) = nodes.current()
            && let Err(error) = reconcile(&plan, &list).await
        {
            tracing::warn!(error = chain(&error), "cannot set the routes to other nodes");
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = nodes.changed() => {}
            () = tokio::time::sleep(RECHECK) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_other_nodes_ranges_inside_the_cluster_are_routed() {
        let plan = Plan {
            node_name: "a1".into(),
            node_address: Ipv4Addr::new(10, 0, 0, 1),
            pod_range: "10.1.0.0/24".parse().unwrap(),
            cluster_pods: "10.1.0.0/16".parse().unwrap(),
            services: "10.96.0.0/16".parse().unwrap(),
            dns: Ipv4Addr::new(10, 96, 0, 10),
            domain: "cluster.local".into(),
            nft: "nft".into(),
        };
        let node = |name: &str, range: &str, address: &str| {
            Arc::new(
                serde_json::from_value(json!({"metadata": {"name": name},
                    "spec": {"podCIDR": range},
                    "status": {"addresses": [{"type": "Hostname", "address": name},
                                             {"type": "InternalIP", "address": address}]}}))
                .unwrap(),
            )
        };
        let nodes = [
            node("a1", "10.1.0.0/24", "10.0.0.1"),
            node("a2", "10.1.1.0/24", "10.0.0.2"),
            node("thief", "0.0.0.0/0", "10.0.0.66"),
            node("twin", "10.1.0.0/24", "10.0.0.67"),
        ];
        let expected =
            BTreeMap::from([("10.1.1.0/24".parse().unwrap(), Ipv4Addr::new(10, 0, 0, 2))]);
        assert_eq!(wanted(&plan, &nodes), expected);
    }
}
