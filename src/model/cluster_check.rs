//! Reads a cluster file and finds everything that is wrong with it.
//!
//! Why by hand over a tree with lines: the promise is one run, all problems, each with
//! its line; see `located`. A value that cannot be read is reported once and left out of
//! the later checks, so one mistake does not cause a cascade.
//! Not here: the types (`cluster`, `cluster_draft`), the checks between values (`cluster_rules`).

use std::str::FromStr;

use ipnet::IpNet;

use crate::model::cluster::{
    Center, Cluster, ClusterProblems, DrSpec, NetworkSpec, NodeEntry, ParsedCluster, Problem, Site,
};
use crate::model::cluster_draft::{At, Draft, DraftCenter, DraftNode, DraftSite, Findings};
use crate::model::cluster_rules;
use crate::model::located::{Located, Tree};
use crate::model::node_config::Role;
use crate::model::threshold::{EvictionThresholds, Threshold};

impl Cluster {
    /// Reads a cluster file, reporting everything that is wrong together.
    pub fn parse(text: &str) -> Result<ParsedCluster, ClusterProblems> {
        parse(text)
    }
}

fn parse(text: &str) -> Result<ParsedCluster, ClusterProblems> {
    let root = Located::parse(text).map_err(|error| {
        ClusterProblems(vec![Problem {
            line: error.line,
            path: "(file)".into(),
            message: error.message,
        }])
    })?;
    let mut findings = Findings::default();
    let draft = read_root(&root, &mut findings);
    let centers = cluster_rules::check(&draft, &mut findings);
    findings.problems.sort();
    findings.problems.dedup();
    findings.warnings.sort();
    if !findings.problems.is_empty() {
        return Err(ClusterProblems(findings.problems));
    }
    Ok(ParsedCluster { cluster: build(draft, &centers), warnings: findings.warnings })
}

/// Turns a draft without problems into the cluster. `aggregates` are the centers' pod
/// ranges in file order.
fn build(draft: Draft, aggregates: &[IpNet]) -> Cluster {
    let mut aggregate = aggregates.iter().copied();
    let defaults = NetworkSpec::default();
    let network = NetworkSpec {
        pod_range: draft.pod_range.map_or(defaults.pod_range, |at| at.value),
        node_prefix: draft.node_prefix.map_or(defaults.node_prefix, |at| at.value),
        service_range: draft.service_range.map_or(defaults.service_range, |at| at.value),
        cluster_domain: draft.cluster_domain.map_or(defaults.cluster_domain, |at| at.value),
    };
    let text = |at: Option<At<String>>| at.expect("a missing name is a problem").value;
    let sites = draft.sites.into_iter().map(|site| Site {
        name: text(site.name),
        centers: site
            .centers
            .into_iter()
            .map(|center| Center {
                name: text(center.name),
                pod_range: aggregate.next().expect("one aggregate for each center"),
                nodes: center
                    .nodes
                    .into_iter()
                    .map(|node| NodeEntry {
                        name: text(node.name),
                        address: node.address.expect("a missing address is a problem").value,
                        roles: node.roles,
                    })
                    .collect(),
            })
            .collect(),
    });
    let sites = sites.collect();
    let dr = DrSpec { commit_mode: draft.commit_mode.map(|at| at.value) };
    Cluster { name: text(draft.name), network, eviction: draft.eviction, dr, sites }
}

