//! Members, their disks and network, clients that work and a demon that breaks.
//!
//! Not here: who changes the membership and compacts meanwhile (`operator`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use holdfast::base::ids::{ClusterId, Generation, MemberId};
use holdfast::model::kv::{
    Compare, Event, EventKind, Op, RangeRequest, TxnRequest, WatchItem, WatchRequest,
};
use holdfast::store::{Kv, Store, StoreConfig, StoreDeps, StoreError, StoreStatus, StoreTuning};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::disk::Disk;
use crate::history::{COUNTER, Dump, Fate, History, check, parse};
use crate::net::Net;

/// The members that form the group, and those that may join it later.
const FIRST: [u64; 3] = [1, 2, 3];
const ALL: [u64; 5] = [1, 2, 3, 4, 5];
/// Virtual time of trouble.
const TROUBLE: Duration = Duration::from_secs(25);
/// Virtual time in which a healed cluster must answer or refuse all that was asked.
const CLIENTS_END: Duration = Duration::from_secs(400);
/// Virtual time in which a healed cluster must agree.
const RECOVERY: Duration = Duration::from_secs(120);

/// What one run did, so that a run in which nothing happened is noticed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Stats {
    pub(crate) acknowledged: usize,
    pub(crate) unknown: usize,
    pub(crate) reads: usize,
    pub(crate) crashes: usize,
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
    /// Membership changes that were reported done.
    pub(crate) changes: usize,
}

#[derive(Clone)]
pub(crate) struct Sim {
    pub(crate) net: Net,
    disks: BTreeMap<u64, Disk>,
    pub(crate) history: Arc<Mutex<History>>,
    pub(crate) stop: CancellationToken,
    /// Members that should run; one that was removed is never started again.
    pub(crate) present: Arc<Mutex<BTreeSet<u64>>>,
    pub(crate) changes: Arc<Mutex<usize>>,
    /// Those who ask; they end when told to stop.
    clients: TaskTracker,
    watchers: TaskTracker,
    crashes: Arc<Mutex<usize>>,
    starting: Arc<tokio::sync::Mutex<()>>,
}

pub(crate) async fn run(seed: u64, lie: bool) -> Result<Stats, String> {
    holdfast::store::seed_this_thread(seed);
    let disks = ALL.map(|member| (member, Disk::new(seed * 31 + member, lie)));
    let sim = Sim {
        net: Net::new(seed),
        disks: disks.into_iter().collect(),
        history: Arc::default(),
        stop: CancellationToken::new(),
        clients: TaskTracker::new(),
        watchers: TaskTracker::new(),
        crashes: Arc::default(),
        present: Arc::new(Mutex::new(FIRST.into_iter().collect())),
        changes: Arc::default(),
        starting: Arc::default(),
    };
    sim.form().await?;
    sim.clients.spawn(sim.clone().compactor(seed));
    sim.clients.spawn(sim.clone().operator(seed));
    for member in ALL {
        sim.clients.spawn(sim.clone().writer(member, seed));
        sim.clients.spawn(sim.clone().reader(member, seed));
        sim.watchers.spawn(sim.clone().watcher(member));
    }
    sim.trouble(seed).await?;
    sim.net.heal();
    sim.start_all().await?;
    sim.settle().await
}

impl Sim {
    pub(crate) fn members(&self) -> Vec<u64> {
        self.present.lock().unwrap().iter().copied().collect()
    }

    async fn start_all(&self) -> Result<(), String> {
        for member in self.members() {
            self.start(member).await?;
        }
        Ok(())
    }

