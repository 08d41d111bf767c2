//! The checks between the values of a cluster file, and the carving of its pod range.
//!
//! Invariant: every problem names the line of the later of two things that clash, which
//! is the one that was probably added last.
//! Not here: reading the file (`cluster_check`).

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::cluster::{NetworkSpec, overlap};
use crate::model::cluster_draft::{At, Draft, DraftCenter, DraftNode, Findings};
use crate::model::commit_mode::CommitMode;
use crate::model::label::is_label;
use crate::model::node_config::Role;

/// Checks the draft; the answer is each center's aggregate in file order, complete only
/// when no problem was found.
pub(crate) fn check(draft: &Draft, findings: &mut Findings) -> Vec<IpNet> {
    check_names(draft, findings);
    check_nodes(draft, findings);
    check_commit_mode(draft, findings);
    let spec = NetworkSpec::default();
    let or_default = |at: &Option<At<IpNet>>, default: IpNet, path: &str| {
        at.clone().unwrap_or(At { value: default, line: 1, path: path.to_owned() })
    };
    let pods = or_default(&draft.pod_range, spec.pod_range, "spec.network.podRange");
    let services =
        or_default(&draft.service_range, spec.service_range, "spec.network.serviceRange");
    if overlap(&pods.value, &services.value) {
        let (later, first) =
            if services.line >= pods.line { (&services, &pods) } else { (&pods, &services) };
        let message = format!("{} overlaps {} ({})", later.value, first.value, first.path);
        findings.problem(later.line, &later.path, message);
    }
    check_service_size(&services, findings);
    check_addresses(draft, &[&pods, &services], findings);
    let prefix = draft.node_prefix.as_ref().map_or(spec.node_prefix, |at| at.value);
    aggregates(draft, &pods, prefix, findings)
}

fn centers(draft: &Draft) -> impl Iterator<Item = &DraftCenter> {
    draft.sites.iter().flat_map(|site| &site.centers)
}

fn nodes(draft: &Draft) -> impl Iterator<Item = &DraftNode> {
    centers(draft).flat_map(|center| &center.nodes)
}

fn check_names(draft: &Draft, findings: &mut Findings) {
    let sites: Vec<_> = draft.sites.iter().filter_map(|site| site.name.as_ref()).collect();
    let center_names: Vec<_> = centers(draft).filter_map(|center| center.name.as_ref()).collect();
    let node_names: Vec<_> = nodes(draft).filter_map(|node| node.name.as_ref()).collect();
    for at in draft.name.iter().chain(sites.iter().copied()) {
        check_label(at, findings);
    }
    for at in center_names.iter().chain(&node_names) {
        check_label(at, findings);
    }
    unique(&sites, "site", findings);
    unique(&center_names, "center", findings);
    unique(&node_names, "node", findings);
    if let Some(domain) = &draft.cluster_domain
        && !domain.value.split('.').all(is_label)
    {
        let message = format!("{:?} is not a DNS name", domain.value);
        findings.problem(domain.line, &domain.path, message);
    }
}

fn check_label(at: &At<String>, findings: &mut Findings) {
    if !is_label(&at.value) {
        let message = format!(
            "{:?} is not a name: at most 63 of a-z, 0-9 and -, a letter or digit at both ends (RFC 1123)",
            at.value
        );
        findings.problem(at.line, &at.path, message);
    }
}

fn unique<T: Eq + Hash + std::fmt::Display>(items: &[&At<T>], what: &str, findings: &mut Findings) {
    let mut seen: HashMap<&T, u64> = HashMap::new();
    for at in items {
        if let Some(first) = seen.get(&at.value) {
            let message = format!("{what} {} is already on line {first}", at.value);
            findings.problem(at.line, &at.path, message);
        } else {
            seen.insert(&at.value, at.line);
        }
    }
}

fn check_nodes(draft: &Draft, findings: &mut Findings) {
    let addresses: Vec<&At<IpAddr>> =
        nodes(draft).filter_map(|node| node.address.as_ref()).collect();
    unique(&addresses, "address", findings);
    let control = nodes(draft).filter(|node| node.roles.contains(&Role::Control)).count();
    if control == 0 {
        if nodes(draft).next().is_some() {
            let message = "no node has the role control; at least one must";
            findings.problem(draft.sites_line, "spec.sites", message);
        }
    } else if control.is_multiple_of(2) {
        let message = format!(
            "{control} control nodes survive the loss of {} of them, as {} would; an odd number is better",
            (control - 1) / 2,
            control - 1
        );
        findings.warning(draft.sites_line, "spec.sites", message);
    }
}

