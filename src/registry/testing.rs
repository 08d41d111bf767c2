//! Test doubles: a store in memory, and peers that are other registries in this process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::mpsc;

use crate::model::kv::{
    CompareOp, CompareTarget, Event, EventKind, KeyValue, Op, OpResponse, RangeRequest,
    RangeResponse, Revision, TxnRequest, TxnResponse, WatchItem, WatchRequest,
};
use crate::registry::{BlobPeers, BlobStream, Digest, PeerFetchError, Registry, RegistryConfig};
use crate::store::{Kv, StoreError};

#[derive(Debug, Default)]
struct State {
    revision: Revision,
    data: BTreeMap<Bytes, KeyValue>,
    watchers: Vec<(WatchRequest, mpsc::Sender<WatchItem>)>,
}

/// What the registry uses of a store: ranges at the newest revision, transactions with
/// mod-revision compares, watches of what comes.
#[derive(Debug, Default)]
pub(crate) struct MemoryKv(Mutex<State>);

fn inside(key: &[u8], start: &[u8], end: &[u8]) -> bool {
    if end.is_empty() { key == start } else { key >= start && (end == [0] || key < end) }
}

impl State {
    fn range(&self, request: &RangeRequest) -> RangeResponse {
        let mut kvs: Vec<KeyValue> = self
            .data
            .values()
            .filter(|kv| inside(&kv.key, &request.key, &request.range_end))
            .cloned()
            .collect();
        let count = kvs.len();
        if request.limit > 0 {
            kvs.truncate(request.limit as usize);
        }
        if request.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        RangeResponse { revision: self.revision, more: kvs.len() < count, kvs, count: count as i64 }
    }
}

#[async_trait]
impl Kv for MemoryKv {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        Ok(self.0.lock().unwrap().range(&request))
    }

    async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, StoreError> {
        let mut state = self.0.lock().unwrap();
        let succeeded = request.compare.iter().all(|compare| {
            assert_eq!(compare.op, CompareOp::Equal);
            let CompareTarget::ModRevision(wanted) = compare.target else { panic!("unsupported") };
            state.data.get(&compare.key).map_or(0, |kv| kv.mod_revision) == wanted
        });
        let operations = if succeeded { request.success } else { request.failure };
        let revision = state.revision + 1;
        let mut events = Vec::new();
        let mut responses = Vec::new();
        for operation in operations {
            match operation {
                Op::Put(put) => {
                    let kv = KeyValue {
                        key: put.key.clone(),
                        value: put.value,
                        mod_revision: revision,
                        ..KeyValue::default()
                    };
                    state.data.insert(put.key, kv.clone());
                    events.push(Event { kind: EventKind::Put, kv, prev_kv: None });
                    responses.push(OpResponse::Put { revision: 0, prev_kv: None });
                }
                Op::DeleteRange(delete) => {
                    assert!(delete.range_end.is_empty());
                    let kv = KeyValue { key: delete.key.clone(), ..KeyValue::default() };
                    let deleted = i64::from(state.data.remove(&delete.key).is_some());
                    events.push(Event { kind: EventKind::Delete, kv, prev_kv: None });
                    responses.push(OpResponse::DeleteRange {
                        revision: 0,
                        deleted,
                        prev_kvs: Vec::new(),
                    });
                }
                Op::Range(_) | Op::Txn(_) => panic!("the registry does not use these"),
            }
        }
        if !events.is_empty() {
            state.revision = revision;
            for (watch, sender) in &state.watchers {
                let events: Vec<Event> = events
                    .iter()
                    .filter(|event| inside(&event.kv.key, &watch.key, &watch.range_end))
                    .cloned()
                    .collect();
                if !events.is_empty() {
                    // A watcher that is gone or full does not matter to these tests.
                    let _ = sender.try_send(WatchItem::Events { revision, events });
                }
            }
        }
        Ok(TxnResponse { revision: state.revision, succeeded, responses })
    }

    async fn compact(&self, _: Revision) -> Result<(), StoreError> {
        Ok(())
    }

    async fn watch(&self, request: WatchRequest) -> Result<mpsc::Receiver<WatchItem>, StoreError> {
        let (sender, receiver) = mpsc::channel(1_000);
        self.0.lock().unwrap().watchers.push((request, sender));
        Ok(receiver)
    }
}

/// Peers within the test.
#[derive(Debug, Default)]
pub(crate) struct LocalPeers(Mutex<Vec<Weak<Registry>>>);

impl LocalPeers {
    pub(crate) fn add(&self, registry: &Arc<Registry>) {
        self.0.lock().unwrap().push(Arc::downgrade(registry));
    }
}

#[async_trait]
impl BlobPeers for LocalPeers {
    async fn fetch(&self, digest: &Digest) -> Result<BlobStream, PeerFetchError> {
        let peers: Vec<Arc<Registry>> =
            self.0.lock().unwrap().iter().filter_map(Weak::upgrade).collect();
        for peer in peers {
            if let Ok(reader) = peer.local_blob(digest).await {
                let content = reader.read_all().await.unwrap();
                let chunk = Ok(Bytes::from(content));
                return Ok(futures::stream::iter([chunk]).boxed());
            }
        }
        Err(PeerFetchError::Nowhere)
    }
}

/// A registry with its directory.
#[derive(Debug)]
pub(crate) struct TestNode {
    pub(crate) registry: Arc<Registry>,
    pub(crate) directory: tempfile::TempDir,
}

pub(crate) fn node(name: &str, kv: &Arc<MemoryKv>, peers: &Arc<LocalPeers>) -> TestNode {
    let directory = tempfile::tempdir().unwrap();
    let config =
        RegistryConfig { directory: directory.path().to_owned(), node_name: name.to_owned() };
    let registry = Arc::new(Registry::new(config, kv.clone(), peers.clone()).unwrap());
    peers.add(&registry);
    TestNode { registry, directory }
}
