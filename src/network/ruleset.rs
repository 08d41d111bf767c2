//! The nftables table that balances Services.
//!
//! ```text
//! table ip holdfast {
//!   chain prerouting  (nat)    jump services
//!   chain output      (nat)    jump services, for the node's own programs
//!   chain services             daddr . proto . dport vmap { cluster: goto svc-… | loc-…,
//!                                                           outside: goto fw-… | ext-… }
//!                              an address of this node: proto . dport vmap { … ext-… }
//!   chain fw-…                 a client outside the source ranges → drop; goto ext-…
//!   chain ext-…                policy Cluster: mark, goto svc-…; Local: goto loc-…
//!   chain svc-…, loc-…         a client that was here before → its ep-…
//!                              numgen random mod N vmap { 0: goto ep-…, … }
//!   chain ep-…                 remember the client; dnat to address:port
//!   chain postrouting (nat)    pods that meet themselves, and what is marked → snat
//!   chain forward, local       addresses where nobody answers → reject
//! }
//! ```
//! Why reject in filter chains: a packet still carrying a virtual address there was not
//! translated: no such port, or no ready endpoint; the client hears so at once.
//! Why snat by address and not masquerade: the host ends have link-local addresses and
//! `lo` has the DNS server's, and masquerade might choose one of them.
//! Why this node's own pods are not marked: they are translated here and their answers
//! come back here, so the endpoint may see who asks.
//! Invariant: one transaction replaces all rules; connections that are already
//! translated live in the connection table and do not notice, and clients stay with their
//! endpoints (`aff-…`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use crate::logic::balance::{Transport, VirtualPort};
use crate::logic::service_ports::{Outside, ServicePort, Target};
use crate::network::Plan;
use crate::network::table::TableText;
use crate::sys::nft::Names;

/// The table's name.
pub(super) const TABLE: &str = "holdfast";
/// The chain that both translating hooks share.
const LOOKUP: &str = "services";
/// Packets that leave with the node's address (Kubernetes' bit).
const MARK: &str = "0x00004000";

/// Where a packet is looked up.
type Key = (Ipv4Addr, Transport, u16);

/// All that a node balances.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Balanced {
    pub(super) services: Vec<ServicePort>,
    /// Ports of the node that lead to pods of its own.
    pub(super) published: Vec<VirtualPort>,
}

#[derive(Default)]
struct Lookup {
    /// Verdicts by address.
    fronts: BTreeMap<Key, String>,
    /// Verdicts by port of the node.
    node_ports: BTreeMap<(Transport, u16), String>,
    /// Addresses outside the Service range where nobody answers.
    refused: BTreeSet<Key>,
}

/// The whole table, over one that has the names `before`.
pub(super) fn render(plan: &Plan, balanced: &Balanced, before: &Names) -> (String, Names) {
    let mut text = TableText::new(TABLE);
    let mut lookup = Lookup::default();
    for port in &balanced.services {
        add_service(&mut text, &mut lookup, plan, port);
    }
    for port in &balanced.published {
        let key = (port.address, port.transport, port.port);
        let suffix = suffix(key);
        add_choice(
            &mut text,
            &format!("svc-{suffix}"),
            &suffix,
            None,
            port.transport,
            &port.endpoints,
        );
        lookup.fronts.entry(key).or_insert(format!("goto svc-{suffix}"));
    }
    add_lookup(&mut text, &lookup);
    add_sources(&mut text, plan, balanced);
    for (chain, hook) in [("prerouting", "prerouting"), ("output", "output")] {
        text.hook(chain, &format!("nat hook {hook} priority -100"));
        text.rule(chain, &format!("jump {LOOKUP}"));
    }
    for (chain, hook) in [("forward", "forward"), ("local", "output")] {
        text.hook(chain, &format!("filter hook {hook} priority 0"));
        add_rejection(&mut text, chain, plan, &lookup.refused);
    }
    text.finish(before)
}

