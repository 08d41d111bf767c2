//! A new generation from the one survivor, and members of the old one that come back.

use std::sync::Arc;
use std::time::Duration;

use super::{Cluster, PATIENCE, get, put};
use crate::base::ids::{Generation, MemberId};
use crate::model::recovery::{GenerationRecord, KnownMember, LogEnd, SignedGeneration};
use crate::store::{
    Founding, GenerationTrust, Kv, Replay, StoppedMember, StoreError, found_member,
};

/// Trusts what says that it is signed.
#[derive(Debug)]
struct Trusting;

impl GenerationTrust for Trusting {
    fn is_signed(&self, record: &SignedGeneration) -> bool {
        record.signature == "signed"
    }
}

fn record(cluster: &Cluster, signature: &str) -> SignedGeneration {
    let known = |id: u64| KnownMember {
        member: MemberId(id),
        name: format!("n{id}"),
        address: format!("address of {id}"),
    };
    let record = GenerationRecord {
        cluster: cluster.id,
        generation: Generation(2),
        parents: vec![Generation(1)],
        fork: LogEnd::default(),
        member: MemberId(2_001),
        name: "n3".into(),
        former: vec![known(1), known(2), known(3)],
        reason: "test".into(),
        at: jiff::Timestamp::UNIX_EPOCH,
    };
    let record = serde_json::to_string(&record).unwrap();
    SignedGeneration { record, signature: signature.into() }
}

/// Three members, of which the third goes on alone as the second generation.
async fn recovered() -> Cluster {
    let mut cluster = Cluster::three().await;
    let leader = cluster.leader().await;
    cluster.stores[&leader].txn(put("a", "kept")).await.unwrap();
    for member in [1, 2, 3] {
        cluster.stop(member).await;
    }
    let survivor = StoppedMember::open(&cluster.path(3)).unwrap();
    let summary = survivor.summary().await.unwrap();
    assert_eq!(summary.members.len(), 3);
    let founding = Founding {
        cluster: cluster.id,
        generation: Generation(2),
        member: MemberId(2_001),
        name: "n3".into(),
        address: "address of 3".into(),
        revision: summary.revision + 1_000,
        log_position: (summary.last.term + 1, summary.last.index + 1),
    };
    let mut records = survivor.live_records(Replay::Everything).await.unwrap();
    let rest = survivor.rest(Replay::Everything).await.unwrap();
    found_member(&cluster.path(2_001), &founding, &rest, &mut records).unwrap();
    drop((records, survivor));
    cluster.generation = Generation(2);
    let store = cluster.open(2_001).await;
    assert_eq!(get(&store, "a").await.as_deref(), Some("kept"));
    assert!(store.txn(put("b", "new")).await.unwrap().revision > summary.revision + 1_000);
    cluster.generation = Generation(1);
    cluster
}

#[tokio::test]
async fn a_majority_of_the_old_generation_that_comes_back_learns_that_it_has_ended() {
    let mut cluster = recovered().await;
    let signed = record(&cluster, "signed");
    cluster.stores[&2_001].know_generations(Arc::new(Trusting), Some(signed));
    for member in [1, 2] {
        let old = cluster.open(member).await;
        old.know_generations(Arc::new(Trusting), None);
    }
    for member in [1, 2] {
        let old = cluster.stores[&member].clone();
        let error = tokio::time::timeout(PATIENCE, old.failed()).await.unwrap();
        assert!(matches!(error, StoreError::Removed), "{error}");
        assert!(old.txn(put("a", "stray")).await.is_err());
        drop(old);
        cluster.stop(member).await;
        // It knows it after a restart, before anybody tells it again.
        let again = cluster.open(member).await;
        assert!(again.status().health.starts_with("removed"), "{:?}", again.status());
    }
    // The new generation grows under new ids.
    cluster.generation = Generation(2);
    let store = cluster.stores[&2_001].clone();
    for member in [2_002, 2_003] {
        cluster.open(member).await;
        store.add_member(MemberId(member), "new", "x", true).await.unwrap();
    }
    assert_eq!(get(&cluster.stores[&2_003], "b").await.as_deref(), Some("new"));
}

#[tokio::test]
async fn a_record_that_nobody_signed_ends_nothing_but_its_sender_is_not_listened_to_either() {
    let mut cluster = recovered().await;
    let forged = record(&cluster, "forged");
    cluster.stores[&2_001].know_generations(Arc::new(Trusting), Some(forged));
    for member in [1, 2] {
        cluster.open(member).await.know_generations(Arc::new(Trusting), None);
    }
    let old = cluster.stores[&1].clone();
    let written = tokio::time::timeout(PATIENCE, async {
        while old.txn(put("a", "still ours")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    written.await.unwrap();
    let new = cluster.stores[&2_001].clone();
    assert_eq!(get(&new, "a").await.as_deref(), Some("kept"));
}
