//! What every controller of pods does: claim them, create them, delete them, say so.
//!
//! Invariants: nothing is created on a cache that lacks the controller's own earlier
//! writes (expectations.rs); pods are created in growing batches, so that a refusal
//! (quota, bad template) costs one call and not five hundred; a pod is adopted only by an
//! owner that the API itself still shows.
//! Not here: how many pods, and which (logic/).

use std::fmt::Debug;
use std::sync::Arc;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::expectations::{Belief, Expectations};
use super::informers::{BY_CONTROLLER, BY_ORPHANAGE, Informers};
use super::ownership;
use super::runner::{Act, ControllerError, Input};
use crate::base::limits;
use crate::client::api::{ApiError, ListOptions, SharedApi};
use crate::client::events::{EventRecorder, Severity};
use crate::client::informer::TypedInformer;
use crate::client::key::ObjectKey;
use crate::client::typed::{Kind, Typed};
use crate::logic::rollout_hash::safe_text;
use crate::logic::rollout_ranking::is_active;
use crate::logic::rollout_selector;

/// The words of an event: what was done, to which pod, for which owner.
pub(super) type Words = fn(Deed, &str, &str) -> String;

/// What was done to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Created,
    Deleted,
}

fn plain_words(deed: Deed, pod: &str, _owner: &str) -> String {
    match deed {
        Deed::Created => format!("Created pod: {pod}"),
        Deed::Deleted => format!("Deleted pod: {pod}"),
    }
}

/// The pods of one kind of owner.
#[derive(Debug)]
pub(super) struct PodControl<O> {
    cache: TypedInformer<Pod>,
    pub(super) pods: Typed<Pod>,
    pub(super) owners: Typed<O>,
    pub(super) events: EventRecorder,
    expectations: Expectations,
    words: Words,
}

impl<O: Kind> PodControl<O> {
    pub(super) fn new(api: &SharedApi, informers: &Informers, events: EventRecorder) -> Self {
        Self {
            cache: informers.pods.clone(),
            pods: Typed::new(api.clone()),
            owners: Typed::new(api.clone()),
            events,
            expectations: Expectations::default(),
            words: plain_words,
        }
    }

    /// The same with other words in its events.
    pub(super) fn with_words(self, words: Words) -> Self {
        Self { words, ..self }
    }

    /// Whether the cache shows everything that was done to the owner's pods.
    pub(super) fn belief(&self, owner: &ObjectKey) -> Belief {
        self.expectations.check(owner, &self.cache)
    }

    pub(super) fn forget(&self, owner: &ObjectKey) {
        self.expectations.forget(owner);
    }

    /// The owner's pods: its own, less those that no longer match, plus orphans that do.
    /// With `live` the API is asked instead of the cache. `may_be` leaves pods out that
    /// match by their labels alone.
    pub(super) async fn claim(
        &self,
        owner: &O,
        selector: &LabelSelector,
        live: bool,
        may_be: impl Fn(&Pod) -> bool,
    ) -> Result<Vec<Arc<Pod>>, ControllerError> {
        let key = owner.key();
        let matches = |pod: &Pod| {
            rollout_selector::matches(selector, pod.metadata.labels.as_ref()) && may_be(pod)
        };
        let candidates = if live {
            let pods = self.pods.list(key.scope(), &ListOptions::default()).await;
            let pods = pods.act("list the pods of", &key)?;
            self.expectations.forget(&key);
            pods.into_iter().map(Arc::new).collect()
        } else {
            let mut pods = self.cache.by_index(BY_CONTROLLER, owner.uid());
            pods.extend(self.cache.by_index(BY_ORPHANAGE, &key.namespace));
            pods
        };
        let mut claimed = Vec::new();
        let mut stands = None;
        for pod in candidates {
            match ownership::controller_of(&pod.metadata) {
                Some(held) if held.uid == owner.uid() && matches(&pod) => claimed.push(pod),
                Some(held) if held.uid == owner.uid() && !pod.is_terminating() => {
                    let released = ownership::release(&self.pods, &*pod, owner.uid()).await;
                    released.act("release a pod of", &key)?;
                }
                None if matches(&pod) && is_active(&pod) && !owner.is_terminating() => {
                    if stands.is_none() {
                        let asked = ownership::still_stands(&self.owners, owner).await;
                        stands = Some(asked.act("look up", &key)?);
                    }
                    if stands == Some(true) {
                        let adopted = ownership::adopt(&self.pods, owner, &*pod).await;
                        claimed.push(Arc::new(adopted.act("adopt a pod for", &key)?));
                    }
                }
                _ => {}
            }
        }
        Ok(claimed)
    }

