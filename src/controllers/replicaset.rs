//! Keeps as many pods as a ReplicaSet asks for.
//!
//! Invariants: never creates on a cache that lacks its own earlier writes
//! (replicaset_expect.rs); creates in growing batches, so that a refusal (quota, bad
//! template) costs one call and not five hundred; which pods go first is decided by
//! `logic::rollout_ranking` alone.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use k8s_openapi::Resource;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::informers::{BY_CONTROLLER, BY_ORPHANAGE, Informers};
use super::ownership;
use super::replicaset_expect::{Belief, Expectations};
use super::runner::{Act, Controller, ControllerError, Input, Requeue};
use crate::base::limits;
use crate::client::api::{ApiError, ListOptions, SharedApi};
use crate::client::events::{EventRecorder, Severity};
use crate::client::key::ObjectKey;
use crate::client::typed::{Kind, Typed};
use crate::logic::rollout_hash::safe_text;
use crate::logic::rollout_ranking::{is_active, ready_since, victims};
use crate::logic::rollout_selector;
use crate::sys::clock;

#[derive(Debug)]
pub(super) struct ReplicaSets {
    informers: Informers,
    sets: Typed<ReplicaSet>,
    pods: Typed<Pod>,
    events: EventRecorder,
    expectations: Expectations,
}

impl ReplicaSets {
    pub(super) fn new(api: &SharedApi, informers: &Informers, events: EventRecorder) -> Self {
        Self {
            informers: informers.clone(),
            sets: Typed::new(api.clone()),
            pods: Typed::new(api.clone()),
            events,
            expectations: Expectations::default(),
        }
    }

    /// The set's pods: its own, less those that no longer match, plus orphans that do.
    async fn claim(&self, set: &ReplicaSet, live: bool) -> Result<Vec<Arc<Pod>>, ControllerError> {
        let key = set.key();
        let matches =
            |pod: &Pod| rollout_selector::matches(&set.spec.selector, pod.metadata.labels.as_ref());
        let candidates = if live {
            let pods = self.pods.list(key.scope(), &ListOptions::default()).await;
            pods.act("list the pods of", &key)?.into_iter().map(Arc::new).collect()
        } else {
            let cache = &self.informers.pods;
            let mut pods = cache.by_index(BY_CONTROLLER, set.uid());
            pods.extend(cache.by_index(BY_ORPHANAGE, &key.namespace));
            pods
        };
        let mut claimed = Vec::new();
        let mut stands = None;
        for pod in candidates {
            match ownership::controller_of(&pod.metadata) {
                Some(owner) if owner.uid == set.uid() && matches(&pod) => claimed.push(pod),
                Some(owner) if owner.uid == set.uid() && !pod.is_terminating() => {
                    let released = ownership::release(&self.pods, &*pod, set.uid()).await;
                    released.act("release a pod of", &key)?;
                }
                None if matches(&pod) && is_active(&pod) && !set.is_terminating() => {
                    if stands.is_none() {
                        let asked = ownership::still_stands(&self.sets, set).await;
                        stands = Some(asked.act("look up", &key)?);
                    }
                    if stands == Some(true) {
                        let adopted = ownership::adopt(&self.pods, set, &*pod).await;
                        claimed.push(Arc::new(adopted.act("adopt a pod for", &key)?));
                    }
                }
                _ => {}
            }
        }
        Ok(claimed)
    }

    /// Creates `count` pods in batches of 1, 2, 4, …; stops at the first refusal.
    async fn create_pods(&self, set: &ReplicaSet, count: usize) -> Result<(), ApiError> {
        let mut left = count.min(limits::REPLICASET_BURST);
        let mut batch = 1;
        while left > 0 {
            let size = batch.min(left);
            let outcomes = join_all((0..size).map(|_| self.create_pod(set))).await;
            outcomes.into_iter().collect::<Result<Vec<()>, ApiError>>()?;
            left -= size;
            batch *= 2;
        }
        Ok(())
    }