fn suffix((address, transport, port): Key) -> String {
    format!("{address}-{}-{port}", transport.name())
}

/// Verdict by verdict, as an anonymous map.
fn verdicts(entries: impl Iterator<Item = String>) -> String {
    entries.collect::<Vec<_>>().join(", ")
}

fn add_service(text: &mut TableText, lookup: &mut Lookup, plan: &Plan, port: &ServicePort) {
    let key = (port.address, port.transport, port.port);
    let suffix = suffix(key);
    let (all, local) = (format!("svc-{suffix}"), format!("loc-{suffix}"));
    if port.endpoints.is_empty() {
        if let Some(outside) = &port.outside {
            let addresses = outside.balanced.iter().chain(&outside.named);
            lookup.refused.extend(addresses.map(|ip| (*ip, port.transport, port.port)));
        }
        return;
    }
    add_choice(text, &all, &suffix, port.affinity_s, port.transport, &port.endpoints);
    if !port.local.is_empty() {
        add_choice(text, &local, &suffix, port.affinity_s, port.transport, &port.local);
    }
    let inside = match (port.inside_local, port.local.is_empty()) {
        (false, _) => format!("goto {all}"),
        (true, false) => format!("goto {local}"),
        (true, true) => "drop".to_owned(),
    };
    lookup.fronts.insert(key, inside);
    if let Some(outside) = &port.outside {
        add_outside(text, lookup, plan, port, outside, &suffix);
    }
}

/// How packets come in at addresses of the outside.
fn add_outside(
    text: &mut TableText,
    lookup: &mut Lookup,
    plan: &Plan,
    port: &ServicePort,
    outside: &Outside,
    suffix: &str,
) {
    let (all, local) = (format!("svc-{suffix}"), format!("loc-{suffix}"));
    let (guard, open) = (format!("fw-{suffix}"), format!("ext-{suffix}"));
    let mark = format!("meta mark set meta mark or {MARK}");
    text.chain(&open);
    text.rule(&open, &format!("ip saddr {} goto {all}", plan.pod_range));
    if outside.local {
        text.rule(&open, &format!("fib saddr type local {mark} goto {all}"));
        let end = if port.local.is_empty() { "drop".into() } else { format!("goto {local}") };
        text.rule(&open, &end);
    } else {
        text.rule(&open, &format!("{mark} goto {all}"));
    }
    let mut entry = format!("goto {open}");
    if let Some(number) = outside.node_port {
        lookup.node_ports.entry((port.transport, number)).or_insert(entry.clone());
    }
    for address in &outside.named {
        let key = (*address, port.transport, port.port);
        lookup.fronts.entry(key).or_insert(entry.clone());
    }
    if !outside.source_ranges.is_empty() {
        let ranges = outside.source_ranges.iter().map(ToString::to_string);
        text.chain(&guard);
        text.rule(&guard, &format!("ip saddr != {{ {} }} drop", verdicts(ranges)));
        text.rule(&guard, &entry);
        entry = format!("goto {guard}");
    }
    for address in &outside.balanced {
        let key = (*address, port.transport, port.port);
        lookup.fronts.entry(key).or_insert(entry.clone());
    }
}

/// A chain that leads to one of several endpoints.
fn add_choice(
    text: &mut TableText,
    chain: &str,
    suffix: &str,
    affinity_s: Option<u32>,
    transport: Transport,
    endpoints: &[Target],
) {
    text.chain(chain);
    let name = |(address, number): &Target| format!("{suffix}-{address}-{number}");
    for endpoint in endpoints {
        let (leads, name) = (format!("ep-{}", name(endpoint)), name(endpoint));
        if let Some(seconds) = affinity_s {
            let set = format!("aff-{seconds}-{name}");
            let kind = "type ipv4_addr; flags dynamic,timeout; size 65535;";
            text.set(&set, &format!("{kind} timeout {seconds}s;"));
            text.rule(chain, &format!("ip saddr @{set} goto {leads}"));
        }
    }
    let targets =
        (0..).zip(endpoints).map(|(index, one)| format!("{index} : goto ep-{}", name(one)));
    let (count, targets) = (endpoints.len(), verdicts(targets));
    text.rule(chain, &format!("numgen random mod {count} vmap {{ {targets} }}"));
    for endpoint in endpoints {
        add_endpoint(text, &name(endpoint), affinity_s, transport, *endpoint);
    }
}

