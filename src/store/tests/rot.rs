//! Damage below a member: found by the scrub, by the check, and never served.

use std::time::Duration;

use super::{Cluster, PATIENCE, put};
use crate::store::{Kv, StoppedMember, StoreError};

/// Flips a byte of every occurrence of `text` in the file.
fn rot(path: &std::path::Path, text: &[u8]) -> usize {
    let mut bytes = std::fs::read(path).unwrap();
    let places: Vec<usize> =
        (0..bytes.len() - text.len()).filter(|at| bytes[*at..].starts_with(text)).collect();
    for at in &places {
        bytes[*at] ^= 0xff;
    }
    std::fs::write(path, bytes).unwrap();
    places.len()
}

async fn three_hundred() -> Cluster {
    let mut cluster = Cluster::new();
    let store = cluster.open(1).await;
    store.initialize_single("n1", "one").await.unwrap();
    for number in 0..300 {
        store.txn(put(&format!("k{number}"), &format!("value{number}"))).await.unwrap();
    }
    for number in 0..100 {
        store.txn(put(&format!("k{number}"), "again")).await.unwrap();
    }
    cluster
}

#[tokio::test]
async fn a_sound_member_is_found_sound_by_check_and_scrub() {
    let mut cluster = three_hundred().await;
    let shared = cluster.stores[&1].shared.clone();
    shared.state.flush().await.unwrap();
    shared.scrub_pass(Some(Duration::ZERO)).await.unwrap();
    cluster.stores[&1].compact(200).await.unwrap();
    drop(shared);
    cluster.stop(1).await;
    let report = StoppedMember::check(&cluster.path(1)).unwrap();
    assert_eq!(report.findings, vec![]);
    assert_eq!((report.keys, report.revision), (300, 401));
    assert!(report.log_entries >= 400);
}

#[tokio::test]
async fn a_rotten_log_entry_is_found_by_both() {
    let mut cluster = three_hundred().await;
    let log = cluster.path(1).join("log.0000000001");
    assert!(rot(&log, b"value150") > 0);
    let store = cluster.stores[&1].clone();
    let found = store.shared.scrub_pass(Some(Duration::ZERO)).await.unwrap_err();
    assert!(found.contains("damaged"), "{found}");
    store.shared.clone().scrub().await;
    let error = tokio::time::timeout(PATIENCE, store.failed()).await.unwrap();
    assert!(matches!(error, StoreError::Fatal { .. }), "{error}");
    assert!(error.to_string().contains("holdfast node remove"), "{error}");
    assert!(store.range(crate::model::kv::RangeRequest::key("k1")).await.is_err());
    drop(store);
    let store = cluster.stores.remove(&1).unwrap();
    store.shutdown().await;
    drop(store);
    let report = loop {
        match StoppedMember::check(&cluster.path(1)) {
            Ok(report) => break report,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    assert!(report.findings.iter().any(|finding| finding.part == "log"), "{report:?}");
}

#[tokio::test]
async fn a_rotten_record_of_the_state_is_found_by_the_check() {
    let mut cluster = three_hundred().await;
    cluster.stop(1).await;
    assert!(rot(&cluster.path(1).join("state.redb"), b"value250") > 0);
    let report = StoppedMember::check(&cluster.path(1)).unwrap();
    assert!(report.findings.iter().any(|finding| finding.part == "state"), "{report:?}");
}
