//! Owns every long-lived task: starts them in order, notices any exit, stops in reverse.
//!
//! ```text
//!   start(a) start(b) start(c) ──► run ──► stop asked, or one task ended
//!                                            │
//!                          cancel c, wait ◄──┘ cancel b, wait … cancel a, wait
//! ```
//! Invariants: no task ends unnoticed; a stop takes at most one deadline in all; a task
//! that ends by itself brings the whole process down, because half a node is worse than
//! a restart by the service manager.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use tokio::task::{Id, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    #[error("task {task} ended although nobody asked it to")]
    Ended { task: &'static str },
    #[error("task {task} failed: {reason}")]
    Failed { task: &'static str, reason: String },
    #[error("task {task} panicked")]
    Panicked { task: &'static str },
}

#[derive(Debug)]
struct Task {
    name: &'static str,
    cancel: CancellationToken,
    id: Id,
}

/// The set of tasks, in starting order.
#[derive(Debug, Default)]
pub struct Supervisor {
    running: JoinSet<Result<(), String>>,
    order: Vec<Task>,
}

impl Supervisor {
    /// Starts a task; it must run until its token is cancelled.
    pub fn start<F, Work, Error>(&mut self, name: &'static str, task: F)
    where
        F: FnOnce(CancellationToken) -> Work,
        Work: Future<Output = Result<(), Error>> + Send + 'static,
        Error: std::error::Error + 'static,
    {
        let cancel = CancellationToken::new();
        let work = task(cancel.clone());
        let handle = self
            .running
            .spawn(async move { work.await.map_err(|error| crate::base::chain::chain(&error)) });
        self.order.push(Task { name, cancel, id: handle.id() });
    }

    /// Runs until `stop` resolves or a task ends, then stops all within `deadline`.
    pub async fn run(
        mut self,
        stop: impl Future<Output = ()>,
        deadline: Duration,
    ) -> Result<(), SuperviseError> {
        let names: HashMap<Id, &'static str> =
            self.order.iter().map(|task| (task.id, task.name)).collect();
        let name_of = |id: Id| names.get(&id).copied().unwrap_or("unnamed");
        let mut gone = Vec::new();
        let outcome = tokio::select! {
            () = stop => Ok(()),
            Some(ended) = self.running.join_next_with_id() => {
                let id = ended.as_ref().map_or_else(|error| error.id(), |(id, _)| *id);
                gone.push(id);
                let task = name_of(id);
                Err(match ended {
                    Ok((_, Ok(()))) => SuperviseError::Ended { task },
                    Ok((_, Err(reason))) => SuperviseError::Failed { task, reason },
                    Err(_) => SuperviseError::Panicked { task },
                })
            }
        };
        if let Err(error) = &outcome {
            tracing::error!(%error, "stopping");
        }
        self.stop(Instant::now() + deadline, gone, &names).await;
        outcome
    }

    /// Stops what still runs; `ended` says which tasks have been joined already.
    async fn stop(
        &mut self,
        deadline: Instant,
        mut ended: Vec<Id>,
        names: &HashMap<Id, &'static str>,
    ) {
        while let Some(task) = self.order.pop() {
            task.cancel.cancel();
            while !ended.contains(&task.id) {
                match tokio::time::timeout_at(deadline, self.running.join_next_with_id()).await {
                    Ok(Some(Ok((id, _)))) => ended.push(id),
                    Ok(Some(Err(error))) => ended.push(error.id()),
                    Ok(None) => return,
                    Err(_) => {
                        tracing::warn!(task = task.name, "did not stop in time; aborted");
                        self.running.shutdown().await;
                        return;
                    }
                }
            }
            tracing::debug!(task = names.get(&task.id).copied().unwrap_or("unnamed"), "stopped");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    use super::*;

    fn recorder(log: &Arc<Mutex<Vec<&'static str>>>, name: &'static str, to: &mut Supervisor) {
        let log = log.clone();
        to.start(name, move |cancel| async move {
            cancel.cancelled().await;
            log.lock().unwrap().push(name);
            Ok::<(), Infallible>(())
        });
    }

    #[tokio::test]
    async fn tasks_stop_in_reverse_order() {
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut supervisor = Supervisor::default();
        for name in ["first", "second", "third"] {
            recorder(&log, name, &mut supervisor);
        }
        supervisor.run(async {}, Duration::from_secs(30)).await.unwrap();
        assert_eq!(*log.lock().unwrap(), ["third", "second", "first"]);
    }

    #[tokio::test]
    async fn a_task_that_ends_stops_the_others_and_is_named() {
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut supervisor = Supervisor::default();
        recorder(&log, "steady", &mut supervisor);
        supervisor
            .start("brittle", |_| async { Err::<(), _>(std::io::Error::other("disk on fire")) });
        let ended = supervisor.run(std::future::pending(), Duration::from_secs(30)).await;
        let text = ended.unwrap_err().to_string();
        assert_eq!(text, "task brittle failed: disk on fire");
        assert_eq!(*log.lock().unwrap(), ["steady"]);
    }

    #[tokio::test]
    async fn a_task_that_does_not_listen_is_aborted_at_the_deadline() {
        let mut supervisor = Supervisor::default();
        supervisor.start("deaf", |_| std::future::pending::<Result<(), Infallible>>());
        supervisor.run(async {}, Duration::from_millis(50)).await.unwrap();
    }
}
