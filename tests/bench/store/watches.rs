//! One key with many watchers: how long until all of them have heard of a put.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::figures::{self, Figure};
use super::load::{self, Sample};
use super::members::client::Connection;
use super::members::clusters::Cluster;

/// Watches that share a stream, as in a client library that has one stream a process.
const WATCHES_OF_A_STREAM: usize = 100;
/// Puts whose spread is measured.
const PUTS: usize = 50;
/// How long the slowest watcher may take before the measurement fails.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn measure(cluster: &Cluster) -> Result<Vec<Figure>, anyhow::Error> {
    let mut figures = Vec::new();
    for watches in [1_000, 10_000] {
        let before = cluster.resident()?;
        let key = Bytes::from(format!("watched/{watches}"));
        let connections = cluster.connections(watches / WATCHES_OF_A_STREAM).await?;
        let (hear, mut heard) = mpsc::unbounded_channel();
        let mut readers = JoinSet::new();
        for connection in &connections {
            let stream = connection.watch(vec![key.clone(); WATCHES_OF_A_STREAM]).await?;
            readers.spawn(read(stream, hear.clone()));
        }
        let opened = cluster.resident()?;
        let sample = spread(&connections[0], &key, watches, &mut heard).await?;
        let name = format!("{watches} watchers of one key");
        figures.push(figures::latency(format!("{name}: put to the last one, p50"), sample.at(500)));
        figures.push(figures::latency(format!("{name}: put to the last one, p99"), sample.at(990)));
        let grown = opened.saturating_sub(before).max(1);
        figures.push(figures::megabytes(format!("{name}: memory of the fullest member"), grown));
        readers.shutdown().await;
    }
    Ok(figures)
}

/// Reports how many watches a message of the stream has served.
async fn read(
    mut stream: tonic::Streaming<super::members::client::Watched>,
    hear: mpsc::UnboundedSender<usize>,
) {
    while let Ok(Some(message)) = stream.message().await {
        if hear.send(message.events.len()).is_err() {
            return;
        }
    }
}

async fn spread(
    connection: &Connection,
    key: &Bytes,
    watches: usize,
    heard: &mut mpsc::UnboundedReceiver<usize>,
) -> Result<Sample, anyhow::Error> {
    let mut took = Vec::new();
    let started = Instant::now();
    for turn in 0..PUTS {
        let since = Instant::now();
        connection.put(key.clone(), load::value(256, turn)).await?;
        let mut open = watches;
        while open > 0 {
            let events = tokio::time::timeout(PATIENCE, heard.recv()).await?;
            open = open.saturating_sub(events.unwrap_or_default());
        }
        took.push(since.elapsed());
    }
    Ok(Sample::new(took, started.elapsed()))
}
