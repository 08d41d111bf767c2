//! A network that delays, loses, repeats and cuts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use holdfast::store::{PeerError, PeerNetwork, PeerTarget, Store};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio_util::task::TaskTracker;

use crate::disk::SimDisk;

#[derive(Debug)]
struct Wires {
    members: BTreeMap<u64, (Arc<Store>, SimDisk)>,
    /// Directed pairs that do not pass messages.
    cut: BTreeSet<(u64, u64)>,
    loss: f64,
    rng: SmallRng,
}

#[derive(Debug, Clone)]
pub(crate) struct Net {
    wires: Arc<Mutex<Wires>>,
    deliveries: TaskTracker,
}

impl Net {
    pub(crate) fn new(seed: u64) -> Self {
        let rng = SmallRng::seed_from_u64(seed ^ 0x6e65_7400);
        let wires = Wires { members: BTreeMap::new(), cut: BTreeSet::new(), loss: 0.01, rng };
        Self { wires: Arc::new(Mutex::new(wires)), deliveries: TaskTracker::new() }
    }

    pub(crate) fn port(&self, from: u64, life: &SimDisk) -> Arc<dyn PeerNetwork> {
        Arc::new(Port { from, life: life.clone(), net: self.clone() })
    }

    pub(crate) fn plug(&self, member: u64, store: Arc<Store>, life: SimDisk) {
        self.wires.lock().unwrap().members.insert(member, (store, life));
    }

    pub(crate) fn unplug(&self, member: u64) -> Option<(Arc<Store>, SimDisk)> {
        self.wires.lock().unwrap().members.remove(&member)
    }

    pub(crate) fn store(&self, member: u64) -> Option<Arc<Store>> {
        self.wires.lock().unwrap().members.get(&member).map(|(store, _)| store.clone())
    }

    pub(crate) fn is_well(&self, member: u64) -> bool {
        let wires = self.wires.lock().unwrap();
        let plugged = wires.members.get(&member);
        plugged.is_some_and(|(store, life)| !life.is_dead() && store.status().health == "serving")
    }

    pub(crate) fn cut(&self, from: u64, to: u64) {
        self.wires.lock().unwrap().cut.insert((from, to));
    }

    pub(crate) fn set_loss(&self, loss: f64) {
        self.wires.lock().unwrap().loss = loss;
    }

    pub(crate) fn heal(&self) {
        let mut wires = self.wires.lock().unwrap();
        wires.cut.clear();
        wires.loss = 0.01;
    }
}

#[derive(Debug)]
struct Port {
    from: u64,
    life: SimDisk,
    net: Net,
}

impl Port {
    fn delay(&self) -> Duration {
        let mut wires = self.net.wires.lock().unwrap();
        let slow = wires.rng.random_bool(0.02);
        let most = if slow { 300_000 } else { 4_000 };
        Duration::from_micros(wires.rng.random_range(100..most))
    }

    fn passes(&self, from: u64, to: u64) -> bool {
        let mut wires = self.net.wires.lock().unwrap();
        let loss = wires.loss;
        !wires.cut.contains(&(from, to)) && !wires.rng.random_bool(loss)
    }

    async fn deliver(&self, to: u64, message: Bytes) -> Option<Bytes> {
        tokio::time::sleep(self.delay()).await;
        if !self.passes(self.from, to) || self.life.is_dead() {
            return std::future::pending().await;
        }
        let (store, life) = self.net.wires.lock().unwrap().members.get(&to)?.clone();
        let twice = self.net.wires.lock().unwrap().rng.random_bool(0.01);
        if twice {
            let (store, message, delay) = (store.clone(), message.clone(), self.delay());
            self.net.deliveries.spawn(async move {
                tokio::time::sleep(delay).await;
                store.receive(message).await;
            });
        }
        // On a task of its own: the receiver goes on when the caller gives up.
        let answer = self.net.deliveries.spawn(async move { store.receive(message).await });
        let answer = answer.await.ok()?;
        tokio::time::sleep(self.delay()).await;
        if !self.passes(to, self.from) || life.is_dead() || self.life.is_dead() {
            return std::future::pending().await;
        }
        Some(answer)
    }
}

#[async_trait]
impl PeerNetwork for Port {
    async fn call(
        &self,
        target: &PeerTarget,
        message: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, PeerError> {
        let (member, address) = (target.member, target.address.clone());
        match tokio::time::timeout(deadline, self.deliver(member.0, message)).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => {
                Err(PeerError::Unreachable { member, address, reason: "it is down".into() })
            }
            Err(_) => Err(PeerError::NoAnswer { member, address, reason: "silence".into() }),
        }
    }
}
