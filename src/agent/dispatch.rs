//! Starts one worker for each pod that the API or the engine knows, and wakes them.
//!
//! Invariants: one worker per uid; containers without a pod get a worker too, which asks
//! the API before it ends them; nothing is ended while the API has not been listed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::labels::{NODE, POD_UID, PodIdentity};
use super::pod_source::{DesiredPod, DesiredPods};
use super::pod_worker::PodWorker;
use crate::base::limits::AGENT_RELIST;
use crate::engine::EngineError;
use crate::engine::port::{EngineEvent, RunState};
use crate::sys::{pod_files, pod_mounts};

const COLLECT_EVERY: u32 = 6;

type Events = BoxStream<'static, Result<EngineEvent, EngineError>>;

#[derive(Debug)]
struct Worker {
    desired: watch::Sender<Option<Arc<DesiredPod>>>,
    wake: Arc<Notify>,
    /// Containers and their states at the last survey.
    shown: Vec<(String, bool)>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    context: Arc<Context>,
    desired: watch::Receiver<DesiredPods>,
    /// The pods that the API wanted when it was looked at last, by uid.
    wanted: BTreeSet<String>,
    cancel: CancellationToken,
    tasks: JoinSet<String>,
    workers: BTreeMap<String, Worker>,
    surveys: u32,
    engine_answers: bool,
}

impl Dispatcher {
    pub(crate) fn new(
        context: Arc<Context>,
        desired: watch::Receiver<DesiredPods>,
        cancel: CancellationToken,
    ) -> Self {
        Self {
            context,
            desired,
            cancel,
            tasks: JoinSet::new(),
            workers: BTreeMap::new(),
            wanted: BTreeSet::new(),
            surveys: 0,
            engine_answers: true,
        }
    }

