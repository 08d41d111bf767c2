//! Damage below a member: found by the scrub, by the check, never served; a damaged state is
//! fetched from another member.

use std::time::Duration;

use super::{Cluster, PATIENCE, get, put};
use crate::base::ids::MemberId;
use crate::model::kv::{RangeRequest, TxnRequest};
use crate::store::member::OpenError;
use crate::store::scrub::Damage;
use crate::store::{
    Kv, RepairError, StoppedMember, Store, StoreConfig, StoreDeps, StoreError, StoreTuning,
};

/// Changes a byte of every occurrence of `text` in the file, each in another way, so that no
/// two copies still agree.
fn rot(path: &std::path::Path, text: &[u8]) -> usize {
    let mut bytes = std::fs::read(path).unwrap();
    let places: Vec<usize> =
        (0..bytes.len() - text.len()).filter(|at| bytes[*at..].starts_with(text)).collect();
    for (at, flip) in places.iter().zip((1..=127).cycle()) {
        bytes[*at] ^= flip;
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
    assert!(matches!(&found, Damage::Log(what) if what.contains("damaged")), "{found}");
    store.shared.stop_for(&found);
    let error = tokio::time::timeout(PATIENCE, store.failed()).await.unwrap();
    assert!(matches!(error, StoreError::Fatal { .. }), "{error}");
    assert!(error.to_string().contains("holdfast node remove"), "{error}");
    assert!(store.range(RangeRequest::key("k1")).await.is_err());
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

/// Keys of three members; several times what their logs keep.
const KEYS: u64 = 120;

/// So long that a start does not read all of them.
fn long_value(number: u64) -> String {
    format!("value{number:<400}")
}

/// Writes through whoever leads, over changes of leader.
async fn write(cluster: &Cluster, request: TxnRequest) {
    let written = async {
        loop {
            let leader = cluster.leader().await;
            if cluster.stores[&leader].txn(request.clone()).await.is_ok() {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, written).await.unwrap();
}

/// Three members with a log that begins behind the first entries, and a follower of them.
async fn three_with_follower() -> (Cluster, u64) {
    let tuning = StoreTuning { snapshot_every: 30, keep_entries: 10, ..StoreTuning::default() };
    let mut cluster = Cluster { tuning, ..Cluster::new() };
    let first = cluster.open(1).await;
    first.initialize_single("n1", "one").await.unwrap();
    for member in [2, 3] {
        cluster.open(member).await;
        first.add_member(MemberId(member), &format!("n{member}"), "x", true).await.unwrap();
    }
    for number in 0..KEYS {
        write(&cluster, put(&format!("k{number}"), &long_value(number))).await;
    }
    let leader = cluster.leader().await;
    let follower = if leader == 1 { 2 } else { 1 };
    wait_for(&cluster.stores[&leader], &cluster.stores[&follower]).await;
    cluster.stop(follower).await;
    (cluster, follower)
}

/// Until the second member has what the first one has.
async fn wait_for(ahead: &Store, behind: &Store) {
    let upto = ahead.status().revision;
    let reached = async {
        while behind.status().revision < upto {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.unwrap();
}

/// It has everything, votes, and its files are sound.
async fn is_whole(cluster: &mut Cluster, member: u64) {
    write(cluster, put("after", "written")).await;
    let store = cluster.stores[&member].clone();
    let (first, rotten) = (long_value(0), long_value(77));
    for (key, value) in [("k0", &first[..]), ("k77", &rotten[..]), ("after", "written")] {
        assert_eq!(get(&store, key).await.as_deref(), Some(value));
    }
    // The third one is stopped, so the majority needs the repaired one's vote.
    let leader = cluster.leader().await;
    let third = (1..=3).find(|id| *id != member && *id != leader).unwrap();
    cluster.stop(third).await;
    write(cluster, put("both", "of us")).await;
    assert_eq!(store.status().member, MemberId(member));
    // What is committed it hears with the next message.
    wait_for(&cluster.stores[&leader], &store).await;
    drop(store);
    cluster.stop(member).await;
    let report = StoppedMember::check(&cluster.path(member)).unwrap();
    assert_eq!((report.findings, report.keys), (vec![], KEYS + 2));
}

#[tokio::test]
async fn a_state_that_rots_under_a_follower_is_found_and_fetched_from_the_others() {
    let (mut cluster, follower) = three_with_follower().await;
    let state = cluster.path(follower).join("state.redb");
    assert!(rot(&state, b"value77") > 0);
    let store = cluster.open(follower).await;
    let found = store.shared.scrub_pass(Some(Duration::ZERO)).await.unwrap_err();
    assert!(matches!(found, Damage::State(_)), "{found}");
    store.shared.stop_for(&found);
    let error = tokio::time::timeout(PATIENCE, store.failed()).await.unwrap();
    assert!(error.to_string().contains("fetches the state from another"), "{error}");
    assert!(store.range(RangeRequest::key("k77")).await.is_err());
    drop(store);
    cluster.stop(follower).await;
    cluster.open(follower).await;
    is_whole(&mut cluster, follower).await;
}

#[tokio::test]
async fn a_rotten_block_is_not_served_and_stops_the_member_that_reads_it() {
    let (mut cluster, follower) = three_with_follower().await;
    assert!(rot(&cluster.path(follower).join("state.redb"), b"value77 ") > 0);
    let store = cluster.open(follower).await;
    let local =
        |key: &str| RangeRequest { serializable: true, ..RangeRequest::key(key.to_owned()) };
    assert_eq!(store.range(local("k0")).await.unwrap().count, 1);
    let error = store.range(local("k77")).await.unwrap_err();
    assert!(error.to_string().contains("is not as written"), "{error}");
    let error = tokio::time::timeout(PATIENCE, store.failed()).await.unwrap();
    assert!(matches!(error, StoreError::Fatal { .. }), "{error}");
    assert!(store.range(local("k0")).await.is_err());
    assert!(cluster.path(follower).join("state.damaged").exists());
    drop(store);
    cluster.stop(follower).await;
    cluster.open(follower).await;
    is_whole(&mut cluster, follower).await;
}

/// A state that was cut off, by any length, is noticed before anything is served.
#[tokio::test]
async fn a_state_that_was_cut_is_fetched_from_the_others() {
    let (mut cluster, follower) = three_with_follower().await;
    let state = cluster.path(follower).join("state.redb");
    let file = std::fs::File::options().write(true).open(&state).unwrap();
    let len = file.metadata().unwrap().len();
    file.set_len(len - 4_096).unwrap();
    drop(file);
    cluster.open(follower).await;
    assert!(!cluster.path(follower).join("state.damaged").exists());
    is_whole(&mut cluster, follower).await;
}

#[tokio::test]
async fn a_state_that_cannot_be_opened_is_fetched_from_the_others() {
    let (mut cluster, follower) = three_with_follower().await;
    let state = cluster.path(follower).join("state.redb");
    let bytes = std::fs::read(&state).unwrap();
    std::fs::write(&state, vec![0x5a; bytes.len()]).unwrap();
    cluster.open(follower).await;
    is_whole(&mut cluster, follower).await;
}

#[tokio::test]
async fn the_damaged_state_of_a_member_that_is_alone_is_not_opened_again() {
    let mut cluster = three_hundred().await;
    let store = cluster.stores[&1].clone();
    store.shared.state.note_what("the test says so");
    drop(store);
    cluster.stop(1).await;
    let config = StoreConfig {
        cluster_id: cluster.id,
        generation: cluster.generation,
        member_id: MemberId(1),
        tuning: cluster.tuning,
    };
    let deps = StoreDeps::on_host(&cluster.path(1), cluster.hub.clone()).unwrap();
    let refused = Store::open(config, deps).await.unwrap_err();
    assert!(matches!(&refused, OpenError::State(RepairError::Unrepaired { .. })), "{refused}");
    assert!(refused.to_string().contains("restore a snapshot"), "{refused}");
}
