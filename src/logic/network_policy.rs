//! From network policies, pods and namespaces to what each pod of a node may be sent.
//!
//! Why pure: who may speak with whom is a promise; it is tested against a second, slow
//! evaluator of the same words (`network_policy_tests.rs`).
//!
//! ```text
//! policies that select the pod ─ none for a direction ─► open (`None`)
//!                              └ some ─► the union of their rules; all else is refused
//! a rule = peers (ranges of addresses) × ports (ranges of numbers)
//! ```
//! As in Kubernetes: policies add up; a peer by selectors means the addresses of pods;
//! pods on the host's network are neither subject nor peer; a pod always reaches itself
//! and its node; a port's name is looked up in the pod that is connected to.
//! Invariants: equal inputs give equal output in equal order; a pod of the node whose
//! object is not known yet is closed in both directions.
//! Not here: the kernel's rules (network/policy_rules.rs).

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use ipnet::Ipv4Net;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::balance::Transport;
use super::selector::LabelSelector;

/// First and last, both included.
pub type Addresses = (Ipv4Addr, Ipv4Addr);

/// What policies must know of a pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodFacts {
    pub namespace: String,
    pub uid: String,
    pub labels: Map<String, Value>,
    /// None before it has one, and of pods on the host's network.
    pub address: Option<Ipv4Addr>,
    /// Names of its ports.
    pub ports: Vec<(String, Transport, u16)>,
}

impl From<Value> for PodFacts {
    fn from(pod: Value) -> Self {
        let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let ended = ["Succeeded", "Failed"].contains(&text("/status/phase"));
        let on_host = pod.pointer("/spec/hostNetwork").and_then(Value::as_bool) == Some(true);
        let list = |pointer: &str| pod.pointer(pointer).and_then(Value::as_array);
        // Sidecars are among the init containers.
        let containers = ["/spec/containers", "/spec/initContainers"];
        let containers = containers.into_iter().filter_map(list).flatten();
        let ports = containers.filter_map(|one| one["ports"].as_array()).flatten();
        let port = |port: &Value| {
            let transport = Transport::parse(port["protocol"].as_str())?;
            let number = u16::try_from(port["containerPort"].as_i64()?).ok()?;
            Some((port["name"].as_str()?.to_owned(), transport, number))
        };
        let labels = pod.pointer("/metadata/labels").and_then(Value::as_object);
        Self {
            namespace: text("/metadata/namespace").to_owned(),
            uid: text("/metadata/uid").to_owned(),
            labels: labels.cloned().unwrap_or_default(),
            address: text("/status/podIP").parse().ok().filter(|_| !ended && !on_host),
            ports: ports.filter_map(port).collect(),
        }
    }
}

impl<'de> Deserialize<'de> for PodFacts {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        Value::deserialize(input).map(Self::from)
    }
}

/// Everything that decides.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    /// NetworkPolicy objects.
    pub policies: &'a [Arc<Value>],
    pub namespaces: &'a [Arc<Value>],
    pub pods: &'a [Arc<PodFacts>],
    /// The node's own pods by uid; what stands here goes before what the objects say.
    pub own: &'a BTreeMap<String, Ipv4Addr>,
}

/// Ports that a rule opens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ports {
    All,
    /// Sorted.
    Some(BTreeSet<(Transport, u16, u16)>),
}

/// Peers to whom a rule opens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peers {
    All,
    /// Sorted, apart from each other.
    Some(Vec<Addresses>),
}

/// One opening.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Allow {
    pub peers: Peers,
    pub ports: Ports,
}

/// What one pod of the node may be sent and may send; `None` is everything.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodRules {
    pub address: Ipv4Addr,
    pub ingress: Option<BTreeSet<Allow>>,
    pub egress: Option<BTreeSet<Allow>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    /// In `policyTypes`, of the rules, of their peers.
    fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Direction::Ingress => ("Ingress", "ingress", "from"),
            Direction::Egress => ("Egress", "egress", "to"),
        }
    }
}

/// The rules of the node's pods that are not open in both directions, by address.
pub fn compile(world: World<'_>) -> Vec<PodRules> {
    let known: BTreeMap<&str, &PodFacts> =
        world.pods.iter().map(|pod| (pod.uid.as_str(), pod.as_ref())).collect();
    let compiler = Compiler::new(world);
    let mut rules = Vec::new();
    for (uid, address) in world.own {
        let Some(pod) = known.get(uid.as_str()) else {
            let shut = Some(BTreeSet::new());
            rules.push(PodRules { address: *address, ingress: shut.clone(), egress: shut });
            continue;
        };
        let ingress = compiler.direction(pod, Direction::Ingress);
        let egress = compiler.direction(pod, Direction::Egress);
        if ingress.is_some() || egress.is_some() {
            rules.push(PodRules { address: *address, ingress, egress });
        }
    }
    rules.sort();
    rules
}

