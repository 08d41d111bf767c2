//! The caches that several controllers share, one per resource.

use k8s_openapi::api::apps::v1::{
    ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet,
};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::ownership::{by_controller, by_orphanage};
use crate::client::api::{ListOptions, ResourceRef, SharedApi};
use crate::client::informer::{IndexFn, Informer, TypedInformer};
use crate::client::typed::Kind;

/// Index of pods by the node they are bound to.
pub(super) const BY_NODE: &str = "node";
/// Index by the uid of the controller.
pub(super) const BY_CONTROLLER: &str = "controller";
/// Index by namespace of what nobody controls.
pub(super) const BY_ORPHANAGE: &str = "orphanage";

pub(super) const BUDGETS: ResourceRef = ResourceRef::of::<PodDisruptionBudget>(true);

#[derive(Clone, Debug)]
pub(super) struct Informers {
    pub(super) pods: TypedInformer<Pod>,
    pub(super) nodes: TypedInformer<Node>,
    pub(super) replica_sets: TypedInformer<ReplicaSet>,
    pub(super) deployments: TypedInformer<Deployment>,
    pub(super) stateful_sets: TypedInformer<StatefulSet>,
    pub(super) daemon_sets: TypedInformer<DaemonSet>,
    pub(super) revisions: TypedInformer<ControllerRevision>,
    pub(super) jobs: TypedInformer<Job>,
    pub(super) cron_jobs: TypedInformer<CronJob>,
    pub(super) services: TypedInformer<Service>,
    pub(super) slices: TypedInformer<EndpointSlice>,
    pub(super) claims: TypedInformer<PersistentVolumeClaim>,
    pub(super) volumes: TypedInformer<PersistentVolume>,
    pub(super) classes: TypedInformer<StorageClass>,
    /// As JSON: each type that is read costs the program its size.
    pub(super) budgets: Informer<Value>,
}

/// The node a pod is bound to.
pub(super) fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|node| !node.is_empty())
}

fn by_node(pod: &Pod) -> Vec<String> {
    node_of(pod).map(str::to_owned).into_iter().collect()
}

/// Of what others control.
fn owned<K: Kind>(api: &SharedApi) -> TypedInformer<K> {
    let indexes: &[(&'static str, IndexFn<K>)] =
        &[(BY_CONTROLLER, by_controller), (BY_ORPHANAGE, by_orphanage)];
    TypedInformer::typed_indexed(api.clone(), ListOptions::default(), indexes)
}

impl Informers {
    pub(super) fn new(api: &SharedApi) -> Self {
        let all = ListOptions::default();
        Self {
            pods: TypedInformer::typed_indexed(
                api.clone(),
                all.clone(),
                &[(BY_CONTROLLER, by_controller), (BY_ORPHANAGE, by_orphanage), (BY_NODE, by_node)],
            ),
            nodes: TypedInformer::typed(api.clone(), all.clone()),
            replica_sets: owned(api),
            deployments: TypedInformer::typed(api.clone(), all.clone()),
            stateful_sets: TypedInformer::typed(api.clone(), all.clone()),
            daemon_sets: TypedInformer::typed(api.clone(), all.clone()),
            revisions: owned(api),
            jobs: owned(api),
            cron_jobs: TypedInformer::typed(api.clone(), all.clone()),
            services: TypedInformer::typed(api.clone(), all.clone()),
            slices: TypedInformer::typed(api.clone(), all.clone()),
            claims: TypedInformer::typed(api.clone(), all.clone()),
            volumes: TypedInformer::typed(api.clone(), all.clone()),
            classes: TypedInformer::typed(api.clone(), all.clone()),
            budgets: Informer::new(api.clone(), BUDGETS, all.clone()),
        }
    }

    pub(super) fn start(&self, tasks: &mut JoinSet<()>, cancel: &CancellationToken) {
        tasks.spawn(self.pods.clone().run(cancel.clone()));
        tasks.spawn(self.nodes.clone().run(cancel.clone()));
        tasks.spawn(self.replica_sets.clone().run(cancel.clone()));
        tasks.spawn(self.deployments.clone().run(cancel.clone()));
        tasks.spawn(self.stateful_sets.clone().run(cancel.clone()));
        tasks.spawn(self.daemon_sets.clone().run(cancel.clone()));
        tasks.spawn(self.revisions.clone().run(cancel.clone()));
        tasks.spawn(self.jobs.clone().run(cancel.clone()));
        tasks.spawn(self.cron_jobs.clone().run(cancel.clone()));
        tasks.spawn(self.services.clone().run(cancel.clone()));
        tasks.spawn(self.slices.clone().run(cancel.clone()));
        tasks.spawn(self.claims.clone().run(cancel.clone()));
        tasks.spawn(self.volumes.clone().run(cancel.clone()));
        tasks.spawn(self.classes.clone().run(cancel.clone()));
        tasks.spawn(self.budgets.clone().run(cancel.clone()));
    }
}
