//! Measures writes on this machine's disk; run by hand, see `src/docs/store.md`.
//!
//! Why ignored and without a bound: a test must not depend on how fast the machine is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Cluster, put};
use crate::model::auth::Caller;
use crate::model::kv::{WatchItem, WatchRequest};
use crate::store::{EtcdKv, Kv, Store};

/// How long each figure is measured.
const SPAN: Duration = Duration::from_secs(5);
const CLIENTS: usize = 100;

/// Latencies of one client's writes, one after another.
async fn alone(store: &Store) -> Vec<Duration> {
    let value = "x".repeat(256);
    let mut took = Vec::new();
    let end = Instant::now() + SPAN;
    while Instant::now() < end {
        let since = Instant::now();
        store.txn(put(&format!("alone/{}", took.len()), &value)).await.unwrap();
        took.push(since.elapsed());
    }
    took.sort();
    took
}

/// Writes per second of many clients.
async fn together(store: &Arc<Store>) -> f64 {
    let mut clients = tokio::task::JoinSet::new();
    let since = Instant::now();
    for client in 0..CLIENTS {
        let store = store.clone();
        clients.spawn(async move {
            let value = "x".repeat(256);
            let mut written = 0_usize;
            while since.elapsed() < SPAN {
                store.txn(put(&format!("many/{client}/{written}"), &value)).await.unwrap();
                written += 1;
            }
            written
        });
    }
    let written: usize = clients.join_all().await.into_iter().sum();
    written as f64 / since.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, not a test"]
async fn write_speed() {
    println!("| members | one client: median / 99 % | {CLIENTS} clients |");
    println!("|---|---|---|");
    for members in [1, 3] {
        let mut cluster = Cluster::new();
        let store = cluster.open(1).await;
        store.initialize_single("n1", "one").await.unwrap();
        if members == 3 {
            for member in [2, 3] {
                cluster.open(member).await;
                store.add_member(crate::base::ids::MemberId(member), "n", "x", true).await.unwrap();
            }
        }
        let took = alone(&store).await;
        let at = |part: usize| took[(took.len() - 1) * part / 100].as_secs_f64() * 1e3;
        let (median, slow) = (at(50), at(99));
        let rate = together(&store).await;
        println!("| {members} | {median:.2} ms / {slow:.2} ms | {rate:.0} writes/s |");
    }
}

/// Watches of keys of their own, and streams that carry them.
const WATCHES: i64 = 10_000;
const STREAMS: i64 = 100;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, not a test"]
async fn watch_speed() {
    let mut cluster = Cluster::new();
    let store = cluster.open(1).await;
    store.initialize_single("n1", "one").await.unwrap();
    let quiet = together(&store).await;
    let received = Arc::new(AtomicU64::new(0));
    let mut readers = tokio::task::JoinSet::new();
    for stream_number in 0..STREAMS {
        let mut stream = store.watch_stream(&Caller::Internal).await.unwrap();
        for number in 0..WATCHES / STREAMS {
            let key = format!("many/{}/{}", stream_number, number);
            let request = WatchRequest { key: key.into(), ..WatchRequest::default() };
            stream.add(number, request).await.unwrap();
        }
        let received = received.clone();
        readers.spawn(async move {
            while let Some((_, item)) = stream.next().await {
                let events = matches!(item, WatchItem::Events { .. });
                received.fetch_add(u64::from(events), Ordering::Relaxed);
            }
        });
    }
    let watched = together(&store).await;
    readers.abort_all();
    println!("puts/s without watches {quiet:.0}, with {WATCHES} {watched:.0}");
    println!("events received {}", received.load(Ordering::Relaxed));
}
