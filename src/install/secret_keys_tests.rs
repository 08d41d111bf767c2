//! Three control nodes over one store, each with its own file of keys.

use std::sync::Mutex as StdMutex;
use std::sync::atomic::AtomicUsize;

use super::*;
use crate::install::fake::FakeKv;
use crate::pki::{SECRET_KEYS_FILE, is_sealed};

/// Hands over the keys of the nodes by their addresses, unless one is down.
#[derive(Debug, Default)]
struct Directory {
    nodes: StdMutex<BTreeMap<SocketAddr, Arc<SecretKeys>>>,
    down: StdMutex<BTreeSet<SocketAddr>>,
    asked: AtomicUsize,
}

#[async_trait]
impl KeyPeers for Directory {
    async fn keys_of(&self, server: SocketAddr) -> Result<Vec<SecretKey>, String> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.down.lock().unwrap().contains(&server) {
            return Err(format!("{server} is down"));
        }
        Ok(self.nodes.lock().unwrap()[&server].ring().to_vec())
    }
}

struct World {
    kv: Arc<FakeKv>,
    peers: Arc<Directory>,
    dir: tempfile::TempDir,
    nodes: Vec<(Arc<SecretKeyService>, Arc<SecretKeys>, Arc<SealedKv>)>,
}

fn address(number: usize) -> SocketAddr {
    format!("10.77.0.{}:6443", number + 1).parse().unwrap()
}

impl World {
    fn new() -> Self {
        Self {
            kv: Arc::default(),
            peers: Arc::default(),
            dir: tempfile::tempdir().unwrap(),
            nodes: Vec::new(),
        }
    }

    fn path(&self, number: usize) -> PathBuf {
        self.dir.path().join(format!("n{number}")).join(SECRET_KEYS_FILE)
    }

    /// Starts a node with what is in its file; the first leads.
    async fn start(&mut self, number: usize) {
        std::fs::create_dir_all(self.path(number).parent().unwrap()).unwrap();
        let keys = Arc::new(SecretKeys::new(KeyRing::load(&self.path(number)).unwrap()));
        self.peers.nodes.lock().unwrap().insert(address(number), keys.clone());
        let sealed = Arc::new(SealedKv::new(self.kv.clone(), keys.clone()));
        let service = SecretKeyService::new(SecretKeyInput {
            kv: self.kv.clone(),
            sealed: sealed.clone(),
            keys: keys.clone(),
            path: self.path(number),
            own_name: format!("n{number}"),
            api_port: 6443,
            peers: self.peers.clone(),
            leads: Arc::new(move || number == 0),
            clock: Arc::new(crate::sys::clock::now),
        });
        let node = serde_json::json!({
            "name": format!("n{number}"), "address": address(number).ip(), "site": "s",
            "center": "c", "roles": ["control"], "podRange": "10.244.0.0/24",
            "keyFingerprint": "x", "joined": true,
        });
        let key = format!("{NODES_PREFIX}n{number}");
        let success = vec![put_record(&key, &node)];
        let txn = TxnRequest { compare: Vec::new(), success, failure: Vec::new() };
        self.kv.txn(txn).await.unwrap();
        self.nodes.truncate(number);
        self.nodes.push((Arc::new(service), keys, sealed));
    }

    /// All nodes act in turn until none has anything left to do.
    async fn settle(&self) {
        loop {
            let mut acted = false;
            for (service, _, _) in &self.nodes {
                while matches!(service.step().await, Ok(true)) {
                    acted = true;
                }
            }
            if !acted {
                return;
            }
        }
    }

    async fn write(&self, number: usize, name: &str) -> Result<(), StoreError> {
        let op = Op::put(format!("/registry/core/secrets/default/{name}"), "{\"a\":1}");
        let txn = TxnRequest { compare: Vec::new(), success: vec![op], failure: Vec::new() };
        self.nodes[number].2.txn(txn).await.map(drop)
    }

    async fn readable(&self, number: usize) -> usize {
        let range = RangeRequest::prefix("/registry/core/secrets/");
        let kvs = self.nodes[number].2.range(range).await.unwrap().kvs;
        kvs.iter().filter(|kv| !is_sealed(&kv.value)).count()
    }
}

