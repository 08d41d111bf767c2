//! Leases on real members: their keys end with them, wherever the leader is.

use std::time::{Duration, Instant};

use super::{Cluster, PATIENCE, get, put};
use crate::model::auth::Caller;
use crate::model::kv::{EventKind, PutRequest, WatchItem, WatchRequest};
use crate::model::refusal::Refusal;
use crate::store::admin_api::Leases;
use crate::store::{EtcdKv, Kv, Store, StoreError};

const ME: Caller = Caller::Internal;

async fn attach(store: &Store, key: &str, lease: i64) {
    let key = key.to_owned().into();
    let request = PutRequest { key, value: "v".into(), lease, ..PutRequest::default() };
    store.put_as(&ME, request).await.unwrap();
}

fn refused<T: std::fmt::Debug>(result: Result<T, StoreError>) -> Refusal {
    match result {
        Err(StoreError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_revoked_lease_takes_its_keys_in_one_revision() {
    let mut cluster = Cluster::new();
    let store = cluster.open(1).await;
    store.initialize_single("n1", "one").await.unwrap();
    let granted = store.lease_grant(&ME, 7, 600).await.unwrap();
    assert_eq!((granted.id, granted.ttl_s), (7, 600));
    assert_eq!(refused(store.lease_grant(&ME, 7, 600).await), Refusal::LeaseExists);
    let lost = PutRequest { key: "x".into(), lease: 9, ..PutRequest::default() };
    assert_eq!(refused(store.put_as(&ME, lost).await), Refusal::LeaseNotFound);
    for key in ["b", "a", "c", "d"] {
        attach(&store, key, 7).await;
    }
    store.txn(put("c", "detached")).await.unwrap();
    let other = store.lease_grant(&ME, 0, 600).await.unwrap().id;
    attach(&store, "d", other).await;

    let asked = store.lease_time_to_live(&ME, 7, true).await.unwrap();
    assert_eq!(asked.keys, ["a", "b"]);
    assert!((590..=600).contains(&asked.ttl_s) && asked.granted_ttl_s == 600, "{asked:?}");

    let mut watch = store.watch(WatchRequest::prefix("", 2)).await;
    assert!(watch.is_err(), "an empty key is refused inside");
    watch = store.watch(WatchRequest::prefix("a", 0)).await;
    let mut watch = watch.unwrap();
    let revision = store.lease_revoke(&ME, 7).await.unwrap();
    loop {
        match watch.recv().await.unwrap() {
            WatchItem::Progress(_) => {}
            WatchItem::Events { revision: at, events } => {
                assert_eq!((at, events[0].kind), (revision, EventKind::Delete));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(get(&store, "b").await, None);
    assert_eq!(get(&store, "c").await.as_deref(), Some("detached"));
    assert_eq!(get(&store, "d").await.as_deref(), Some("v"));
    assert_eq!(refused(store.lease_revoke(&ME, 7).await), Refusal::LeaseNotFound);
    assert_eq!(store.lease_time_to_live(&ME, 7, false).await.unwrap().ttl_s, -1);
    assert_eq!(refused(store.lease_keep_alive(&ME, 7).await), Refusal::LeaseNotFound);
    assert_eq!(store.leases(&ME).await.unwrap(), [other]);
}

#[tokio::test]
async fn leases_live_with_keepalives_over_a_leader_change_and_end_without() {
    let mut cluster = Cluster::three().await;
    let leader = cluster.leader().await;
    let (kept, left) = (11, 12);
    for store in cluster.stores.values() {
        let _ = store.lease_grant(&ME, kept, 4).await;
        let _ = store.lease_grant(&ME, left, 4).await;
        attach(store, "kept", kept).await;
        attach(store, "left", left).await;
    }
    cluster.kill(leader);
    let survivor = cluster.stores.values().next().unwrap().clone();
    let started = Instant::now();
    while get(&survivor, "left").await.is_some() {
        let ttl = survivor.lease_keep_alive(&ME, kept).await.unwrap();
        assert_eq!(ttl, 4);
        assert!(started.elapsed() < PATIENCE, "the lease does not end");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!(started.elapsed() > Duration::from_secs(3), "it ended early");
    assert_eq!(get(&survivor, "kept").await.as_deref(), Some("v"));
    // What was killed knows nothing of the end and must learn it.
    let back = cluster.open(leader).await;
    assert_eq!(get(&back, "left").await, None);
    assert_eq!(back.leases(&ME).await.unwrap(), [kept]);
}

#[tokio::test]
async fn leases_and_their_keys_survive_a_restart() {
    let mut cluster = Cluster::new();
    let store = cluster.open(1).await;
    store.initialize_single("n1", "one").await.unwrap();
    store.lease_grant(&ME, 5, 900).await.unwrap();
    attach(&store, "k", 5).await;
    store.shutdown().await;
    drop(store);
    cluster.kill(1);
    let store = cluster.open(1).await;
    let asked = store.lease_time_to_live(&ME, 5, true).await.unwrap();
    assert_eq!((asked.keys.len(), asked.granted_ttl_s), (1, 900));
    store.lease_revoke(&ME, 5).await.unwrap();
    assert_eq!(get(&store, "k").await, None);
}
