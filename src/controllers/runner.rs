//! Runs a controller: inputs to keys, keys to workers, failures to back-off.
//!
//! ```text
//! informer ─ change ─► map to keys ─► work queue ─► reconcile(key) ─► Done
//!     └─ fell behind ─► all keys of all inputs ─┘        ├─► After(t): again at t
//!                                                        └─► error: again after back-off
//! ```
//!
//! Why one loop owns queue and workers: there is no lock to hold and no wake-up to lose.
//! Invariants: one key is reconciled by one worker at a time; a reconcile that panics is
//! a failure of its key, not the end of the controller; nothing outlives `run`.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_stream::wrappers::BroadcastStream;
use tokio_util::sync::CancellationToken;

use crate::base::chain::chain;
use crate::base::limits;
use crate::client::api::ApiError;
use crate::client::informer::{Cached, Informer};
use crate::client::key::ObjectKey;
use crate::logic::workqueue::{Pace, WorkQueue};

/// Of those whose pods change all the time.
pub(super) const PACE_OF_SETS: Pace =
    Pace { burst: limits::CONTROLLER_PACE_BURST, every: limits::CONTROLLER_PACE };

/// What a reconcile could not do, and to which object.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {object}")]
pub struct ControllerError {
    pub action: &'static str,
    pub object: String,
    #[source]
    pub source: ApiError,
}

/// Names the action that an API call served.
pub(crate) trait Act<T> {
    fn act(self, action: &'static str, object: &dyn fmt::Display) -> Result<T, ControllerError>;
}

impl<T> Act<T> for Result<T, ApiError> {
    fn act(self, action: &'static str, object: &dyn fmt::Display) -> Result<T, ControllerError> {
        self.map_err(|source| ControllerError { action, object: object.to_string(), source })
    }
}

/// When a reconciled key is looked at again without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Requeue {
    Done,
    After(Duration),
}

impl Requeue {
    /// The earlier of the two.
    pub(crate) fn sooner(self, other: Requeue) -> Requeue {
        match (self, other) {
            (Requeue::After(one), Requeue::After(other)) => Requeue::After(one.min(other)),
            (Requeue::Done, other) => other,
            (one, Requeue::Done) => one,
        }
    }
}

/// What a controller works on.
pub(crate) trait WorkKey:
    Clone + Eq + Hash + Ord + fmt::Display + Send + Sync + 'static
{
}
impl<K: Clone + Eq + Hash + Ord + fmt::Display + Send + Sync + 'static> WorkKey for K {}

#[async_trait]
pub(crate) trait Controller: Send + Sync + 'static {
    type Key: WorkKey;

    fn name(&self) -> &'static str;

    /// What makes a key worth a look. Called once, before anything is listed.
    fn inputs(&self) -> Vec<Input<Self::Key>>;

    /// How many keys may be worked on at once.
    fn workers(&self) -> usize {
        4
    }

    /// How often one key may be worked on; at any time, if nothing is said.
    fn pace(&self) -> Option<Pace> {
        None
    }

    async fn reconcile(&self, key: &Self::Key) -> Result<Requeue, ControllerError>;
}

/// One informer and what its objects mean for a controller.
pub(crate) struct Input<K> {
    synced: BoxFuture<'static, ()>,
    all: Box<dyn Fn() -> Vec<K> + Send + Sync>,
    /// `None` says that changes were missed.
    changes: BoxStream<'static, Option<Vec<K>>>,
}

impl<K: WorkKey> Input<K> {
    /// `map` names the keys that an object concerns; it is asked about both sides of a
    /// change.
    pub(crate) fn new<T: Cached>(
        informer: &Informer<T>,
        map: impl Fn(&ObjectKey, &T) -> Vec<K> + Send + Sync + 'static,
    ) -> Self {
        Self::on_difference(informer, |_, _| true, map)
    }

