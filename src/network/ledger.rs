//! The address ledger on disk: which pod holds which address of this node.
//!
//! Why on disk: an agent that forgot its pods' addresses would give them out again while
//! the pods still run. Invariant: an address is used only after the file that says so
//! is durable. Format: JSON `{"version": 1, "addresses": …}`.
//! Not here: the choice of address (logic/ipam.rs).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

use crate::logic::ipam::Addresses;
use crate::network::NetworkError;
use crate::sys::clock;
use crate::sys::durable_file::{make_directory, read_if_present, replace};

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    addresses: Addresses,
}

/// The ledger; its owner serializes access.
#[derive(Debug)]
pub(super) struct Ledger {
    path: PathBuf,
    addresses: Addresses,
}

impl Ledger {
    /// Reads the ledger or starts an empty one; a damaged ledger is an error, because
    /// guessing could give one address to two pods.
    pub(super) fn open(directory: &Path) -> Result<Self, NetworkError> {
        let path = directory.join("addresses.json");
        let read = |source| NetworkError::ReadLedger { path: path.clone(), source };
        make_directory(directory).map_err(read)?;
        let addresses = match read_if_present(&path).map_err(read)? {
            None => Addresses::default(),
            Some(content) => match serde_json::from_slice::<File>(&content) {
                Ok(file) => file.addresses,
                Err(source) => return Err(NetworkError::DamagedLedger { path, source }),
            },
        };
        Ok(Self { path, addresses })
    }

    /// The pod's address; durable when this returns.
    pub(super) fn allocate(&mut self, range: Ipv4Net, pod: &str) -> Result<Ipv4Addr, NetworkError> {
        if let Some(address) = self.addresses.of(pod) {
            return Ok(address);
        }
        let mut next = self.addresses.clone();
        let address =
            next.allocate(range, pod, clock::now_ms()).ok_or(NetworkError::Exhausted { range })?;
        self.save(next)?;
        Ok(address)
    }

    /// Takes the pod's address back.
    pub(super) fn release(&mut self, pod: &str) -> Result<(), NetworkError> {
        let mut next = self.addresses.clone();
        if next.release(pod, clock::now_ms()) { self.save(next) } else { Ok(()) }
    }

    pub(super) fn held(&self) -> BTreeMap<String, Ipv4Addr> {
        self.addresses.held().clone()
    }

    pub(super) fn holders(&self) -> Vec<String> {
        self.addresses.holders().map(str::to_owned).collect()
    }

    fn save(&mut self, addresses: Addresses) -> Result<(), NetworkError> {
        let file = File { version: 1, addresses };
        let content = serde_json::to_vec(&file).expect("a ledger has only string keys");
        replace(&self.path, &content)
            .map_err(|source| NetworkError::WriteLedger { path: self.path.clone(), source })?;
        self.addresses = file.addresses;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reopened_ledger_remembers_and_a_damaged_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let range: Ipv4Net = "10.1.0.0/24".parse().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        let a = ledger.allocate(range, "a").unwrap();
        ledger.allocate(range, "b").unwrap();
        ledger.release("b").unwrap();

        let mut again = Ledger::open(dir.path()).unwrap();
        assert_eq!(again.holders(), vec!["a"]);
        assert_eq!(again.allocate(range, "a").unwrap(), a);

        std::fs::write(dir.path().join("addresses.json"), b"{\"version\":1").unwrap();
        assert!(matches!(Ledger::open(dir.path()), Err(NetworkError::DamagedLedger { .. })));
    }
}