/// A mode that waits for another site needs one that can confirm, and may lose a node.
fn check_commit_mode(draft: &Draft, findings: &mut Findings) {
    let Some(mode) = &draft.commit_mode else { return };
    if mode.value == CommitMode::Majority {
        return;
    }
    let sites = draft.sites.len();
    if sites != 2 {
        let message =
            format!("{} needs exactly two sites, and there are {sites}", mode.value.name());
        findings.problem(mode.line, &mode.path, message);
        return;
    }
    let second = draft.sites[1].centers.iter().flat_map(|center| &center.nodes);
    let control = second.filter(|node| node.roles.contains(&Role::Control)).count();
    if control < 2 {
        let message = format!(
            "{} needs at least two control nodes in the second site, and there are {control}",
            mode.value.name()
        );
        findings.problem(mode.line, &mode.path, message);
    }
}

fn check_service_size(services: &At<IpNet>, findings: &mut Findings) {
    if services.value.max_prefix_len() - services.value.prefix_len() < 4 {
        let message = "is too small: the cluster's own services need addresses 1 and 10";
        findings.problem(services.line, &services.path, message);
    }
}

fn check_addresses(draft: &Draft, ranges: &[&At<IpNet>], findings: &mut Findings) {
    for address in nodes(draft).filter_map(|node| node.address.as_ref()) {
        if address.value.is_loopback() || address.value.is_unspecified() {
            let message = format!("{} cannot be reached by other nodes", address.value);
            findings.problem(address.line, &address.path, message);
        }
        for range in ranges {
            if range.value.contains(&address.value) {
                let message =
                    format!("{} lies inside {} ({})", address.value, range.value, range.path);
                findings.problem(address.line, &address.path, message);
            }
        }
    }
}

/// Gives every center its aggregate: the one it names, else a block of equal size in
/// file order that overlaps no named one.
fn aggregates(draft: &Draft, pods: &At<IpNet>, prefix: u8, findings: &mut Findings) -> Vec<IpNet> {
    let longest = pods.value.max_prefix_len();
    if prefix <= pods.value.prefix_len() || prefix > longest - 2 {
        let line = draft.node_prefix.as_ref().map_or(pods.line, |at| at.line);
        let message = format!(
            "must lie between {} and {} for podRange {}",
            pods.value.prefix_len() + 1,
            longest - 2,
            pods.value
        );
        findings.problem(line, "spec.network.nodePrefix", message);
        return Vec::new();
    }
    let named: Vec<&At<IpNet>> =
        centers(draft).filter_map(|center| center.pod_range.as_ref()).collect();
    check_named(&named, pods, findings);
    let count = centers(draft).count().max(1);
    let bits = count.next_power_of_two().trailing_zeros() as u8;
    let block = pods.value.prefix_len().saturating_add(bits).min(prefix);
    let mut free = pods
        .value
        .subnets(block)
        .expect("the block lies between the range and the longest prefix")
        .filter(|slice| !named.iter().any(|other| overlap(slice, &other.value)));
    let mut all = Vec::new();
    for center in centers(draft) {
        let aggregate = center.pod_range.as_ref().map(|at| at.value).or_else(|| free.next());
        let Some(aggregate) = aggregate else {
            let message = format!("no room is left in {} for this center's pods", pods.value);
            findings.problem(center.line, &center.path, message);
            continue;
        };
        check_room(center, &aggregate, prefix, findings);
        all.push(aggregate);
    }
    all
}

fn check_named(named: &[&At<IpNet>], pods: &At<IpNet>, findings: &mut Findings) {
    for (i, at) in named.iter().enumerate() {
        if !pods.value.contains(&at.value) {
            let message = format!("{} is not inside {} ({})", at.value, pods.value, pods.path);
            findings.problem(at.line, &at.path, message);
        }
        if let Some(other) = named[..i].iter().find(|other| overlap(&other.value, &at.value)) {
            let message = format!("{} overlaps {} on line {}", at.value, other.value, other.line);
            findings.problem(at.line, &at.path, message);
        }
    }
}

fn check_room(center: &DraftCenter, aggregate: &IpNet, prefix: u8, findings: &mut Findings) {
    let slices = aggregate.subnets(prefix).map_or(0, |slices| slices.take(65_537).count());
    if slices < center.nodes.len() {
        let (line, path) =
            center.pod_range.as_ref().map_or((center.line, &center.path), |at| (at.line, &at.path));
        let message = format!(
            "{aggregate} holds {slices} node range(s) of /{prefix}, the center has {} nodes",
            center.nodes.len()
        );
        findings.problem(line, path, message);
    }
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod tests;