struct Parsed<'a> {
    namespace: &'a str,
    selector: LabelSelector,
    spec: &'a Value,
}

struct Compiler<'a> {
    policies: Vec<Parsed<'a>>,
    namespaces: BTreeMap<&'a str, Option<&'a Map<String, Value>>>,
    /// With their addresses.
    peers: Vec<(&'a PodFacts, Ipv4Addr)>,
}

fn selector(value: Option<&Value>) -> Option<LabelSelector> {
    // Validation refuses others; what came in all the same selects nothing.
    LabelSelector::from_object(value?).ok()
}

impl<'a> Compiler<'a> {
    fn new(world: World<'a>) -> Self {
        let empty = &Value::Null;
        let policies = world.policies.iter().filter_map(|policy| {
            let spec = policy.get("spec").unwrap_or(empty);
            let selector = match spec.get("podSelector") {
                None => LabelSelector::default(),
                given => selector(given)?,
            };
            let namespace = policy.pointer("/metadata/namespace").and_then(Value::as_str)?;
            Some(Parsed { namespace, selector, spec })
        });
        let namespaces = world.namespaces.iter().filter_map(|namespace| {
            let name = namespace.pointer("/metadata/name").and_then(Value::as_str)?;
            Some((name, namespace.pointer("/metadata/labels").and_then(Value::as_object)))
        });
        let peers = world.pods.iter().filter_map(|pod| {
            let own = world.own.get(&pod.uid).copied();
            Some((pod.as_ref(), own.or(pod.address)?))
        });
        Self {
            policies: policies.collect(),
            namespaces: namespaces.collect(),
            peers: peers.collect(),
        }
    }

    fn direction(&self, pod: &PodFacts, direction: Direction) -> Option<BTreeSet<Allow>> {
        let (name, rules, _) = direction.words();
        let mut isolated = false;
        let mut allowed = BTreeSet::new();
        for policy in self.policies.iter().filter(|policy| {
            policy.namespace == pod.namespace && policy.selector.matches_labels(Some(&pod.labels))
        }) {
            if !is_about(policy.spec, direction, name) {
                continue;
            }
            isolated = true;
            for rule in policy.spec[rules].as_array().into_iter().flatten() {
                self.add_rule(pod, policy.namespace, rule, direction, &mut allowed);
            }
        }
        isolated.then_some(allowed)
    }

    fn add_rule(
        &self,
        pod: &PodFacts,
        namespace: &str,
        rule: &Value,
        direction: Direction,
        allowed: &mut BTreeSet<Allow>,
    ) {
        let peers = self.peers(rule, direction.words().2, namespace);
        let ports = rule["ports"].as_array().filter(|ports| !ports.is_empty());
        let Some(ports) = ports else {
            add(allowed, peers, Ports::All);
            return;
        };
        let mut numbers = BTreeSet::new();
        for port in ports {
            let Some(transport) = Transport::parse(port["protocol"].as_str()) else { continue };
            match &port["port"] {
                Value::String(name) if direction == Direction::Ingress => {
                    numbers.extend(named(pod, name, transport));
                }
                // Each peer has its own number for the name.
                Value::String(name) => self.add_named(&peers, name, transport, allowed),
                Value::Number(first) => {
                    let first = first.as_u64().and_then(|port| u16::try_from(port).ok());
                    let last = port["endPort"].as_u64().and_then(|port| u16::try_from(port).ok());
                    numbers.extend(first.map(|first| (transport, first, last.unwrap_or(first))));
                }
                _ => {
                    numbers.insert((transport, 0, u16::MAX));
                }
            }
        }
        if !numbers.is_empty() {
            add(allowed, peers, Ports::Some(numbers));
        }
    }

    fn add_named(
        &self,
        peers: &Peers,
        name: &str,
        transport: Transport,
        allowed: &mut BTreeSet<Allow>,
    ) {
        let mut by_ports: BTreeMap<BTreeSet<(Transport, u16, u16)>, Vec<Addresses>> =
            BTreeMap::new();
        for (pod, address) in self.peers.iter().filter(|(_, address)| holds(peers, *address)) {
            let numbers: BTreeSet<_> = named(pod, name, transport).collect();
            if !numbers.is_empty() {
                by_ports.entry(numbers).or_default().push((*address, *address));
            }
        }
        for (numbers, addresses) in by_ports {
            add(allowed, Peers::Some(merge(addresses)), Ports::Some(numbers));
        }
    }