    pub(crate) async fn run(mut self) {
        let cancel = self.cancel.clone();
        let mut tick = tokio::time::interval(AGENT_RELIST);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut events: Option<Events> = None;
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                _ = self.desired.changed() => self.spread(),
                _ = tick.tick() => {
                    if events.is_none() {
                        events = self.follow_events().await;
                    }
                    self.spread();
                    self.survey().await;
                }
                event = next_event(&mut events) => self.take_event(event),
                Some(ended) = self.tasks.join_next() => self.reap(ended),
            }
        }
        while let Some(ended) = self.tasks.join_next().await {
            self.reap(ended);
        }
    }

    async fn follow_events(&self) -> Option<Events> {
        let label = (NODE.to_owned(), self.context.node_name().to_owned());
        match self.context.engine.events(label).await {
            Ok(stream) => Some(stream),
            Err(error) => {
                tracing::debug!(%error, "cannot follow the engine's events");
                None
            }
        }
    }

    fn take_event(&mut self, event: EngineEvent) {
        // Commands of probes make events too; they change nothing.
        if event.action.starts_with("exec_") {
            return;
        }
        if let Some(worker) = event.labels.get(POD_UID).and_then(|uid| self.workers.get(uid)) {
            worker.wake.notify_one();
        }
    }

    fn reap(&mut self, ended: Result<String, JoinError>) {
        match ended {
            Ok(uid) => {
                self.workers.remove(&uid);
            }
            // A panic in a worker is a broken invariant: the process must not go on
            // pretending that it cares for this pod.
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(error) => tracing::warn!(%error, "a pod's worker was cancelled"),
        }
    }

    /// Tells every worker what the API wants now.
    fn spread(&mut self) {
        let all = self.desired.borrow_and_update().clone();
        for (uid, pod) in &all.pods {
            match self.workers.get(uid) {
                Some(worker) => {
                    worker.desired.send_if_modified(|old| {
                        let changed = old.as_ref().is_none_or(|old| old.version() != pod.version());
                        if changed {
                            *old = Some(Arc::clone(pod));
                        }
                        changed
                    });
                }
                None => self.spawn(pod.identity.clone(), Some(Arc::clone(pod))),
            }
        }
        if all.live {
            if self.wanted.iter().any(|uid| !all.pods.contains_key(uid)) {
                self.forget_copies(&all);
            }
            self.wanted = all.pods.keys().cloned().collect();
            for (uid, worker) in &self.workers {
                if !all.pods.contains_key(uid) {
                    worker.desired.send_if_modified(|old| old.take().is_some());
                }
            }
        }
    }

    fn spawn(&mut self, identity: PodIdentity, desired: Option<Arc<DesiredPod>>) {
        let uid = identity.uid.clone();
        let (sender, receiver) = watch::channel(desired);
        let wake = Arc::new(Notify::new());
        let context = Arc::clone(&self.context);
        let worker = PodWorker::new(context, identity, receiver, Arc::clone(&wake));
        self.tasks.spawn(worker.run(self.cancel.child_token()));
        self.workers.insert(uid, Worker { desired: sender, wake, shown: Vec::new() });
    }

    /// Compares all containers with all workers; the safety net under the events.
    async fn survey(&mut self) {
        let label = (NODE.to_owned(), self.context.node_name().to_owned());
        let list = match self.context.engine.list(&[label]).await {
            Ok(list) => list,
            Err(error) => {
                if self.engine_answers {
                    tracing::warn!(%error, "the engine does not answer; pods stay as they are");
                }
                self.engine_answers = false;
                return;
            }
        };
        let returned = !std::mem::replace(&mut self.engine_answers, true);
        let mut shown: BTreeMap<String, (PodIdentity, Vec<(String, bool)>)> = BTreeMap::new();
        for line in list {
            let Some(identity) = PodIdentity::of(&line.labels) else { continue };
            let entry = shown.entry(identity.uid.clone()).or_insert((identity, Vec::new()));
            entry.1.push((line.id, line.state == RunState::Running));
        }
        let live = self.desired.borrow().live;
        for (uid, (identity, mut containers)) in shown {
            containers.sort();
            match self.workers.get_mut(&uid) {
                Some(worker) if worker.shown != containers || returned => {
                    worker.shown = containers;
                    worker.wake.notify_one();
                }
                Some(_) => {}
                None if live => self.spawn(identity, None),
                None => {}
            }
        }
        self.surveys = self.surveys.wrapping_add(1);
        if live && self.surveys.is_multiple_of(COLLECT_EVERY) {
            self.collect().await;
        }
    }

    /// Copies of what no pod names.
    fn forget_copies(&self, all: &DesiredPods) {
        let named = all.pods.values().map(|pod| (pod.identity.namespace.as_str(), &pod.raw));
        self.context.references.keep_for(named);
    }

    /// Addresses and directories of pods that neither the API nor the engine knows, and
    /// copies of what no pod names.
    async fn collect(&self) {
        self.forget_copies(&self.desired.borrow().clone());
        let pods = self.context.config.node.paths.pods();
        let attached = match self.context.network.attached().await {
            Ok(attached) => attached,
            Err(error) => {
                tracing::warn!(%error, "cannot read who holds pod addresses");
                Vec::new()
            }
        };
        let known: BTreeSet<&String> = self.workers.keys().collect();
        for uid in attached.iter().filter(|uid| !known.contains(uid)) {
            if let Err(error) = self.context.network.detach(uid).await {
                tracing::warn!(uid, %error, "cannot take back a pod's address");
            }
        }
        for uid in pod_files::names_in(&pods).unwrap_or_default() {
            if known.contains(&uid) {
                continue;
            }
            let path = pods.join(&uid);
            let removed = tokio::task::spawn_blocking(move || pod_mounts::remove_tree(&path)).await;
            let removed = removed.unwrap_or_else(|error| Err(std::io::Error::other(error)));
            if let Err(error) = removed {
                tracing::warn!(uid, %error, "cannot remove what a pod left behind");
            }
        }
    }
}

/// The next event; forgets a stream that ends and then waits for ever, until the next
/// tick makes another.
async fn next_event(events: &mut Option<Events>) -> EngineEvent {
    loop {
        match events {
            Some(stream) => match stream.next().await {
                Some(Ok(event)) => return event,
                Some(Err(_)) | None => *events = None,
            },
            None => std::future::pending().await,
        }
    }
}
