//! Ends pods for a waiting pod that matters more, and keeps the room for it meanwhile.
//!
//! ```text
//! fits nowhere ► victims chosen ► condition, delete, event Preempted ► nominatedNodeName
//!      ▲                                                                     │
//!      └── a victim's end is a change: the next pass places the pod ◄────────┘
//! ```
//! Invariants: a pod is promised one node at a time; while its victims go, nobody else goes
//! for it, and the room counts as taken for whoever comes after it in the queue.
//! Not here: the choice (`logic/schedule/preempt.rs`), the queue (scheduler.rs).

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::{Node, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::disruption::selector_of;
use super::informers::{BY_NODE, Informers, node_of};
use super::runner::{Act, ControllerError};
use crate::client::events::{EventRecorder, Severity};
use crate::client::typed::{Kind, Typed};
use crate::logic::rollout_ranking::is_ended;
use crate::logic::schedule::{
    Budget, NoPreemption, Picture, Preemption, Unschedulable, may_preempt, priority,
};
use crate::logic::schedule_filter::Obstacle;
use crate::sys::clock;

/// Attempts to say on a victim why it ends, against others who write its status.
const ATTEMPTS: usize = 4;

/// What was decided for a pod that its status may not show yet.
#[derive(Debug)]
struct Promise {
    node: String,
    victims: HashSet<String>,
}

#[derive(Debug)]
pub(super) struct Preemptor {
    informers: Informers,
    pods: Typed<Pod>,
    events: EventRecorder,
    /// By the uid of the pod that waits.
    promises: Mutex<HashMap<String, Promise>>,
}

/// What a pod that fits nowhere is told, and what is done for it.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) message: String,
    /// The node that it waits for.
    pub(super) nominated: Option<String>,
    pub(super) preemption: Option<Preemption>,
}

impl Refusal {
    /// Where the end of others would not help.
    pub(super) fn plain(message: String) -> Self {
        Self { message, nominated: None, preemption: None }
    }
}

/// One pass of the scheduler.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    preemptor: &'a Preemptor,
    /// Uids of those who go already, as far as this process knows.
    doomed: HashSet<String>,
    /// The lowest priority on any node; nobody goes for a pod that is not above it.
    lowest: i32,
}

fn budget_of(budget: &Value) -> Option<Budget> {
    let text = |pointer: &str| budget.pointer(pointer).and_then(Value::as_str);
    let noted = budget.pointer("/status/disruptedPods").and_then(Value::as_object);
    Some(Budget {
        namespace: text("/metadata/namespace")?.to_owned(),
        selector: selector_of(budget)?,
        allowed: budget.pointer("/status/disruptionsAllowed").and_then(Value::as_i64).unwrap_or(0),
        noted: noted.into_iter().flatten().map(|(name, _)| name.clone()).collect(),
    })
}

impl Preemptor {
    pub(super) fn new(informers: &Informers, pods: Typed<Pod>, events: EventRecorder) -> Self {
        Self { informers: informers.clone(), pods, events, promises: Mutex::default() }
    }

