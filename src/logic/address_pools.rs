//! Which address a load balancer gets, and which node announces it.
//!
//! Why the announcer is chosen by a hash of node and address: addresses spread over the
//! nodes, and when a node goes only its own addresses move.
//! Invariants: an address that is good stays; a node that announces and may go on does.
//! Not here: writing it down (controllers/load_balancer.rs), announcing (network/announce.rs).

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// The class of load balancers that are served here; Services without a class too.
pub const CLASS: &str = "holdfast.io/layer2";
/// Where the pools stand: a config map in this namespace, each entry a pool.
pub const POOLS_NAMESPACE: &str = "kube-system";
pub const POOLS_NAME: &str = "load-balancer-pools";
/// On a Service: the pool that its address must come from.
pub const POOL: &str = "holdfast.io/address-pool";
/// On a Service: the node that announces its address. The controller writes it.
pub const ANNOUNCED_BY: &str = "holdfast.io/announced-by";

/// Whether load balancers of a class are ours.
pub fn is_ours(class: &str) -> bool {
    class.is_empty() || class == CLASS
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PoolText {
    addresses: Vec<String>,
    #[serde(default = "yes")]
    auto_assign: bool,
    #[serde(default)]
    centers: Vec<String>,
}

fn yes() -> bool {
    true
}

/// A pool that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("pool {pool}: {reason}")]
pub struct PoolError {
    pub pool: String,
    pub reason: String,
}

/// Addresses that the cluster may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    pub name: String,
    ranges: Vec<(Ipv4Addr, Ipv4Addr)>,
    /// Also for Services that do not name it.
    auto_assign: bool,
    /// Whose nodes are on the addresses' segment; empty is all.
    centers: Vec<String>,
}

fn range(text: &str) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let text = text.trim();
    if let Ok(net) = text.parse::<Ipv4Net>() {
        return Some((net.network(), net.broadcast()));
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let pair: (Ipv4Addr, Ipv4Addr) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (pair.0 <= pair.1).then_some(pair)
}

impl Pool {
    /// From an entry of the config map: `addresses`, `autoAssign`, `centers`.
    pub fn parse(name: &str, text: &str) -> Result<Self, PoolError> {
        let fail = |reason: String| PoolError { pool: name.to_owned(), reason };
        let read: PoolText =
            serde_saphyr::from_str(text).map_err(|error| fail(error.to_string()))?;
        let mut ranges = Vec::new();
        for text in &read.addresses {
            let found = range(text);
            let why = || format!("{text:?} is no address, no range a-b and no network");
            ranges.push(found.ok_or_else(|| fail(why()))?);
        }
        let (auto_assign, centers) = (read.auto_assign, read.centers);
        Ok(Self { name: name.to_owned(), ranges, auto_assign, centers })
    }

    pub fn contains(&self, ip: Ipv4Addr) -> bool {
        self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&ip))
    }

    /// Whether nodes of a center may announce its addresses.
    pub fn reaches(&self, center: Option<&str>) -> bool {
        self.centers.is_empty()
            || center.is_some_and(|center| self.centers.iter().any(|own| own == center))
    }

    fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        let numbers = self.ranges.iter().flat_map(|(a, b)| u32::from(*a)..=u32::from(*b));
        numbers.map(Ipv4Addr::from)
    }
}

/// What a Service asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// `spec.loadBalancerIP`; empty if none.
    pub address: &'a str,
    /// The pool; empty if any.
    pub pool: &'a str,
    /// What it has.
    pub current: Option<Ipv4Addr>,
}

/// The address that a Service shall have; the error is for its owner to read.
pub fn choose_address(
    pools: &[Pool],
    asked: Asked<'_>,
    used: &BTreeSet<Ipv4Addr>,
) -> Result<Ipv4Addr, String> {
    let fits = |pool: &&Pool| match asked.pool {
        "" => pool.auto_assign || !asked.address.is_empty(),
        name => pool.name == name,
    };
    let fitting: Vec<&Pool> = pools.iter().filter(fits).collect();
    if fitting.is_empty() && !asked.pool.is_empty() {
        return Err(format!("unknown pool {:?}", asked.pool));
    }
    if !asked.address.is_empty() {
        let wanted: Ipv4Addr = asked
            .address
            .parse()
            .map_err(|_| format!("invalid spec.loadBalancerIP {:?}", asked.address))?;
        if !fitting.iter().any(|pool| pool.contains(wanted)) {
            return Err(format!("[{wanted}] is not allowed in config"));
        }
        if used.contains(&wanted) {
            return Err(format!("can't change sharing key, address {wanted} is already in use"));
        }
        return Ok(wanted);
    }
    if let Some(current) = asked.current
        && fitting.iter().any(|pool| pool.contains(current))
        && !used.contains(&current)
    {
        return Ok(current);
    }
    let mut free = fitting.iter().flat_map(|pool| pool.addresses());
    free.find(|ip| !used.contains(ip)).ok_or_else(|| "no available IPs".to_owned())
}

