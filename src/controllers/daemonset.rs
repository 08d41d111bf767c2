//! Keeps one pod of a DaemonSet on every node that it is for.
//!
//! The pod says by its own affinity which node it was made for, and the scheduler binds
//! it there like any other, so that resources and ports are counted in one place.
//! Not here: the decisions (logic/daemon.rs); the history (revisions.rs).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, Pod, PodSpec};
use tokio::time::Instant;

use super::expectations::Belief;
use super::informers::{Informers, node_of};
use super::ownership;
use super::pod_control::{self, PodControl};
use super::revisions::{History, Revisions};
use super::runner::{Act, Controller, ControllerError, Input, Requeue};
use super::status;
use crate::base::limits;
use crate::client::api::{ApiError, SharedApi};
use crate::client::events::{EventRecorder, Severity};
use crate::client::key::ObjectKey;
use crate::client::typed::Kind;
use crate::logic::availability::Availability;
use crate::logic::daemon::{self, Daemon, Place, Steps, Update};
use crate::logic::rollout::resolve;
use crate::logic::rollout_ranking::is_ended;
use crate::sys::clock;

/// The label that names a pod's and a revision's template.
const HASH: &str = "controller-revision-hash";

#[derive(Debug)]
pub(super) struct DaemonSets {
    informers: Informers,
    control: PodControl<DaemonSet>,
    history: Revisions<DaemonSet>,
    /// How often a set's pod has ended on a node, and until when its next one is kept.
    ended: Mutex<HashMap<(ObjectKey, String), (u32, Instant)>>,
}

/// A set with what is derived from it once.
struct View<'a> {
    set: &'a DaemonSet,
    spec: PodSpec,
    hash: String,
    history: History,
    pods: Vec<Arc<Pod>>,
    nodes: Vec<Arc<Node>>,
    places: Vec<Place>,
    /// Pods that wait for a node that is gone.
    strays: Vec<usize>,
    again: Requeue,
}

fn hash_of(pod: &Pod) -> Option<&str> {
    pod.metadata.labels.as_ref()?.get(HASH).map(String::as_str)
}

/// What of a node decides whether daemons belong there.
fn differ(old: &Node, new: &Node) -> bool {
    let taints = |node: &Node| node.spec.as_ref().and_then(|spec| spec.taints.clone());
    old.metadata.labels != new.metadata.labels || taints(old) != taints(new)
}

fn update_of(set: &DaemonSet, nodes: usize) -> Update {
    let strategy = set.spec.update_strategy.as_ref();
    if strategy.and_then(|one| one.type_.as_deref()) == Some("OnDelete") {
        return Update::OnDelete;
    }
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let nodes = i32::try_from(nodes).unwrap_or(i32::MAX);
    let amount = |value: Option<&_>, default: i32| {
        usize::try_from(value.map_or(default, |value| resolve(value, nodes, true))).unwrap_or(0)
    };
    let max_surge = amount(rolling.and_then(|rolling| rolling.max_surge.as_ref()), 0);
    let max_unavailable = amount(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), 1);
    Update::Rolling { max_unavailable, max_surge }
}

impl View<'_> {
    fn steps(&self) -> Steps {
        let wanted = self.places.iter().filter(|place| place.belongs.start).count();
        daemon::plan(&self.places, update_of(self.set, wanted))
    }

    fn compose(&self, node: &str) -> Pod {
        let prefix = format!("{}-", self.set.key().name);
        let name = pod_control::random_name(&prefix);
        let mut pod = pod_control::of_template(self.set, &self.set.spec.template, name);
        pod.metadata.generate_name = Some(prefix);
        let labels = pod.metadata.labels.get_or_insert_default();
        labels.insert(HASH.to_owned(), self.hash.clone());
        pod.spec = Some(daemon::bound_to(self.spec.clone(), node));
        pod
    }

    fn status(&self) -> DaemonSetStatus {
        let mut status = DaemonSetStatus {
            observed_generation: self.set.metadata.generation,
            collision_count: self.history.collisions,
            conditions: self.set.status.as_ref().and_then(|held| held.conditions.clone()),
            ..DaemonSetStatus::default()
        };
        let (mut updated, mut available) = (0, 0);
        for place in &self.places {
            let first = place.daemons.first();
            if !place.belongs.start {
                status.number_misscheduled += i32::from(first.is_some());
                continue;
            }
            status.desired_number_scheduled += 1;
            let Some(first) = first else { continue };
            status.current_number_scheduled += 1;
            status.number_ready += i32::from(first.ready);
            available += i32::from(first.available);
            updated += i32::from(first.updated);
        }
        status.updated_number_scheduled = Some(updated);
        status.number_available = Some(available);
        status.number_unavailable = Some(status.desired_number_scheduled - available);
        status
    }
}

impl DaemonSets {
    pub(super) fn new(api: &SharedApi, informers: &Informers, events: EventRecorder) -> Self {
        Self {
            informers: informers.clone(),
            control: PodControl::new(api, informers, events),
            history: Revisions::new(api, &informers.revisions, HASH),
            ended: Mutex::default(),
        }
    }

