//! The one writer of the log, and what of the log is in memory.
//!
//! Lifecycle of an append: it becomes readable (`recent`), waits in the queue, is
//! committed with all that waits beside it, and only then is Raft told.
//!
//! The commit mark alone is not worth an fsync: it waits for the next batch or for
//! [`IDLE_COMMIT`]. Losing it costs only that a restart learns it from the leader. The same
//! goes for the purge mark: what it lets go is merely kept longer. What was purged is given
//! up beside the commits, or a slow disk would keep a leader from its heartbeats.
//! Not here: openraft's traits (`storage`).

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use openraft::storage::IOFlushed;
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::{LogChange, LogError, LogFile, NotedStarts};
use crate::base::chain::chain;
use crate::store::disk::{StoreDisk, run_on};
use crate::store::types::{Entry, LogId, TypeConfig, Vote};

/// Log writes that may wait; Raft is held back beyond it.
const QUEUE: usize = 1_024;
/// Most bytes in one commit, so that one batch cannot hold up the next for long.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Entries kept readable in memory after they are durable.
const RECENT_ENTRIES: usize = 4_096;
/// Entries that are read at once at the start.
const READ_ENTRIES: u64 = 1_024;
/// How long a mark may wait for company.
const IDLE_COMMIT: Duration = Duration::from_millis(200);

/// Whom to tell when a write is durable.
pub(super) enum Done {
    Raft(IOFlushed<TypeConfig>),
    Caller(oneshot::Sender<Result<(), io::Error>>),
    Nobody,
}

impl Done {
    fn tell(self, result: &Result<(), String>) {
        let result = result.clone().map_err(io::Error::other);
        match self {
            Done::Raft(callback) => callback.io_completed(result),
            // The caller may have gone; the write stands all the same.
            Done::Caller(caller) => drop(caller.send(result)),
            Done::Nobody => {}
        }
    }
}

/// One write in the queue.
pub(super) struct LogWrite {
    pub(super) changes: Vec<LogChange>,
    pub(super) done: Done,
}

impl LogWrite {
    fn bytes(&self) -> usize {
        self.changes.iter().map(LogChange::bytes).sum()
    }
}

/// What of the log is known without the disk.
#[derive(Debug)]
pub(super) struct LogMemory {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
    pub(super) last: Option<LogId>,
    /// The newest entries, without a hole; all that is not durable yet is among them.
    pub(super) recent: BTreeMap<u64, Entry>,
    /// Index of the newest entry that is durable.
    durable: u64,
}

/// The log as Raft holds it; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct LogStore {
    pub(super) file: Arc<dyn LogFile>,
    pub(super) disk: Arc<dyn StoreDisk>,
    memory: Arc<Mutex<LogMemory>>,
    pub(super) starts: NotedStarts,
    queue: mpsc::Sender<LogWrite>,
}

impl std::fmt::Debug for LogWrite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogWrite").field("changes", &self.changes.len()).finish()
    }
}

impl LogStore {
    /// Reads the log's head, and what the state has not `applied` for the starts that it
    /// notes, and starts its owner on `tracker`; the owner ends when the last clone is
    /// dropped. `took` is told how long each commit takes.
    pub(crate) fn start(
        file: Arc<dyn LogFile>,
        disk: Arc<dyn StoreDisk>,
        applied: Option<LogId>,
        tracker: &TaskTracker,
        took: Histogram,
    ) -> Result<Self, LogError> {
        let head = file.head()?;
        let starts = NotedStarts::default();
        let last = head.last.map_or(0, |last| last.index);
        let mut next = applied.map_or(0, |applied| applied.index + 1);
        while next <= last {
            let to = next + READ_ENTRIES;
            file.read(next, to)?.iter().for_each(|entry| starts.note(entry));
            next = to;
        }
        let memory = Arc::new(Mutex::new(LogMemory {
            vote: head.vote,
            committed: head.committed,
            purged: head.purged,
            last: head.last,
            recent: BTreeMap::new(),
            durable: head.last.map_or(0, |last| last.index),
        }));
        let (queue, receiver) = mpsc::channel(QUEUE);
        let owner = Owner {
            file: file.clone(),
            disk: disk.clone(),
            memory: memory.clone(),
            receiver,
            tracker: tracker.clone(),
            took,
            mark: None,
            purge: None,
            tidying: None,
            failed: None,
        };
        tracker.spawn(owner.run());
        Ok(Self { file, disk, memory, starts, queue })
    }

    /// The starts of members that the log notes.
    pub(crate) fn starts(&self) -> NotedStarts {
        self.starts.clone()
    }

    pub(super) fn memory(&self) -> MutexGuard<'_, LogMemory> {
        self.memory.lock().expect("no holder of the log's memory panics")
    }

    pub(super) async fn submit(&self, write: LogWrite) -> io::Result<()> {
        self.queue.send(write).await.map_err(|_| io::Error::other("the log is closed"))
    }

    /// Queues changes and waits until they are durable.
    pub(super) async fn write(&self, changes: Vec<LogChange>) -> io::Result<()> {
        let (tx, rx) = oneshot::channel();
        self.submit(LogWrite { changes, done: Done::Caller(tx) }).await?;
        rx.await.map_err(|_| io::Error::other("the log is closed"))?
    }
}

