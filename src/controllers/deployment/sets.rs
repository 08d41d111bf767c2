//! A Deployment's ReplicaSets: claiming, creating, sizing, and forgetting old ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use super::{Deployments, Rollout, annotations, occupied, wanted};
use crate::client::api::DeleteOptions;
use crate::client::events::Severity;
use crate::client::key::ObjectKey;
use crate::client::typed::Kind;
use crate::controllers::informers::{BY_CONTROLLER, BY_ORPHANAGE};
use crate::controllers::ownership;
use crate::controllers::runner::{Act, ControllerError};
use crate::logic::rollout;
use crate::logic::rollout::SetState;
use crate::logic::rollout_hash::{TEMPLATE_HASH, same_template, template_hash};
use crate::logic::rollout_selector;

/// The set of the present template (the oldest, should there be several) and the rest.
pub(super) fn split(
    spec: &DeploymentSpec,
    mut sets: Vec<Arc<ReplicaSet>>,
) -> (Option<Arc<ReplicaSet>>, Vec<Arc<ReplicaSet>>) {
    sets.sort_by_cached_key(|set| {
        let created = set.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (created, annotations::revision(set), set.metadata.name.clone())
    });
    let new = sets.iter().position(|set| {
        let template = set.spec.template.as_ref();
        template.is_some_and(|template| same_template(template, &spec.template))
    });
    let new = new.map(|at| sets.remove(at));
    (new, sets)
}

impl Deployments {
    /// The Deployment's ReplicaSets, with orphans adopted and strangers released.
    pub(super) async fn claim(
        &self,
        deployment: &Deployment,
        spec: &DeploymentSpec,
    ) -> Result<Vec<Arc<ReplicaSet>>, ControllerError> {
        let key = deployment.key();
        let cache = &self.informers.replica_sets;
        let mut candidates = cache.by_index(BY_CONTROLLER, deployment.uid());
        candidates.extend(cache.by_index(BY_ORPHANAGE, &key.namespace));
        let mut claimed = Vec::new();
        for set in candidates {
            let fits = rollout_selector::matches(&spec.selector, set.metadata.labels.as_ref());
            let owned = ownership::controller_of(&set.metadata).is_some();
            if owned && fits {
                claimed.push(set);
            } else if owned && !set.is_terminating() {
                let released = ownership::release(&self.sets, &*set, deployment.uid()).await;
                released.act("release a ReplicaSet of", &key)?;
            } else if !owned && fits && !set.is_terminating() && !deployment.is_terminating() {
                let stands = ownership::still_stands(&self.deployments, deployment).await;
                if stands.act("look up", &key)? {
                    let adopted = ownership::adopt(&self.sets, deployment, &*set).await;
                    claimed.push(Arc::new(adopted.act("adopt a ReplicaSet for", &key)?));
                }
            }
        }
        Ok(claimed)
    }

    /// Brings the new set's annotations up to date, or creates it if that is asked.
    pub(super) async fn refresh_new(
        &self,
        rollout: &mut Rollout,
        create: bool,
    ) -> Result<(), ControllerError> {
        let newest_old = rollout.old.iter().map(|set| annotations::revision(set)).max();
        let revision = newest_old.unwrap_or(0) + 1;
        if let Some(new) = rollout.new.clone() {
            rollout.new = Some(self.refresh(rollout, new, revision).await?);
        } else if create {
            rollout.new = self.create_new(rollout, revision).await?;
        }
        let Some(new) = &rollout.new else { return Ok(()) };
        let revision = annotations::revision(new);
        if annotations::number(&rollout.deployment.metadata, annotations::REVISION)
            != Some(revision)
        {
            let patch = json!({"metadata": {
                "resourceVersion": rollout.deployment.metadata.resource_version,
                "annotations": {annotations::REVISION: revision.to_string()}}});
            let key = rollout.key();
            let updated = self.deployments.patch_merge(&key, None, &patch).await;
            rollout.deployment = Arc::new(updated.act("note the revision of", &key)?);
        }
        Ok(())
    }

    async fn refresh(
        &self,
        rollout: &Rollout,
        set: Arc<ReplicaSet>,
        revision: i64,
    ) -> Result<Arc<ReplicaSet>, ControllerError> {
        let held = set.metadata.annotations.as_ref();
        let annotations = annotations::for_new_set(&rollout.deployment, held, revision);
        let min_ready = rollout.spec.min_ready_seconds;
        let same_min_ready = set.spec.min_ready_seconds.unwrap_or(0) == min_ready.unwrap_or(0);
        if held == Some(&annotations) && same_min_ready {
            return Ok(set);
        }
        let mut changed = (*set).clone();
        changed.metadata.annotations = Some(annotations);
        changed.spec.min_ready_seconds = min_ready;
        let updated = self.sets.update(&changed).await;
        Ok(Arc::new(updated.act("annotate ReplicaSet", &set.key())?))
    }

