//! `cluster.yaml`: what an operator asks the cluster to be, and what it resolves to.
//!
//! The file names sites, their centers and their nodes; from it follow every node's
//! role, place and pod range. The resolved form (each center with its aggregate written
//! out) is what the store keeps under `/holdfast/cluster`, so that adding a center later
//! moves nobody's addresses.
//! Invariants of a [`Cluster`] that came from `Cluster::parse`: node names and
//! addresses are unique, no two ranges overlap, at least one node is a control node.
//! Not here: how problems are found (`cluster_check`), YAML (`located`).

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::model::commit_mode::CommitMode;
use crate::model::node_config::{ClusterNetwork, Role};
use crate::model::threshold::EvictionThresholds;

/// The whole cluster as asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cluster {
    pub name: String,
    pub network: NetworkSpec,
    /// When nodes end pods because they run out of something; every node gets it when it
    /// is made.
    #[serde(default, skip_serializing_if = "EvictionThresholds::is_default")]
    pub eviction: EvictionThresholds,
    #[serde(default, skip_serializing_if = "DrSpec::is_default")]
    pub dr: DrSpec,
    pub sites: Vec<Site>,
}

/// Disaster recovery, as the file asks for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DrSpec {
    /// What an answer waits for, until an operator sets another mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit_mode: Option<CommitMode>,
}

impl DrSpec {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Cluster {
    /// The commit mode that the file names; without a word a majority, as in one site.
    pub fn commit_mode(&self) -> CommitMode {
        self.dr.commit_mode.unwrap_or_default()
    }
}

/// Addressing; every field has a default in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkSpec {
    pub pod_range: IpNet,
    /// Prefix length of one node's slice of its center's aggregate.
    pub node_prefix: u8,
    pub service_range: IpNet,
    pub cluster_domain: String,
}

impl Default for NetworkSpec {
    fn default() -> Self {
        Self {
            pod_range: "10.244.0.0/16".parse().expect("a literal network"),
            node_prefix: 24,
            service_range: "10.96.0.0/16".parse().expect("a literal network"),
            cluster_domain: "cluster.local".to_owned(),
        }
    }
}

impl NetworkSpec {
    /// The part every node carries in its `node.yaml`.
    pub fn for_nodes(&self) -> ClusterNetwork {
        ClusterNetwork {
            pod_range: self.pod_range,
            service_range: self.service_range,
            cluster_domain: self.cluster_domain.clone(),
        }
    }
}

/// A city.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Site {
    pub name: String,
    pub centers: Vec<Center>,
}

/// A data center. Its name is unique in the cluster, not only in its site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Center {
    pub name: String,
    /// The aggregate of its nodes' pod ranges; always set after `Cluster::parse`.
    pub pod_range: IpNet,
    pub nodes: Vec<NodeEntry>,
}

/// One machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeEntry {
    pub name: String,
    pub address: IpAddr,
    pub roles: Vec<Role>,
}

/// One thing that is wrong (or, as a warning, doubtful) in the file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    pub line: u64,
    /// Where in the tree, `spec.sites[0].centers[1].name`.
    pub path: String,
    pub message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}: {}", self.line, self.path, self.message)
    }
}

/// Everything that is wrong in the file, in line order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cluster file has {} problem(s):\n{}", .0.len(), lines(.0))]
pub struct ClusterProblems(pub Vec<Problem>);

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("  {problem}")).collect::<Vec<_>>().join("\n")
}

/// A cluster file without errors, and what is doubtful in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedCluster {
    pub cluster: Cluster,
    pub warnings: Vec<Problem>,
}

/// A node with its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlacedNode<'a> {
    pub site: &'a str,
    pub center: &'a Center,
    pub node: &'a NodeEntry,
    /// Position within the center; its preferred slice of the aggregate.
    pub index: usize,
}

impl Cluster {
    /// All nodes in file order.
    pub fn nodes(&self) -> impl Iterator<Item = PlacedNode<'_>> {
        self.sites.iter().flat_map(|site| {
            site.centers.iter().flat_map(move |center| {
                center.nodes.iter().enumerate().map(move |(index, node)| PlacedNode {
                    site: &site.name,
                    center,
                    node,
                    index,
                })
            })
        })
    }

    pub fn node(&self, name: &str) -> Option<PlacedNode<'_>> {
        self.nodes().find(|placed| placed.node.name == name)
    }

    /// A center with the name of its site.
    pub fn center(&self, name: &str) -> Option<(&str, &Center)> {
        self.sites.iter().find_map(|site| {
            let center = site.centers.iter().find(|center| center.name == name)?;
            Some((site.name.as_str(), center))
        })
    }

    /// All centers, for people.
    pub fn center_names(&self) -> String {
        let centers = self.sites.iter().flat_map(|site| &site.centers);
        centers.map(|center| center.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// The pod range for a node that the file does not list: the first free slice behind
    /// those of the listed ones, else any that is free.
    pub fn pod_range_beside(&self, center: &Center, taken: &[IpNet]) -> Option<IpNet> {
        let mut slices = center.pod_range.subnets(self.network.node_prefix).ok()?;
        let free = |slice: &IpNet| !taken.iter().any(|other| overlap(slice, other));
        let behind = slices.skip(center.nodes.len()).find(free);
        behind.or_else(|| slices.find(free))
    }

    /// The pod range for a node: its position's slice of the center's aggregate, or the
    /// first free one when that was given away; `None` when the aggregate is used up.
    pub fn pod_range_for(&self, placed: &PlacedNode<'_>, taken: &[IpNet]) -> Option<IpNet> {
        let mut slices = placed.center.pod_range.subnets(self.network.node_prefix).ok()?;
        let free = |slice: &IpNet| !taken.iter().any(|other| overlap(slice, other));
        if let Some(own) = slices.clone().nth(placed.index).filter(free) {
            return Some(own);
        }
        slices.find(free)
    }
}

/// Whether two networks share an address.
pub fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}
