//! Collects objects whose owners are gone; carries foreground and orphaning deletions.
//!
//! Invariants: an owner counts as gone only after the API itself said so, with its uid;
//! every deletion names the uid it was decided for.
//! Not here: the judgement (logic/gc.rs); setting finalizers when a deletion is asked
//! for with a propagation policy, which the object layer does.

use async_trait::async_trait;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};

use super::graph::{Graph, GraphKey, Tracked};
use super::runner::{Act, Controller, ControllerError, Input, Requeue};
use crate::client::api::{ApiError, DeleteOptions, ListOptions, PatchKind, ResourceRef, SharedApi};
use crate::client::typed::from_value;
use crate::logic::gc::{self, FOREGROUND, ORPHAN, Owner, OwnerStep, Verdict};

#[derive(Debug)]
pub(super) struct Collector {
    api: SharedApi,
    graph: Graph,
}

impl Collector {
    pub(super) fn new(api: &SharedApi, graph: &Graph) -> Self {
        Self { api: api.clone(), graph: graph.clone() }
    }

    async fn owner(&self, reference: &OwnerReference, namespace: &str) -> Result<Owner, ApiError> {
        let Some(place) = self.graph.owner_key(reference, namespace) else {
            return Ok(Owner::Living);
        };
        let (resource, informer) = &self.graph.resources[place.resource];
        if resource.namespaced && namespace.is_empty() {
            // What belongs to no namespace cannot name an owner that does: nobody knows which.
            return Ok(Owner::Living);
        }
        let cached = informer.get_key(&place.key);
        if let Some(owner) = cached.filter(|owner| owner.metadata.uid == reference.uid) {
            return Ok(standing(&owner, reference));
        }
        match self.api.get(resource, place.key.scope(), &place.key.name).await {
            Ok(value) => {
                let owner: Tracked = from_value(value)?;
                let same = owner.metadata.uid == reference.uid;
                Ok(if same { standing(&owner, reference) } else { Owner::Gone })
            }
            Err(error) if error.is_not_found() => Ok(Owner::Gone),
            Err(error) => Err(error),
        }
    }

    /// Judges the object by its owners.
    async fn judge(&self, place: &GraphKey, object: &Tracked) -> Result<(), ControllerError> {
        let references = &object.metadata.owner_references;
        if references.is_empty() || object.is_terminating() {
            return Ok(());
        }
        let mut owners = Vec::new();
        for reference in references {
            let owner = self.owner(reference, &object.metadata.namespace).await;
            owners.push(owner.act("look up an owner of", place)?);
        }
        let has_dependents = self.graph.blocking(&object.metadata.uid) > 0;
        match gc::judge(&owners, has_dependents) {
            Verdict::Keep => Ok(()),
            Verdict::Unlink => {
                let kept = references.iter().zip(&owners);
                let kept: Vec<&OwnerReference> = kept
                    .filter(|(_, owner)| **owner == Owner::Living)
                    .map(|(reference, _)| reference)
                    .collect();
                let patch = json!({"ownerReferences": kept});
                self.patch(place, object, patch).await.act("unlink from its owner", place)
            }
            Verdict::Delete => self.delete(place, object, "Background").await,
            Verdict::DeleteForeground => self.delete(place, object, "Foreground").await,
        }
    }