    async fn create_pod(&self, set: &ReplicaSet) -> Result<(), ApiError> {
        let key = set.key();
        let template = set.spec.template.clone().unwrap_or_default();
        let mut metadata = template.metadata.unwrap_or_default();
        let random = uuid::Uuid::new_v4().as_u64_pair();
        let name = format!("{}-{}", key.name, safe_text(random.0 ^ random.1, 5));
        metadata.name = Some(name.clone());
        metadata.generate_name = Some(format!("{}-", key.name));
        metadata.namespace = Some(key.namespace.clone());
        metadata.creation_timestamp = None;
        metadata.owner_references = Some(vec![ownership::controller_reference(set)]);
        let pod = Pod { metadata, spec: template.spec, status: None };
        self.expectations.creating(&key, &name);
        match self.pods.create(&pod).await {
            Ok(_) => {
                let message = format!("Created pod: {name}");
                self.events.record(set, Severity::Normal, "SuccessfulCreate", message);
                Ok(())
            }
            Err(error) => {
                // Without an answer the pod may exist: the expectation stays.
                if matches!(error, ApiError::Refused(_)) {
                    self.expectations.not_created(&key, &name);
                    let message = format!("Error creating: {error}");
                    self.events.record(set, Severity::Warning, "FailedCreate", message);
                }
                Err(error)
            }
        }
    }

    async fn delete_pods(&self, set: &ReplicaSet, pods: &[Arc<Pod>]) -> Result<(), ApiError> {
        let key = set.key();
        let outcomes = join_all(pods.iter().map(|pod| async {
            let name = pod.key().name;
            self.expectations.deleting(&key, &name, pod.uid());
            match self.pods.delete_if_same(&**pod, None).await {
                Ok(()) => {
                    let message = format!("Deleted pod: {name}");
                    self.events.record(set, Severity::Normal, "SuccessfulDelete", message);
                    Ok(())
                }
                Err(error) => {
                    self.expectations.not_deleted(&key, &name, pod.uid());
                    Err(error)
                }
            }
        }))
        .await;
        outcomes.into_iter().collect::<Result<Vec<()>, ApiError>>().map(drop)
    }

    async fn write_status(
        &self,
        set: &ReplicaSet,
        status: ReplicaSetStatus,
    ) -> Result<(), ControllerError> {
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let changed = ReplicaSet { status: Some(status), ..set.clone() };
        self.sets.update_status(&changed).await.act("write the status of", &set.key()).map(drop)
    }
}

#[async_trait]
impl Controller for ReplicaSets {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "replicaset"
    }

    fn inputs(&self) -> Vec<Input<ObjectKey>> {
        let sets = self.informers.replica_sets.clone();
        vec![
            Input::new(&self.informers.replica_sets, |key, _| vec![key.clone()]),
            Input::new(&self.informers.pods, move |key, pod: &Pod| {
                if ownership::controller_of(&pod.metadata).is_some() {
                    let owner = ownership::controller_key(&pod.metadata, ReplicaSet::KIND);
                    return owner.into_iter().collect();
                }
                let near = sets.list_namespace(&key.namespace);
                let fitting = near.iter().filter(|set| {
                    rollout_selector::matches(&set.spec.selector, pod.metadata.labels.as_ref())
                });
                fitting.map(|set| set.key()).collect()
            }),
        ]
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, ControllerError> {
        let Some(set) = self.informers.replica_sets.get_key(key) else {
            self.expectations.forget(key);
            return Ok(Requeue::Done);
        };
        let live = match self.expectations.check(key, &self.informers.pods) {
            Belief::Current => false,
            Belief::Behind(left) => return Ok(Requeue::After(left)),
            Belief::Overdue => true,
        };
        let claimed = self.claim(&set, live).await?;
        if live {
            self.expectations.forget(key);
        }
        let active: Vec<Arc<Pod>> = claimed.into_iter().filter(|pod| is_active(pod)).collect();
        let wanted = set.spec.replicas.unwrap_or(1).max(0) as usize;
        let managed = if set.is_terminating() {
            Ok(())
        } else if active.len() < wanted {
            self.create_pods(&set, wanted - active.len()).await
        } else {
            let surplus = (active.len() - wanted).min(limits::REPLICASET_BURST);
            self.delete_pods(&set, &victims(&active, surplus)).await
        };
        let (status, again) = status_of(&set, &active, managed.as_ref().err());
        self.write_status(&set, status).await?;
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
    let min_ready = i64::from(spec.min_ready_seconds.unwrap_or(0));
    let now = clock::now();
    let (mut full, mut ready, mut available) = (0, 0, 0);
    let mut again = Requeue::Done;
    for pod in active {
        full += i32::from(rollout_selector::map_matches(&labels, pod.metadata.labels.as_ref()));
        let Some(since) = ready_since(pod) else { continue };
        ready += 1;
        let left = min_ready - (now.as_second() - since.as_second());
        if min_ready == 0 || left <= 0 {
            available += 1;
        } else {
            again = again.sooner(Requeue::After(Duration::from_secs(left.unsigned_abs())));
        }
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