    /// `None` says that the name is taken by a set of another template; the collision
    /// has been counted and the next look uses another name.
    async fn create_new(
        &self,
        rollout: &Rollout,
        revision: i64,
    ) -> Result<Option<Arc<ReplicaSet>>, ControllerError> {
        let size = if rollout.recreates() {
            rollout.desired
        } else {
            let total = rollout.old.iter().map(|set| occupied(set)).sum();
            let none = SetState { wanted: 0, available: 0 };
            rollout::new_set_size(rollout.desired, rollout.bounds, none, total)
        };
        let set = compose(rollout, revision, size);
        let key = set.key();
        match self.sets.create(&set).await {
            Ok(created) => {
                if size > 0 {
                    self.report_scaling(rollout, &key.name, 0, size);
                }
                Ok(Some(Arc::new(created)))
            }
            Err(error) if error.is_conflict() => self.resolve_taken_name(rollout, &key).await,
            Err(error) => Err(error).act("create ReplicaSet", &key),
        }
    }

    async fn resolve_taken_name(
        &self,
        rollout: &Rollout,
        key: &ObjectKey,
    ) -> Result<Option<Arc<ReplicaSet>>, ControllerError> {
        let Some(held) = self.sets.find(key).await.act("look up ReplicaSet", key)? else {
            return Ok(None);
        };
        let ours = ownership::controller_of(&held.metadata)
            .is_some_and(|owner| owner.uid == rollout.deployment.uid());
        let template = held.spec.template.as_ref();
        if ours && template.is_some_and(|template| same_template(template, &rollout.spec.template))
        {
            return Ok(Some(Arc::new(held)));
        }
        let mut changed = (*rollout.deployment).clone();
        let status = changed.status.get_or_insert_default();
        status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
        let counted = self.deployments.update_status(&changed).await;
        counted.act("count a name collision of", &rollout.key())?;
        Ok(None)
    }

    /// Sizes a set and notes what the Deployment wanted; answers the set as it is then.
    pub(super) async fn resize(
        &self,
        rollout: &Rollout,
        set: &Arc<ReplicaSet>,
        size: i32,
    ) -> Result<Arc<ReplicaSet>, ControllerError> {
        let before = wanted(set);
        let mut changed = (**set).clone();
        let held = changed.metadata.annotations.get_or_insert_default();
        let max = rollout.desired.saturating_add(rollout.bounds.max_surge);
        annotations::set_sizes(held, rollout.desired, max);
        changed.spec.replicas = Some(size);
        if changed == **set {
            return Ok(Arc::clone(set));
        }
        let updated = self.sets.update(&changed).await.act("resize ReplicaSet", &set.key())?;
        if before != size {
            self.report_scaling(rollout, &set.key().name, before, size);
        }
        Ok(Arc::new(updated))
    }

    fn report_scaling(&self, rollout: &Rollout, set: &str, from: i32, to: i32) {
        let direction = if to > from { "up" } else { "down" };
        let message = format!("Scaled {direction} replica set {set} from {from} to {to}");
        let reason = "ScalingReplicaSet";
        self.events.record(&*rollout.deployment, Severity::Normal, reason, message);
    }

    /// Deletes the oldest empty sets beyond `revisionHistoryLimit`.
    pub(super) async fn clean_history(&self, rollout: &Rollout) -> Result<(), ControllerError> {
        let limit = rollout.spec.revision_history_limit.unwrap_or(10).max(0) as usize;
        let mut empty: Vec<_> = rollout
            .old
            .iter()
            .filter(|set| {
                let replicas = set.status.as_ref().map_or(0, |status| status.replicas);
                let seen = set.status.as_ref().and_then(|status| status.observed_generation);
                let current = seen >= set.metadata.generation;
                wanted(set) == 0 && replicas == 0 && current && !set.is_terminating()
            })
            .collect();
        empty.sort_by_key(|set| annotations::revision(set));
        let surplus = empty.len().saturating_sub(limit);
        for set in &empty[..surplus] {
            let options = DeleteOptions {
                uid: set.metadata.uid.clone(),
                resource_version: set.metadata.resource_version.clone(),
                ..DeleteOptions::default()
            };
            match self.sets.delete(&set.key(), &options).await {
                Err(error) if !error.is_not_found() => {
                    return Err(error).act("delete old ReplicaSet", &set.key());
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn compose(rollout: &Rollout, revision: i64, size: i32) -> ReplicaSet {
    let deployment = &rollout.deployment;
    let key = rollout.key();
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
    let hash = template_hash(&rollout.spec.template, collisions.unwrap_or(0));
    let tag = |labels: Option<&BTreeMap<String, String>>| {
        let mut labels = labels.cloned().unwrap_or_default();
        labels.insert(TEMPLATE_HASH.to_owned(), hash.clone());
        Some(labels)
    };
    let mut template = rollout.spec.template.clone();
    let metadata = template.metadata.get_or_insert_default();
    metadata.labels = tag(metadata.labels.as_ref());
    let labels = metadata.labels.clone();
    let mut selector = rollout.spec.selector.clone();
    selector.match_labels = tag(selector.match_labels.as_ref());
    let mut notes = annotations::for_new_set(deployment, None, revision);
    let max = rollout.desired.saturating_add(rollout.bounds.max_surge);
    annotations::set_sizes(&mut notes, rollout.desired, max);
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", key.name)),
            namespace: Some(key.namespace),
            labels,
            annotations: Some(notes),
            owner_references: Some(vec![ownership::controller_reference(&**deployment)]),
            ..ObjectMeta::default()
        },
        spec: ReplicaSetSpec {
            replicas: Some(size),
            selector,
            template: Some(template),
            min_ready_seconds: rollout.spec.min_ready_seconds,
        },
        status: None,
    }
}
