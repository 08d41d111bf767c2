//! Keeps the status of disruption budgets: how many pods may be taken away now.
//!
//! Invariant: the status is written onto the budget that was looked at and no newer one, so
//! an eviction that counts itself in between is never overwritten.
//! Not here: the numbers (`logic/disruption`), evictions (`objects/eviction`).

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

use super::informers::{BUDGETS, Informers};
use super::ownership::controller_of;
use super::runner::{Act, Controller, ControllerError, Input, Requeue};
use crate::client::api::SharedApi;
use crate::client::events::{EventRecorder, Severity, reference_of};
use crate::client::key::ObjectKey;
use crate::client::typed::Kind;
use crate::logic::disruption::{self, Counted};
use crate::logic::rollout_ranking::is_ready;
use crate::logic::selector::LabelSelector;
use crate::model::kinds::{self, Subresource};
use crate::sys::clock;

/// When pods are counted again whose owner was not found: a cache may have been behind.
const UNKNOWN_AGAIN: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Disruptions {
    api: SharedApi,
    informers: Informers,
    events: EventRecorder,
}

/// The budget's selector; a budget without one selects nothing.
pub(super) fn selector_of(budget: &Value) -> Option<LabelSelector> {
    let selector = budget.pointer("/spec/selector")?;
    LabelSelector::from_object(selector).ok()
}

/// Whether the selector chooses a pod that is held as a type.
pub(super) fn selects(selector: &LabelSelector, pod: &Pod) -> bool {
    let labels = pod.metadata.labels.iter().flatten();
    let labels = labels.map(|(key, value)| (key.clone(), Value::from(value.as_str())));
    selector.matches_labels(Some(&labels.collect()))
}

impl Disruptions {
    pub(super) fn new(api: &SharedApi, informers: &Informers, events: EventRecorder) -> Self {
        Self { api: api.clone(), informers: informers.clone(), events }
    }

    /// How many pods the owners of these want together; pods that nobody controls do not
    /// count, and an owner that cannot be scaled makes the sum unknown.
    fn scale(&self, pods: &[std::sync::Arc<Pod>]) -> Result<i64, String> {
        let mut owners: BTreeMap<String, i64> = BTreeMap::new();
        for pod in pods {
            let Some(owner) = controller_of(&pod.metadata) else { continue };
            if owners.contains_key(&owner.uid) {
                continue;
            }
            let namespace = pod.key().namespace;
            match self.owner_scale(&namespace, &owner.kind, &owner.name, &owner.uid) {
                Some((uid, replicas)) => {
                    owners.insert(uid, replicas);
                }
                None => {
                    let served = kinds::by_kind(&owner.api_version, &owner.kind);
                    if let Some(kind) = served.filter(|kind| !kind.has(Subresource::Scale)) {
                        let name = if kind.group.is_empty() {
                            kind.plural.to_owned()
                        } else {
                            format!("{}.{}", kind.plural, kind.group)
                        };
                        return Err(format!("{name} does not implement the scale subresource"));
                    }
                    let name = pod.key().name;
                    return Err(format!("found no controllers for pod {name:?}"));
                }
            }
        }
        Ok(owners.values().sum())
    }

    /// The uid of whatever decides the count, and the count; a ReplicaSet of a Deployment has
    /// the Deployment's.
    fn owner_scale(
        &self,
        namespace: &str,
        kind: &str,
        name: &str,
        uid: &str,
    ) -> Option<(String, i64)> {
        let count = |replicas: Option<i32>| i64::from(replicas.unwrap_or(1));
        match kind {
            "ReplicaSet" => {
                let set = self.informers.replica_sets.get(namespace, name)?;
                if set.uid() != uid {
                    return None;
                }
                let deployment = controller_of(&set.metadata)
                    .filter(|owner| owner.kind == "Deployment")
                    .and_then(|owner| {
                        let found = self.informers.deployments.get(namespace, &owner.name)?;
                        (found.uid() == owner.uid).then_some(found)
                    });
                Some(match deployment {
                    Some(deployment) => {
                        (deployment.uid().to_owned(), count(deployment.spec.replicas))
                    }
                    None => (uid.to_owned(), count(set.spec.replicas)),
                })
            }
            "StatefulSet" => {
                let set = self.informers.stateful_sets.get(namespace, name)?;
                (set.uid() == uid).then(|| (uid.to_owned(), count(set.spec.replicas)))
            }
            _ => None,
        }
    }
}

#[async_trait]
impl Controller for Disruptions {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "disruption"
    }

    fn inputs(&self) -> Vec<Input<ObjectKey>> {
        let budgets = self.informers.budgets.clone();
        vec![
            Input::new(&self.informers.budgets, |key, _: &Value| vec![key.clone()]),
            Input::new(&self.informers.pods, move |key, pod: &Pod| {
                let near = budgets.list_namespace(&key.namespace);
                let choosing = near.iter().filter(|budget| {
                    selector_of(budget).is_some_and(|selector| selects(&selector, pod))
                });
                choosing.filter_map(|budget| ObjectKey::of_value(budget)).collect()
            }),
        ]
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, ControllerError> {
        let Some(budget) = self.informers.budgets.get_key(key) else { return Ok(Requeue::Done) };
        let selector = selector_of(&budget);
        let mut pods = self.informers.pods.list_namespace(&key.namespace);
        pods.retain(|pod| selector.as_ref().is_some_and(|selector| selects(selector, pod)));
        let say = |severity, reason: &str, text: String| {
            self.events.record_about(reference_of(&budget), severity, reason, text);
        };
        if pods.is_empty() {
            say(Severity::Normal, "NoPods", "No matching pods found".into());
        }
        let scale = if disruption::needs_scale(&budget) { self.scale(&pods) } else { Ok(0) };
        let unknown = scale.is_err();
        if let Err(why) = &scale {
            let text = format!("Failed to calculate the number of expected pods: {why}");
            say(Severity::Warning, "CalculateExpectedPodCountFailed", text);
        }
        let counted: Vec<Counted> = pods
            .iter()
            .map(|pod| Counted {
                name: pod.key().name,
                ready: is_ready(pod),
                terminating: pod.is_terminating(),
            })
            .collect();
        let found = disruption::evaluate(&budget, &counted, scale, clock::now());
        for name in &found.stayed {
            let text = format!("Pod was expected by PDB {key} to be deleted but it wasn't");
            if let Some(pod) = pods.iter().find(|pod| pod.key().name == *name) {
                self.events.record(&**pod, Severity::Warning, "NotDeleted", text);
            }
        }
        if budget.get("status") != Some(&found.status) {
            let mut changed = (*budget).clone();
            changed["status"] = found.status;
            let written =
                self.api.update(&BUDGETS, key.scope(), &key.name, Some("status"), &changed).await;
            match written {
                Err(error) if error.is_not_found() => {}
                other => {
                    other.act("write the status of", key)?;
                }
            }
        }
        let again = found.again_in.map_or(Requeue::Done, Requeue::After);
        Ok(if unknown { again.sooner(Requeue::After(UNKNOWN_AGAIN)) } else { again })
    }
}