/// Who announces an address: whoever does, while he may; else the one that the hash names.
pub fn choose_announcer<'n>(
    address: Ipv4Addr,
    candidates: &BTreeSet<&'n str>,
    current: &str,
) -> Option<&'n str> {
    if let Some(current) = candidates.get(current) {
        return Some(current);
    }
    let score = |node: &&&str| Sha256::digest(format!("{node}/{address}"));
    candidates.iter().max_by_key(score).copied()
}

/// All pools of the config map's data, and what is wrong with the others.
pub fn parse_pools(data: &BTreeMap<String, String>) -> (Vec<Pool>, Vec<PoolError>) {
    let (mut pools, mut wrong) = (Vec::new(), Vec::new());
    for (name, text) in data {
        match Pool::parse(name, text) {
            Ok(pool) => pools.push(pool),
            Err(error) => wrong.push(error),
        }
    }
    (pools, wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, last)
    }

    fn pools() -> Vec<Pool> {
        let data = BTreeMap::from([
            ("a".to_owned(), "addresses: [192.0.2.10-192.0.2.11]".to_owned()),
            (
                "b".to_owned(),
                "addresses: [192.0.2.20/32]\nautoAssign: false\ncenters: [x]".to_owned(),
            ),
            ("c".to_owned(), "addresses: [192.0.2.300]".to_owned()),
            ("d".to_owned(), "address: [192.0.2.30]".to_owned()),
        ]);
        let (pools, wrong) = parse_pools(&data);
        assert_eq!(wrong.iter().map(|one| one.pool.as_str()).collect::<Vec<_>>(), ["c", "d"]);
        pools
    }

    #[test]
    fn addresses_stay_while_they_are_good_and_come_from_the_pool_that_is_named() {
        let pools = pools();
        let choose = |asked, used: &[u8]| {
            choose_address(&pools, asked, &used.iter().map(|last| ip(*last)).collect())
        };
        let any = Asked::default();
        assert_eq!(choose(any, &[]), Ok(ip(10)));
        assert_eq!(choose(any, &[10]), Ok(ip(11)));
        assert_eq!(choose(any, &[10, 11]), Err("no available IPs".into()));
        assert_eq!(choose(Asked { current: Some(ip(11)), ..any }, &[]), Ok(ip(11)));
        assert_eq!(choose(Asked { current: Some(ip(99)), ..any }, &[]), Ok(ip(10)));
        assert_eq!(choose(Asked { pool: "b", ..any }, &[]), Ok(ip(20)));
        assert_eq!(choose(Asked { pool: "z", ..any }, &[]), Err("unknown pool \"z\"".into()));
        assert_eq!(choose(Asked { address: "192.0.2.20", ..any }, &[]), Ok(ip(20)));
        assert!(choose(Asked { address: "192.0.2.21", ..any }, &[]).is_err());
        assert!(choose(Asked { address: "192.0.2.10", ..any }, &[10]).is_err());
    }

    #[test]
    fn only_the_addresses_of_a_lost_node_move() {
        let all = BTreeSet::from(["n1", "n2", "n3"]);
        let before: Vec<&str> =
            (0..60).map(|last| choose_announcer(ip(last), &all, "").unwrap()).collect();
        for node in &all {
            let share = before.iter().filter(|one| *one == node).count();
            assert!((8..=36).contains(&share), "{node} has {share}");
        }
        let left = BTreeSet::from(["n1", "n3"]);
        for (last, node) in (0..).zip(&before) {
            let after = choose_announcer(ip(last), &left, node).unwrap();
            assert!(*node == "n2" || after == *node);
            // Back again, nothing moves back.
            assert_eq!(choose_announcer(ip(last), &all, after), Some(after));
        }
        assert_eq!(choose_announcer(ip(1), &BTreeSet::new(), "n1"), None);
        assert!(pools()[1].reaches(Some("x")) && !pools()[1].reaches(Some("y")));
    }
}
