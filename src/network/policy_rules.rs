//! The nftables table that holds network policies.
//!
//! ```text
//! table ip holdfast-policy {
//!   chain forward (filter)   established → accept
//!                            saddr vmap { pod: jump out-… }    what a pod sends
//!                            daddr vmap { pod: jump in-… }     what it is sent
//!   chain out-…, in-…        itself → return; peers and ports of a rule → return; drop
//!   set peers-HASH           { ranges of addresses }
//! }
//! ```
//! Why only packets that are passed on: what the node itself sends to its pods (probes) and
//! they to it is always allowed. Why peers are sets named by their content: most changes
//! leave them as they are, and then they are not sent again.
//! Invariant: translation has happened before and source translation comes after, so a
//! rule sees the pod behind a Service and the client before this node hides it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use sha2::{Digest, Sha256};

use crate::logic::balance::Transport;
use crate::logic::network_policy::{Addresses, Allow, Peers, PodRules, Ports};
use crate::network::table::TableText;
use crate::sys::nft::Names;

/// The table's name.
pub(super) const TABLE: &str = "holdfast-policy";
/// After the Services' own rejections.
const PRIORITY: i32 = 10;

/// The whole table, over one that has the names `before`.
pub(super) fn render(rules: &[PodRules], before: &Names) -> (String, Names) {
    let mut text = TableText::new(TABLE);
    text.hook("forward", &format!("filter hook forward priority {PRIORITY}"));
    text.rule("forward", "ct state established,related accept");
    for (field, other, chains) in [("saddr", "daddr", "out"), ("daddr", "saddr", "in")] {
        let mut entries = Vec::new();
        for pod in rules {
            let allowed = if chains == "out" { &pod.egress } else { &pod.ingress };
            let Some(allowed) = allowed else { continue };
            let chain = format!("{chains}-{}", pod.address);
            add_pod(&mut text, &chain, other, pod.address, allowed);
            entries.push(format!("{} : jump {chain}", pod.address));
        }
        // `nft` refuses an empty map.
        if !entries.is_empty() {
            text.rule("forward", &format!("ip {field} vmap {{ {} }}", entries.join(", ")));
        }
    }
    text.finish(before)
}

fn add_pod(
    text: &mut TableText,
    chain: &str,
    other: &str,
    own: Ipv4Addr,
    allowed: &BTreeSet<Allow>,
) {
    text.chain(chain);
    text.rule(chain, &format!("ip {other} {own} return"));
    for allow in allowed {
        let peers = match &allow.peers {
            Peers::All => String::new(),
            Peers::Some(ranges) => format!("ip {other} @{} ", peer_set(text, ranges)),
        };
        match &allow.ports {
            Ports::All => text.rule(chain, &format!("{peers}return")),
            Ports::Some(ports) => {
                for transport in [Transport::Tcp, Transport::Udp] {
                    if let Some(ports) = port_match(transport, ports) {
                        text.rule(chain, &format!("{peers}{ports} return"));
                    }
                }
            }
        }
    }
    text.rule(chain, "drop");
}

fn peer_set(text: &mut TableText, ranges: &[Addresses]) -> String {
    let one = |(first, last): &Addresses| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    let elements = ranges.iter().map(one).collect::<Vec<_>>().join(", ");
    let name = format!("peers-{}", hex::encode(&Sha256::digest(elements.as_bytes())[..12]));
    text.set(&name, &format!("type ipv4_addr; flags interval; elements = {{ {elements} }};"));
    name
}

/// The ports of one transport; `None` if there are none.
fn port_match(transport: Transport, ports: &BTreeSet<(Transport, u16, u16)>) -> Option<String> {
    let mut merged: Vec<(u16, u16)> = Vec::new();
    for (_, first, last) in ports.iter().filter(|port| port.0 == transport) {
        match merged.last_mut() {
            Some((_, end)) if *first <= end.saturating_add(1) => *end = (*end).max(*last),
            _ => merged.push((*first, *last)),
        }
    }
    let name = transport.name();
    match merged[..] {
        [] => None,
        [(0, u16::MAX)] => Some(format!("meta l4proto {name}")),
        _ => {
            let one = |(first, last): &(u16, u16)| {
                if first == last { first.to_string() } else { format!("{first}-{last}") }
            };
            let all = merged.iter().map(one).collect::<Vec<_>>().join(", ");
            Some(format!("{name} dport {{ {all} }}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_meet_are_one_and_sets_are_sent_once() {
        let tcp = |first, last| (Transport::Tcp, first, last);
        let ports = BTreeSet::from([tcp(80, 80), tcp(80, 90), tcp(91, 91), tcp(100, 100)]);
        assert_eq!(port_match(Transport::Tcp, &ports).unwrap(), "tcp dport { 80-91, 100 }");
        assert_eq!(port_match(Transport::Udp, &ports), None);
        let all = BTreeSet::from([tcp(0, 65_535), tcp(80, 80)]);
        assert_eq!(port_match(Transport::Tcp, &all).unwrap(), "meta l4proto tcp");

        let peers = Peers::Some(vec![([10, 0, 0, 1].into(), [10, 0, 0, 9].into())]);
        let allow = Allow { peers, ports: Ports::All };
        let rules = [PodRules {
            address: [10, 1, 0, 2].into(),
            ingress: Some(BTreeSet::from([allow.clone()])),
            egress: Some(BTreeSet::from([allow])),
        }];
        let (text, names) = render(&rules, &Names::default());
        assert_eq!(text.matches("add set").count(), 1, "{text}");
        assert!(text.contains("in-10.1.0.2 ip saddr @peers-"), "{text}");
        assert!(text.contains("out-10.1.0.2 ip daddr @peers-"), "{text}");
        let (again, _) = render(&rules, &names);
        assert!(!again.contains("add set"), "{again}");
    }
}
