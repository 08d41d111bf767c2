//! Clients that go on over any number of killed members and note what they were told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use rand::RngExt;
use tokio_util::sync::CancellationToken;

use crate::history::History;
use crate::members::client::{Connection, Range, WatchCreate};

/// How long an answer is waited for; then the fate of a write is unknown.
const ANSWER: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(50);
/// Revisions behind the slowest watcher that a compaction leaves.
const KEPT: i64 = 100;
pub(crate) const COUNTER: &str = "counter";
/// All keys that are written once.
pub(crate) const PREFIX: &str = "u/";
pub(crate) const PREFIX_END: &str = "u0";

/// What the clients share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) history: Mutex<History>,
    certificates: std::path::PathBuf,
    ports: Vec<u16>,
    /// The newest revision and value of the counter that anybody was told.
    told: AtomicI64,
    counted: AtomicI64,
    /// How far each watcher has seen.
    seen: Mutex<BTreeMap<usize, i64>>,
    pub(crate) stop: CancellationToken,
}

type Violations = Result<(), anyhow::Error>;

impl Shared {
    pub(crate) fn new(certificates: &std::path::Path, ports: Vec<u16>) -> Arc<Self> {
        Arc::new(Self {
            history: Mutex::default(),
            certificates: certificates.to_owned(),
            ports,
            told: AtomicI64::new(0),
            counted: AtomicI64::new(0),
            seen: Mutex::default(),
            stop: CancellationToken::new(),
        })
    }

    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().expect("no client panics")
    }

    /// A connection to any member that takes one.
    async fn connect(&self) -> Option<Connection> {
        let port = self.ports[rand::rng().random_range(0..self.ports.len())];
        let opened = Connection::open(&self.certificates, port);
        let opened = tokio::time::timeout(Duration::from_secs(2), opened).await;
        match opened {
            Ok(Ok(connection)) => Some(connection),
            _ => {
                tokio::time::sleep(PAUSE).await;
                None
            }
        }
    }

    fn note_seen(&self, watcher: usize, revision: i64) {
        self.seen.lock().expect("no client panics").insert(watcher, revision);
    }

    /// What the slowest watcher has seen.
    fn seen_by_all(&self) -> i64 {
        let seen = self.seen.lock().expect("no client panics");
        seen.values().copied().min().unwrap_or(0)
    }

    fn running(&self) -> bool {
        !self.stop.is_cancelled()
    }
}

/// Waits for an answer; `None` if there was none that says what was done.
async fn answer<T>(call: impl Future<Output = Result<T, tonic::Status>>) -> Option<T> {
    tokio::time::timeout(ANSWER, call).await.ok()?.ok()
}

/// Puts keys of its own, each once.
pub(crate) async fn write(shared: Arc<Shared>, client: usize) -> Violations {
    let mut number = 0;
    while shared.running() {
        let Some(connection) = shared.connect().await else { continue };
        while shared.running() {
            let key = format!("{PREFIX}{client:02}/{number:07}");
            number += 1;
            // Noted before, so that what is cut off here is known to be unknown.
            shared.history().unknown.insert(key.clone());
            let value = Bytes::from(format!("{key} ").repeat(10));
            let Some(revision) = answer(connection.put(key.clone().into(), value)).await else {
                break;
            };
            let mut history = shared.history();
            history.unknown.remove(&key);
            history.acknowledged.insert(key, revision);
            drop(history);
            shared.told.fetch_max(revision, Ordering::SeqCst);
        }
    }
    Ok(())
}

fn number(value: &Bytes) -> Result<i64, anyhow::Error> {
    Ok(std::str::from_utf8(value)?.parse()?)
}

