//! The annotations by which a Deployment and its ReplicaSets know each other.
//!
//! Source: Kubernetes' `deploymentutil`; `kubectl rollout history` and `undo` read them.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// The number of the rollout.
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
/// Earlier numbers of a template that came back.
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// What the Deployment wanted when the set was last sized.
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// What it allowed then, with the surge.
pub(super) const MAX: &str = "deployment.kubernetes.io/max-replicas";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

type Annotations = BTreeMap<String, String>;

pub(super) fn number(metadata: &ObjectMeta, name: &str) -> Option<i64> {
    metadata.annotations.as_ref()?.get(name)?.parse().ok()
}

/// The set's revision; 0 where it has none.
pub(super) fn revision(set: &ReplicaSet) -> i64 {
    number(&set.metadata, REVISION).unwrap_or(0)
}

/// The annotations that the set of the present template should have: those of the
/// Deployment that are not bookkeeping, and the revision.
pub(super) fn for_new_set(
    deployment: &Deployment,
    held: Option<&Annotations>,
    revision: i64,
) -> Annotations {
    let mut annotations = held.cloned().unwrap_or_default();
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if ![REVISION, REVISION_HISTORY, DESIRED, MAX, LAST_APPLIED].contains(&key.as_str()) {
            annotations.insert(key.clone(), value.clone());
        }
    }
    let before = annotations.get(REVISION).and_then(|text| text.parse::<i64>().ok());
    if before.is_none_or(|before| before < revision) {
        if let Some(before) = before {
            let history = annotations.entry(REVISION_HISTORY.to_owned()).or_default();
            if !history.is_empty() {
                history.push(',');
            }
            history.push_str(&before.to_string());
        }
        annotations.insert(REVISION.to_owned(), revision.to_string());
    }
    annotations
}

/// Notes the Deployment's size on a set that is being sized.
pub(super) fn set_sizes(annotations: &mut Annotations, desired: i32, max: i32) {
    annotations.insert(DESIRED.to_owned(), desired.to_string());
    annotations.insert(MAX.to_owned(), max.to_string());
}