    async fn delete(
        &self,
        place: &GraphKey,
        object: &Tracked,
        policy: &str,
    ) -> Result<(), ControllerError> {
        let options = DeleteOptions {
            uid: Some(object.metadata.uid.clone()),
            propagation_policy: Some(policy.to_owned()),
            ..DeleteOptions::default()
        };
        let (resource, key) = (self.resource(place), &place.key);
        match self.api.delete(resource, key.scope(), &key.name, &options).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => {
                Err(error).act("collect", place)
            }
            _ => Ok(()),
        }
    }

    fn resource(&self, place: &GraphKey) -> &ResourceRef {
        &self.graph.resources[place.resource].0
    }

    /// Changes metadata of exactly this version of the object; absent is fine.
    async fn patch(
        &self,
        place: &GraphKey,
        object: &Tracked,
        mut metadata: Value,
    ) -> Result<(), ApiError> {
        metadata["uid"] = json!(object.metadata.uid);
        metadata["resourceVersion"] = json!(object.metadata.resource_version);
        let patch = json!({"metadata": metadata});
        let (resource, key) = (self.resource(place), &place.key);
        let kind = PatchKind::Merge;
        match self.api.patch(resource, key.scope(), &key.name, None, kind, &patch).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    async fn drop_finalizer(
        &self,
        place: &GraphKey,
        object: &Tracked,
        finalizer: &str,
    ) -> Result<(), ControllerError> {
        let kept: Vec<&String> =
            object.metadata.finalizers.iter().filter(|held| *held != finalizer).collect();
        let dropped = self.patch(place, object, json!({"finalizers": kept})).await;
        dropped.act("take the finalizer from", place)
    }

    /// Takes the owner out of all its dependents, as the API lists them now.
    async fn release_all(&self, owner: &Tracked) -> Result<(), ControllerError> {
        let uid = &owner.metadata.uid;
        let owner_key = owner.key();
        for (at, (resource, _)) in self.graph.resources.iter().enumerate() {
            let namespace = owner_key.scope().filter(|_| resource.namespaced);
            let list = self.api.list(resource, namespace, &ListOptions::default()).await;
            let items = match list {
                // Its definition went meanwhile, and all its objects before it.
                Err(error) if error.is_not_found() => continue,
                list => list.act("list the dependents of", &owner_key)?.items,
            };
            for item in items {
                let item: Tracked = from_value(item).act("read a dependent of", &owner_key)?;
                if item.reference_to(uid).is_none() {
                    continue;
                }
                let references = item.metadata.owner_references.iter();
                let kept: Vec<&OwnerReference> =
                    references.filter(|reference| reference.uid != *uid).collect();
                let place = self.graph.key(at, item.key());
                let released = self.patch(&place, &item, json!({"ownerReferences": kept})).await;
                released.act("release from its owner", &place)?;
            }
        }
        Ok(())
    }
}

/// A found owner as its dependent has to see it.
fn standing(owner: &Tracked, reference: &OwnerReference) -> Owner {
    let waits = owner.is_terminating()
        && owner.metadata.finalizers.iter().any(|finalizer| finalizer == FOREGROUND)
        && reference.block_owner_deletion == Some(true);
    if waits { Owner::Waiting } else { Owner::Living }
}

#[async_trait]
impl Controller for Collector {
    type Key = GraphKey;

    fn name(&self) -> &'static str {
        "garbage-collector"
    }

    fn inputs(&self) -> Vec<Input<GraphKey>> {
        let resources = self.graph.resources.iter().enumerate();
        let input = |(at, (_, informer)): (usize, &(ResourceRef, _))| {
            let graph = self.graph.clone();
            Input::on_difference(informer, Tracked::differs, move |key, object: &Tracked| {
                // An object with owners or finalizers is looked at itself; its change
                // concerns its dependents and the owners that wait for it.
                let mut keys = vec![graph.key(at, key.clone())];
                keys.extend(graph.dependents(&object.metadata.uid));
                let owners = object.metadata.owner_references.iter();
                keys.extend(owners.filter_map(|owner| graph.owner_key(owner, &key.namespace)));
                keys
            })
        };
        resources.map(input).collect()
    }

    async fn reconcile(&self, place: &GraphKey) -> Result<Requeue, ControllerError> {
        let informer = &self.graph.resources[place.resource].1;
        let Some(object) = informer.get_key(&place.key) else { return Ok(Requeue::Done) };
        self.judge(place, &object).await?;
        let blocking = self.graph.blocking(&object.metadata.uid);
        match gc::owner_step(object.is_terminating(), &object.metadata.finalizers, blocking) {
            OwnerStep::Nothing | OwnerStep::AwaitDependents => {}
            OwnerStep::Release => {
                self.release_all(&object).await?;
                self.drop_finalizer(place, &object, ORPHAN).await?;
            }
            OwnerStep::DropForeground => {
                self.drop_finalizer(place, &object, FOREGROUND).await?;
            }
        }
        Ok(Requeue::Done)
    }
}
