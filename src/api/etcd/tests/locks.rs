//! Locks and elections: who waits, who follows, who leaves no trace.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{Lines, Member, PATIENCE, b64, plain};

async fn keys(member: &Member, prefix: &str) -> Vec<String> {
    let end = format!("{}0", prefix.trim_end_matches('/'));
    let body = json!({ "key": b64(prefix), "range_end": b64(&end) });
    let found = member.ok("kv/range", body).await;
    found["kvs"].as_array().into_iter().flatten().map(|kv| plain(&kv["key"])).collect()
}

async fn until_keys(member: &Member, prefix: &str, count: usize) -> Vec<String> {
    let started = Instant::now();
    loop {
        let found = keys(member, prefix).await;
        if found.len() == count {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "{found:?} are not {count}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn locks_are_held_one_at_a_time_in_the_order_they_were_asked_for() {
    let member = Arc::new(Member::new());
    for lease in [1, 2, 3] {
        member.ok("lease/grant", json!({ "TTL": 60, "ID": lease })).await;
    }
    let first = member.ok("lock/lock", json!({ "name": b64("n"), "lease": 1 })).await;
    assert_eq!(plain(&first["key"]), "n/1");
    let again = member.ok("lock/lock", json!({ "name": b64("n"), "lease": 1 })).await;
    assert_eq!(again["key"], first["key"], "one lease has one place");
    let mut waiting = JoinSet::new();
    for lease in [2, 3] {
        let taker = member.clone();
        waiting.spawn(async move {
            let body = json!({ "name": b64("n"), "lease": lease });
            plain(&taker.ok("lock/lock", body).await["key"])
        });
        until_keys(&member, "n/", lease).await;
    }
    assert!(waiting.try_join_next().is_none());
    for next in ["n/2", "n/3"] {
        let holder = keys(&member, "n/").await.remove(0);
        member.ok("lock/unlock", json!({ "key": b64(&holder) })).await;
        assert_eq!(waiting.join_next().await.unwrap().unwrap(), next);
    }
}

#[tokio::test]
async fn a_taker_that_goes_away_leaves_no_place_behind() {
    let member = Arc::new(Member::new());
    member.ok("lease/grant", json!({ "TTL": 60, "ID": 1 })).await;
    member.ok("lease/grant", json!({ "TTL": 60, "ID": 2 })).await;
    member.ok("lock/lock", json!({ "name": b64("n"), "lease": 1 })).await;
    let mut waiting = JoinSet::new();
    let taker = member.clone();
    waiting.spawn(async move {
        taker.call("lock/lock", json!({ "name": b64("n"), "lease": 2 })).await;
    });
    until_keys(&member, "n/", 2).await;
    waiting.shutdown().await;
    assert_eq!(until_keys(&member, "n/", 1).await, ["n/1"]);
}

#[tokio::test]
async fn a_lock_without_a_lease_gets_one_and_an_ended_lease_ends_the_wait() {
    let member = Member::new();
    let taken = member.ok("lock/lock", json!({ "name": b64("n") })).await;
    assert_eq!(plain(&taken["key"]), format!("n/{:x}", 1_000));
    let (status, told) = member.call("lock/lock", json!({ "name": b64("m"), "lease": 5 })).await;
    assert_eq!(status.as_u16(), 404);
    assert_eq!(told["error"], "etcdserver: requested lease not found");
}

#[tokio::test]
async fn the_oldest_campaigner_leads_and_observers_see_every_change() {
    let member = Arc::new(Member::new());
    for lease in [10, 11] {
        member.ok("lease/grant", json!({ "TTL": 60, "ID": lease })).await;
    }
    let (_, told) = member.call("election/leader", json!({ "name": b64("e") })).await;
    assert_eq!((&told["error"], &told["code"]), (&json!("election: no leader"), &json!(2)));
    let observe = json!({ "name": b64("e") }).to_string();
    let value = |answer: &Value| plain(&answer["kv"]["value"]);
    let campaign = |lease: i64, value: &str| {
        let (member, value) = (member.clone(), b64(value));
        async move {
            let body = json!({ "name": b64("e"), "lease": lease, "value": value });
            member.ok("election/campaign", body).await["leader"].clone()
        }
    };
    let leader = campaign(10, "first").await;
    assert_eq!(plain(&leader["key"]), "e/a");
    let mut observed = Lines::of(member.open("election/observe", Body::from(observe)).await);
    assert_eq!(value(&observed.result().await), "first");
    let mut waiting = JoinSet::new();
    waiting.spawn(campaign(11, "second"));
    until_keys(&member, "e/", 2).await;
    let proclaim = json!({ "leader": leader, "value": b64("news") });
    member.ok("election/proclaim", proclaim.clone()).await;
    assert_eq!(value(&observed.result().await), "news");
    assert_eq!(value(&member.ok("election/leader", json!({ "name": b64("e") })).await), "news");
    member.ok("election/resign", json!({ "leader": leader })).await;
    let follower = waiting.join_next().await.unwrap().unwrap();
    assert_eq!(follower["lease"], "11");
    assert_eq!(value(&observed.result().await), "second");
    let (_, told) = member.call("election/proclaim", proclaim).await;
    assert_eq!(told["error"], "election: not leader");
    let (_, told) = member.call("election/resign", json!({})).await;
    assert_eq!(told["error"], "\"leader\" field must be provided");
}
