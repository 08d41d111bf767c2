//! The claims of a StatefulSet's pods: made with the pod, kept under its name, and let go as
//! the set's policy says.
//!
//! Invariants: a claim that exists is never made anew nor changed, so that a pod finds its
//! data again; only the policy `Delete` ever gives a claim an owner that takes it along.

use k8s_openapi::Resource;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::json;

use crate::client::api::{ApiError, SharedApi};
use crate::client::events::{EventRecorder, Severity};
use crate::client::informer::TypedInformer;
use crate::client::key::ObjectKey;
use crate::client::typed::{Kind, Typed};
use crate::logic::stateful::{ClaimOwner, claim_owner};

/// See the module.
#[derive(Debug)]
pub(super) struct SetClaims {
    cache: TypedInformer<PersistentVolumeClaim>,
    claims: Typed<PersistentVolumeClaim>,
    events: EventRecorder,
}

fn templates(set: &StatefulSet) -> impl Iterator<Item = (&str, &PersistentVolumeClaim)> {
    let all = set.spec.volume_claim_templates.iter().flatten();
    all.filter_map(|template| Some((template.metadata.name.as_deref()?, template)))
}

fn claim_name(template: &str, set: &StatefulSet, ordinal: i32) -> String {
    format!("{template}-{}-{ordinal}", set.key().name)
}

/// Lets the pod's volumes of the templates' names stand for its claims.
pub(super) fn mount(set: &StatefulSet, ordinal: i32, pod: &mut Pod) {
    let Some(spec) = &mut pod.spec else { return };
    let mut volumes = spec.volumes.take().unwrap_or_default();
    for (template, _) in templates(set) {
        volumes.retain(|volume| volume.name != template);
        volumes.push(Volume {
            name: template.to_owned(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim_name(template, set, ordinal),
                read_only: None,
            }),
            ..Volume::default()
        });
    }
    spec.volumes = (!volumes.is_empty()).then_some(volumes);
}

impl SetClaims {
    pub(super) fn new(
        api: &SharedApi,
        cache: &TypedInformer<PersistentVolumeClaim>,
        events: EventRecorder,
    ) -> Self {
        Self { cache: cache.clone(), claims: Typed::new(api.clone()), events }
    }

    /// Makes the claims that the pod of an ordinal needs.
    pub(super) async fn make(&self, set: &StatefulSet, ordinal: i32) -> Result<(), ApiError> {
        for (name, template) in templates(set) {
            let mut claim = template.clone();
            let own = claim_name(name, set, ordinal);
            let key = ObjectKey::new(set.key().namespace, own.clone());
            if self.cache.get_key(&key).is_some() {
                continue;
            }
            claim.metadata.name = Some(own.clone());
            claim.metadata.namespace = set.metadata.namespace.clone();
            let labels = claim.metadata.labels.get_or_insert_default();
            labels.extend(set.spec.selector.match_labels.clone().unwrap_or_default());
            claim.status = None;
            match self.claims.create(&claim).await {
                Ok(_) => {
                    let set_name = set.key().name;
                    let text = format!(
                        "create Claim {own} Pod {set_name}-{ordinal} in StatefulSet {set_name} success"
                    );
                    self.events.record(set, Severity::Normal, "SuccessfulCreate", text);
                }
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Gives the claims of a pod the owner that the policy says. `condemned` is set for a pod
    /// that the set is too small for.
    pub(super) async fn own(
        &self,
        set: &StatefulSet,
        pod: &Pod,
        ordinal: i32,
        condemned: bool,
    ) -> Result<(), ApiError> {
        let policy = set.spec.persistent_volume_claim_retention_policy.as_ref();
        let deletes = |choice: Option<&String>| choice.is_some_and(|choice| choice == "Delete");
        let when_deleted = deletes(policy.and_then(|policy| policy.when_deleted.as_ref()));
        let when_scaled = deletes(policy.and_then(|policy| policy.when_scaled.as_ref()));
        let owner = claim_owner(when_deleted, when_scaled, condemned);
        for (template, _) in templates(set) {
            let name = claim_name(template, set, ordinal);
            let key = ObjectKey::new(set.key().namespace, name);
            let Some(claim) = self.cache.get_key(&key).filter(|claim| !claim.is_terminating())
            else {
                continue;
            };
            let held = claim.metadata.owner_references.clone().unwrap_or_default();
            let mut wanted = held.clone();
            // An earlier pod of the same name may stand there.
            wanted.retain(|one| one.uid != set.uid() && one.kind != Pod::KIND);
            wanted.extend(match owner {
                ClaimOwner::Nobody => None,
                ClaimOwner::Set => Some(reference(set)),
                ClaimOwner::Pod => Some(reference(pod)),
            });
            if wanted == held {
                continue;
            }
            let patch = json!({"metadata": {
                "resourceVersion": claim.metadata.resource_version, "ownerReferences": wanted}});
            match self.claims.patch_merge(&key, None, &patch).await {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

fn reference<K: Kind>(object: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::API_VERSION.to_owned(),
        kind: K::KIND.to_owned(),
        name: object.key().name,
        uid: object.uid().to_owned(),
        ..OwnerReference::default()
    }
}