    pub(crate) async fn start(&self, member: u64) -> Result<(), String> {
        // One at a time: two lives of one disk would be a fault of the harness.
        let _starting = self.starting.lock().await;
        // A member whose disk died may not have noticed yet; the host has.
        if self.net.is_well(member) {
            return Ok(());
        }
        self.crash(member);
        let life = self.disks[&member].start();
        let config = StoreConfig {
            cluster_id: ClusterId(uuid::Uuid::from_u128(7)),
            generation: Generation(1),
            member_id: MemberId(member),
            tuning: StoreTuning { snapshot_every: 60, keep_entries: 20, segment_bytes: 8192 },
        };
        let deps =
            StoreDeps { network: self.net.port(member, &life), disk: Arc::new(life.clone()) };
        let store = Store::open(config, deps).await;
        let store = match store {
            Ok(store) => store,
            // The disk died while it was opened; the host tries again later.
            Err(_) if life.is_dead() => return Ok(()),
            Err(error) => return Err(format!("member {member} does not open: {error:?}")),
        };
        // It may have been removed for good meanwhile.
        if self.present.lock().unwrap().contains(&member) {
            self.net.plug(member, Arc::new(store), life);
        }
        Ok(())
    }

    pub(crate) fn crash(&self, member: u64) {
        if let Some((store, life)) = self.net.unplug(member) {
            self.disks[&member].crash(&life);
            store.kill();
            *self.crashes.lock().unwrap() += 1;
        }
    }

