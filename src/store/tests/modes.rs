//! The commit modes on real members: 1 and 2 are the city, 3 (which votes) and 4 the other.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio_util::task::TaskTracker;

use super::{Cluster, get, put};
use crate::base::ids::MemberId;
use crate::logic::remote_sync::{CommitMode, Footing};
use crate::model::kv::{RangeRequest, WatchItem, WatchRequest};
use crate::store::commitment::CommitmentWish;
use crate::store::message::ChangeRefused;
use crate::store::{Kv, Store, StoreError};

/// A footing takes ten seconds to come back by itself, on a machine with nothing else to do.
const PATIENCE: Duration = Duration::from_secs(120);

async fn two_sites() -> Cluster {
    let mut cluster = Cluster::three().await;
    cluster.open(4).await;
    let first = cluster.stores[&1].clone();
    first.add_learner(MemberId(4), "n4", "x").await.unwrap();
    first.place_remote(CommitMode::RemoteSync, other_site()).await.unwrap();
    cluster
}

fn other_site() -> BTreeSet<MemberId> {
    [MemberId(3), MemberId(4)].into()
}

/// Cuts the remote members off from the city, or lets them back.
fn cut_off(cluster: &Cluster, is_cut: bool) {
    let cut = if is_cut { [3, 4].into() } else { Default::default() };
    *cluster.hub.cut_off.lock().unwrap() = cut;
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn waits(store: &Store) -> bool {
    store.commitment().waits_for_remote()
}

#[tokio::test]
async fn the_city_waits_falls_back_and_returns_and_under_max_protection_it_stops() {
    let since = Instant::now();
    // On a busy machine another member may come to lead meanwhile, which is another case.
    while !the_city_lives_through_it().await {
        assert!(since.elapsed() < PATIENCE * 3, "no leader stays");
    }
}

/// Sets the mode as often as the center falls behind before that.
async fn protect(city: &Store) {
    let since = Instant::now();
    loop {
        until("synchronous", || waits(city)).await;
        match city.set_commit_mode(CommitMode::MaxProtection, other_site(), "a test", "").await {
            Ok(()) => return,
            Err(error) => assert!(since.elapsed() < PATIENCE, "{error}"),
        }
    }
}

/// Whether the first member led until the remote center was let back for good.
async fn the_city_lives_through_it() -> bool {
    let mut cluster = two_sites().await;
    let city = cluster.stores[&1].clone();
    let remote = cluster.stores[&4].clone();
    let term = city.status().term;
    let leads = |city: &Store| city.is_leader() && city.status().term == term;
    city.txn(put("a", "1")).await.unwrap();
    until("synchronous", || waits(&city)).await;
    city.txn(put("a", "2")).await.unwrap();
    until("a claim", || remote.standing().proven_ms > 0).await;
    // What was answered is on both.
    let answered = city.standing().shown;
    if !waits(&city) || !leads(&city) {
        return false;
    }
    for member in [3, 4] {
        let standing = cluster.stores[&member].standing();
        assert!(standing.last >= answered, "{standing:?}");
    }

    cut_off(&cluster, true);
    let since = Instant::now();
    let writing = city.clone();
    let write = TaskTracker::new().spawn(async move { writing.txn(put("a", "3")).await });
    // Nothing of it is seen before the city may go on alone.
    while !write.is_finished() {
        let stale = RangeRequest { serializable: true, ..RangeRequest::key("a") };
        let seen = city.range(stale).await.unwrap();
        if waits(&city) {
            assert_eq!(&seen.kvs[0].value[..], b"2", "{answered}");
        }
        assert!(since.elapsed() < PATIENCE, "it does not fall back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    if write.await.unwrap().is_err() || !leads(&city) {
        return false;
    }
    until("fallen back", || city.commitment().footing == Footing::FallenBack).await;
    let view = city.replication(Duration::from_secs(1)).await;
    let alone = remote.replication(Duration::from_secs(1)).await;
    let Some(leader) = view.leader.filter(|_| leads(&city)) else { return false };
    assert!(leader.members.iter().any(|lag| lag.member.0 == 4 && lag.entries > 0), "{leader:?}");
    assert!(alone.leader.is_none() && alone.is_remote && alone.commitment.remote.len() == 2);
    assert!(alone.promise_age_ms.is_some());

    cut_off(&cluster, false);
    until("synchronous again", || waits(&city)).await;
    assert_eq!(get(&city, "a").await.as_deref(), Some("3"));

    protect(&city).await;
    city.txn(put("a", "4")).await.unwrap();
    let mut watch =
        city.watch(WatchRequest { key: "a".into(), ..WatchRequest::default() }).await.unwrap();
    if !leads(&city) {
        return false;
    }
    cut_off(&cluster, true);
    let unsure = city.txn(put("a", "5")).await.unwrap_err();
    let refused = city.txn(put("a", "6")).await.unwrap_err();
    let stale = || RangeRequest { serializable: true, ..RangeRequest::key("a") };
    let read = city.range(stale()).await.unwrap();
    let told = watch.try_recv();
    if !leads(&city) {
        return false;
    }
    assert!(unsure.to_string().contains("max-protection"), "{unsure}");
    assert!(matches!(refused, StoreError::HeldBack { .. }), "{refused:?}");
    assert!(refused.is_retryable() && refused.to_string().contains("max-protection"));
    assert_eq!(&read.kvs[0].value[..], b"4", "reads go on, of what is safe");
    assert!(told.is_err(), "nobody is told of it");
    // A restart does not show it either.
    drop(city);
    cluster.kill(2);
    let other = cluster.open(2).await;
    let seen = other.range(stale()).await.unwrap();
    assert!(seen.kvs.iter().all(|kv| &kv.value[..] != b"5"), "{seen:?}");

    let city = cluster.stores[&cluster.leader_now().await].clone();
    let since = Instant::now();
    while let Err(error) =
        city.set_commit_mode(CommitMode::RemoteSync, other_site(), "a test", "").await
    {
        assert!(since.elapsed() < PATIENCE, "{error}");
    }
    while let Err(error) = city.txn(put("a", "7")).await {
        assert!(since.elapsed() < PATIENCE, "{error}");
    }
    loop {
        let item = tokio::time::timeout(PATIENCE, watch.recv()).await.unwrap().unwrap();
        let WatchItem::Events { events, .. } = item else { continue };
        if &events[0].kv.value[..] == b"7" {
            break;
        }
    }
    let modes: Vec<_> = city.commitment().journal.iter().map(|note| note.mode).collect();
    assert!(modes.contains(&CommitMode::MaxProtection), "{modes:?}");
    true
}

#[tokio::test]
async fn a_mode_that_cannot_be_is_refused_and_a_majority_changes_nothing() {
    let cluster = Cluster::three().await;
    let store = cluster.stores[&2].clone();
    let refused = store
        .set_commit_mode(CommitMode::RemoteSync, [MemberId(3)].into(), "a test", "")
        .await
        .unwrap_err();
    assert!(matches!(refused, StoreError::BadRequest { .. }), "{refused:?}");
    assert!(refused.to_string().contains("second site"), "{refused}");
    store.place_remote(CommitMode::Majority, Default::default()).await.unwrap();
    store.place_remote(CommitMode::Majority, [MemberId(2), MemberId(3)].into()).await.unwrap();
    assert_eq!(store.commitment().changed, 0, "nothing is written where nothing changes");
    store.set_commit_mode(CommitMode::Majority, other_site(), "a test", "").await.unwrap();
    assert!(store.commitment().chosen || !store.is_leader());
    store.txn(put("a", "1")).await.unwrap();
}

/// A leader whom nobody answers refuses a change without writing it, and goes on to lead when
/// it is answered again, for the others heard it all the time.
#[tokio::test]
async fn a_change_that_a_leader_refused_does_not_stand_in_the_way_of_the_next() {
    let since = Instant::now();
    // On a busy machine another may come to lead, or the other site to count: another case.
    while !refused_and_taken_up_later().await {
        assert!(since.elapsed() < PATIENCE, "it never came to that");
    }
}

/// Whether the leader stayed the same until the end.
async fn refused_and_taken_up_later() -> bool {
    let cluster = two_sites().await;
    let leader = cluster.leader_now().await;
    let store = &cluster.stores[&leader];
    let shared = store.shared.clone();
    let term = store.status().term;
    let leads = || store.is_leader() && store.status().term == term;
    let wish = CommitmentWish::Mode {
        mode: CommitMode::Majority,
        remote: [3, 4].into(),
        by: "a test".into(),
        reason: String::new(),
    };
    let before = shared.state.commitment();
    if before.footing != Footing::FallenBack {
        // Such a change waits for promises before it is proposed.
        return false;
    }
    cluster.hub.deaf.lock().unwrap().insert(leader);
    until("nobody answers", || shared.quorum.loss().is_some() || !leads()).await;
    let refused = shared.fulfil_here(wish).await;
    cluster.hub.deaf.lock().unwrap().clear();
    until("it is answered again", || shared.quorum.loss().is_none() || !leads()).await;
    let Err(ChangeRefused::Later { .. }) = refused else { panic!("{refused:?}") };
    if !leads() {
        return false;
    }
    assert_eq!(shared.state.commitment().mode, before.mode, "it was not written");
    store.set_commit_mode(CommitMode::Majority, other_site(), "a test", "").await.unwrap();
    assert_eq!(shared.state.commitment().mode, CommitMode::Majority);
    true
}
