//! A disk that fills up: nothing acknowledged is lost, and space heals it.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use redb::StorageBackend;

use super::{Cluster, PATIENCE, get, put};
use crate::base::ids::MemberId;
use crate::base::limits::STORE_DISK_RESERVE_MIN_BYTES;
use crate::model::auth::Caller;
use crate::model::kv::{DeleteRangeRequest, Op, PutRequest, RangeRequest, TxnRequest};
use crate::model::refusal::Refusal;
use crate::store::{DiskSpace, DiskWork, EtcdKv, HostDisk, Kv, Store, StoreDisk, StoreError};

const PAGE: u64 = 4_096;
const PLENTY: u64 = 1 << 40;

#[derive(Debug)]
struct Used {
    /// File and page that were ever written.
    pages: Mutex<BTreeSet<(String, u64)>>,
    /// Pages there are.
    room: AtomicU64,
    /// What the disk says is free.
    told_free: AtomicU64,
}

/// Files of the host that may take only so many pages.
#[derive(Debug, Clone)]
struct SmallDisk {
    host: Arc<HostDisk>,
    used: Arc<Used>,
}

impl SmallDisk {
    fn new(dir: &Path) -> Self {
        let used = Used {
            pages: Mutex::default(),
            room: AtomicU64::new(u64::MAX),
            told_free: AtomicU64::new(PLENTY),
        };
        Self { host: Arc::new(HostDisk::new(dir).unwrap()), used: Arc::new(used) }
    }

    /// Leaves room for so many pages more.
    fn leave(&self, pages: u64) {
        let used = self.used.pages.lock().unwrap().len() as u64;
        self.used.room.store(used.saturating_add(pages), Ordering::SeqCst);
    }

    fn tell_free(&self, bytes: u64) {
        self.used.told_free.store(bytes, Ordering::SeqCst);
    }
}

#[derive(Debug)]
struct SmallFile {
    name: String,
    file: Box<dyn StorageBackend>,
    used: Arc<Used>,
}

impl StorageBackend for SmallFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.used
            .pages
            .lock()
            .unwrap()
            .retain(|(name, page)| *name != self.name || page * PAGE < len);
        self.file.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut pages = self.used.pages.lock().unwrap();
        for page in offset / PAGE..=(offset + data.len().max(1) as u64 - 1) / PAGE {
            let id = (self.name.clone(), page);
            let full = pages.len() as u64 >= self.used.room.load(Ordering::SeqCst);
            if full && !pages.contains(&id) {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            pages.insert(id);
        }
        self.file.write(offset, data)
    }
    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

impl StoreDisk for SmallDisk {
    fn open(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        let file = self.host.open(name)?;
        Ok(Box::new(SmallFile { name: name.to_owned(), file, used: self.used.clone() }))
    }
    fn exists(&self, name: &str) -> io::Result<bool> {
        self.host.exists(name)
    }
    fn size(&self, name: &str) -> io::Result<u64> {
        self.host.size(name)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.host.remove(name)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.host.rename(from, to)
    }
    fn space(&self) -> io::Result<DiskSpace> {
        let free_bytes = self.used.told_free.load(Ordering::SeqCst);
        Ok(DiskSpace { free_bytes, total_bytes: PLENTY })
    }
    fn run(&self, work: DiskWork) -> BoxFuture<'static, ()> {
        self.host.run(work)
    }
}

fn bulk(number: usize) -> TxnRequest {
    put(&format!("n{number:04}"), &"x".repeat(10_000))
}

#[tokio::test]
async fn a_full_disk_stops_the_member_and_space_heals_it_with_nothing_lost() {
    let mut cluster = Cluster::new();
    let disk = SmallDisk::new(&cluster.dir.path().join("1"));
    let store = cluster.open_on(1, Arc::new(disk.clone())).await;
    store.initialize_single("n1", "one").await.unwrap();
    disk.leave(200);
    let mut acknowledged = 0;
    let error = loop {
        match store.txn(bulk(acknowledged)).await {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 5_000, "the disk never filled up");
    };
    assert!(matches!(error, StoreError::Unknown { .. } | StoreError::Fatal { .. }), "{error}");
    let reason = tokio::time::timeout(PATIENCE, store.failed()).await.unwrap().to_string();
    assert!(reason.contains("no storage space"), "{reason}");
    assert!(matches!(store.txn(bulk(0)).await, Err(StoreError::Fatal { .. })));
    drop(store);
    cluster.kill(1);

    disk.leave(100_000);
    let store = cluster.open_on(1, Arc::new(disk)).await;
    let found = store.range(RangeRequest::prefix("n")).await.unwrap().count;
    let most = acknowledged as i64 + 1;
    assert!((acknowledged as i64..=most).contains(&found), "{found} of {acknowledged}");
    store.txn(put("after", "1")).await.unwrap();
}