struct Owner {
    file: Arc<dyn LogFile>,
    disk: Arc<dyn StoreDisk>,
    memory: Arc<Mutex<LogMemory>>,
    receiver: mpsc::Receiver<LogWrite>,
    tracker: TaskTracker,
    /// How long commits take.
    took: Histogram,
    /// The newest commit mark that is not on disk.
    mark: Option<Option<LogId>>,
    /// The newest purge mark that is not on disk.
    purge: Option<LogId>,
    /// How tidying ends, while it goes on.
    tidying: Option<oneshot::Receiver<Result<(), String>>>,
    /// Set by the first failed commit; after it every write fails.
    failed: Option<String>,
}

impl Owner {
    async fn run(mut self) {
        loop {
            let first = if self.mark.is_some() || self.purge.is_some() {
                match tokio::time::timeout(IDLE_COMMIT, self.receiver.recv()).await {
                    Ok(first) => first,
                    Err(_) => {
                        self.commit(Vec::new()).await;
                        continue;
                    }
                }
            } else {
                self.receiver.recv().await
            };
            let Some(first) = first else { break };
            let mut bytes = first.bytes();
            let mut batch = vec![first];
            while bytes < BATCH_BYTES {
                let Ok(next) = self.receiver.try_recv() else { break };
                bytes += next.bytes();
                batch.push(next);
            }
            self.commit(batch).await;
        }
        if self.mark.is_some() || self.purge.is_some() {
            self.commit(Vec::new()).await;
        }
    }

    async fn commit(&mut self, batch: Vec<LogWrite>) {
        let mut changes = Vec::new();
        let mut waiting = Vec::new();
        for write in batch {
            for change in write.changes {
                match change {
                    LogChange::Committed(mark) => self.mark = Some(mark),
                    LogChange::Purge(upto) => self.purge = self.purge.max(Some(upto)),
                    change => changes.push(change),
                }
            }
            waiting.push(write.done);
        }
        // A batch of nothing but marks waits for company.
        let only_marks = changes.is_empty() && !waiting.is_empty();
        if only_marks {
            waiting.into_iter().for_each(|done| done.tell(&Ok(())));
            return;
        }
        if let Some(upto) = self.purge.take() {
            // In front: what follows a snapshot is appended behind what it purged.
            changes.insert(0, LogChange::Purge(upto));
        }
        if let Some(mark) = self.mark.take() {
            changes.push(LogChange::Committed(mark));
        }
        let before = self.memory.lock().expect("no holder of the log's memory panics").durable;
        let durable = changes.iter().fold(before, |durable, change| match change {
            LogChange::Append { index, .. } => *index,
            LogChange::TruncateFrom(from) => durable.min(from.saturating_sub(1)),
            _ => durable,
        });
        let result = self.write(changes).await;
        if result.is_ok() {
            self.settle(durable);
        }
        waiting.into_iter().for_each(|done| done.tell(&result));
    }

    async fn write(&mut self, changes: Vec<LogChange>) -> Result<(), String> {
        if let Some(Ok(tidied)) = self.tidying.as_mut().map(oneshot::Receiver::try_recv) {
            // It says so once.
            self.tidying = None;
            if let Err(reason) = tidied {
                self.failed.get_or_insert(reason);
            }
        }
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let (file, took) = (self.file.clone(), self.took.clone());
        let work = move || {
            let since = std::time::Instant::now();
            let committed = file.commit(changes);
            took.observe(since.elapsed().as_secs_f64());
            committed
        };
        let result = run_on(&*self.disk, work).await;
        let result = match result {
            Ok(Ok(untidy)) => {
                if untidy {
                    self.tidy();
                }
                Ok(())
            }
            Ok(Err(error)) => Err(chain(&error)),
            Err(error) => Err(chain(&error)),
        };
        if let Err(reason) = &result {
            tracing::error!(reason, "the log cannot be written; this member stops");
            self.failed = Some(reason.clone());
        }
        result
    }

    /// Tidies beside the commits, once more if that goes on already.
    fn tidy(&mut self) {
        let before = self.tidying.take();
        let (done, tidying) = oneshot::channel();
        self.tidying = Some(tidying);
        let (file, disk) = (self.file.clone(), self.disk.clone());
        self.tracker.spawn(async move {
            let before = match before {
                Some(before) => before.await.unwrap_or(Ok(())),
                None => Ok(()),
            };
            let tidied = match run_on(&*disk, move || file.tidy()).await {
                Ok(tidied) => tidied.map_err(|error| chain(&error)),
                Err(error) => Err(chain(&error)),
            };
            let result = before.and(tidied);
            if let Err(reason) = &result {
                tracing::error!(reason, "the log cannot be tidied; this member stops");
            }
            // The owner has ended with the member.
            let _ = done.send(result);
        });
    }

    /// Notes what is durable and forgets what memory need not hold.
    fn settle(&self, durable: u64) {
        let mut memory = self.memory.lock().expect("no holder of the log's memory panics");
        memory.durable = durable;
        while memory.recent.len() > RECENT_ENTRIES {
            match memory.recent.first_key_value() {
                Some((index, _)) if *index <= memory.durable => memory.recent.pop_first(),
                _ => break,
            };
        }
    }
}