fn add_endpoint(
    text: &mut TableText,
    name: &str,
    affinity_s: Option<u32>,
    transport: Transport,
    (address, number): Target,
) {
    let chain = format!("ep-{name}");
    if !text.is_new(&chain) {
        // Both choices of a port lead here.
        return;
    }
    text.chain(&chain);
    if let Some(seconds) = affinity_s {
        text.rule(&chain, &format!("update @aff-{seconds}-{name} {{ ip saddr }}"));
    }
    // `dnat` with a port needs the transport to be known in the same rule.
    let transport = transport.name();
    text.rule(&chain, &format!("meta l4proto {transport} dnat to {address}:{number}"));
}

/// The one place where an address is looked up; both hooks jump here.
fn add_lookup(text: &mut TableText, lookup: &Lookup) {
    text.chain(LOOKUP);
    // `nft` refuses an empty map.
    if !lookup.fronts.is_empty() {
        let entries = lookup.fronts.iter().map(|((address, transport, port), verdict)| {
            format!("{address} . {} . {port} : {verdict}", transport.name())
        });
        let map = format!("vmap {{ {} }}", verdicts(entries));
        text.rule(LOOKUP, &format!("ip daddr . meta l4proto . th dport {map}"));
    }
    if !lookup.node_ports.is_empty() {
        let entries = lookup.node_ports.iter().map(|((transport, port), verdict)| {
            format!("{} . {port} : {verdict}", transport.name())
        });
        let map = format!("vmap {{ {} }}", verdicts(entries));
        let here = "fib daddr type local ip daddr != 127.0.0.0/8";
        text.rule(LOOKUP, &format!("{here} meta l4proto . th dport {map}"));
    }
}

/// Packets that must come back through this node get its address. A pod that is balanced
/// to itself would get a packet from its own address and drop it.
fn add_sources(text: &mut TableText, plan: &Plan, balanced: &Balanced) {
    let published = balanced.published.iter().flat_map(|port| &port.endpoints);
    let services = balanced.services.iter().flat_map(|port| &port.endpoints);
    let own: BTreeSet<Ipv4Addr> = published
        .chain(services)
        .map(|endpoint| endpoint.0)
        .filter(|address| plan.pod_range.contains(address))
        .collect();
    text.hook("postrouting", "nat hook postrouting priority 100");
    let node = plan.node_address;
    if !own.is_empty() {
        let pairs = verdicts(own.iter().map(|address| format!("{address} . {address}")));
        text.rule("postrouting", &format!("ip saddr . ip daddr {{ {pairs} }} snat to {node}"));
    }
    text.rule("postrouting", &format!("meta mark and {MARK} == {MARK} snat to {node}"));
}

fn add_rejection(text: &mut TableText, chain: &str, plan: &Plan, refused: &BTreeSet<Key>) {
    // The DNS server's address is a real one on `lo`.
    let virtual_address = format!("ip daddr {} ip daddr != {}", plan.services, plan.dns);
    let mut reject = |which: &str| {
        text.rule(chain, &format!("{which} meta l4proto tcp reject with tcp reset"));
        text.rule(chain, &format!("{which} reject with icmp type port-unreachable"));
    };
    reject(&virtual_address);
    if !refused.is_empty() {
        let keys = refused
            .iter()
            .map(|(address, transport, port)| format!("{address} . {} . {port}", transport.name()));
        reject(&format!("ip daddr . meta l4proto . th dport {{ {} }}", verdicts(keys)));
    }
}
