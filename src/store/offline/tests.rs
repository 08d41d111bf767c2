//! Stopped members on real files: read out, snapshot, restored.

use std::io::Cursor;
use std::path::Path;

use super::{Founding, OfflineError, StoppedMember, found_member};
use crate::base::ids::{ClusterId, Generation, MemberId};
use crate::model::kv::{Op, RangeRequest, TxnRequest, WatchItem, WatchRequest};
use crate::store::snapshot_file::{SnapshotFile, SnapshotFormat};
use crate::store::state::{StateError, StateRest};
use crate::store::tests::{Cluster, stopped_with};
use crate::store::{Kv, StoreError};

fn put(key: &str, value: &str) -> TxnRequest {
    TxnRequest { success: vec![Op::put(key.to_owned(), value.to_owned())], ..TxnRequest::default() }
}

/// Every file of a directory.
fn content(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.display().to_string(), std::fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn looking_at_a_killed_member_replays_its_log_and_changes_no_byte() {
    let mut cluster = Cluster::new();
    let store = cluster.open(1).await;
    store.initialize_single("n1", "one").await.unwrap();
    for number in 0..50 {
        store.txn(put("a", &number.to_string())).await.unwrap();
    }
    let running = StoppedMember::open(&cluster.path(1)).unwrap_err();
    assert!(matches!(running, OfflineError::Running { .. }), "{running}");
    drop(store);
    cluster.kill(1);
    // The lock is free as soon as the killed member's last task has ended.
    let member = loop {
        match StoppedMember::open(&cluster.path(1)) {
            Ok(member) => break member,
            Err(OfflineError::Running { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error:?}"),
        }
    };
    let before = content(&cluster.path(1));
    let summary = member.summary().await.unwrap();
    assert_eq!((summary.revision, summary.keys, summary.name.as_str()), (51, 1, "n1"));
    assert_eq!(summary.voters, vec![vec![MemberId(1)]]);
    assert!(summary.last >= summary.committed);
    assert_eq!(content(&cluster.path(1)), before);
}

#[tokio::test]
async fn a_restored_cluster_has_the_keys_and_never_goes_back() {
    let saved = stopped_with(300).await;
    let member = StoppedMember::open(&saved.path(1)).unwrap();
    let mut bytes = Vec::new();
    member.write_snapshot(SnapshotFormat::Holdfast, &mut bytes).await.unwrap();
    let mut file = SnapshotFile::open(Cursor::new(&bytes)).unwrap();
    assert_eq!(file.header.revision, 301);
    let mut cluster = Cluster::new();
    let founding = Founding {
        cluster: cluster.id,
        generation: Generation(1),
        member: MemberId(7),
        name: "n7".into(),
        address: "seven".into(),
        revision: file.header.revision + 1_000,
        log_position: (1, 1),
    };
    let (path, rest) = (cluster.path(7), file.rest.clone());
    let mut records = file.records().unwrap().map(|record| record.map_err(StateError::from));
    assert_eq!(found_member(&path, &founding, &rest, &mut records).unwrap(), 300);
    let occupied = found_member(&path, &founding, &rest, &mut std::iter::empty()).unwrap_err();
    assert!(matches!(occupied, OfflineError::Occupied { .. }));
    drop(records);
    let store = cluster.open(7).await;
    let answer = store.range(RangeRequest::prefix("k")).await.unwrap();
    assert_eq!((answer.count, answer.revision), (300, 1_301));
    let one = store.range(RangeRequest::key("k7")).await.unwrap().kvs.remove(0);
    assert_eq!((&one.value[..], one.version, one.mod_revision), (&b"v7"[..], 1, 9));
    // Who watched the old cluster, even past the snapshot, is told.
    for from in [5, 302, 1_300] {
        let watch = WatchRequest { start_revision: from, ..WatchRequest::default() };
        let watch = WatchRequest { key: "k7".into(), ..watch };
        let told = match store.watch(watch).await {
            Err(StoreError::Compacted { .. }) => true,
            Err(error) => panic!("{error}"),
            Ok(mut items) => matches!(items.recv().await, Some(WatchItem::Compacted { .. })),
        };
        assert!(told, "a watch from {from}");
    }
    assert_eq!(store.txn(put("k7", "new")).await.unwrap().revision, 1_302);
    // It can grow, and be restarted.
    cluster.open(8).await;
    store.add_member(MemberId(8), "n8", "eight", true).await.unwrap();
    store.txn(put("k8", "new")).await.unwrap();
    drop(store);
    cluster.stop(7).await;
    let again = cluster.open(7).await;
    let one = again.range(RangeRequest::key("k8")).await.unwrap().kvs.remove(0);
    assert_eq!(&one.value[..], b"new");
}

#[test]
fn a_record_that_cannot_be_is_refused_and_leaves_no_directory() {
    let dir = tempfile::tempdir().unwrap();
    let founding = Founding {
        cluster: ClusterId(uuid::Uuid::new_v4()),
        generation: Generation(1),
        member: MemberId(1),
        name: "n".into(),
        address: "a".into(),
        revision: 5,
        log_position: (1, 1),
    };
    let bad = crate::model::kv::KeyValue {
        key: "a".into(),
        create_revision: 3,
        mod_revision: 6,
        version: 1,
        ..Default::default()
    };
    let path = dir.path().join("store");
    let rest = StateRest::default();
    let mut bad = std::iter::once(Ok(bad));
    let refused = found_member(&path, &founding, &rest, &mut bad).unwrap_err();
    assert!(matches!(refused, OfflineError::State { .. }), "{refused}");
    assert!(!path.exists());
}