    async fn view<'a>(&self, set: &'a DaemonSet, live: bool) -> Result<View<'a>, ControllerError> {
        let spec = &set.spec;
        let pods = self.control.claim(set, &spec.selector, live, |_| true).await?;
        let collisions = set.status.as_ref().and_then(|status| status.collision_count);
        let history = self.history.sync(set, &spec.selector, &spec.template, collisions).await?;
        let hash = self.history.hash_of(&history.newest);
        let daemon_spec = daemon::with_tolerations(&spec.template);
        let (min_ready, now) = (spec.min_ready_seconds.unwrap_or(0), clock::now());
        let mut again = Requeue::Done;
        let mut by_node: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (id, pod) in pods.iter().enumerate() {
            by_node.entry(daemon::target_of(pod).unwrap_or_default()).or_default().push(id);
        }
        let nodes = self.informers.nodes.list();
        let places = nodes.iter().map(|node| {
            let name = node.metadata.name.as_deref().unwrap_or_default();
            let mut ids = by_node.remove(name).unwrap_or_default();
            ids.sort_by_cached_key(|id| {
                let metadata = &pods[*id].metadata;
                (metadata.creation_timestamp.as_ref().map(|time| time.0), metadata.name.clone())
            });
            let daemons = ids.into_iter().map(|id| {
                let state = Availability::of(&pods[id], min_ready, now);
                again = again.sooner(status::recheck(state));
                Daemon {
                    id,
                    updated: hash_of(&pods[id]) == Some(&hash),
                    ended: is_ended(&pods[id]),
                    terminating: pods[id].is_terminating(),
                    ready: state.is_ready(),
                    available: state.is_available(),
                }
            });
            let daemons = daemons.collect();
            Place { belongs: daemon::belongs(&daemon_spec, node), daemons }
        });
        let places: Vec<Place> = places.collect();
        let unbound = |id: &usize| node_of(&pods[*id]).is_none() && !pods[*id].is_terminating();
        let strays = by_node.into_values().flatten().filter(unbound).collect();
        Ok(View { set, spec: daemon_spec, hash, history, pods, nodes, places, strays, again })
    }

    /// Deletes an ended pod once its pause, which doubles each time, is over.
    async fn clear_ended(&self, view: &View<'_>, ids: &[usize]) -> Result<Requeue, ApiError> {
        let mut again = Requeue::Done;
        for pod in ids.iter().map(|id| &view.pods[*id]) {
            let node = daemon::target_of(pod).unwrap_or_default().to_owned();
            let (min, max) = (limits::DAEMON_BACKOFF_MIN, limits::DAEMON_BACKOFF_MAX);
            let left = {
                let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
                let now = Instant::now();
                let entry = ended.entry((view.set.key(), node.clone()));
                let (count, until) = entry.or_insert((0, now));
                let left = until.saturating_duration_since(now);
                if left.is_zero() {
                    *until = now + min.saturating_mul(1 << (*count).min(20)).min(max);
                    *count += 1;
                }
                left
            };
            if !left.is_zero() {
                again = again.sooner(Requeue::After(left));
                continue;
            }
            let text = format!(
                "Found failed daemon pod {} on node {node}, will try to kill it",
                pod.key()
            );
            let events = &self.control.events;
            events.record(view.set, Severity::Warning, "FailedDaemonPod", text);
            self.control.delete(view.set, pod).await?;
        }
        Ok(again)
    }

    async fn take(&self, view: &View<'_>) -> Result<Requeue, ApiError> {
        let steps = view.steps();
        let names = steps.create.iter().filter_map(|at| view.nodes[*at].metadata.name.as_deref());
        let burst = limits::REPLICASET_BURST;
        let pods: Vec<Pod> = names.take(burst).map(|node| view.compose(node)).collect();
        let more = steps.create.len() > burst || steps.delete.len() > burst;
        let doomed: Vec<Arc<Pod>> = steps
            .delete
            .iter()
            .chain(&view.strays)
            .take(burst)
            .map(|id| Arc::clone(&view.pods[*id]))
            .collect();
        // First what goes, so that a surge is never wider than it may be.
        self.control.delete_all(view.set, &doomed).await?;
        self.control.create_all(view.set, pods).await?;
        let again = self.clear_ended(view, &steps.ended).await?;
        Ok(if more { again.sooner(Requeue::After(Duration::ZERO)) } else { again })
    }

    fn forget(&self, key: &ObjectKey) {
        self.control.forget(key);
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.retain(|(set, _), _| set != key);
    }
}

#[async_trait]
impl Controller for DaemonSets {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "daemonset"
    }

    fn inputs(&self) -> Vec<Input<ObjectKey>> {
        let sets = self.informers.daemon_sets.clone();
        vec![
            Input::new(&sets, |key, _| vec![key.clone()]),
            pod_control::pods_of(&self.informers.pods, &sets, |set| Some(&set.spec.selector)),
            Input::new(&self.informers.revisions, |_, one: &ControllerRevision| {
                ownership::controller_key(&one.metadata, "DaemonSet").into_iter().collect()
            }),
            Input::on_difference(&self.informers.nodes, differ, move |_, _| {
                sets.entries().into_iter().map(|(key, _)| key).collect()
            }),
        ]
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, ControllerError> {
        let Some(set) = self.informers.daemon_sets.get_key(key) else {
            self.forget(key);
            return Ok(Requeue::Done);
        };
        let live = match self.control.belief(key) {
            Belief::Current => false,
            Belief::Behind(left) => return Ok(Requeue::After(left)),
            Belief::Overdue => true,
        };
        let view = self.view(&set, live).await?;
        let taken = if set.is_terminating() { Ok(Requeue::Done) } else { self.take(&view).await };
        let changed = DaemonSet { status: Some(view.status()), ..(*set).clone() };
        let wrote = status::write(&self.control.owners, &set, &changed).await?;
        let again = taken.act("bring the pods to the nodes of", key)?;
        if !wrote && !set.is_terminating() {
            let lives = |one: &ControllerRevision| {
                let hash = self.history.hash_of(one);
                view.pods.iter().any(|pod| hash_of(pod) == Some(&hash))
            };
            let limit = set.spec.revision_history_limit;
            self.history.forget_old(&view.history, limit, lives).await?;
        }
        Ok(again.sooner(view.again))
    }
}
