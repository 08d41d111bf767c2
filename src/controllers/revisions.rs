//! The history of a workload's pod template as ControllerRevisions.
//!
//! Source: Kubernetes' `pkg/controller/history`. A revision holds the template as the
//! strategic merge patch that `kubectl rollout undo` sends back.
//! Invariants: of equal templates there is one revision, and the newest template has the
//! highest number; a name is made from the template's hash, so that creating it twice is
//! refused by the API whatever the cache says.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use serde_json::{Value, json};

use super::informers::{BY_CONTROLLER, BY_ORPHANAGE};
use super::ownership;
use super::runner::{Act, ControllerError};
use crate::client::api::SharedApi;
use crate::client::applied::LAST_APPLIED;
use crate::client::informer::TypedInformer;
use crate::client::typed::{Kind, Typed, to_value};
use crate::logic::rollout_hash::{same_template, template_hash};
use crate::logic::rollout_selector;

/// Names that may be taken by other templates before a look is given up.
const COLLISIONS_AT_ONCE: usize = 8;

/// The revisions of one kind of owner.
#[derive(Debug)]
pub(super) struct Revisions<O> {
    cache: TypedInformer<ControllerRevision>,
    revisions: Typed<ControllerRevision>,
    owners: Typed<O>,
    /// The label that holds the template's hash.
    label: &'static str,
}

/// What one owner's history looks like after [`Revisions::sync`].
#[derive(Debug)]
pub(super) struct History {
    /// Oldest first.
    pub(super) all: Vec<Arc<ControllerRevision>>,
    /// That of the present template.
    pub(super) newest: Arc<ControllerRevision>,
    /// The owner's collision count, grown if names were taken.
    pub(super) collisions: Option<i32>,
}

impl History {
    pub(super) fn find(&self, name: &str) -> Option<&Arc<ControllerRevision>> {
        self.all.iter().find(|one| one.metadata.name.as_deref() == Some(name))
    }
}

/// The template that a revision holds.
pub(super) fn template_of(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    serde_json::from_value(revision.data.0.pointer("/spec/template")?.clone()).ok()
}

fn number(revision: &ControllerRevision) -> i64 {
    revision.revision.unwrap_or(0)
}

fn patch_of(template: &PodTemplateSpec) -> Value {
    let mut template = to_value(template).unwrap_or_default();
    template["$patch"] = json!("replace");
    json!({"spec": {"template": template}})
}

impl<O: Kind> Revisions<O> {
    pub(super) fn new(
        api: &SharedApi,
        cache: &TypedInformer<ControllerRevision>,
        label: &'static str,
    ) -> Self {
        let cache = cache.clone();
        Self { cache, revisions: Typed::new(api.clone()), owners: Typed::new(api.clone()), label }
    }

    /// The hash by which pods name a revision's template.
    pub(super) fn hash_of(&self, revision: &ControllerRevision) -> String {
        let labels = revision.metadata.labels.as_ref();
        labels.and_then(|labels| labels.get(self.label)).cloned().unwrap_or_default()
    }

    /// Brings the history up to date with the owner's present template.
    pub(super) async fn sync(
        &self,
        owner: &O,
        selector: &LabelSelector,
        template: &PodTemplateSpec,
        collisions: Option<i32>,
    ) -> Result<History, ControllerError> {
        let mut all = self.claim(owner, selector).await?;
        all.sort_by_cached_key(|one| (number(one), one.metadata.name.clone()));
        let last = all.last().map_or(0, |one| number(one));
        let equal = all
            .iter()
            .rposition(|one| template_of(one).is_some_and(|held| same_template(&held, template)));
        let (newest, collisions) = match equal {
            Some(at) if number(&all[at]) == last => (Arc::clone(&all[at]), collisions),
            Some(at) => {
                let mut again = (*all.remove(at)).clone();
                again.revision = Some(last + 1);
                let key = again.key();
                let again = self.revisions.update(&again).await.act("renumber revision", &key)?;
                (Arc::new(again), collisions)
            }
            None => self.create(owner, template, last + 1, collisions).await?,
        };
        all.retain(|one| one.metadata.name != newest.metadata.name);
        all.push(Arc::clone(&newest));
        Ok(History { all, newest, collisions })
    }