#[tokio::test]
async fn a_cluster_without_keys_gets_one_that_every_control_node_holds() {
    let mut world = World::new();
    for number in 0..3 {
        world.start(number).await;
    }
    assert!(matches!(world.write(1, "early").await, Err(StoreError::NoKey { .. })));
    world.settle().await;
    let status = world.nodes[1].0.status().await.unwrap();
    assert!(status.is_settled(), "{status:?}");
    assert_eq!(status.control_nodes.len(), 3);
    for number in 0..3 {
        world.write(number, &format!("s{number}")).await.unwrap();
        assert_eq!(KeyRing::load(&world.path(number)).unwrap().ids().len(), 1);
    }
    assert_eq!(world.readable(2).await, 3);
}

#[tokio::test]
async fn a_rotation_waits_for_all_and_then_rewrites_everything() {
    let mut world = World::new();
    for number in 0..3 {
        world.start(number).await;
    }
    world.settle().await;
    for number in 0..5 {
        world.write(0, &format!("s{number}")).await.unwrap();
    }
    let old = world.nodes[0].1.active().unwrap();
    // The node that makes the key is not the leader, and is cut off right afterwards.
    let new = world.nodes[1].0.rotate().await.unwrap();
    world.peers.down.lock().unwrap().insert(address(1));
    world.settle().await;
    let status = world.nodes[0].0.status().await.unwrap();
    assert_eq!((status.rotation.active, status.rotation.pending), (Some(old), Some(new)));
    assert_eq!(status.waiting_for, ["n0", "n2"]);
    assert!(world.nodes[2].0.rotate().await.is_err(), "one at a time");
    world.peers.down.lock().unwrap().clear();
    world.settle().await;
    let status = world.nodes[2].0.status().await.unwrap();
    assert!(status.is_settled(), "{status:?}");
    assert_eq!(status.rotation.active, Some(new));
    assert_eq!(status.values, BTreeMap::from([(new, 5)]));
    for number in 0..3 {
        assert_eq!(world.readable(number).await, 5);
        let ring = KeyRing::load(&world.path(number)).unwrap();
        assert!(ring.contains(old) && ring.contains(new), "old backups need the old key");
    }
}

#[tokio::test]
async fn keys_of_a_backup_make_a_restored_cluster_readable() {
    let mut first = World::new();
    first.start(0).await;
    first.settle().await;
    first.write(0, "kept").await.unwrap();
    let mut second = World::new();
    second.start(0).await;
    second.settle().await;
    // The snapshot's objects, under the new cluster's own records.
    let key = "/registry/core/secrets/default/kept";
    let kept = first.kv.range(RangeRequest::key(key)).await.unwrap().kvs[0].value.clone();
    let op = Op::put(key, kept);
    let txn = TxnRequest { compare: Vec::new(), success: vec![op], failure: Vec::new() };
    second.kv.txn(txn).await.unwrap();
    assert_eq!(second.readable(0).await, 0);
    let status = second.nodes[0].0.status().await.unwrap();
    assert_eq!(status.missing, [first.nodes[0].1.active().unwrap()]);
    assert!(!status.is_settled());
    let file = std::fs::read(first.path(0)).unwrap();
    assert_eq!(second.nodes[0].0.import(&file).await.unwrap(), 1);
    second.settle().await;
    assert_eq!(second.readable(0).await, 1);
    let status = second.nodes[0].0.status().await.unwrap();
    assert!(status.is_settled(), "{status:?}");
    assert!(second.nodes[0].0.import(b"{}").await.is_err());
}

#[tokio::test]
async fn a_node_goes_on_with_its_file_after_a_restart() {
    let mut world = World::new();
    world.start(0).await;
    world.settle().await;
    world.write(0, "a").await.unwrap();
    let active = world.nodes[0].1.active();
    world.start(0).await;
    world.settle().await;
    assert_eq!(world.nodes[0].1.active(), active);
    assert_eq!(world.readable(0).await, 1);
    assert_eq!(world.peers.asked.load(Ordering::Relaxed), 0);
}