    /// Creates the pods in batches of 1, 2, 4, …; stops at the first refusal.
    pub(super) async fn create_all(&self, owner: &O, pods: Vec<Pod>) -> Result<(), ApiError> {
        let mut left = pods.into_iter();
        let mut batch = 1;
        loop {
            let now: Vec<Pod> = left.by_ref().take(batch).collect();
            if now.is_empty() {
                return Ok(());
            }
            let outcomes = join_all(now.iter().map(|pod| self.create(owner, pod))).await;
            outcomes.into_iter().collect::<Result<Vec<()>, ApiError>>()?;
            batch *= 2;
        }
    }

    /// Creates one pod, which must have its name.
    pub(super) async fn create(&self, owner: &O, pod: &Pod) -> Result<(), ApiError> {
        let (key, name) = (owner.key(), pod.key().name);
        self.expectations.creating(&key, &name);
        match self.pods.add(pod).await {
            Ok(()) => {
                let message = (self.words)(Deed::Created, &name, &key.name);
                self.events.record(owner, Severity::Normal, "SuccessfulCreate", message);
                Ok(())
            }
            Err(error) => {
                // Without an answer the pod may exist: the expectation stays.
                if matches!(error, ApiError::Refused(_)) {
                    self.expectations.not_created(&key, &name);
                    let message = format!("Error creating: {error}");
                    self.events.record(owner, Severity::Warning, "FailedCreate", message);
                }
                Err(error)
            }
        }
    }

    pub(super) async fn delete_all<P: AsRef<Pod>>(
        &self,
        owner: &O,
        pods: &[P],
    ) -> Result<(), ApiError> {
        let outcomes = join_all(pods.iter().map(|pod| self.delete(owner, pod.as_ref()))).await;
        outcomes.into_iter().collect::<Result<Vec<()>, ApiError>>().map(drop)
    }

    /// Asks for one pod's deletion, with its own grace.
    pub(super) async fn delete(&self, owner: &O, pod: &Pod) -> Result<(), ApiError> {
        let (key, name) = (owner.key(), pod.key().name);
        self.expectations.deleting(&key, &name, pod.uid());
        match self.pods.delete_if_same(pod, None).await {
            Ok(()) => {
                let message = (self.words)(Deed::Deleted, &name, &key.name);
                self.events.record(owner, Severity::Normal, "SuccessfulDelete", message);
                Ok(())
            }
            Err(error) => {
                self.expectations.not_deleted(&key, &name, pod.uid());
                Err(error)
            }
        }
    }
}

/// Most pods that one step of a controller creates or deletes.
pub(super) fn burst(count: usize) -> usize {
    count.min(limits::REPLICASET_BURST)
}

/// `prefix` and five random characters.
pub(super) fn random_name(prefix: &str) -> String {
    let random = uuid::Uuid::new_v4().as_u64_pair();
    format!("{prefix}{}", safe_text(random.0 ^ random.1, 5))
}

/// A pod of the template, controlled by the owner.
pub(super) fn of_template<O: Kind>(owner: &O, template: &PodTemplateSpec, name: String) -> Pod {
    let mut metadata = template.metadata.clone().unwrap_or_default();
    metadata.name = Some(name);
    metadata.namespace = owner.metadata().namespace.clone();
    metadata.creation_timestamp = None;
    metadata.owner_references = Some(vec![ownership::controller_reference(owner)]);
    Pod { metadata, spec: template.spec.clone(), status: None }
}

/// Pods as an input: each concerns its owner, an orphan every owner that it fits.
pub(super) fn pods_of<O: Kind>(
    pods: &TypedInformer<Pod>,
    owners: &TypedInformer<O>,
    selector: fn(&O) -> Option<&LabelSelector>,
) -> Input<ObjectKey> {
    let owners = owners.clone();
    Input::new(pods, move |key, pod: &Pod| {
        if ownership::controller_of(&pod.metadata).is_some() {
            return ownership::controller_key(&pod.metadata, O::KIND).into_iter().collect();
        }
        let near = owners.list_namespace(&key.namespace);
        let fitting = near.iter().filter(|owner| {
            let labels = pod.metadata.labels.as_ref();
            selector(owner).is_some_and(|selector| rollout_selector::matches(selector, labels))
        });
        fitting.map(|owner| owner.key()).collect()
    })
}