    /// As [`Input::new`], but deaf to changes that are no difference to the controller,
    /// such as a node's heartbeat.
    pub(crate) fn on_difference<T: Cached>(
        informer: &Informer<T>,
        differ: fn(&T, &T) -> bool,
        map: impl Fn(&ObjectKey, &T) -> Vec<K> + Send + Sync + 'static,
    ) -> Self {
        let map = Arc::new(map);
        let of_change = Arc::clone(&map);
        let changes = BroadcastStream::new(informer.changes()).map(move |change| {
            let change = change.ok()?;
            if let (Some(old), Some(new)) = (&change.old, &change.new)
                && !differ(old, new)
            {
                return Some(Vec::new());
            }
            let sides = [change.old.as_deref(), change.new.as_deref()];
            Some(
                sides.into_iter().flatten().flat_map(|side| of_change(&change.key, side)).collect(),
            )
        });
        let waiter = informer.clone();
        let lister = informer.clone();
        Self {
            synced: Box::pin(async move { waiter.synced().await }),
            all: Box::new(move || {
                lister.entries().iter().flat_map(|(key, object)| map(key, object)).collect()
            }),
            changes: changes.boxed(),
        }
    }
}

/// Runs the controller until cancelled.
pub(crate) async fn run<C: Controller>(controller: Arc<C>, cancel: CancellationToken) {
    let mut lists = Vec::new();
    let mut streams = Vec::new();
    for input in controller.inputs() {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = input.synced => {}
        }
        lists.push(input.all);
        streams.push(input.changes);
    }
    let mut changes = futures::stream::select_all(streams);
    let mut work = Work::new(controller);
    work.add_all(&lists);
    loop {
        work.start_ready();
        let timer = work.next_timer();
        tokio::select! {
            () = cancel.cancelled() => break,
            Some(change) = changes.next() => match change {
                Some(keys) => keys.into_iter().for_each(|key| work.queue.add(key)),
                None => work.add_all(&lists),
            },
            Some(ended) = work.tasks.join_next_with_id() => work.finish(ended),
            () = tokio::time::sleep_until(timer) => {}
        }
    }
    work.tasks.shutdown().await;
}

struct Work<C: Controller> {
    controller: Arc<C>,
    queue: WorkQueue<C::Key>,
    tasks: JoinSet<Result<Requeue, ControllerError>>,
    running: HashMap<Id, C::Key>,
    epoch: Instant,
}

impl<C: Controller> Work<C> {
    fn new(controller: Arc<C>) -> Self {
        let queue = WorkQueue::new(limits::CONTROLLER_BACKOFF_MIN, limits::CONTROLLER_BACKOFF_MAX)
            .paced(controller.pace());
        let (tasks, running) = (JoinSet::new(), HashMap::new());
        Self { controller, queue, tasks, running, epoch: Instant::now() }
    }

    fn add_all(&mut self, lists: &[Box<dyn Fn() -> Vec<C::Key> + Send + Sync>]) {
        for list in lists {
            list().into_iter().for_each(|key| self.queue.add(key));
        }
    }

    fn start_ready(&mut self) {
        while self.tasks.len() < self.controller.workers()
            && let Some(key) = self.queue.next(self.epoch.elapsed())
        {
            let controller = Arc::clone(&self.controller);
            let target = key.clone();
            let task = self.tasks.spawn(async move { controller.reconcile(&target).await });
            self.running.insert(task.id(), key);
        }
    }

    /// When the queue's next timer rings; far away if there is none, or if all workers
    /// are busy and a ring would change nothing.
    fn next_timer(&self) -> Instant {
        let far = Instant::now() + Duration::from_secs(3_600);
        if self.tasks.len() >= self.controller.workers() {
            return far;
        }
        self.queue.next_timer().map_or(far, |at| self.epoch + at)
    }

    fn finish(&mut self, ended: Result<(Id, Result<Requeue, ControllerError>), JoinError>) {
        let (id, outcome) = match ended {
            Ok((id, outcome)) => (id, outcome.map_err(Some)),
            Err(error) => (error.id(), Err(None)),
        };
        let Some(key) = self.running.remove(&id) else { return };
        let now = self.epoch.elapsed();
        let controller = self.controller.name();
        match outcome {
            Ok(requeue) => {
                if let Requeue::After(pause) = requeue {
                    self.queue.add_at(key.clone(), now + pause);
                }
                self.queue.done(&key, now);
            }
            Err(Some(error)) if error.source.is_conflict() => {
                let error = chain(&error);
                tracing::debug!(controller, %key, error, "lost a race; looking again");
                self.queue.failed(&key, now);
            }
            Err(error) => {
                let error = error.map_or_else(|| "it panicked".to_owned(), |error| chain(&error));
                let again_in = self.queue.failed(&key, now);
                tracing::warn!(controller, %key, error, ?again_in, "reconcile failed");
            }
        }
    }
}