fn read_root(root: &Located, findings: &mut Findings) -> Draft {
    let keys = ["apiVersion", "kind", "metadata", "spec"];
    let mut draft = Draft::default();
    if !known_keys(root, "(file)", &keys, &keys, findings) {
        return draft;
    }
    for (key, wanted) in [("apiVersion", "holdfast.io/v1"), ("kind", "Cluster")] {
        if let Some(value) = root.get(key)
            && value.scalar().as_deref() != Some(wanted)
        {
            let found = value.scalar().unwrap_or_else(|| "something else".into());
            findings.problem(value.line, key, format!("must be {wanted}, not {found}"));
        }
    }
    if let Some(metadata) = root.get("metadata")
        && known_keys(metadata, "metadata", &["name"], &["name"], findings)
    {
        draft.name = text(metadata, "metadata", "name", findings);
    }
    if let Some(spec) = root.get("spec")
        && known_keys(spec, "spec", &["network", "eviction", "dr", "sites"], &["sites"], findings)
    {
        if let Some(network) = spec.get("network") {
            read_network(network, &mut draft, findings);
        }
        if let Some(eviction) = spec.get("eviction") {
            read_eviction(eviction, &mut draft.eviction, findings);
        }
        if let Some(dr) = spec.get("dr")
            && known_keys(dr, "spec.dr", &["commitMode"], &[], findings)
        {
            let what = "one of majority, remote-sync and max-protection";
            draft.commit_mode = parsed(dr, "spec.dr", "commitMode", what, findings);
        }
        draft.sites_line = spec.get("sites").map_or(spec.line, |sites| sites.line);
        draft.sites = list(spec, "spec", "sites", findings)
            .iter()
            .enumerate()
            .map(|(i, site)| read_site(site, &format!("spec.sites[{i}]"), findings))
            .collect();
    }
    draft
}

fn read_network(network: &Located, draft: &mut Draft, findings: &mut Findings) {
    let path = "spec.network";
    let keys = ["podRange", "nodePrefix", "serviceRange", "clusterDomain"];
    if known_keys(network, path, &keys, &[], findings) {
        draft.pod_range = range(network, path, "podRange", findings);
        draft.node_prefix = parsed(network, path, "nodePrefix", "a prefix length", findings);
        draft.service_range = range(network, path, "serviceRange", findings);
        draft.cluster_domain = text(network, path, "clusterDomain", findings);
    }
}

fn read_eviction(eviction: &Located, thresholds: &mut EvictionThresholds, findings: &mut Findings) {
    let path = "spec.eviction";
    let into: [(&str, &mut Threshold); 4] = [
        ("memoryAvailable", &mut thresholds.memory_available),
        ("nodefsAvailable", &mut thresholds.nodefs_available),
        ("nodefsInodesFree", &mut thresholds.nodefs_inodes_free),
        ("pidAvailable", &mut thresholds.pid_available),
    ];
    let held = "pressureTransitionPeriod";
    let keys: Vec<&str> = into.iter().map(|(key, _)| *key).chain([held]).collect();
    if known_keys(eviction, path, &keys, &[], findings) {
        let what = "a quantity like 100Mi or a part like 10%";
        for (key, threshold) in into {
            if let Some(at) = parsed(eviction, path, key, what, findings) {
                *threshold = at.value;
            }
        }
        if let Some(at) = parsed(eviction, path, held, "a time like 5m or 90s", findings) {
            thresholds.pressure_transition_period = at.value;
        }
    }
}

fn read_site(site: &Located, path: &str, findings: &mut Findings) -> DraftSite {
    let keys = ["name", "centers"];
    if !known_keys(site, path, &keys, &keys, findings) {
        return DraftSite { name: None, centers: Vec::new() };
    }
    DraftSite {
        name: text(site, path, "name", findings),
        centers: list(site, path, "centers", findings)
            .iter()
            .enumerate()
            .map(|(i, center)| read_center(center, &format!("{path}.centers[{i}]"), findings))
            .collect(),
    }
}

fn read_center(center: &Located, path: &str, findings: &mut Findings) -> DraftCenter {
    let keys = ["name", "podRange", "nodes"];
    let mut draft = DraftCenter {
        line: center.line,
        path: path.to_owned(),
        name: None,
        pod_range: None,
        nodes: Vec::new(),
    };
    if known_keys(center, path, &keys, &["name", "nodes"], findings) {
        draft.name = text(center, path, "name", findings);
        draft.pod_range = range(center, path, "podRange", findings);
        draft.nodes = list(center, path, "nodes", findings)
            .iter()
            .enumerate()
            .map(|(i, node)| read_node(node, &format!("{path}.nodes[{i}]"), findings))
            .collect();
    }
    draft
}

