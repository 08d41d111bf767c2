//! Keeps as many pods as a ReplicaSet asks for.
//!
//! Not here: creating and deleting (pod_control.rs); which pods go first
//! (logic/rollout_ranking.rs).

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::expectations::Belief;
use super::informers::Informers;
use super::pod_control::{self, PodControl};
use super::runner::{Act, Controller, ControllerError, Input, PACE_OF_SETS, Requeue};
use super::status;
use crate::client::api::{ApiError, SharedApi};
use crate::client::events::EventRecorder;
use crate::client::key::ObjectKey;
use crate::client::typed::Kind;
use crate::logic::availability::Availability;
use crate::logic::rollout_ranking::{is_active, victims};
use crate::logic::rollout_selector;
use crate::logic::workqueue::Pace;
use crate::sys::clock;

#[derive(Debug)]
pub(super) struct ReplicaSets {
    informers: Informers,
    control: PodControl<ReplicaSet>,
}

impl ReplicaSets {
    pub(super) fn new(api: &SharedApi, informers: &Informers, events: EventRecorder) -> Self {
        Self { informers: informers.clone(), control: PodControl::new(api, informers, events) }
    }

    /// Brings the pods to the wanted number.
    async fn manage(&self, set: &ReplicaSet, active: &[Arc<Pod>]) -> Result<(), ApiError> {
        let wanted = set.spec.replicas.unwrap_or(1).max(0) as usize;
        if set.is_terminating() {
            Ok(())
        } else if active.len() < wanted {
            let missing = pod_control::burst(wanted - active.len());
            let pods = (0..missing).map(|_| compose(set)).collect();
            self.control.create_all(set, pods).await
        } else {
            let surplus = pod_control::burst(active.len() - wanted);
            self.control.delete_all(set, &victims(active, surplus)).await
        }
    }
}

fn compose(set: &ReplicaSet) -> Pod {
    let prefix = format!("{}-", set.key().name);
    let template = set.spec.template.clone().unwrap_or_default();
    let mut pod = pod_control::of_template(set, &template, pod_control::random_name(&prefix));
    pod.metadata.generate_name = Some(prefix);
    pod
}

#[async_trait]
impl Controller for ReplicaSets {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "replicaset"
    }

    fn inputs(&self) -> Vec<Input<ObjectKey>> {
        let sets = &self.informers.replica_sets;
        vec![
            Input::new(sets, |key, _| vec![key.clone()]),
            pod_control::pods_of(&self.informers.pods, sets, |set| Some(&set.spec.selector)),
        ]
    }

    fn pace(&self) -> Option<Pace> {
        Some(PACE_OF_SETS)
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, ControllerError> {
        let Some(set) = self.informers.replica_sets.get_key(key) else {
            self.control.forget(key);
            return Ok(Requeue::Done);
        };
        let live = match self.control.belief(key) {
            Belief::Current => false,
            Belief::Behind(left) => return Ok(Requeue::After(left)),
            Belief::Overdue => true,
        };
        let claimed = self.control.claim(&set, &set.spec.selector, live, |_| true).await?;
        let active: Vec<Arc<Pod>> = claimed.into_iter().filter(|pod| is_active(pod)).collect();
        let managed = self.manage(&set, &active).await;
        let (new, again) = status_of(&set, &active, managed.as_ref().err());
        let changed = ReplicaSet { status: Some(new), ..(*set).clone() };
        status::write(&self.control.owners, &set, &changed).await?;
        managed.act("bring the pods to the wanted number for", key)?;
        Ok(again)
    }
}

/// The status as it follows from the active pods, and when availability may change by
/// the mere passing of time.
fn status_of(
    set: &ReplicaSet,
    active: &[Arc<Pod>],
    failure: Option<&ApiError>,
) -> (ReplicaSetStatus, Requeue) {
    let spec = &set.spec;
    let template = spec.template.as_ref().and_then(|template| template.metadata.as_ref());
    let labels = template.and_then(|metadata| metadata.labels.clone()).unwrap_or_default();
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let now = clock::now();
    let (mut full, mut ready, mut available) = (0, 0, 0);
    let mut again = Requeue::Done;
    for pod in active {
        full += i32::from(rollout_selector::map_matches(&labels, pod.metadata.labels.as_ref()));
        let state = Availability::of(pod, min_ready, now);
        ready += i32::from(state.is_ready());
        available += i32::from(state.is_available());
        again = again.sooner(status::recheck(state));
    }
    let held = set.status.clone().unwrap_or_default();
    let status = ReplicaSetStatus {
        replicas: active.len() as i32,
        fully_labeled_replicas: Some(full),
        ready_replicas: Some(ready),
        available_replicas: Some(available),
        observed_generation: set.metadata.generation,
        conditions: failure_condition(held.conditions, failure),
        ..held
    };
    (status, again)
}

fn failure_condition(
    held: Option<Vec<ReplicaSetCondition>>,
    failure: Option<&ApiError>,
) -> Option<Vec<ReplicaSetCondition>> {
    let mut conditions = held.unwrap_or_default();
    let refusal = match failure {
        Some(ApiError::Refused(status)) => Some(status.message.clone()),
        _ => None,
    };
    let same = |condition: &ReplicaSetCondition| {
        condition.type_.as_deref() == Some("ReplicaFailure") && condition.message == refusal
    };
    if refusal.is_none() || !conditions.iter().any(same) {
        conditions.retain(|condition| condition.type_.as_deref() != Some("ReplicaFailure"));
        if let Some(message) = refusal {
            conditions.push(ReplicaSetCondition {
                type_: Some("ReplicaFailure".into()),
                status: Some("True".into()),
                reason: Some("FailedCreate".into()),
                message: Some(message),
                last_transition_time: Some(Time(clock::now())),
            });
        }
    }
    (!conditions.is_empty()).then_some(conditions)
}
