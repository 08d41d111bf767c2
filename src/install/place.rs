//! Where a node that shows a token belongs in the cluster.
//!
//! Two ways: the cluster file lists the node, and then it must be that one; or the token
//! names a center, and then the token decides and the file only says who has which address.
//! Invariants: two nodes never have one address; a node never lies inside the ranges of
//! pods or services; a place never depends on anything but what is recorded.
//! Not here: whether the token is good (`tokens`), the transaction (`join_service`).

use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::cluster::{Center, Cluster};
use crate::model::cluster_record::{NodeRecord, TokenRecord};
use crate::model::join::JoinRequest;
use crate::model::label::is_label;
use crate::model::node_config::Role;

use super::refused::JoinRefused;

/// A node's place.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    pub(crate) site: &'a str,
    pub(crate) center: &'a Center,
    pub(crate) roles: Vec<Role>,
    /// Whether the cluster file lists it.
    listed: bool,
}

/// What a node asks to be: what it says itself, else what its place says.
pub(crate) fn roles_asked(
    cluster: &Cluster,
    token: Option<&TokenRecord>,
    request: &JoinRequest,
) -> Vec<Role> {
    if !request.roles.is_empty() {
        return request.roles.clone();
    }
    let listed = cluster.node(&request.node_name).map(|placed| placed.node.roles.clone());
    match (listed, token) {
        (Some(listed), Some(token)) if token.center.is_none() || matches(token, &listed) => listed,
        (Some(listed), None) => listed,
        (_, Some(token)) => match token.role {
            Role::Control => vec![Role::Control, Role::Worker],
            Role::Worker => vec![Role::Worker],
        },
        (None, None) => Vec::new(),
    }
}

fn matches(token: &TokenRecord, roles: &[Role]) -> bool {
    roles.contains(&Role::Control) == (token.role == Role::Control)
}

/// Finds the place, or says why there is none. `admitted` are all nodes that have joined.
pub(crate) fn place<'a>(
    cluster: &'a Cluster,
    admitted: &[NodeRecord],
    token: &TokenRecord,
    request: &JoinRequest,
) -> Result<Place<'a>, JoinRefused> {
    let node_name = request.node_name.clone();
    let listed = cluster.node(&node_name);
    let mut roles = roles_asked(cluster, Some(token), request);
    roles.sort();
    roles.dedup();
    let placed = match (&token.center, listed) {
        (Some(center), listed) => {
            if let Some(listed) = listed.filter(|listed| listed.center.name != *center) {
                return Err(JoinRefused::CenterOther {
                    node_name,
                    allowed: center.clone(),
                    listed: listed.center.name.clone(),
                });
            }
            let found = cluster.center(center).ok_or_else(|| JoinRefused::CenterUnknown {
                center: center.clone(),
                known: cluster.center_names(),
            })?;
            if !is_label(&node_name) {
                return Err(JoinRefused::NodeName { node_name });
            }
            Place { site: found.0, center: found.1, roles, listed: listed.is_some() }
        }
        (None, Some(listed)) => {
            if listed.node.address != request.address {
                return Err(JoinRefused::NodeAddress {
                    node_name,
                    listed: listed.node.address.to_string(),
                    asked: request.address.to_string(),
                });
            }
            let mut wanted = listed.node.roles.clone();
            wanted.sort();
            if roles != wanted {
                return Err(JoinRefused::NodeRoles { node_name });
            }
            Place { site: listed.site, center: listed.center, roles, listed: true }
        }
        (None, None) => {
            let known: Vec<&str> = cluster.nodes().map(|known| known.node.name.as_str()).collect();
            return Err(JoinRefused::NodeUnknown { node_name, known: known.join(", ") });
        }
    };
    check_address(cluster, admitted, &node_name, request.address)?;
    Ok(placed)
}

fn check_address(
    cluster: &Cluster,
    admitted: &[NodeRecord],
    node_name: &str,
    address: IpAddr,
) -> Result<(), JoinRefused> {
    let unfit =
        |reason: String| Err(JoinRefused::AddressUnfit { address: address.to_string(), reason });
    if address.is_loopback() || address.is_unspecified() || address.is_multicast() {
        return unfit("other nodes cannot reach it".into());
    }
    let network = &cluster.network;
    for (range, what) in [(network.pod_range, "pods"), (network.service_range, "services")] {
        if range.contains(&address) {
            return unfit(format!("it lies inside {range}, the range of {what}"));
        }
    }
    let listed = cluster.nodes().map(|known| (known.node.name.as_str(), known.node.address));
    let joined = admitted.iter().map(|known| (known.name.as_str(), known.address));
    match listed.chain(joined).find(|(name, taken)| *name != node_name && *taken == address) {
        Some((name, _)) => Err(JoinRefused::AddressTaken {
            address: address.to_string(),
            node_name: name.to_owned(),
        }),
        None => Ok(()),
    }
}

impl Place<'_> {
    /// A slice of the center's pod range that nobody has.
    pub(crate) fn pod_range(
        &self,
        cluster: &Cluster,
        node_name: &str,
        taken: &[IpNet],
    ) -> Result<IpNet, JoinRefused> {
        let range = match cluster.node(node_name).filter(|_| self.listed) {
            Some(listed) => cluster.pod_range_for(&listed, taken),
            None => cluster.pod_range_beside(self.center, taken),
        };
        range.ok_or_else(|| JoinRefused::NoRange { center: self.center.name.clone() })
    }
}