    fn peers(&self, rule: &Value, field: &str, namespace: &str) -> Peers {
        let list = rule[field].as_array().filter(|list| !list.is_empty());
        let Some(list) = list else { return Peers::All };
        let mut found = Vec::new();
        for peer in list {
            match peer.get("ipBlock").filter(|block| !block.is_null()) {
                Some(block) => found.extend(block_ranges(block)),
                None => found.extend(self.selected(peer, namespace)),
            }
        }
        Peers::Some(merge(found))
    }

    /// Addresses of the pods that a peer's selectors mean.
    fn selected(&self, peer: &Value, namespace: &str) -> Vec<Addresses> {
        let given = |field: &str| peer.get(field).filter(|selector| !selector.is_null());
        let (pods, namespaces) = (given("podSelector"), given("namespaceSelector"));
        let pod_selector = match pods {
            None => Some(LabelSelector::default()),
            given => selector(given),
        };
        let namespace_selector = namespaces.map(|given| selector(Some(given)));
        let Some(pod_selector) = pod_selector else { return Vec::new() };
        if pods.is_none() && namespaces.is_none() {
            return Vec::new();
        }
        let in_scope = |pod: &PodFacts| match &namespace_selector {
            None => pod.namespace == namespace,
            Some(None) => false,
            Some(Some(wanted)) => self
                .namespaces
                .get(pod.namespace.as_str())
                .is_some_and(|labels| wanted.matches_labels(*labels)),
        };
        let fits = |pod: &PodFacts| in_scope(pod) && pod_selector.matches_labels(Some(&pod.labels));
        let fitting = self.peers.iter().filter(|(pod, _)| fits(pod));
        fitting.map(|(_, address)| (*address, *address)).collect()
    }
}

/// Whether a policy isolates in a direction.
fn is_about(spec: &Value, direction: Direction, name: &str) -> bool {
    let types = spec["policyTypes"].as_array().filter(|types| !types.is_empty());
    match types {
        Some(types) => types.iter().any(|one| one == name),
        None => {
            direction == Direction::Ingress
                || spec["egress"].as_array().is_some_and(|rules| !rules.is_empty())
        }
    }
}

fn named(
    pod: &PodFacts,
    name: &str,
    transport: Transport,
) -> impl Iterator<Item = (Transport, u16, u16)> {
    let ports = pod.ports.iter().filter(move |port| port.0 == name && port.1 == transport);
    ports.map(|(_, transport, number)| (*transport, *number, *number))
}

fn add(allowed: &mut BTreeSet<Allow>, peers: Peers, ports: Ports) {
    if peers != Peers::Some(Vec::new()) {
        allowed.insert(Allow { peers, ports });
    }
}

/// Whether an address is among the peers.
pub fn holds(peers: &Peers, address: Ipv4Addr) -> bool {
    match peers {
        Peers::All => true,
        Peers::Some(ranges) => {
            ranges.iter().any(|(first, last)| (*first..=*last).contains(&address))
        }
    }
}

/// A block without its exceptions.
fn block_ranges(block: &Value) -> Vec<Addresses> {
    let net = |value: &Value| value.as_str()?.parse::<Ipv4Net>().ok();
    let Some(outer) = net(&block["cidr"]) else { return Vec::new() };
    let mut left = vec![(u32::from(outer.network()), u32::from(outer.broadcast()))];
    for except in block["except"].as_array().into_iter().flatten().filter_map(net) {
        let (from, to) = (u32::from(except.network()), u32::from(except.broadcast()));
        let mut next = Vec::new();
        for (first, last) in left {
            if to < first || from > last {
                next.push((first, last));
                continue;
            }
            if first < from {
                next.push((first, from - 1));
            }
            if to < last {
                next.push((to + 1, last));
            }
        }
        left = next;
    }
    left.into_iter().map(|(first, last)| (first.into(), last.into())).collect()
}

/// Sorted, without overlaps and without gaps of nothing.
fn merge(mut ranges: Vec<Addresses>) -> Vec<Addresses> {
    ranges.sort();
    let mut merged: Vec<Addresses> = Vec::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, end)) if u32::from(first) <= u32::from(*end).saturating_add(1) => {
                *end = (*end).max(last);
            }
            _ => merged.push((first, last)),
        }
    }
    merged
}

#[cfg(test)]
#[path = "network_policy_tests.rs"]
mod tests;
