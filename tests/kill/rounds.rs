//! Starts the members and the clients, kills and restarts members, and compares at the end.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;

use holdfast::store::StoppedMember;

use crate::clients::{self, COUNTER, PREFIX, PREFIX_END, Shared};
use crate::history::End;
use crate::members::client::Range;
use crate::members::clusters::{Cluster, Kind};

const MEMBERS: usize = 3;
const WRITERS: usize = 6;
const COUNTERS: usize = 3;
const READERS: usize = 2;
const WATCHERS: usize = 3;
/// How long everything may take to come to rest after the last kill.
const PATIENCE: Duration = Duration::from_secs(120);

fn from_environment(name: &str, default: u64) -> Result<u64, anyhow::Error> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}={text}")),
        Err(_) => Ok(default),
    }
}

pub(crate) fn run() -> Result<(), anyhow::Error> {
    holdfast::sys::tls::install_crypto();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(kill_and_compare())
}

async fn kill_and_compare() -> Result<(), anyhow::Error> {
    let seconds = from_environment("KILL_SECONDS", 45)?;
    let seed = from_environment("KILL_SEED", rand::rng().random())?;
    println!("KILL_SEED={seed} KILL_SECONDS={seconds}");
    let base = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kills");
    let mut cluster = Cluster::start(Kind::Ours, &base).await?;
    let shared = Shared::new(cluster.certificates(), cluster.client_ports());
    let mut clients = JoinSet::new();
    (0..WRITERS).for_each(|client| drop(clients.spawn(clients::write(shared.clone(), client))));
    (0..COUNTERS).for_each(|_| drop(clients.spawn(clients::count(shared.clone()))));
    (0..READERS).for_each(|_| drop(clients.spawn(clients::look(shared.clone()))));
    clients.spawn(clients::tidy(shared.clone()));
    let (last, until) = tokio::sync::watch::channel(None);
    let mut watchers = JoinSet::new();
    for watcher in 0..WATCHERS {
        watchers.spawn(clients::watch(shared.clone(), watcher, until.clone()));
    }

    let killed = kill(&mut cluster, &mut SmallRng::seed_from_u64(seed), seconds).await;
    shared.stop.cancel();
    let outcome = async {
        let kills = killed?;
        while let Some(ended) = clients.join_next().await {
            ended??;
        }
        let end = at_rest(&cluster).await?;
        let newest = end.keys.values().map(|(revision, _)| *revision).max();
        last.send_replace(Some(newest.unwrap_or(0)));
        while let Some(ended) = tokio::time::timeout(PATIENCE, watchers.join_next()).await? {
            shared.history().watched.push(ended??);
        }
        let history = shared.history().clone();
        println!(
            "{kills} kills, {} puts, {} unknown, counter {}, {} reads, {} watches",
            history.acknowledged.len(),
            history.unknown.len(),
            end.counter,
            history.reads,
            history.watched.len()
        );
        anyhow::ensure!(kills > 0 && history.acknowledged.len() > 100, "too little was done");
        history.check(&end)?;
        check_files(&mut cluster)
    };
    let outcome = outcome.await;
    if outcome.is_err() {
        println!("files and logs are in {}", cluster.keep().display());
    }
    outcome
}

/// Kills and restarts until the time is over; says how many processes were killed.
async fn kill(
    cluster: &mut Cluster,
    rng: &mut SmallRng,
    seconds: u64,
) -> Result<usize, anyhow::Error> {
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut kills = 0;
    while Instant::now() < until {
        // The moments of the kills are what is drawn here; nothing is waited for.
        tokio::time::sleep(Duration::from_millis(rng.random_range(50..3_000))).await;
        let first = rng.random_range(0..MEMBERS);
        let count = [1, 1, 1, 2, 3][rng.random_range(0..5)];
        let down: Vec<usize> = (0..count).map(|more| (first + more) % MEMBERS).collect();
        for index in 0..MEMBERS {
            let words = format!("m{} ended by itself: {}", index + 1, cluster.last_words());
            anyhow::ensure!(!cluster.has_ended(index)?, words);
        }
        for index in &down {
            cluster.kill(*index)?;
            kills += 1;
        }
        for index in down {
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..1_500))).await;
            cluster.start_member(index)?;
        }
        // Every other time the next kill meets members that are not level yet.
        if rng.random_bool(0.5) {
            level(cluster).await?;
        }
    }
    Ok(kills)
}

/// Waits until the members are level, over changes of leader.
async fn level(cluster: &Cluster) -> Result<(), anyhow::Error> {
    let started = Instant::now();
    while let Err(error) = cluster.wait_until_level().await {
        anyhow::ensure!(started.elapsed() < PATIENCE, "they do not come to rest: {error:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// What is there when nothing is written any more.
async fn at_rest(cluster: &Cluster) -> Result<End, anyhow::Error> {
    let started = Instant::now();
    loop {
        level(cluster).await?;
        match end(cluster).await {
            Ok(end) => return Ok(end),
            // A leader that has just changed answers the next time.
            Err(error) if started.elapsed() < PATIENCE && error.is::<tonic::Status>() => {}
            Err(error) => return Err(error),
        }
    }
}

/// What is there, the same on every member.
async fn end(cluster: &Cluster) -> Result<End, anyhow::Error> {
    let mut ends = Vec::new();
    for index in 0..MEMBERS {
        let connection = cluster.connect(index).await?;
        let all = Range {
            key: PREFIX.into(),
            range_end: PREFIX_END.into(),
            serializable: true,
            ..Range::default()
        };
        let mut end = End::default();
        for kv in connection.range(all).await?.kvs {
            let key = String::from_utf8(kv.key.to_vec())?;
            anyhow::ensure!(kv.value.starts_with(key.as_bytes()), "{key} has another's value");
            end.keys.insert(key, (kv.mod_revision, kv.version));
        }
        let counter = Range { key: COUNTER.into(), ..Range::default() };
        if let Some(kv) = connection.range(counter).await?.kvs.first() {
            end.counter = std::str::from_utf8(&kv.value)?.parse()?;
        }
        ends.push(end);
    }
    let same = ends.iter().all(|end| end.keys == ends[0].keys && end.counter == ends[0].counter);
    anyhow::ensure!(same, "the members do not hold the same");
    ends.pop().context("there are members")
}

/// Log and state of every member, once more killed, by the offline check.
fn check_files(cluster: &mut Cluster) -> Result<(), anyhow::Error> {
    for index in 0..MEMBERS {
        cluster.kill(index)?;
        let report = StoppedMember::check(&cluster.store_folder(index))?;
        let found = &report.findings;
        anyhow::ensure!(found.is_empty(), "m{}: {found:?}", index + 1);
    }
    Ok(())
}
