//! Clients that ask as fast as they are answered, and what they waited.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::JoinSet;

use super::members::client::Connection;

/// Before measuring: connections, caches and queues reach their usual state.
const WARM_UP: Duration = Duration::from_secs(2);
/// What is measured.
pub(crate) const SPAN: Duration = Duration::from_secs(8);
/// Most connections; more clients share them, as with etcd's own benchmark tool.
pub(crate) const CONNECTIONS: usize = 99;

/// Latencies in order, and how long all of it took.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    sorted: Vec<Duration>,
    span: Duration,
}

impl Sample {
    pub(crate) fn new(mut all: Vec<Duration>, span: Duration) -> Self {
        all.sort();
        Self { sorted: all, span }
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.sorted.len() as f64 / self.span.as_secs_f64()
    }

    /// The latency that so many thousandths of the requests do not exceed.
    pub(crate) fn at(&self, thousandths: usize) -> Duration {
        let last = self.sorted.len().saturating_sub(1);
        self.sorted.get(last * thousandths / 1000).copied().unwrap_or_default()
    }

    pub(crate) fn largest(&self) -> Duration {
        self.sorted.last().copied().unwrap_or_default()
    }
}

/// What one client does over and over; the number counts its requests.
pub(crate) trait Work:
    Fn(Connection, usize, usize) -> Self::Turn + Send + Sync + 'static
{
    type Turn: Future<Output = Result<(), tonic::Status>> + Send;
}

impl<F, T> Work for F
where
    F: Fn(Connection, usize, usize) -> T + Send + Sync + 'static,
    T: Future<Output = Result<(), tonic::Status>> + Send,
{
    type Turn = T;
}

/// Runs `clients` of them over these connections until the span is over.
pub(crate) async fn run<W: Work>(
    connections: &[Connection],
    clients: usize,
    span: Duration,
    work: W,
) -> Result<Sample, anyhow::Error> {
    let work = Arc::new(work);
    let started = Instant::now();
    let (from, until) = (started + WARM_UP, started + WARM_UP + span);
    let mut running = JoinSet::new();
    for client in 0..clients {
        let connection = connections[client % connections.len()].clone();
        let work = work.clone();
        running.spawn(async move {
            let mut took = Vec::new();
            for turn in 0.. {
                let since = Instant::now();
                if since >= until {
                    break;
                }
                work(connection.clone(), client, turn).await?;
                if since >= from {
                    took.push(since.elapsed());
                }
            }
            Ok::<_, tonic::Status>(took)
        });
    }
    let mut all = Vec::new();
    while let Some(ended) = running.join_next().await {
        all.extend(ended??);
    }
    Ok(Sample::new(all, span))
}

/// So many bytes that do not compress to nothing.
pub(crate) fn value(bytes: usize, seed: usize) -> Bytes {
    let mut state = seed as u64 | 1;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

pub(crate) fn key(client: usize, turn: usize) -> Bytes {
    format!("bench/{client:04}/{turn:08}").into()
}
