//! What the claims of waiting pods say about nodes, for the scheduler.
//!
//! A pod whose claims wait for it is first given a node by name, in its claims; it is bound
//! when they are, and then no other node fits.

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::json;

use super::informers::{Informers, node_of};
use super::runner::{Act, ControllerError};
use super::volumes::claims_of;
use crate::client::api::SharedApi;
use crate::client::key::ObjectKey;
use crate::client::typed::{Kind, Typed};
use crate::logic::rollout_ranking::is_ended;
use crate::logic::schedule_filter::Obstacle;
use crate::logic::volume_binding::{NodeFit, SELECTED_NODE, Shelf};

/// Everything that is known of volumes during one pass.
#[derive(Debug)]
pub(super) struct PodVolumes {
    informers: Informers,
    volumes: Vec<Arc<PersistentVolume>>,
    classes: Vec<Arc<StorageClass>>,
    /// Claims for one pod only that a pod on a node has.
    taken: HashSet<ObjectKey>,
}

/// The claims of one pod.
#[derive(Debug)]
pub(super) struct Wanted {
    claims: Vec<Arc<PersistentVolumeClaim>>,
}

fn is_for_one_pod(claim: &PersistentVolumeClaim) -> bool {
    let modes = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_ref());
    modes.into_iter().flatten().any(|mode| mode == "ReadWriteOncePod")
}

impl PodVolumes {
    pub(super) fn new(informers: &Informers, pods: &[Arc<Pod>]) -> Self {
        let mut taken = HashSet::new();
        for pod in pods.iter().filter(|pod| node_of(pod).is_some() && !is_ended(pod)) {
            for name in claims_of(pod) {
                let key = ObjectKey::new(pod.key().namespace, name);
                if informers.claims.get_key(&key).is_some_and(|claim| is_for_one_pod(&claim)) {
                    taken.insert(key);
                }
            }
        }
        let (volumes, classes) = (informers.volumes.list(), informers.classes.list());
        Self { informers: informers.clone(), volumes, classes, taken }
    }

    /// The pod's claims, or why no node can take it yet.
    pub(super) fn wanted(&self, pod: &Pod, nodes: usize) -> Result<Wanted, String> {
        let namespace = pod.key().namespace;
        let all = |why: &str| format!("0/{nodes} nodes are available: {why}.");
        let mut claims = Vec::new();
        for name in claims_of(pod) {
            let key = ObjectKey::new(namespace.clone(), name);
            let Some(claim) = self.informers.claims.get_key(&key) else {
                return Err(all(&format!("persistentvolumeclaim \"{name}\" not found")));
            };
            if claim.is_terminating() {
                return Err(all(&format!("persistentvolumeclaim \"{name}\" is being deleted")));
            }
            if self.taken.contains(&key) {
                return Err(all(
                    "node has pod using PersistentVolumeClaim with the same name and \
                     ReadWriteOncePod access mode",
                ));
            }
            claims.push(claim);
        }
        let wanted = Wanted { claims };
        let nowhere = Node::default();
        if self.fits(&wanted, &nowhere).contains(&NodeFit::Unbound) {
            return Err(all("pod has unbound immediate PersistentVolumeClaims"));
        }
        Ok(wanted)
    }

    fn fits(&self, wanted: &Wanted, node: &Node) -> Vec<NodeFit> {
        if wanted.claims.is_empty() {
            return Vec::new();
        }
        let volumes: Vec<&PersistentVolume> = self.volumes.iter().map(|one| &**one).collect();
        let classes: Vec<&StorageClass> = self.classes.iter().map(|one| &**one).collect();
        let shelf = Shelf { volumes: &volumes, classes: &classes, nodes: &[] };
        wanted.claims.iter().map(|claim| shelf.for_node(claim, node)).collect()
    }

    /// Whether the node can serve all claims.
    pub(super) fn check(&self, wanted: &Wanted, node: &Node) -> Result<(), Obstacle> {
        for fit in self.fits(wanted, node) {
            match fit {
                NodeFit::Ready | NodeFit::Bindable => {}
                NodeFit::Conflict => return Err(Obstacle::VolumeElsewhere),
                NodeFit::NothingToBind | NodeFit::Unbound => return Err(Obstacle::NoVolume),
            }
        }
        Ok(())
    }

    /// Notes that a pod of this pass takes its claims.
    pub(super) fn take(&mut self, wanted: &Wanted) {
        let single = wanted.claims.iter().filter(|claim| is_for_one_pod(claim));
        self.taken.extend(single.map(|claim| claim.key()));
    }

    /// Whether all claims are bound, so that the pod can be.
    pub(super) fn is_ready(&self, wanted: &Wanted, node: &Node) -> bool {
        self.fits(wanted, node).iter().all(|fit| *fit == NodeFit::Ready)
    }
}

/// Names the node in the claims that wait for it; the binder does the rest.
pub(super) async fn select_node(
    api: &SharedApi,
    wanted: &Wanted,
    node: &str,
) -> Result<(), ControllerError> {
    let claims = Typed::<PersistentVolumeClaim>::new(api.clone());
    for claim in &wanted.claims {
        let notes = claim.metadata.annotations.as_ref();
        let named = notes.and_then(|notes| notes.get(SELECTED_NODE)).is_some();
        let bound = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_ref()).is_some();
        if named || bound {
            continue;
        }
        let patch = json!({"metadata": {
            "resourceVersion": claim.metadata.resource_version,
            "annotations": {SELECTED_NODE: node},
        }});
        let patched = claims.patch_merge(&claim.key(), None, &patch).await;
        patched.act("name a node in claim", &claim.key())?;
    }
    Ok(())
}
