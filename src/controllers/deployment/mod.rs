//! Carries a Deployment from its old pod template to its new one.
//!
//! Source: Kubernetes' deployment controller; the numbers come from `logic::rollout`.
//! Invariants: the new ReplicaSet's name is made from the template's hash, so creating
//! it twice is refused by the API whatever the cache says; every resize carries the
//! ReplicaSet's resourceVersion, so a stale decision is refused too.
//! Not here: pods (replicaset.rs), the arithmetic (logic/rollout.rs).

mod annotations;
mod rolling;
mod sets;
mod status;

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::Resource;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;

use super::informers::Informers;
use super::ownership;
use super::runner::{Controller, ControllerError, Input, PACE_OF_SETS, Requeue};
use crate::client::api::SharedApi;
use crate::client::events::EventRecorder;
use crate::client::key::ObjectKey;
use crate::client::typed::{Kind, Typed};
use crate::logic::rollout::{self, Bounds};
use crate::logic::rollout_selector;
use crate::logic::workqueue::Pace;

#[derive(Debug)]
pub(super) struct Deployments {
    informers: Informers,
    deployments: Typed<Deployment>,
    sets: Typed<ReplicaSet>,
    events: EventRecorder,
}

/// A Deployment with what is derived from it once.
struct Rollout {
    deployment: Arc<Deployment>,
    spec: DeploymentSpec,
    desired: i32,
    bounds: Bounds,
    /// The ReplicaSet of the present template, once it exists.
    new: Option<Arc<ReplicaSet>>,
    /// All others, oldest first.
    old: Vec<Arc<ReplicaSet>>,
}

fn wanted(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

/// Pods that are there or will be. A set that was just shrunk still has its old pods
/// until its status says otherwise; counting them keeps the surge bound strict, where
/// Kubernetes lets it be exceeded for a moment.
fn occupied(set: &ReplicaSet) -> i32 {
    wanted(set).max(set.status.as_ref().map_or(0, |status| status.replicas))
}

fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

impl Rollout {
    fn key(&self) -> ObjectKey {
        self.deployment.key()
    }

    fn recreates(&self) -> bool {
        let strategy = self.spec.strategy.as_ref();
        strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate")
    }

    fn all(&self) -> impl Iterator<Item = &Arc<ReplicaSet>> {
        self.old.iter().chain(self.new.iter())
    }
}

impl Deployments {
    pub(super) fn new(api: &SharedApi, informers: &Informers, events: EventRecorder) -> Self {
        Self {
            informers: informers.clone(),
            deployments: Typed::new(api.clone()),
            sets: Typed::new(api.clone()),
            events,
        }
    }

    async fn gather(&self, deployment: Arc<Deployment>) -> Result<Rollout, ControllerError> {
        let spec = deployment.spec.clone();
        let desired = spec.replicas.unwrap_or(1).max(0);
        let rolling = spec.strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
        let mut bounds = rollout::bounds(
            rolling.and_then(|rolling| rolling.max_surge.as_ref()),
            rolling.and_then(|rolling| rolling.max_unavailable.as_ref()),
            desired,
        );
        let claimed = self.claim(&deployment, &spec).await?;
        let (new, old) = sets::split(&spec, claimed);
        let mut rollout = Rollout { deployment, spec, desired, bounds, new, old };
        if rollout.recreates() {
            bounds = Bounds { max_surge: 0, max_unavailable: desired };
            rollout.bounds = bounds;
        }
        Ok(rollout)
    }

    /// One step of the rollout; the next step follows from the change it makes.
    async fn step(&self, rollout: &mut Rollout) -> Result<(), ControllerError> {
        if rollout.deployment.is_terminating() {
            return Ok(());
        }
        if rollout.spec.paused == Some(true) {
            self.refresh_new(rollout, false).await?;
            return self.rescale(rollout).await;
        }
        if rolling::was_rescaled(rollout) {
            self.refresh_new(rollout, false).await?;
            return self.rescale(rollout).await;
        }
        if rollout.recreates() {
            self.step_recreate(rollout).await
        } else {
            self.step_rolling(rollout).await
        }
    }
}

#[async_trait]
impl Controller for Deployments {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "deployment"
    }

    fn inputs(&self) -> Vec<Input<ObjectKey>> {
        let deployments = self.informers.deployments.clone();
        let sets = self.informers.replica_sets.clone();
        vec![
            Input::new(&self.informers.deployments, |key, _| vec![key.clone()]),
            Input::new(&self.informers.replica_sets, move |key, set: &ReplicaSet| {
                if ownership::controller_of(&set.metadata).is_some() {
                    let owner = ownership::controller_key(&set.metadata, Deployment::KIND);
                    return owner.into_iter().collect();
                }
                let near = deployments.list_namespace(&key.namespace);
                let fitting = near.iter().filter(|deployment| {
                    let labels = set.metadata.labels.as_ref();
                    rollout_selector::matches(&deployment.spec.selector, labels)
                });
                fitting.map(|deployment| deployment.key()).collect()
            }),
            // Recreate waits for the last old pod.
            Input::new(&self.informers.pods, move |_, pod: &Pod| {
                let set = ownership::controller_key(&pod.metadata, ReplicaSet::KIND);
                let set = set.and_then(|key| sets.get_key(&key));
                let owner =
                    set.and_then(|set| ownership::controller_key(&set.metadata, Deployment::KIND));
                owner.into_iter().collect()
            }),
        ]
    }

    fn pace(&self) -> Option<Pace> {
        Some(PACE_OF_SETS)
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, ControllerError> {
        let Some(deployment) = self.informers.deployments.get_key(key) else {
            return Ok(Requeue::Done);
        };
        let mut rollout = self.gather(deployment).await?;
        self.step(&mut rollout).await?;
        let again = self.write_status(&rollout).await?;
        if again.1 && rollout.spec.paused != Some(true) {
            self.clean_history(&rollout).await?;
        }
        Ok(again.0)
    }
}
