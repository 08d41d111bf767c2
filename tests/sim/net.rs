//! A network that delays, reorders, loses, repeats and cuts.
//!
//! Messages live in the world, not in their sender: what was sent arrives although the
//! sender crashed or froze meanwhile. What arrives runs on the receiver's computer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use holdfast::store::{PeerError, PeerNetwork, PeerTarget, Store};
use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use crate::disk::SimDisk;
use crate::trace;
use crate::world::HostId;

/// One life of a member at its place.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    pub(crate) store: Arc<Store>,
    pub(crate) disk: SimDisk,
    pub(crate) host: HostId,
    pub(crate) handle: Handle,
}

#[derive(Debug)]
struct Wires {
    /// Who listens at which address.
    plugged: BTreeMap<u64, Life>,
    /// Directed pairs that do not pass messages.
    cut: BTreeSet<(u64, u64)>,
    loss: f64,
    /// Part of the messages that take their time.
    lame: f64,
    repeats: f64,
    rng: SmallRng,
}

#[derive(Debug, Clone)]
pub(crate) struct Net {
    wires: Arc<Mutex<Wires>>,
    world: Handle,
    deliveries: TaskTracker,
}

const LOSS: f64 = 0.005;
const LAME: f64 = 0.01;

impl Net {
    pub(crate) fn new(seed: u64, world: Handle) -> Self {
        let wires = Wires {
            plugged: BTreeMap::new(),
            cut: BTreeSet::new(),
            loss: LOSS,
            lame: LAME,
            repeats: 0.01,
            rng: crate::random::stream(seed, "net", 0),
        };
        Self { wires: Arc::new(Mutex::new(wires)), world, deliveries: TaskTracker::new() }
    }

    pub(crate) fn port(&self, from: u64) -> Arc<dyn PeerNetwork> {
        Arc::new(Port { from, net: self.clone() })
    }

    pub(crate) fn plug(&self, place: u64, life: Life) {
        self.wires.lock().unwrap().plugged.insert(place, life);
    }

    pub(crate) fn unplug(&self, place: u64) -> Option<Life> {
        self.wires.lock().unwrap().plugged.remove(&place)
    }

    pub(crate) fn life(&self, place: u64) -> Option<Life> {
        self.wires.lock().unwrap().plugged.get(&place).cloned()
    }

    pub(crate) fn is_well(&self, place: u64) -> bool {
        let life = self.life(place);
        life.is_some_and(|life| !life.disk.is_dead() && life.store.status().health == "serving")
    }

    pub(crate) fn cut(&self, from: u64, to: u64) {
        self.wires.lock().unwrap().cut.insert((from, to));
    }

    pub(crate) fn set_loss(&self, loss: f64) {
        self.wires.lock().unwrap().loss = loss;
    }

    pub(crate) fn set_lame(&self, lame: f64) {
        self.wires.lock().unwrap().lame = lame;
    }

    /// Nothing is lost, late or repeated from now on.
    pub(crate) fn perfect(&self) {
        let mut wires = self.wires.lock().unwrap();
        wires.cut.clear();
        (wires.loss, wires.lame, wires.repeats) = (0.0, 0.0, 0.0);
    }

    pub(crate) fn heal(&self) {
        let mut wires = self.wires.lock().unwrap();
        wires.cut.clear();
        wires.loss = LOSS;
        wires.lame = LAME;
    }

    fn delay(&self) -> Duration {
        let mut wires = self.wires.lock().unwrap();
        let lame = wires.lame;
        let most = if wires.rng.random_bool(lame) { 300_000 } else { 4_000 };
        Duration::from_micros(wires.rng.random_range(100..most))
    }

    fn passes(&self, from: u64, to: u64) -> bool {
        let mut wires = self.wires.lock().unwrap();
        let loss = wires.loss;
        !wires.cut.contains(&(from, to)) && !wires.rng.random_bool(loss)
    }

    fn is_repeated(&self) -> bool {
        let mut wires = self.wires.lock().unwrap();
        let repeats = wires.repeats;
        wires.rng.random_bool(repeats)
    }

    /// One way there and one back. No answer is silence, as it is for a sender.
    async fn carry(self, from: u64, to: u64, message: Bytes) -> Option<Bytes> {
        tokio::time::sleep(self.delay()).await;
        if !self.passes(from, to) {
            return std::future::pending().await;
        }
        trace::note("message", to, &message);
        let life = self.life(to)?;
        if self.is_repeated() {
            let (net, message) = (self.clone(), message.clone());
            self.deliveries.spawn_on(
                async move {
                    tokio::time::sleep(net.delay()).await;
                    // It may reach a later life of the same member.
                    let Some(life) = net.life(to) else { return };
                    let store = life.store.clone();
                    drop(life.handle.spawn(async move { store.receive(message).await }));
                },
                &self.world,
            );
        }
        let store = life.store.clone();
        let answer = life.handle.spawn(async move { store.receive(message).await });
        drop(life);
        // Its computer may crash meanwhile; nobody says so.
        let Ok(answer) = answer.await else { return std::future::pending().await };
        tokio::time::sleep(self.delay()).await;
        if !self.passes(to, from) {
            return std::future::pending().await;
        }
        trace::note("answer", from, &answer);
        Some(answer)
    }
}

#[derive(Debug)]
struct Port {
    from: u64,
    net: Net,
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
        let unreachable = |reason: &str| {
            let (address, reason) = (address.clone(), reason.to_owned());
            Err(PeerError::Unreachable { member, address, reason })
        };
        let Ok(to) = target.address.parse::<u64>() else { return unreachable("no such place") };
        let carried = self.net.clone().carry(self.from, to, message);
        // Given up by the sender, the message goes on; nobody may wait for ever, though.
        let limited = async move { tokio::time::timeout(deadline * 2, carried).await };
        let carried = self.net.deliveries.spawn_on(limited, &self.net.world);
        match tokio::time::timeout(deadline, carried).await {
            Ok(Ok(Ok(Some(answer)))) => Ok(answer),
            Ok(Ok(Ok(None))) => unreachable("it is down"),
            Ok(_) | Err(_) => {
                Err(PeerError::NoAnswer { member, address, reason: "silence".into() })
            }
        }
    }
}
