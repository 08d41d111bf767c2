//! Counts what objects use of each quota, when quotas come and objects go.
//!
//! A create is charged in its own transaction (`objects/quota`); this counts anew where
//! something was deleted or came to its end, and where a quota was made or changed.
//! Invariants: the quota is read before its objects and written only if it has not changed
//! since, and every charge changes it; so no object that was made meanwhile is missed.
//! Source: `pkg/controller/resourcequota`.

use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use serde::Deserialize;
use serde_json::{Value, json};

use super::graph::{Graph, Tracked, resource_of};
use super::informers::Informers;
use super::runner::{Act, Controller, ControllerError, Input, Requeue};
use crate::client::api::{ListOptions, ResourceRef, SharedApi};
use crate::client::informer::Informer;
use crate::client::key::ObjectKey;
use crate::logic::quota::{self, Counted};
use crate::model::kinds::{KINDS, Kind};
use crate::sys::clock;

pub(super) const QUOTAS: ResourceRef = ResourceRef::of::<ResourceQuota>(true);
/// How often everything is counted anyway, for kinds whose deletions nobody watches.
const RECOUNT: Duration = Duration::from_secs(300);
const PAGE: u32 = 500;

/// A quota as far as its bounds concern others.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Bounds {
    #[serde(default)]
    spec: Value,
}

impl Bounds {
    fn bounds(&self, counted: &Counted<'_>) -> bool {
        let hard = self.spec["hard"].as_object().into_iter().flatten();
        hard.map(|(name, _)| name).any(|name| counted.handles(name))
    }
}

#[derive(Debug)]
pub(super) struct Quotas {
    api: SharedApi,
    informers: Informers,
    graph: Graph,
    quotas: Informer<Bounds>,
    /// Kinds that definitions make.
    custom: Vec<&'static Kind>,
}

fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    phase.is_some_and(|phase| ["Succeeded", "Failed"].contains(&phase))
}

/// The cache of the bounds.
pub(super) fn bounds(api: &SharedApi) -> Informer<Bounds> {
    Informer::new(api.clone(), QUOTAS, ListOptions::default())
}

/// The quotas of a namespace that bound a kind.
fn concerned(quotas: &Informer<Bounds>, namespace: &str, counted: &Counted<'_>) -> Vec<ObjectKey> {
    let all = quotas.entries();
    let own =
        all.iter().filter(|(key, quota)| *key.namespace == *namespace && quota.bounds(counted));
    own.map(|(key, _)| key.clone()).collect()
}

impl Quotas {
    pub(super) fn new(
        api: &SharedApi,
        informers: &Informers,
        graph: &Graph,
        quotas: &Informer<Bounds>,
        custom: &[&'static Kind],
    ) -> Self {
        Self {
            api: api.clone(),
            informers: informers.clone(),
            graph: graph.clone(),
            quotas: quotas.clone(),
            custom: custom.to_vec(),
        }
    }

    async fn objects(
        &self,
        kind: &'static Kind,
        namespace: &str,
    ) -> Result<Vec<Value>, ControllerError> {
        let mut options = ListOptions { limit: Some(PAGE), ..ListOptions::default() };
        let mut objects = Vec::new();
        loop {
            let listed = self.api.list(&resource_of(kind), Some(namespace), &options).await;
            let page = listed.act("count objects in", &namespace)?;
            objects.extend(page.items);
            match page.continue_token.filter(|token| !token.is_empty()) {
                Some(token) => options.continue_token = Some(token),
                None => return Ok(objects),
            }
        }
    }
}

#[async_trait]
impl Controller for Quotas {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "resourcequota"
    }

    fn inputs(&self) -> Vec<Input<ObjectKey>> {
        let quotas = self.quotas.clone();
        let mut inputs = vec![
            Input::new(&self.quotas, |key, _: &Bounds| vec![key.clone()]),
            Input::on_difference(
                &self.informers.pods,
                |old, new| is_over(old) != is_over(new),
                move |key, _: &Pod| {
                    let pods = Counted { group: "", plural: "pods" };
                    concerned(&quotas, &key.namespace, &pods)
                },
            ),
        ];
        for (resource, informer) in &self.graph.resources {
            if !resource.namespaced || resource.plural == "pods" {
                continue;
            }
            let (quotas, group, plural) = (self.quotas.clone(), resource.group, resource.plural);
            // Only that there is one more or one less is a difference.
            inputs.push(Input::on_difference(
                informer,
                |_, _| false,
                move |key, _: &Tracked| {
                    concerned(&quotas, &key.namespace, &Counted { group, plural })
                },
            ));
        }
        inputs
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, ControllerError> {
        let namespace = Some(&*key.namespace);
        let mut quota = match self.api.get(&QUOTAS, namespace, &key.name).await {
            Err(error) if error.is_not_found() => return Ok(Requeue::Done),
            found => found.act("read quota", key)?,
        };
        let bounds = Bounds { spec: quota["spec"].clone() };
        let mut counted = Vec::new();
        let kinds = KINDS.iter().chain(self.custom.iter().copied());
        for kind in kinds.filter(|kind| kind.namespaced && kind.kept) {
            let own = Counted { group: kind.group, plural: kind.plural };
            if bounds.bounds(&own) {
                counted.push((own, self.objects(kind, &key.namespace).await?));
            }
        }
        let kinds = counted.iter().map(|(kind, objects)| (*kind, objects.as_slice()));
        let used = quota::count(&quota, kinds, clock::now());
        let hard = quota["spec"].get("hard").cloned().unwrap_or_else(|| json!({}));
        let status = json!({"hard": hard, "used": quota::to_json(&used)});
        if quota["status"] != status {
            quota["status"] = status;
            let update = self.api.update(&QUOTAS, namespace, &key.name, Some("status"), &quota);
            update.await.act("write what is used of", key)?;
        }
        Ok(Requeue::After(RECOUNT))
    }
}
