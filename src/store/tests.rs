//! Real members on real files over an in-process network.

mod carried;
mod etcd;
mod failing_disk;
mod failpoints;
mod generations;
mod hash;
mod interest;
mod leases;
mod members;
mod modes;
mod quorum;
mod rot;
mod snapshots;
mod space;
mod speed;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    HostDisk, Kv, PeerError, PeerNetwork, PeerTarget, Store, StoreConfig, StoreDeps, StoreDisk,
    StoreError, StoreTuning,
};
use crate::base::ids::{ClusterId, Generation, MemberId};
use crate::model::kv::{
    Compare, EventKind, Op, OpResponse, RangeRequest, TxnRequest, WatchItem, WatchRequest,
};
use crate::model::refusal::Refusal;

const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
struct Hub {
    members: Mutex<BTreeMap<u64, Weak<Store>>>,
    /// Members that nobody hears and that hear nobody.
    silent: Mutex<BTreeSet<u64>>,
    /// The same, and callers are told as soon as they asked to be.
    cut_off: Mutex<BTreeSet<u64>>,
    /// Members that are heard, and that never hear an answer.
    deaf: Mutex<BTreeSet<u64>>,
}

/// One member's way to the others.
#[derive(Debug)]
struct Line {
    from: u64,
    hub: Arc<Hub>,
}

#[async_trait]
impl PeerNetwork for Line {
    async fn call(
        &self,
        target: &PeerTarget,
        message: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, PeerError> {
        let (member, address) = (target.member, target.address.clone());
        let cut = {
            let silent = self.hub.silent.lock().unwrap();
            silent.contains(&self.from) || silent.contains(&member.0)
        };
        let cut_off = {
            let cut_off = self.hub.cut_off.lock().unwrap();
            cut_off.contains(&self.from) != cut_off.contains(&member.0)
        };
        if cut_off {
            tokio::time::sleep(deadline).await;
            return Err(PeerError::NoAnswer { member, address, reason: "it is cut off".into() });
        }
        if !cut {
            let answer = self.hub.call(target, message, deadline).await;
            if !self.hub.deaf.lock().unwrap().contains(&self.from) {
                return answer;
            }
            let reason = "the answer is lost".into();
            return Err(PeerError::NoAnswer { member, address, reason });
        }
        // Longer than it should: nothing may depend on being told in time.
        tokio::time::sleep(deadline.max(PATIENCE)).await;
        Err(PeerError::NoAnswer { member, address, reason: "silence".into() })
    }
}

#[async_trait]
impl PeerNetwork for Hub {
    async fn call(
        &self,
        target: &PeerTarget,
        message: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, PeerError> {
        let (member, address) = (target.member, target.address.clone());
        let known = self.members.lock().unwrap().get(&member.0).cloned();
        let store = known.and_then(|store| store.upgrade());
        let Some(store) = store else {
            let reason = "it is down".into();
            return Err(PeerError::Unreachable { member, address, reason });
        };
        tokio::time::timeout(deadline, store.receive(message))
            .await
            .map_err(|_| PeerError::NoAnswer { member, address, reason: "deadline".into() })
    }
}

pub(crate) struct Cluster {
    dir: tempfile::TempDir,
    hub: Arc<Hub>,
    pub(crate) id: ClusterId,
    pub(crate) generation: Generation,
    pub(crate) stores: BTreeMap<u64, Arc<Store>>,
    tuning: StoreTuning,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            hub: Arc::new(Hub::default()),
            id: ClusterId(uuid::Uuid::new_v4()),
            generation: Generation(1),
            stores: BTreeMap::new(),
            tuning: StoreTuning::default(),
        }
    }

    /// Where a member keeps its files.
    pub(crate) fn path(&self, member: u64) -> std::path::PathBuf {
        self.dir.path().join(member.to_string())
    }

    pub(crate) async fn open(&mut self, member: u64) -> Arc<Store> {
        let dir = self.path(member);
        self.open_at(member, &dir).await
    }

