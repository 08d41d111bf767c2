//! Connects this node's pods: address from the ledger, link by sys/pod_link.
//!
//! Invariants: the address is durable and the network policies for it stand before the link
//! exists, and the link is gone
//! before the address is released; so a crash at any point leaves an address too many
//! held, never one held twice. One pod at a time: the steps take milliseconds.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, watch};

use crate::logic::balance::VirtualPort;
use crate::network::ledger::Ledger;
use crate::network::policies::OwnPods;
use crate::network::{NetworkError, Plan};
use crate::sys::in_netns::NetNs;
use crate::sys::pod_link::{PodLink, disconnect};
use crate::sys::{routes, sysctl};

/// The MTU where the node's own link does not tell.
const DEFAULT_MTU: u32 = 1_500;
/// How long a new pod waits for its rules before its start is tried again.
const GUARD_DEADLINE: Duration = Duration::from_secs(10);

/// The agent's way to the pod network; the shape of `agent::ports::PodNetwork`.
#[derive(Debug)]
pub struct PodNet {
    plan: Arc<Plan>,
    ledger: Mutex<Ledger>,
    published: watch::Sender<Published>,
    /// Addresses of this node's pods, for whoever makes rules about them.
    own: watch::Sender<OwnPods>,
    /// Those that the rules of the network policies stand for.
    guarded: watch::Sender<OwnPods>,
}

/// The node's ports that lead to pods, by the pods' uids.
pub(super) type Published = BTreeMap<String, Vec<VirtualPort>>;

impl PodNet {
    pub(super) fn open(plan: Arc<Plan>, directory: &Path) -> Result<Self, NetworkError> {
        let ledger = Ledger::open(directory)?;
        let own = watch::Sender::new(ledger.held());
        let ledger = Mutex::new(ledger);
        let (published, guarded) = (watch::Sender::default(), watch::Sender::default());
        Ok(Self { plan, ledger, published, own, guarded })
    }

    /// Makes the node's ports lead to a pod until it is detached; an address of 0.0.0.0
    /// stands for the node's own. The rules follow at once.
    pub fn publish(&self, pod_uid: &str, mut ports: Vec<VirtualPort>) {
        for port in ports.iter_mut().filter(|port| port.address.is_unspecified()) {
            port.address = self.plan.node_address;
        }
        self.published.send_if_modified(|all| {
            if ports.is_empty() {
                return all.remove(pod_uid).is_some();
            }
            let before = all.insert(pod_uid.to_owned(), ports.clone());
            before.as_ref() != Some(&ports)
        });
    }

    pub(super) fn published(&self) -> watch::Receiver<Published> {
        self.published.subscribe()
    }

    pub(super) fn own(&self) -> watch::Receiver<OwnPods> {
        self.own.subscribe()
    }

    pub(super) fn guarded(&self) -> watch::Sender<OwnPods> {
        self.guarded.clone()
    }

    /// Waits until the rules of the network policies stand for a pod's address.
    async fn guard(&self, pod_uid: &str, address: Ipv4Addr) -> Result<(), NetworkError> {
        self.own.send_if_modified(|own| {
            own.insert(pod_uid.to_owned(), address).is_none_or(|before| before != address)
        });
        let mut guarded = self.guarded.subscribe();
        let stands = guarded.wait_for(|stand| stand.get(pod_uid) == Some(&address));
        match tokio::time::timeout(GUARD_DEADLINE, stands).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(NetworkError::Unguarded { pod_uid: pod_uid.into() }),
        }
    }

    /// Gives the sandbox, whose network namespace is that of process `pid`, its address,
    /// link and routes. Repeating it for the same pod gives the same address.
    pub async fn attach(&self, pod_uid: &str, pid: i32) -> Result<IpAddr, NetworkError> {
        let netns = NetNs::of_process(pid)
            .map_err(|source| NetworkError::PodNamespace { pod_uid: pod_uid.into(), source })?;
        let mut ledger = self.ledger.lock().await;
        sysctl::set("net/ipv4/ip_forward", "1")?;
        let mtu = routes::mtu_of(self.plan.node_address).await.map_err(NetworkError::Host)?;
        let address = ledger.allocate(self.plan.pod_range, pod_uid)?;
        self.guard(pod_uid, address).await?;
        let link = PodLink {
            host_link: host_link(pod_uid),
            pod_address: address,
            node_address: self.plan.node_address,
            mtu: mtu.unwrap_or(DEFAULT_MTU),
        };
        link.connect(&netns)
            .await
            .map_err(|source| NetworkError::Attach { pod_uid: pod_uid.into(), source })?;
        Ok(IpAddr::V4(address))
    }

    /// Takes address and link back; repeating it is no error.
    pub async fn detach(&self, pod_uid: &str) -> Result<(), NetworkError> {
        self.publish(pod_uid, Vec::new());
        let mut ledger = self.ledger.lock().await;
        disconnect(&host_link(pod_uid))
            .await
            .map_err(|source| NetworkError::Detach { pod_uid: pod_uid.into(), source })?;
        ledger.release(pod_uid)?;
        self.own.send_if_modified(|own| own.remove(pod_uid).is_some());
        Ok(())
    }

    /// Uids of the pods that hold an address, for collection after a crash.
    pub async fn attached(&self) -> Vec<String> {
        self.ledger.lock().await.holders()
    }

    /// What goes into the pods' `resolv.conf`.
    pub fn dns_server(&self) -> IpAddr {
        IpAddr::V4(self.plan.dns)
    }
}

/// Whether a link's name has the form of [`host_link`].
pub(super) fn is_host_link(name: &str) -> bool {
    let digits = name.strip_prefix("hf").unwrap_or_default();
    digits.len() == 12 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The host end's name: `hf` and 48 bits of the uid's hash, within Linux' 15 bytes.
fn host_link(pod_uid: &str) -> String {
    format!("hf{}", hex::encode(&Sha256::digest(pod_uid.as_bytes())[..6]))
}
