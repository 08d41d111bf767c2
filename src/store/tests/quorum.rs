//! What a member says when too few answer, and that a change of leader is ridden out.

use std::time::{Duration, Instant};

use super::{Cluster, PATIENCE, get, put};
use crate::base::ids::MemberId;
use crate::model::kv::RangeRequest;
use crate::store::Kv;
use crate::store::StoreError;

#[tokio::test]
async fn without_a_majority_requests_fail_soon_and_name_who_is_silent() {
    let mut cluster = Cluster::three().await;
    cluster.stores[&1].txn(put("a", "1")).await.unwrap();
    // The last one standing may be the leader or not; both must know.
    let leader = cluster.leader().await;
    let followers: Vec<u64> = [1, 2, 3].into_iter().filter(|id| *id != leader).collect();
    for last in [followers[0], leader] {
        let others: Vec<u64> = [1, 2, 3].into_iter().filter(|id| *id != last).collect();
        let member = cluster.stores[&last].clone();
        others.iter().for_each(|other| cluster.kill(*other));
        let started = Instant::now();
        let read = member.range(RangeRequest::key("a")).await.unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(6), "{:?}: {read}", started.elapsed());
        let StoreError::NoQuorum(loss) = &read else { panic!("{read:?}") };
        assert_eq!(loss.answering, [format!("n{last}")]);
        assert_eq!((loss.silent.len(), loss.missing), (2, 1), "{loss}");
        let known = Instant::now();
        let write = member.txn(put("a", "2")).await.unwrap_err();
        assert!(matches!(write, StoreError::NoQuorum(_)), "{write:?}");
        assert!(write.is_retryable() && known.elapsed() < Duration::from_secs(1));
        let change = member.remove_member(MemberId(others[0])).await.unwrap_err();
        assert!(matches!(change, StoreError::NoQuorum(_)), "{change:?}");
        let stale = RangeRequest { serializable: true, ..RangeRequest::key("a") };
        assert_eq!(member.range(stale).await.unwrap().kvs.len(), 1);
        for other in others {
            cluster.open(other).await;
        }
        let back = Instant::now();
        while let Err(error) = member.txn(put("b", "1")).await {
            assert!(back.elapsed() < PATIENCE, "{error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(get(&member, "a").await.as_deref(), Some("1"));
    }
}

#[tokio::test]
async fn a_membership_change_whose_majority_goes_ends_soon() {
    let mut cluster = Cluster::three().await;
    let leader = cluster.leader().await;
    let store = cluster.stores[&leader].clone();
    let others: Vec<u64> = [1, 2, 3].into_iter().filter(|id| *id != leader).collect();
    others.iter().for_each(|other| cluster.kill(*other));
    let started = Instant::now();
    let change = store.remove_member(MemberId(others[0])).await.unwrap_err();
    assert!(matches!(change, StoreError::Unknown { .. }), "{change:?}");
    assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
    for other in &others {
        cluster.open(*other).await;
    }
    // It was in the leader's log, and asking again finishes it.
    let back = Instant::now();
    while let Err(error) = store.remove_member(MemberId(others[0])).await {
        assert!(back.elapsed() < PATIENCE, "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_change_of_leader_is_ridden_out_without_an_error() {
    let mut cluster = Cluster::three().await;
    for round in 0..3 {
        let leader = cluster.leader().await;
        let other = [1, 2, 3].into_iter().find(|id| *id != leader).unwrap();
        let other = cluster.stores[&other].clone();
        cluster.kill(leader);
        other.range(RangeRequest::key("a")).await.unwrap();
        other.txn(put("a", &round.to_string())).await.unwrap();
        cluster.open(leader).await;
    }
}

#[tokio::test]
async fn what_a_silent_leader_was_asked_is_asked_of_the_next_one() {
    let cluster = Cluster::three().await;
    let leader = cluster.leader().await;
    let other = [1, 2, 3].into_iter().find(|id| *id != leader).unwrap();
    let other = cluster.stores[&other].clone();
    other.txn(put("a", "0")).await.unwrap();
    cluster.hub.silent.lock().unwrap().insert(leader);
    // More than the messages that a member has under way to its leader at a time.
    let mut asked = tokio::task::JoinSet::new();
    for number in 0..20 {
        let other = other.clone();
        asked.spawn(async move {
            if number % 2 == 0 {
                other.txn(put(&format!("a{number}"), "1")).await.map(drop)
            } else {
                other.range(RangeRequest::key("a")).await.map(drop)
            }
        });
    }
    for answer in asked.join_all().await {
        answer.unwrap();
    }
    cluster.hub.silent.lock().unwrap().clear();
    let status = other.status();
    assert_ne!(status.leader, Some(MemberId(leader)), "the silent one still leads");
}
