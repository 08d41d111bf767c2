//! Which pod gets which address of its node's range.
//!
//! Why a cool-down: peers may still send to an address whose pod is gone; giving it to
//! another pod at once would deliver one program's packets to another.
//! Invariants: an address is held by one pod; the same pod gets the same address again;
//! a released address stays unused for [`COOL_DOWN_MS`]. Network and broadcast address
//! are never given out.
//! Not here: keeping the ledger on disk (network/ledger.rs).

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// How long a released address is not given to another pod, milliseconds.
pub const COOL_DOWN_MS: u64 = 30_000;

/// Who holds what, and what was released lately.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Addresses {
    /// By pod uid.
    held: BTreeMap<String, Ipv4Addr>,
    /// Address to the time of its release, milliseconds since 1970.
    released: BTreeMap<Ipv4Addr, u64>,
    /// The address given out last; the search goes on behind it, so that reuse is late
    /// even without the cool-down.
    last: Option<Ipv4Addr>,
}

impl Addresses {
    /// The pod's address, a new one if it has none; `None` if nothing is free.
    pub fn allocate(&mut self, range: Ipv4Net, pod_uid: &str, now_ms: u64) -> Option<Ipv4Addr> {
        if let Some(&address) = self.held.get(pod_uid) {
            return Some(address);
        }
        self.forget_cooled(now_ms);
        let taken: BTreeSet<Ipv4Addr> = self.held.values().copied().collect();
        let (first, last) = (u32::from(range.network()) + 1, u32::from(range.broadcast()));
        if first >= last {
            return None;
        }
        let size = last - first;
        let start = match self.last.map(u32::from) {
            Some(previous) if (first..last).contains(&previous) => previous - first + 1,
            _ => 0,
        };
        let free = (0..size)
            .map(|step| Ipv4Addr::from(first + (start + step) % size))
            .find(|address| !taken.contains(address) && !self.released.contains_key(address))?;
        self.held.insert(pod_uid.to_owned(), free);
        self.last = Some(free);
        Some(free)
    }

    /// Takes the pod's address back; returns whether it had one.
    pub fn release(&mut self, pod_uid: &str, now_ms: u64) -> bool {
        match self.held.remove(pod_uid) {
            Some(address) => {
                self.released.insert(address, now_ms);
                true
            }
            None => false,
        }
    }

    /// The address that the pod holds.
    pub fn of(&self, pod_uid: &str) -> Option<Ipv4Addr> {
        self.held.get(pod_uid).copied()
    }

    /// Who holds what.
    pub fn held(&self) -> &BTreeMap<String, Ipv4Addr> {
        &self.held
    }

    /// Uids of the pods that hold an address.
    pub fn holders(&self) -> impl Iterator<Item = &str> {
        self.held.keys().map(String::as_str)
    }

    /// A release in the future means that the clock was set back: its wait starts anew.
    fn forget_cooled(&mut self, now_ms: u64) {
        for at in self.released.values_mut() {
            *at = (*at).min(now_ms);
        }
        self.released.retain(|_, at| now_ms - *at < COOL_DOWN_MS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn the_same_pod_gets_the_same_address() {
        let mut addresses = Addresses::default();
        let first = addresses.allocate(range("10.1.0.0/24"), "a", 0).unwrap();
        addresses.allocate(range("10.1.0.0/24"), "b", 0).unwrap();
        assert_eq!(addresses.allocate(range("10.1.0.0/24"), "a", 5), Some(first));
        assert_eq!(first, Ipv4Addr::new(10, 1, 0, 1));
    }

    #[test]
    fn a_released_address_waits_for_its_cool_down() {
        let mut addresses = Addresses::default();
        let small = range("10.1.0.0/30"); // two usable addresses
        let a = addresses.allocate(small, "a", 1_000).unwrap();
        addresses.allocate(small, "b", 1_000).unwrap();
        assert_eq!(addresses.allocate(small, "c", 1_000), None);
        assert!(addresses.release("a", 2_000));
        assert!(!addresses.release("a", 2_000));
        assert_eq!(addresses.allocate(small, "c", 2_000 + COOL_DOWN_MS - 1), None);
        assert_eq!(addresses.allocate(small, "c", 2_000 + COOL_DOWN_MS), Some(a));
    }

    #[test]
    fn a_clock_set_back_does_not_lock_an_address_for_ever() {
        let mut addresses = Addresses::default();
        let small = range("10.1.0.0/30");
        addresses.allocate(small, "a", 900_000).unwrap();
        addresses.allocate(small, "b", 900_000).unwrap();
        addresses.release("a", 900_000);
        assert_eq!(addresses.allocate(small, "c", 10_000), None);
        assert!(addresses.allocate(small, "c", 10_000 + COOL_DOWN_MS).is_some());
    }

    #[test]
    fn a_range_without_usable_addresses_gives_none() {
        assert_eq!(Addresses::default().allocate(range("10.1.0.1/32"), "a", 0), None);
        assert_eq!(Addresses::default().allocate(range("10.1.0.0/31"), "a", 0), None);
    }

    proptest! {
        #[test]
        fn no_address_is_held_twice_or_lies_outside(
            steps in proptest::collection::vec((0u8..20, any::<bool>(), 0u64..20_000), 0..200)
        ) {
            let range = range("10.9.8.0/28");
            let mut addresses = Addresses::default();
            let mut now = 0;
            for (pod, take, elapsed) in steps {
                now += elapsed;
                let uid = pod.to_string();
                if take {
                    if let Some(address) = addresses.allocate(range, &uid, now) {
                        prop_assert!(range.contains(&address));
                        prop_assert!(address != range.network() && address != range.broadcast());
                    }
                } else {
                    addresses.release(&uid, now);
                }
                let mut held: Vec<_> = addresses.held.values().collect();
                let count = held.len();
                held.sort();
                held.dedup();
                prop_assert_eq!(held.len(), count);
                for address in addresses.held.values() {
                    prop_assert!(!addresses.released.contains_key(address));
                }
            }
        }
    }
}