/// The counter's value and the revision of its last change, by a read that is checked.
async fn read(
    shared: &Shared,
    connection: &Connection,
) -> Result<Option<(i64, i64)>, anyhow::Error> {
    let (told, counted) =
        (shared.told.load(Ordering::SeqCst), shared.counted.load(Ordering::SeqCst));
    let range = Range { key: COUNTER.into(), ..Range::default() };
    let Some(found) = answer(connection.range(range)).await else { return Ok(None) };
    let at = found.header.unwrap_or_default().revision;
    anyhow::ensure!(at >= told, "a read showed revision {at} after {told} was acknowledged");
    let kv = found.kvs.into_iter().next();
    let (value, changed) = match kv {
        Some(kv) => (number(&kv.value)?, kv.mod_revision),
        None => (0, 0),
    };
    anyhow::ensure!(value >= counted, "a read showed {value} after {counted} was acknowledged");
    shared.history().reads += 1;
    Ok(Some((value, changed)))
}

/// Counts up by comparing and swapping.
pub(crate) async fn count(shared: Arc<Shared>) -> Violations {
    while shared.running() {
        let Some(connection) = shared.connect().await else { continue };
        while shared.running() {
            let Some((value, changed)) = read(&shared, &connection).await? else { break };
            let next = (value + 1).to_string().into();
            shared.history().counted_unknown += 1;
            let swapped = answer(connection.put_if(COUNTER.into(), changed, next)).await;
            let Some(swapped) = swapped else { break };
            let mut history = shared.history();
            history.counted_unknown -= 1;
            if swapped.succeeded {
                history.counted.push(value + 1);
                shared.counted.fetch_max(value + 1, Ordering::SeqCst);
                let revision = swapped.header.unwrap_or_default().revision;
                shared.told.fetch_max(revision, Ordering::SeqCst);
            }
        }
    }
    Ok(())
}

/// Reads through one member after the other.
pub(crate) async fn look(shared: Arc<Shared>) -> Violations {
    while shared.running() {
        let Some(connection) = shared.connect().await else { continue };
        for _ in 0..20 {
            if read(&shared, &connection).await?.is_none() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    Ok(())
}

/// Compacts what all watchers have seen, and defragments one member after the other.
pub(crate) async fn tidy(shared: Arc<Shared>) -> Violations {
    while shared.running() {
        let Some(connection) = shared.connect().await else { continue };
        let _cut_off_or_too_late = answer(connection.compact(shared.seen_by_all() - KEPT)).await;
        let _cut_off = answer(connection.defragment()).await;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// Watches all keys from the first revision on and goes on where it was cut off, until it
/// has seen what `until` says, which is known only after the last write.
pub(crate) async fn watch(
    shared: Arc<Shared>,
    watcher: usize,
    until: tokio::sync::watch::Receiver<Option<i64>>,
) -> Result<Vec<(String, i64)>, anyhow::Error> {
    let mut seen: Vec<(String, i64)> = Vec::new();
    shared.note_seen(watcher, 0);
    let reached = |seen: &[(String, i64)]| {
        let last = seen.last().map_or(0, |(_, revision)| *revision);
        until.borrow().is_some_and(|until| last >= until)
    };
    while !reached(&seen) {
        let Some(connection) = shared.connect().await else { continue };
        let from = seen.last().map_or(1, |(_, revision)| revision + 1);
        let create =
            WatchCreate { key: PREFIX.into(), range_end: PREFIX_END.into(), start_revision: from };
        let Some(mut stream) = answer(connection.watch_all(vec![create])).await else { continue };
        while !reached(&seen) {
            // Now and then it asks whether it is done.
            let next = tokio::time::timeout(Duration::from_secs(1), stream.message()).await;
            let message = match next {
                Err(_) => continue,
                Ok(Ok(Some(message))) if !message.canceled => message,
                Ok(_) => break,
            };
            for event in message.events {
                let kv = event.kv.unwrap_or_default();
                seen.push((String::from_utf8(kv.key.to_vec())?, kv.mod_revision));
                shared.note_seen(watcher, kv.mod_revision);
            }
        }
    }
    Ok(seen)
}