    fn promises(&self) -> MutexGuard<'_, HashMap<String, Promise>> {
        self.promises.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a pass over all pods, of which some wait.
    pub(super) fn pass(&self, pods: &[Arc<Pod>]) -> Pass<'_> {
        let waiting: HashSet<&str> =
            pods.iter().filter(|pod| node_of(pod).is_none()).map(|pod| pod.uid()).collect();
        let mut promises = self.promises();
        promises.retain(|uid, _| waiting.contains(uid.as_str()));
        let doomed = promises.values().flat_map(|promise| promise.victims.iter().cloned());
        let placed = pods.iter().filter(|pod| node_of(pod).is_some() && !is_ended(pod));
        let lowest = placed.map(|pod| priority(pod)).min().unwrap_or(i32::MAX);
        Pass { preemptor: self, doomed: doomed.collect(), lowest }
    }

    fn nominated(&self, pod: &Pod) -> Option<String> {
        let promised = self.promises().get(pod.uid()).map(|promise| promise.node.clone());
        let said = || pod.status.as_ref().and_then(|status| status.nominated_node_name.clone());
        promised.or_else(said).filter(|node| !node.is_empty())
    }

    /// Ends the victims; each with its own grace. What could not be done is no promise.
    pub(super) async fn carry_out(
        &self,
        pod: &Pod,
        preemption: &Preemption,
    ) -> Result<(), ControllerError> {
        let done = self.end_victims(pod, preemption).await;
        if done.is_err() {
            self.promises().remove(pod.uid());
        }
        done
    }

    async fn end_victims(&self, pod: &Pod, preemption: &Preemption) -> Result<(), ControllerError> {
        for victim in preemption.victims.iter().filter(|victim| !victim.is_terminating()) {
            self.say_why(victim).await?;
            let key = victim.key();
            self.pods.delete_if_same(&**victim, None).await.act("preempt pod", &key)?;
            let text = format!("Preempted by pod {} on node {}", pod.uid(), preemption.node);
            self.events.record(&**victim, Severity::Normal, "Preempted", text);
        }
        Ok(())
    }

    async fn say_why(&self, victim: &Pod) -> Result<(), ControllerError> {
        let key = victim.key();
        for _ in 0..ATTEMPTS {
            let found = self.pods.find(&key).await.act("look up victim", &key)?;
            let Some(live) = found.filter(|live| live.uid() == victim.uid()) else { return Ok(()) };
            let conditions = live.status.as_ref().and_then(|status| status.conditions.clone());
            let mut conditions = conditions.unwrap_or_default();
            conditions.retain(|condition| condition.type_ != "DisruptionTarget");
            conditions.push(PodCondition {
                type_: "DisruptionTarget".into(),
                status: "True".into(),
                reason: Some("PreemptionByScheduler".into()),
                message: Some(
                    "default-scheduler: preempting to accommodate a higher priority pod".into(),
                ),
                last_transition_time: Some(Time(clock::now())),
                ..PodCondition::default()
            });
            let patch = json!({
                "metadata": {"resourceVersion": live.metadata.resource_version},
                "status": {"conditions": conditions},
            });
            match self.pods.patch_merge(&key, Some("status"), &patch).await {
                Err(error) if error.is_conflict() => {}
                Err(error) if error.is_not_found() => return Ok(()),
                outcome => return outcome.act("say why it ends on pod", &key).map(|_| ()),
            }
        }
        Ok(())
    }
}

impl Pass<'_> {
    /// What becomes of a pod that no node can take. The picture then counts it where it is
    /// promised to be.
    pub(super) fn refuse(
        &mut self,
        picture: &mut Picture,
        pod: &Arc<Pod>,
        why: &Unschedulable,
        may: impl Fn(&Node) -> Result<(), Obstacle>,
    ) -> Refusal {
        if why.nodes == 0 {
            return Refusal::plain(why.to_string());
        }
        let nominated = self.preemptor.nominated(pod);
        let nominated = nominated.filter(|node| picture.node(node).is_some());
        let found = self.decide(picture, pod, why, nominated.as_deref(), may);
        let node = match &found {
            Ok(found) => Some(found.node.clone()),
            Err(NoPreemption::Underway) => nominated,
            Err(NoPreemption::Policy | NoPreemption::Nowhere { .. }) => None,
        };
        if let Some(node) = &node {
            picture.occupy(pod, node);
        }
        let mut promises = self.preemptor.promises();
        match found {
            Ok(found) => {
                let victims: HashSet<String> =
                    found.victims.iter().map(|victim| victim.uid().to_owned()).collect();
                self.doomed.extend(victims.iter().cloned());
                let promise = Promise { node: found.node.clone(), victims };
                promises.insert(pod.uid().to_owned(), promise);
                Refusal { message: why.to_string(), nominated: node, preemption: Some(found) }
            }
            Err(no) => {
                if node.is_none() {
                    promises.remove(pod.uid());
                }
                let message = format!("{why} preemption: {no}");
                Refusal { message, nominated: node, preemption: None }
            }
        }
    }

    fn decide(
        &self,
        picture: &Picture,
        pod: &Arc<Pod>,
        why: &Unschedulable,
        nominated: Option<&str>,
        may: impl Fn(&Node) -> Result<(), Obstacle>,
    ) -> Result<Preemption, NoPreemption> {
        if !may_preempt(pod) {
            return Err(NoPreemption::Policy);
        }
        let pods = &self.preemptor.informers.pods;
        let goes = |other: &Pod| other.is_terminating() || self.doomed.contains(other.uid());
        if let Some(node) = nominated
            && pods
                .by_index(BY_NODE, node)
                .iter()
                .any(|other| priority(other) < priority(pod) && !is_ended(other) && goes(other))
        {
            return Err(NoPreemption::Underway);
        }
        if self.lowest >= priority(pod) {
            return Err(NoPreemption::Nowhere {
                no_victims: why.full,
                no_help: why.nodes - why.full,
            });
        }
        let budgets = self.preemptor.informers.budgets.list();
        let budgets: Vec<Budget> = budgets.iter().filter_map(|budget| budget_of(budget)).collect();
        let on = |node: &str| {
            let mut here = pods.by_index(BY_NODE, node);
            here.retain(|other| !self.doomed.contains(other.uid()));
            here
        };
        picture.preempt(pod, on, &budgets, may)
    }
}
