//! A million keys: memory, and how soon a restarted member serves them.

use std::time::Duration;
use std::time::Instant;

use super::figures::{self, Figure};
use super::load;
use super::members::client::{Connection, Range};
use super::members::clusters::Cluster;

const KEYS: usize = 1_000_000;
/// So that all of it is one gigabyte.
const VALUE_BYTES: usize = 1_000;
const WRITERS: usize = 200;
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) async fn measure(cluster: &mut Cluster) -> Result<Vec<Figure>, anyhow::Error> {
    let connections = cluster.connections(30).await?;
    let started = Instant::now();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let connection = connections[writer % connections.len()].clone();
        writers.spawn(async move {
            for number in (writer..KEYS).step_by(WRITERS) {
                let value = load::value(VALUE_BYTES, number);
                connection.put(format!("big/{number:08}").into(), value).await?;
            }
            Ok::<_, tonic::Status>(())
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended??;
    }
    let filling = started.elapsed();
    cluster.wait_until_level().await?;
    let mut figures = vec![
        figures::latency("1,000,000 keys of 1 kB: to write them, 200 clients", filling),
        figures::megabytes("1,000,000 keys of 1 kB: memory, largest", cluster.resident()?),
    ];
    let follower = (cluster.leader().await? + 1) % 3;
    cluster.kill(follower)?;
    let started = Instant::now();
    cluster.start_member(follower)?;
    let (own, all) = first_answers(cluster, follower, started).await?;
    figures.push(figures::latency("member with 1 GB restarted: to its first own answer", own));
    figures.push(figures::latency("member with 1 GB restarted: to its first current answer", all));
    Ok(figures)
}

/// From the start of the process to the first serializable and the first linearizable read.
async fn first_answers(
    cluster: &Cluster,
    member: usize,
    started: Instant,
) -> Result<(Duration, Duration), anyhow::Error> {
    let mut own = None;
    loop {
        anyhow::ensure!(started.elapsed() < PATIENCE, "a restarted member does not answer");
        if let Ok(connection) = cluster.connect(member).await {
            if own.is_none() && reads(&connection, true).await {
                own = Some(started.elapsed());
            }
            if let Some(own) = own
                && reads(&connection, false).await
            {
                return Ok((own, started.elapsed()));
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn reads(connection: &Connection, serializable: bool) -> bool {
    let key = format!("big/{:08}", KEYS - 1).into();
    let answer = connection.range(Range { key, serializable, ..Range::default() });
    let answer = tokio::time::timeout(Duration::from_secs(5), answer).await;
    matches!(answer, Ok(Ok(answer)) if answer.kvs.len() == 1)
}