fn read_node(node: &Located, path: &str, findings: &mut Findings) -> DraftNode {
    let keys = ["name", "address", "roles"];
    if !known_keys(node, path, &keys, &keys, findings) && !matches!(node.tree, Tree::Map(_)) {
        return DraftNode { name: None, address: None, roles: Vec::new() };
    }
    let mut roles = Vec::new();
    let listed =
        if node.get("roles").is_some() { list(node, path, "roles", findings) } else { &[] };
    for (i, item) in listed.iter().enumerate() {
        let here = format!("{path}.roles[{i}]");
        let role = match item.scalar().as_deref() {
            Some("control") => Role::Control,
            Some("worker") => Role::Worker,
            other => {
                let found = other.unwrap_or("something else").to_owned();
                findings.problem(
                    item.line,
                    &here,
                    format!("unknown role {found:?}; there are control and worker"),
                );
                continue;
            }
        };
        if roles.contains(&role) {
            findings.problem(item.line, &here, "the role is listed twice");
        } else {
            roles.push(role);
        }
    }
    DraftNode {
        name: text(node, path, "name", findings),
        address: parsed(node, path, "address", "an IP address", findings),
        roles,
    }
}

/// Reports keys that are unknown or missing; false when the value is no mapping at all.
fn known_keys(
    node: &Located,
    path: &str,
    allowed: &[&str],
    required: &[&str],
    findings: &mut Findings,
) -> bool {
    let Tree::Map(entries) = &node.tree else {
        findings.problem(node.line, path, "must be a mapping");
        return false;
    };
    for (key, _) in entries {
        if !allowed.contains(&key.name.as_str()) {
            let message = format!("unknown key {:?}; known are {}", key.name, allowed.join(", "));
            findings.problem(key.line, path, message);
        }
    }
    for key in required {
        if node.get(key).is_none() {
            findings.problem(node.line, path, format!("{key} is missing"));
        }
    }
    true
}

fn list<'a>(node: &'a Located, path: &str, key: &str, findings: &mut Findings) -> &'a [Located] {
    let Some(value) = node.get(key) else { return &[] };
    match &value.tree {
        Tree::List(items) if !items.is_empty() => items,
        _ => {
            findings.problem(value.line, &format!("{path}.{key}"), "must be a list, not empty");
            &[]
        }
    }
}

fn text(node: &Located, path: &str, key: &str, findings: &mut Findings) -> Option<At<String>> {
    parsed(node, path, key, "text", findings)
}

/// A range whose host bits are zero.
fn range(node: &Located, path: &str, key: &str, findings: &mut Findings) -> Option<At<IpNet>> {
    let at: At<IpNet> = parsed(node, path, key, "a range such as 10.244.0.0/16", findings)?;
    if at.value.trunc() == at.value {
        return Some(at);
    }
    let message = format!("{} has host bits set; did you mean {}?", at.value, at.value.trunc());
    findings.problem(at.line, &at.path, message);
    None
}

fn parsed<T: FromStr>(
    node: &Located,
    path: &str,
    key: &str,
    what: &str,
    findings: &mut Findings,
) -> Option<At<T>> {
    let value = node.get(key)?;
    let path = format!("{path}.{key}");
    let Some(value_text) = value.scalar() else {
        findings.problem(value.line, &path, format!("must be {what}"));
        return None;
    };
    match value_text.parse() {
        Ok(parsed) => Some(At { value: parsed, line: value.line, path }),
        Err(_) => {
            findings.problem(value.line, &path, format!("{value_text:?} is not {what}"));
            None
        }
    }
}