    /// Stops a member in order and waits until its files are free.
    pub(crate) async fn stop(&mut self, member: u64) {
        self.hub.members.lock().unwrap().remove(&member);
        let store = self.stores.remove(&member).unwrap();
        store.shutdown().await;
        drop(store);
        let started = Instant::now();
        while let Err(super::OfflineError::Running { .. }) =
            super::StoppedMember::open(&self.path(member))
        {
            assert!(started.elapsed() < PATIENCE, "the files are still in use");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn open_at(&mut self, member: u64, dir: &Path) -> Arc<Store> {
        let disk = Arc::new(HostDisk::new(dir).unwrap());
        self.open_on(member, disk).await
    }

    async fn open_on(&mut self, member: u64, disk: Arc<dyn StoreDisk>) -> Arc<Store> {
        let config = StoreConfig {
            cluster_id: self.id,
            generation: self.generation,
            member_id: MemberId(member),
            tuning: self.tuning,
        };
        let started = Instant::now();
        // A killed member's file is free as soon as its last task has ended.
        let store = loop {
            let network = Arc::new(Line { from: member, hub: self.hub.clone() });
            let deps = StoreDeps { network, disk: disk.clone() };
            match Store::open(config.clone(), deps).await {
                Ok(store) => break Arc::new(store),
                Err(error) if started.elapsed() > PATIENCE => panic!("{error:?}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        self.hub.members.lock().unwrap().insert(member, Arc::downgrade(&store));
        self.stores.insert(member, store.clone());
        store
    }

    pub(crate) async fn three() -> Self {
        let mut cluster = Self::new();
        let first = cluster.open(1).await;
        first.initialize_single("n1", "one").await.unwrap();
        for member in [2, 3] {
            cluster.open(member).await;
            first.add_member(MemberId(member), &format!("n{member}"), "x", true).await.unwrap();
        }
        cluster
    }

    pub(crate) fn kill(&mut self, member: u64) {
        self.hub.members.lock().unwrap().remove(&member);
        let store = self.stores.remove(&member).unwrap();
        drop(store);
    }

    /// Who leads, whether it may answer or not.
    async fn leader_now(&self) -> u64 {
        let started = Instant::now();
        loop {
            let leading = self.stores.iter().find(|(_, store)| store.is_leader());
            if let Some((member, _)) = leading {
                return *member;
            }
            assert!(started.elapsed() < PATIENCE, "no leader");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn leader(&self) -> u64 {
        let started = Instant::now();
        loop {
            for (member, store) in &self.stores {
                if store.is_leader() && store.range(RangeRequest::key("x")).await.is_ok() {
                    return *member;
                }
            }
            assert!(started.elapsed() < PATIENCE, "no leader");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A stopped member with keys `k0`, `k1` …
pub(crate) async fn stopped_with(keys: usize) -> Cluster {
    let mut cluster = Cluster::new();
    let store = cluster.open(1).await;
    store.initialize_single("n1", "one").await.unwrap();
    for number in 0..keys {
        store.txn(put(&format!("k{number}"), &format!("v{number}"))).await.unwrap();
    }
    drop(store);
    cluster.stop(1).await;
    cluster
}

fn put(key: &str, value: &str) -> TxnRequest {
    TxnRequest { success: vec![Op::put(key.to_owned(), value.to_owned())], ..TxnRequest::default() }
}

async fn get(store: &Store, key: &str) -> Option<String> {
    let answer = store.range(RangeRequest::key(key.to_owned())).await.unwrap();
    answer.kvs.first().map(|kv| String::from_utf8(kv.value.to_vec()).unwrap())
}

#[tokio::test]
async fn one_member_keeps_what_it_acknowledged_over_a_kill_and_a_stop() {
    let mut cluster = Cluster::new();
    let store = cluster.open(1).await;
    store.initialize_single("n1", "one").await.unwrap();
    store.initialize_single("n1", "one").await.unwrap();
    let answer = store.txn(put("a", "1")).await.unwrap();
    assert_eq!((answer.revision, answer.succeeded), (2, true));
    assert_eq!(store.txn(put("a", "2")).await.unwrap().revision, 3);
    assert_eq!(store.status().boot.0, 1);
    drop(store);
    cluster.kill(1);

    let store = cluster.open(1).await;
    assert_eq!(get(&store, "a").await.as_deref(), Some("2"));
    assert_eq!(store.status().boot.0, 2);
    assert_eq!(store.txn(put("b", "3")).await.unwrap().revision, 4);
    store.shutdown().await;
    assert!(matches!(store.txn(put("c", "4")).await, Err(StoreError::ShuttingDown)));
    drop(store);
    cluster.kill(1);

    let store = cluster.open(1).await;
    let old = RangeRequest { revision: 2, ..RangeRequest::key("a") };
    assert_eq!(&store.range(old).await.unwrap().kvs[0].value[..], b"1");
    let all = store.range(RangeRequest::prefix("")).await;
    assert!(matches!(all, Err(StoreError::Refused(Refusal::EmptyKey))));
    let all = RangeRequest {
        key: Bytes::from_static(&[0]),
        range_end: Bytes::from_static(&[0]),
        ..RangeRequest::default()
    };
    assert_eq!(store.range(all).await.unwrap().count, 2);
}

#[tokio::test]
async fn three_members_answer_everywhere_and_survive_the_leader() {
    let mut cluster = Cluster::three().await;
    for (member, store) in &cluster.stores {
        store.txn(put(&format!("k{member}"), "v")).await.unwrap();
    }
    for store in cluster.stores.values() {
        for member in [1, 2, 3] {
            assert_eq!(get(store, &format!("k{member}")).await.as_deref(), Some("v"));
        }
    }
    let dead = cluster.leader().await;
    cluster.kill(dead);
    let survivor = cluster.stores.values().next().unwrap().clone();
    let since = Instant::now();
    survivor.txn(put("after", "1")).await.unwrap();
    let outage = since.elapsed();
    assert!(outage < Duration::from_secs(5), "next write after {outage:?}");

    let back = cluster.open(dead).await;
    assert_eq!(get(&back, "after").await.as_deref(), Some("1"));
    assert_eq!(back.status().members.iter().filter(|member| member.voter).count(), 3);
}

#[tokio::test]
async fn all_members_killed_at_once_lose_nothing() {
    let mut cluster = Cluster::three().await;
    let store = cluster.stores[&1].clone();
    for number in 0..50 {
        store.txn(put(&format!("n{number:02}"), "v")).await.unwrap();
    }
    drop(store);
    for member in [1, 2, 3] {
        cluster.kill(member);
    }
    for member in [1, 2, 3] {
        cluster.open(member).await;
    }
    let answer = cluster.stores[&2].range(RangeRequest::prefix("n")).await.unwrap();
    assert_eq!(answer.count, 50);
}

#[tokio::test]
async fn a_watch_delivers_history_then_news_in_order_and_whole() {
    let mut cluster = Cluster::new();
    let store = cluster.open(1).await;
    store.initialize_single("n1", "one").await.unwrap();
    for number in 0..2_000 {
        store.txn(put("w/key", &number.to_string())).await.unwrap();
    }
    let mut watch = store.watch(WatchRequest::prefix("w/", 2)).await.unwrap();
    let both = TxnRequest {
        success: vec![Op::put("w/a", "1"), Op::delete("w/key"), Op::put("other", "1")],
        ..TxnRequest::default()
    };
    let last = store.txn(both).await.unwrap().revision;
    let mut next = 2;
    loop {
        let item = tokio::time::timeout(PATIENCE, watch.recv()).await.unwrap().unwrap();
        let WatchItem::Events { revision, events } = item else { continue };
        assert_eq!(revision, next);
        next += 1;
        if revision == last {
            assert_eq!(events.len(), 2);
            assert_eq!(events[1].kind, EventKind::Delete);
            assert_eq!(&events[1].kv.key[..], b"w/key");
            break;
        }
        assert_eq!(&events[0].kv.value[..], (revision - 2).to_string().as_bytes());
    }
    store.compact(last).await.unwrap();
    assert!(matches!(store.compact(last).await, Err(StoreError::Compacted { .. })));
    let mut late = store.watch(WatchRequest::prefix("w/", 2)).await.unwrap();
    assert_eq!(late.recv().await, Some(WatchItem::Compacted { compact_revision: last }));
    let past = RangeRequest { revision: 5, ..RangeRequest::key("w/key") };
    assert!(matches!(store.range(past).await, Err(StoreError::Compacted { .. })));
}

#[tokio::test]
async fn a_compare_guards_a_write() {
    let mut cluster = Cluster::new();
    let store = cluster.open(1).await;
    store.initialize_single("n1", "one").await.unwrap();
    let create = |value: &str| TxnRequest {
        compare: vec![Compare::mod_revision("k", 0)],
        success: vec![Op::put("k", value.to_owned())],
        failure: vec![Op::Range(RangeRequest::key("k"))],
    };
    assert!(store.txn(create("1")).await.unwrap().succeeded);
    let answer = store.txn(create("2")).await.unwrap();
    assert!(!answer.succeeded);
    let OpResponse::Range(found) = &answer.responses[0] else { panic!("{answer:?}") };
    assert_eq!(&found.kvs[0].value[..], b"1");
}

#[tokio::test]
async fn a_wiped_disk_under_an_old_id_is_refused() {
    let mut cluster = Cluster::three().await;
    cluster.stores[&1].txn(put("a", "1")).await.unwrap();
    cluster.kill(3);
    let empty = cluster.dir.path().join("3-wiped");
    let wiped = cluster.open_at(3, &empty).await;
    let error = tokio::time::timeout(PATIENCE, wiped.failed()).await.unwrap();
    assert!(error.to_string().contains("rejoin under a new id"), "{error}");
    assert!(wiped.txn(put("b", "1")).await.is_err());
    cluster.stores[&1].txn(put("c", "1")).await.unwrap();
    assert!(cluster.stores[&1].status().health == "serving");
}

#[tokio::test]
async fn a_foreign_disk_is_not_opened() {
    let mut cluster = Cluster::new();
    cluster.open(1).await.initialize_single("n1", "one").await.unwrap();
    cluster.kill(1);
    cluster.id = ClusterId(uuid::Uuid::new_v4());
    let config = StoreConfig {
        cluster_id: cluster.id,
        generation: Generation(1),
        member_id: MemberId(1),
        tuning: StoreTuning::default(),
    };
    let started = Instant::now();
    loop {
        let deps = StoreDeps::on_host(&cluster.dir.path().join("1"), cluster.hub.clone()).unwrap();
        let error = Store::open(config.clone(), deps).await.unwrap_err();
        let text = crate::base::chain::chain(&error);
        if text.contains("belongs to cluster") {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{text}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_member_that_missed_the_purged_log_takes_a_snapshot() {
    let mut cluster = Cluster::new();
    cluster.tuning = StoreTuning { snapshot_every: 50, keep_entries: 20, segment_bytes: 8192 };
    let first = cluster.open(1).await;
    first.initialize_single("n1", "one").await.unwrap();
    let value = "x".repeat(20_000);
    for number in 0..300 {
        first.txn(put(&format!("n{number:03}"), &value)).await.unwrap();
    }
    first
        .txn(TxnRequest { success: vec![Op::delete("n000")], ..TxnRequest::default() })
        .await
        .unwrap();
    let second = cluster.open(2).await;
    first.add_member(MemberId(2), "n2", "x", true).await.unwrap();
    let past = RangeRequest { revision: 100, ..RangeRequest::prefix("n") };
    assert_eq!(second.range(past).await.unwrap().count, 99);
    let local = RangeRequest { serializable: true, ..RangeRequest::prefix("n") };
    assert_eq!(second.range(local.clone()).await.unwrap().count, 299);
    drop((first, second));
    cluster.kill(2);
    let second = cluster.open(2).await;
    assert_eq!(second.range(local).await.unwrap().count, 299);
    let mut watch = second.watch(WatchRequest::prefix("n", 2)).await.unwrap();
    let item = tokio::time::timeout(PATIENCE, watch.recv()).await.unwrap().unwrap();
    assert!(matches!(item, WatchItem::Events { revision: 2, .. }), "{item:?}");
}