    async fn claim(
        &self,
        owner: &O,
        selector: &LabelSelector,
    ) -> Result<Vec<Arc<ControllerRevision>>, ControllerError> {
        let key = owner.key();
        let mut claimed = self.cache.by_index(BY_CONTROLLER, owner.uid());
        for orphan in self.cache.by_index(BY_ORPHANAGE, &key.namespace) {
            let fits = rollout_selector::matches(selector, orphan.metadata.labels.as_ref());
            if !fits || orphan.is_terminating() {
                continue;
            }
            if owner.is_terminating() {
                // What was taken from an owner that goes is no reason to write it anew.
                claimed.push(orphan);
                continue;
            }
            let stands = ownership::still_stands(&self.owners, owner).await;
            if stands.act("look up", &key)? {
                let adopted = ownership::adopt(&self.revisions, owner, &*orphan).await;
                claimed.push(Arc::new(adopted.act("adopt a revision for", &key)?));
            }
        }
        Ok(claimed)
    }

    async fn create(
        &self,
        owner: &O,
        template: &PodTemplateSpec,
        revision: i64,
        mut collisions: Option<i32>,
    ) -> Result<(Arc<ControllerRevision>, Option<i32>), ControllerError> {
        let mut outcome = None;
        for _ in 0..COLLISIONS_AT_ONCE {
            let wanted = self.compose(owner, template, revision, collisions.unwrap_or(0));
            let key = wanted.key();
            match self.revisions.create(&wanted).await {
                Ok(created) => return Ok((Arc::new(created), collisions)),
                Err(error) if error.is_conflict() => {
                    let held = self.revisions.find(&key).await.act("look up revision", &key)?;
                    if let Some(held) = held {
                        let ours = ownership::controller_of(&held.metadata)
                            .is_some_and(|held| held.uid == owner.uid());
                        let same = template_of(&held);
                        if ours && same.is_some_and(|same| same_template(&same, template)) {
                            return Ok((Arc::new(held), collisions));
                        }
                        collisions = Some(collisions.unwrap_or(0) + 1);
                    }
                    outcome = Some(Err(error).act("create revision", &key));
                }
                Err(error) => return Err(error).act("create revision", &key),
            }
        }
        outcome.expect("at least one attempt was made")
    }

    fn compose(
        &self,
        owner: &O,
        template: &PodTemplateSpec,
        revision: i64,
        collisions: i32,
    ) -> ControllerRevision {
        let hash = template_hash(template, collisions);
        let key = owner.key();
        let metadata = template.metadata.as_ref();
        let mut labels = metadata.and_then(|held| held.labels.clone()).unwrap_or_default();
        labels.insert(self.label.to_owned(), hash.clone());
        let mut annotations = owner.metadata().annotations.clone().unwrap_or_default();
        annotations.remove(LAST_APPLIED);
        ControllerRevision {
            metadata: ObjectMeta {
                name: Some(format!("{}-{hash}", key.name)),
                namespace: Some(key.namespace),
                labels: Some(labels),
                annotations: (!annotations.is_empty()).then_some(annotations),
                owner_references: Some(vec![ownership::controller_reference(owner)]),
                ..ObjectMeta::default()
            },
            data: RawExtension(patch_of(template)),
            revision: Some(revision),
        }
    }

    /// Deletes the oldest revisions that no pod lives by, beyond `limit`.
    pub(super) async fn forget_old(
        &self,
        history: &History,
        limit: Option<i32>,
        lives: impl Fn(&ControllerRevision) -> bool,
    ) -> Result<(), ControllerError> {
        let limit = limit.unwrap_or(10).max(0) as usize;
        let newest = history.newest.metadata.name.as_deref();
        let idle: Vec<_> = history
            .all
            .iter()
            .filter(|one| one.metadata.name.as_deref() != newest && !lives(one))
            .collect();
        for old in &idle[..idle.len().saturating_sub(limit)] {
            let deleted = self.revisions.delete_if_same(old, None).await;
            deleted.act("delete old revision", &old.key())?;
        }
        Ok(())
    }
}
