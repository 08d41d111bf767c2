//! What clients feel while the store compacts, defragments, or loses its leader.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use super::figures::{self, Figure};
use super::load::{self, SPAN};
use super::members::client::Connection;
use super::members::clusters::Cluster;

const CLIENTS: usize = 50;
/// How often the leader is killed.
const KILLS: usize = 5;
/// How long the others may take to accept a write.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn measure(cluster: &mut Cluster) -> Result<Vec<Figure>, anyhow::Error> {
    let connections = cluster.connections(CLIENTS).await?;
    let last = Arc::new(AtomicI64::new(0));
    let seen = last.clone();
    let put = move |connection: Connection, client: usize, turn: usize| {
        let seen = seen.clone();
        async move {
            // A thousand keys each, so that there is something to compact.
            let key = load::key(client, turn % 1000);
            let revision = connection.put(key, load::value(256, turn)).await?;
            seen.fetch_max(revision, Ordering::Relaxed);
            Ok(())
        }
    };
    let quiet = load::run(&connections, CLIENTS, SPAN, put.clone()).await?;
    let mut figures = figures::rate(format!("put, {CLIENTS} clients, quiet"), &quiet).to_vec();
    let busy = tokio::spawn(compact_often(connections[0].clone(), last));
    let sample = load::run(&connections, CLIENTS, SPAN, put.clone()).await?;
    busy.abort();
    figures.push(figures::latency("the same during compactions: p99", sample.at(990)));
    figures.push(figures::latency("the same during compactions: longest", sample.largest()));
    let busy = tokio::spawn(defragment_often(connections[..3].to_vec()));
    let sample = load::run(&connections, CLIENTS, SPAN, put).await?;
    busy.abort();
    figures.push(figures::latency("the same during defragmentation: p99", sample.at(990)));
    figures.push(figures::latency("the same during defragmentation: longest", sample.largest()));
    let mut outages = Vec::new();
    for _ in 0..KILLS {
        outages.push(lose_leader(cluster).await?);
    }
    outages.sort();
    figures.push(figures::latency("leader killed: to the next write, median of 5", outages[2]));
    figures.push(figures::latency("leader killed: to the next write, longest", outages[4]));
    Ok(figures)
}

async fn compact_often(connection: Connection, last: Arc<AtomicI64>) {
    let mut pace = tokio::time::interval(Duration::from_millis(500));
    loop {
        pace.tick().await;
        let upto = last.load(Ordering::Relaxed) - 100;
        let _already_compacted = connection.compact(upto).await;
    }
}

/// Each member in its turn.
async fn defragment_often(connections: Vec<Connection>) {
    for connection in connections.iter().cycle() {
        if connection.defragment().await.is_err() {
            return;
        }
    }
}

/// From the kill of the leader to the next put that another member acknowledges.
async fn lose_leader(cluster: &mut Cluster) -> Result<Duration, anyhow::Error> {
    let leader = cluster.leader().await?;
    let others =
        [cluster.connect((leader + 1) % 3).await?, cluster.connect((leader + 2) % 3).await?];
    cluster.kill(leader)?;
    let killed = Instant::now();
    let mut turn = 0;
    loop {
        let connection = &others[turn % 2];
        let answer = connection.put("trouble".into(), load::value(256, turn));
        let answer = tokio::time::timeout(Duration::from_secs(1), answer).await;
        if matches!(answer, Ok(Ok(_))) {
            break;
        }
        anyhow::ensure!(killed.elapsed() < PATIENCE, "no write after the leader's loss");
        tokio::time::sleep(Duration::from_millis(5)).await;
        turn += 1;
    }
    let outage = killed.elapsed();
    cluster.start_member(leader)?;
    cluster.wait_until_level().await?;
    Ok(outage)
}