#[tokio::test]
async fn a_leader_whose_disk_is_full_leaves_the_others_working_and_comes_back() {
    let mut cluster = Cluster::new();
    let disk = SmallDisk::new(&cluster.dir.path().join("1"));
    let first = cluster.open_on(1, Arc::new(disk.clone())).await;
    first.initialize_single("n1", "one").await.unwrap();
    for member in [2, 3] {
        cluster.open(member).await;
        first.add_member(MemberId(member), &format!("n{member}"), "x", true).await.unwrap();
    }
    disk.leave(50);
    let second = cluster.stores[&2].clone();
    for number in 0..60 {
        // The write that meets the full disk may be of unknown fate, so it is repeated.
        while let Err(error) = second.txn(bulk(number)).await {
            assert!(matches!(error, StoreError::Unknown { .. }), "{error}");
        }
    }
    tokio::time::timeout(PATIENCE, first.failed()).await.unwrap();
    drop(first);
    cluster.kill(1);
    disk.leave(100_000);
    let first = cluster.open_on(1, Arc::new(disk)).await;
    assert_eq!(first.range(RangeRequest::prefix("n")).await.unwrap().count, 60);
}

#[tokio::test]
async fn writes_are_refused_below_the_reserve_and_accepted_again_above_it() {
    let mut cluster = Cluster::new();
    let disk = SmallDisk::new(&cluster.dir.path().join("1"));
    let store = cluster.open_on(1, Arc::new(disk.clone())).await;
    store.initialize_single("n1", "one").await.unwrap();
    let last = store.txn(put("a", "1")).await.unwrap().revision;
    assert_eq!(store.status().writes_refused, None);
    disk.tell_free(STORE_DISK_RESERVE_MIN_BYTES - 1);
    let started = Instant::now();
    let error = loop {
        match store.txn(put("b", "1")).await {
            Ok(_) => assert!(started.elapsed() < PATIENCE, "never refused"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error}");
    assert!(!error.is_retryable());
    assert!(error.to_string().contains("bytes free"), "{error}");
    assert!(store.status().writes_refused.is_some());
    assert_eq!(get(&store, "a").await.as_deref(), Some("1"));
    let delete = TxnRequest { success: vec![Op::delete("a")], ..TxnRequest::default() };
    assert!(store.txn(delete).await.unwrap().revision > last);
    store.compact(last).await.unwrap();
    disk.tell_free(PLENTY);
    let started = Instant::now();
    while let Err(error) = store.txn(put("c", "1")).await {
        assert!(matches!(error, StoreError::NoSpace { .. }), "{error}");
        assert!(started.elapsed() < PATIENCE, "never accepted again");
        // A refusal waits for nothing, so this loop would let no other task run.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Three members on disks whose space the test tells.
async fn three_on_small_disks() -> (Cluster, Vec<SmallDisk>) {
    let mut cluster = Cluster::new();
    let at = |member: u64| SmallDisk::new(&cluster.dir.path().join(member.to_string()));
    let disks: Vec<SmallDisk> = (1..=3).map(at).collect();
    let first = cluster.open_on(1, Arc::new(disks[0].clone())).await;
    first.initialize_single("n1", "one").await.unwrap();
    for member in [2, 3] {
        cluster.open_on(member, Arc::new(disks[member as usize - 1].clone())).await;
        first.add_member(MemberId(member), &format!("n{member}"), "x", true).await.unwrap();
    }
    (cluster, disks)
}

async fn client_puts(store: &Store, key: &str) -> Result<(), StoreError> {
    let (key, value) = (key.to_owned().into(), "v".into());
    let request = PutRequest { key, value, ..PutRequest::default() };
    store.put_as(&Caller::Anonymous, request).await.map(drop)
}

/// Until the put ends as it should.
async fn until_put(
    store: &Store,
    what: &str,
    mut right: impl FnMut(Result<(), StoreError>) -> bool,
) {
    let started = Instant::now();
    while !right(client_puts(store, "client").await) {
        assert!(started.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn is_refused(put: &Result<(), StoreError>) -> bool {
    matches!(put, Err(StoreError::Refused(Refusal::NoSpace)))
}

#[tokio::test]
async fn a_follower_with_little_space_raises_its_own_alarm_and_clears_it() {
    let (cluster, disks) = three_on_small_disks().await;
    let leader = cluster.leader().await;
    let store = cluster.stores[&leader].clone();
    client_puts(&store, "before").await.unwrap();
    let follower = if leader == 1 { 2 } else { 1 };
    disks[follower as usize - 1].tell_free(STORE_DISK_RESERVE_MIN_BYTES - 1);
    until_put(&store, "refused", |put| is_refused(&put)).await;
    let alarms = store.shared.state.short_of_space();
    assert_eq!(alarms, BTreeSet::from([follower]));
    // This program's own writes go on while a majority has space, and so does the rest.
    store.txn(put("own", "1")).await.unwrap();
    assert_eq!(get(&store, "before").await.as_deref(), Some("v"));
    let delete = DeleteRangeRequest { key: "before".into(), ..DeleteRangeRequest::default() };
    store.delete_as(&Caller::Anonymous, delete).await.unwrap();
    store.compact(store.status().revision).await.unwrap();
    disks[follower as usize - 1].tell_free(PLENTY);
    until_put(&store, "accepted again", |put| put.is_ok()).await;
}

#[tokio::test]
async fn a_majority_without_space_refuses_every_put_until_one_has_more() {
    let (cluster, disks) = three_on_small_disks().await;
    let leader = cluster.leader().await;
    let store = cluster.stores[&leader].clone();
    let followers: Vec<usize> = (0..3).filter(|at| *at as u64 + 1 != leader).collect();
    for follower in &followers {
        disks[*follower].tell_free(STORE_DISK_RESERVE_MIN_BYTES - 1);
    }
    let started = Instant::now();
    let error = loop {
        match store.txn(put("own", "1")).await {
            Ok(_) => assert!(started.elapsed() < PATIENCE, "never refused"),
            Err(error) => break error,
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error}");
    assert!(error.to_string().contains("no majority has space"), "{error}");
    let delete = TxnRequest { success: vec![Op::delete("own")], ..TxnRequest::default() };
    store.txn(delete).await.unwrap();
    disks[followers[0]].tell_free(PLENTY);
    let started = Instant::now();
    while let Err(error) = store.txn(put("own", "2")).await {
        assert!(matches!(error, StoreError::NoSpace { .. }), "{error}");
        assert!(started.elapsed() < PATIENCE, "never accepted again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_member_starts_on_a_disk_without_any_room_and_serves_reads() {
    let mut cluster = Cluster::new();
    let disk = SmallDisk::new(&cluster.dir.path().join("1"));
    let store = cluster.open_on(1, Arc::new(disk.clone())).await;
    store.initialize_single("n1", "one").await.unwrap();
    for number in 0..20 {
        store.txn(bulk(number)).await.unwrap();
    }
    drop(store);
    cluster.kill(1);
    disk.leave(0);
    let store = cluster.open_on(1, Arc::new(disk.clone())).await;
    let local = RangeRequest { serializable: true, ..RangeRequest::prefix("n") };
    // That the last one is committed was noted with no further write, and cannot be now.
    let count = store.range(local).await.unwrap().count;
    assert!((19..=20).contains(&count), "{count} keys");
    drop(store);
    cluster.kill(1);
    disk.leave(100_000);
    let store = cluster.open_on(1, Arc::new(disk)).await;
    store.txn(bulk(20)).await.unwrap();
    assert_eq!(store.range(RangeRequest::prefix("n")).await.unwrap().count, 21);
}