    async fn form(&self) -> Result<(), String> {
        self.start_all().await?;
        let first = self.net.store(1).ok_or("member 1 is down")?;
        first.initialize_single("n1", "1").await.map_err(|error| error.to_string())?;
        for member in [2, 3] {
            first
                .add_member(MemberId(member), &format!("n{member}"), &member.to_string(), true)
                .await
                .map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    async fn trouble(&self, seed: u64) -> Result<(), String> {
        let mut rng = SmallRng::seed_from_u64(seed ^ 0x7472_6f75);
        let end = Instant::now() + TROUBLE;
        while Instant::now() < end {
            sleep(Duration::from_millis(rng.random_range(100..2_000))).await;
            let members = self.members();
            let member = members[rng.random_range(0..members.len())];
            match rng.random_range(0..9) {
                0 | 1 => self.crash(member),
                2 => self.disks[&member].light_fuse(rng.random_range(0..6)),
                3 => members.into_iter().for_each(|member| self.crash(member)),
                4 => {
                    for other in members.into_iter().filter(|other| *other != member) {
                        self.net.cut(member, other);
                        self.net.cut(other, member);
                    }
                }
                5 => self.net.cut(member, members[rng.random_range(0..members.len())]),
                6 => self.net.set_loss(0.2),
                _ => {
                    self.net.heal();
                    self.start_all().await?;
                }
            }
        }
        Ok(())
    }

    async fn writer(self, member: u64, seed: u64) {
        let mut rng = SmallRng::seed_from_u64(seed * 101 + member);
        for number in 0.. {
            sleep(Duration::from_millis(rng.random_range(5..80))).await;
            if self.stop.is_cancelled() {
                return;
            }
            let Some(store) = self.net.store(member) else { continue };
            if rng.random_bool(0.5) {
                self.put(&store, format!("u/{member}/{number}")).await;
            } else {
                self.increment(&store).await;
            }
        }
    }

    async fn put(&self, store: &Store, key: String) {
        let asked_at = self.history.lock().unwrap().newest_answered;
        // Two keys in one revision, so that a torn one shows.
        let pair = vec![Op::put(key.clone(), "1"), Op::put(format!("{key}/twin"), "1")];
        let answer = store.txn(TxnRequest { success: pair, ..TxnRequest::default() }).await;
        let mut history = self.history.lock().unwrap();
        let fate = fate(answer.as_ref().map(|answer| answer.revision));
        if let Fate::Done(revision) = fate {
            history.answered("a put", revision, asked_at + 1);
        }
        history.puts.insert(format!("{key}/twin"), fate);
        history.puts.insert(key, fate);
    }

    async fn increment(&self, store: &Store) {
        let Ok((_, value, modified)) = self.read(store).await else { return };
        let next = value + 1;
        let txn = TxnRequest {
            compare: vec![Compare::mod_revision(COUNTER, modified)],
            success: vec![Op::put(COUNTER, next.to_string())],
            failure: vec![],
        };
        let asked_at = self.history.lock().unwrap().newest_answered;
        let answer = store.txn(txn).await;
        let mut history = self.history.lock().unwrap();
        match answer {
            Ok(answer) if !answer.succeeded => {
                history.answered("a compare", answer.revision, asked_at)
            }
            other => {
                let fate = fate(other.as_ref().map(|answer| answer.revision));
                if let Fate::Done(revision) = fate {
                    history.answered("an increment", revision, asked_at + 1);
                }
                history.increments.push((next, fate));
            }
        }
    }

    /// Revision, value and modification of the counter.
    async fn read(&self, store: &Store) -> Result<(i64, u64, i64), StoreError> {
        let asked_at = self.history.lock().unwrap().newest_answered;
        let answer = store.range(RangeRequest::key(COUNTER)).await?;
        let (value, modified) =
            answer.kvs.first().map_or((0, 0), |kv| (parse(&kv.value), kv.mod_revision));
        let mut history = self.history.lock().unwrap();
        history.answered("a read", answer.revision, asked_at);
        history.reads.push((answer.revision, value));
        Ok((answer.revision, value, modified))
    }

    /// Reads the counter as it was.
    async fn read_past(&self, store: &Store, revision: i64) {
        let request = RangeRequest { revision, ..RangeRequest::key(COUNTER) };
        let Ok(answer) = store.range(request).await else { return };
        let value = answer.kvs.first().map_or(0, |kv| parse(&kv.value));
        self.history.lock().unwrap().reads.push((revision, value));
    }

    async fn reader(self, member: u64, seed: u64) {
        let mut rng = SmallRng::seed_from_u64(seed * 103 + member);
        while !self.stop.is_cancelled() {
            sleep(Duration::from_millis(rng.random_range(5..100))).await;
            let Some(store) = self.net.store(member) else { continue };
            // An error says that nothing is known, which needs no check.
            if rng.random_bool(0.8) {
                let _ = self.read(&store).await;
            } else {
                let newest = self.history.lock().unwrap().newest_answered;
                let revision = rng.random_range(1..=newest.max(2) + 1);
                self.read_past(&store, revision).await;
            }
        }
    }

    async fn watcher(self, member: u64) {
        let mut next = 2;
        while !self.stop.is_cancelled() {
            sleep(Duration::from_millis(50)).await;
            let Some(store) = self.net.store(member) else { continue };
            let everything = WatchRequest {
                key: Bytes::from_static(&[0]),
                range_end: Bytes::from_static(&[0]),
                start_revision: next,
                ..WatchRequest::default()
            };
            let Ok(mut watch) = store.watch(everything).await else { continue };
            drop(store);
            while let Some(item) = watch.recv().await {
                let mut history = self.history.lock().unwrap();
                if let WatchItem::Compacted { compact_revision } = item {
                    if compact_revision <= next {
                        let text =
                            format!("watcher {member} at {next}: lost to {compact_revision}");
                        history.violations.push(text);
                    }
                    next = compact_revision;
                    continue;
                }
                let WatchItem::Events { revision, events } = item else { continue };
                if revision != next {
                    let text = format!("watcher {member} got {revision}, expected {next}");
                    history.violations.push(text);
                }
                next = revision + 1;
                history.watched.entry(member).or_default().insert(revision, plain(&events));
            }
        }
    }

    /// Waits until the healed members agree, then checks everything.
    async fn settle(self) -> Result<Stats, String> {
        sleep(Duration::from_secs(12)).await;
        self.stop.cancel();
        self.clients.close();
        let end = Instant::now() + CLIENTS_END;
        while timeout(Duration::from_secs(2), self.clients.wait()).await.is_err() {
            // A disk may still die of what was done to it before.
            self.start_all().await?;
            if Instant::now() > end {
                return Err(format!("clients do not end: {:#?}", self.statuses()));
            }
        }
        let end = Instant::now() + RECOVERY;
        // A write of unknown fate may still come late, so two looks must agree.
        let mut before = BTreeMap::new();
        loop {
            self.start_all().await?;
            let members = self.members();
            let mut dumps = BTreeMap::new();
            for member in members.iter().copied() {
                if let Some(store) = self.net.store(member)
                    && let Ok(dump) = dump(&store).await
                {
                    dumps.insert(member, dump);
                }
            }
            let newest = dumps.values().map(|dump: &Dump| (dump.revision, dump.compacted)).max();
            let level = dumps.len() == members.len()
                && dumps.values().all(|dump| Some((dump.revision, dump.compacted)) == newest);
            if level && dumps == before {
                let history = self.history.lock().unwrap();
                check(&history, &dumps)?;
                let (revision, compacted) = newest.unwrap_or_default();
                return Ok(self.stats(&history, revision, compacted));
            }
            if Instant::now() > end {
                let statuses = self.statuses();
                return Err(format!("the healed cluster does not settle: {statuses:#?}"));
            }
            before = dumps;
            sleep(Duration::from_secs(5)).await;
        }
    }

    fn statuses(&self) -> Vec<StoreStatus> {
        let stores = self.members().into_iter().filter_map(|member| self.net.store(member));
        stores.map(|store| store.status()).collect()
    }

    fn stats(&self, history: &History, revision: i64, compacted: i64) -> Stats {
        let fates: Vec<Fate> = history
            .puts
            .values()
            .chain(history.increments.iter().map(|(_, fate)| fate))
            .copied()
            .collect();
        Stats {
            acknowledged: fates.iter().filter(|fate| matches!(fate, Fate::Done(_))).count(),
            unknown: fates.iter().filter(|fate| **fate == Fate::Unknown).count(),
            reads: history.reads.len(),
            crashes: *self.crashes.lock().unwrap(),
            revision,
            compacted,
            changes: *self.changes.lock().unwrap(),
        }
    }
}

fn fate(answer: Result<i64, &StoreError>) -> Fate {
    match answer {
        Ok(revision) => Fate::Done(revision),
        Err(
            StoreError::NoLeader { .. }
            | StoreError::NoQuorum(_)
            | StoreError::Refused(_)
            | StoreError::BadRequest { .. },
        ) => Fate::Never,
        // A member that fails or stops before it proposed says so, too; to call that
        // unknown only weakens the check.
        Err(_) => Fate::Unknown,
    }
}

fn plain(events: &[Event]) -> Vec<(EventKind, Bytes, Bytes)> {
    events.iter().map(|event| (event.kind, event.kv.key.clone(), event.kv.value.clone())).collect()
}

async fn dump(store: &Store) -> Result<Dump, StoreError> {
    let everything = RangeRequest {
        key: Bytes::from_static(&[0]),
        range_end: Bytes::from_static(&[0]),
        ..RangeRequest::default()
    };
    let answer = store.range(everything).await?;
    let compacted = store.status().compacted;
    let request = WatchRequest {
        key: Bytes::from_static(&[0]),
        range_end: Bytes::from_static(&[0]),
        start_revision: compacted.max(2),
        progress_notify: true,
        ..WatchRequest::default()
    };
    let mut watch = store.watch(request).await?;
    let mut changes = BTreeMap::new();
    while let Some(item) = watch.recv().await {
        match item {
            WatchItem::Events { revision, events } => {
                changes.insert(revision, plain(&events));
                if revision >= answer.revision {
                    break;
                }
            }
            WatchItem::Progress(revision) if revision >= answer.revision => break,
            WatchItem::Progress(_) => {}
            WatchItem::Compacted { .. } => return Err(StoreError::ShuttingDown),
        }
    }
    Ok(Dump { revision: answer.revision, compacted, kvs: answer.kvs, changes })
}
