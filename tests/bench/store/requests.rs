//! Puts, ranges, both mixed, and large lists.

use super::figures::{self, Figure};
use super::load::{self, CONNECTIONS, SPAN};
use super::members::client::{Connection, Range};
use super::members::clusters::Cluster;

/// As the issue of Kubernetes' small objects has it.
const VALUE_BYTES: usize = 256;
/// Keys that ranges and lists read.
const KEYS: usize = 10_000;
/// Of ten mixed requests, so many read.
const READS_OF_TEN: usize = 8;

pub(crate) async fn puts(cluster: &Cluster) -> Result<Vec<Figure>, anyhow::Error> {
    let connections = cluster.connections(CONNECTIONS).await?;
    let mut figures = Vec::new();
    for clients in [1, 100, 1000] {
        let sample = load::run(&connections, clients, SPAN, put).await?;
        figures.extend(figures::rate(format!("put, {clients} clients"), &sample));
    }
    Ok(figures)
}

pub(crate) async fn reads(cluster: &Cluster) -> Result<Vec<Figure>, anyhow::Error> {
    let connections = cluster.connections(CONNECTIONS).await?;
    let mut figures = Vec::new();
    fill(&connections).await?;
    for (serializable, name) in [(false, "linearizable"), (true, "serializable")] {
        for clients in [1, 100, 1000] {
            let get = move |connection: Connection, client, turn| async move {
                let key = list_key((client * 7919 + turn * 31) % KEYS);
                let range = Range { key, serializable, ..Range::default() };
                connection.range(range).await.map(|_| ())
            };
            let sample = load::run(&connections, clients, SPAN, get).await?;
            figures.extend(figures::rate(format!("{name} get, {clients} clients"), &sample));
        }
    }
    let mixed = |connection: Connection, client: usize, turn: usize| async move {
        let key = list_key((client * 7919 + turn * 31) % KEYS);
        if turn % 10 < READS_OF_TEN {
            connection.range(Range { key, ..Range::default() }).await.map(|_| ())
        } else {
            connection.put(key, load::value(VALUE_BYTES, turn)).await.map(|_| ())
        }
    };
    let sample = load::run(&connections, 100, SPAN, mixed).await?;
    figures.extend(figures::rate("8 gets to 2 puts, 100 clients", &sample));
    let list = |connection: Connection, _, _| async move {
        let (key, range_end) = ("list/".into(), "list0".into());
        let answer = connection.range(Range { key, range_end, ..Range::default() }).await?;
        match answer.kvs.len() {
            KEYS => Ok(()),
            other => Err(tonic::Status::data_loss(format!("{other} of {KEYS} keys"))),
        }
    };
    let sample = load::run(&connections, 4, SPAN, list).await?;
    figures.extend(figures::rate("list of 10,000 keys (3 MB), 4 clients", &sample));
    Ok(figures)
}

async fn put(connection: Connection, client: usize, turn: usize) -> Result<(), tonic::Status> {
    let value = load::value(VALUE_BYTES, client * 1_000_003 + turn);
    connection.put(load::key(client, turn), value).await.map(|_| ())
}

fn list_key(number: usize) -> bytes::Bytes {
    format!("list/{number:08}").into()
}

async fn fill(connections: &[Connection]) -> Result<(), anyhow::Error> {
    let mut running = tokio::task::JoinSet::new();
    for (at, connection) in connections.iter().cloned().enumerate() {
        running.spawn(async move {
            for number in (at..KEYS).step_by(CONNECTIONS) {
                connection.put(list_key(number), load::value(VALUE_BYTES, number)).await?;
            }
            Ok::<_, tonic::Status>(())
        });
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(())
}
