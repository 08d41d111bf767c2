//! Binds claims to volumes, lets go of both, and asks for directories where none is there.
//!
//! Why the newest state is asked for before a binding: the cache may be a moment old, and a
//! claim that was given one volume must not be given another.
//! Invariants: a volume is written under the guard of its revision and before its claim; a
//! claim that a pod uses, and a volume that is bound, keep their finalizer.
//! Not here: the decisions (logic/volume_binding.rs); removing directories (agent/reclaim).

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::{Value, json};

use super::informers::Informers;
use super::runner::{Act, Controller, ControllerError, Input, Requeue};
use crate::base::limits::VOLUME_RECHECK;
use crate::client::api::{ListOptions, SharedApi};
use crate::client::events::{EventRecorder, Severity};
use crate::client::key::ObjectKey;
use crate::client::typed::{Kind, Typed};
use crate::logic::rollout_ranking::is_ended;
use crate::logic::volume_binding::{
    ClaimStep, LOCAL_PATH, PROVISIONED_BY, Shelf, VOLUMES_DIRECTORY, VolumeStep, decide_volume,
};

const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";
const VOLUME_FINALIZER: &str = "kubernetes.io/pv-protection";
const BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";

#[derive(Debug)]
pub(super) struct Volumes {
    informers: Informers,
    claims: Typed<PersistentVolumeClaim>,
    volumes: Typed<PersistentVolume>,
    pods: Typed<Pod>,
    events: EventRecorder,
}

/// The claims that a pod names.
pub(super) fn claims_of(pod: &Pod) -> impl Iterator<Item = &str> {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
    let named = volumes.into_iter().flatten();
    named.filter_map(|one| Some(one.persistent_volume_claim.as_ref()?.claim_name.as_str()))
}

fn claim_key(volume: &PersistentVolume) -> Option<ObjectKey> {
    let reference = volume.spec.as_ref()?.claim_ref.as_ref()?;
    Some(ObjectKey::new(reference.namespace.clone()?, reference.name.clone()?))
}

fn volume_name(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.spec.as_ref()?.volume_name.as_deref().filter(|name| !name.is_empty())
}

fn phase_of(claim: &PersistentVolumeClaim) -> &str {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// A list without one finalizer; `None` if it does not hold it.
fn without<K: Kind>(object: &K, finalizer: &str) -> Option<Vec<String>> {
    let held = object.metadata().finalizers.as_ref()?;
    let rest: Vec<String> = held.iter().filter(|one| *one != finalizer).cloned().collect();
    (rest.len() < held.len()).then_some(rest)
}

impl Volumes {
    pub(super) fn new(api: &SharedApi, informers: &Informers, events: EventRecorder) -> Self {
        Self {
            informers: informers.clone(),
            claims: Typed::new(api.clone()),
            volumes: Typed::new(api.clone()),
            pods: Typed::new(api.clone()),
            events,
        }
    }

    async fn claim(&self, key: &ObjectKey) -> Result<Requeue, ControllerError> {
        let Some(claim) = self.informers.claims.get_key(key) else { return Ok(Requeue::Done) };
        if claim.is_terminating() {
            return self.release_claim(&claim).await;
        }
        let volumes = self.informers.volumes.list();
        let step = self.decide(&claim, &volumes, step_of);
        match step {
            Todo::Nothing => Ok(Requeue::Done),
            Todo::Say { severity, reason, message } => {
                self.events.record(&*claim, severity, reason, message);
                Ok(Requeue::Done)
            }
            Todo::SetClass(name) => {
                let patch = json!({"metadata": {"resourceVersion": claim.metadata.resource_version},
                    "spec": {"storageClassName": name}});
                let patched = self.claims.patch_merge(key, None, &patch).await;
                patched.act("give its class to claim", key)?;
                Ok(Requeue::Done)
            }
            Todo::Bind => self.bind(key).await,
            Todo::Keep(volume) => self.finish(&claim, &volume).await,
            Todo::Provision { class, node } => self.provision(&claim, &class, &node).await,
            Todo::Lose(message) => {
                if phase_of(&claim) != "Lost" {
                    self.events.record(&*claim, Severity::Warning, "ClaimLost", message);
                    self.status(&claim, json!({"phase": "Lost"})).await?;
                }
                Ok(Requeue::Done)
            }
        }
    }

    /// Decides with everything that is known, and takes out of the answer what is needed.
    fn decide<T>(
        &self,
        claim: &PersistentVolumeClaim,
        volumes: &[Arc<PersistentVolume>],
        take: impl FnOnce(ClaimStep<'_>) -> T,
    ) -> T {
        let (classes, nodes) = (self.informers.classes.list(), self.informers.nodes.list());
        let volumes: Vec<&PersistentVolume> = volumes.iter().map(|one| &**one).collect();
        let classes: Vec<&StorageClass> = classes.iter().map(|one| &**one).collect();
        let nodes: Vec<&Node> = nodes.iter().map(|one| &**one).collect();
        let shelf = Shelf { volumes: &volumes, classes: &classes, nodes: &nodes };
        take(shelf.decide(claim))
    }

    /// Decides once more with the newest claim and volumes, and carries it out.
    async fn bind(&self, key: &ObjectKey) -> Result<Requeue, ControllerError> {
        let Some(claim) = self.claims.find(key).await.act("read claim", key)? else {
            return Ok(Requeue::Done);
        };
        let all = self.volumes.list(None, &ListOptions::default()).await;
        let all: Vec<_> = all.act("list the volumes for", key)?.into_iter().map(Arc::new).collect();
        let chosen = self.decide(&claim, &all, |step| match step {
            ClaimStep::Bind(volume) => Some(volume.clone()),
            _ => None,
        });
        let Some(volume) = chosen.filter(|_| !claim.is_terminating()) else {
            return Ok(Requeue::After(VOLUME_RECHECK));
        };
        let patch = json!({
            "metadata": {
                "resourceVersion": volume.metadata.resource_version,
                "annotations": {BY_CONTROLLER: "yes"},
            },
            "spec": {"claimRef": reference_to(&claim)},
        });
        let patched = self.volumes.patch_merge(&volume.key(), None, &patch).await;
        let bound = patched.act("give to a claim the volume", &volume.key())?;
        self.finish(&claim, &bound).await
    }

    /// Writes into the claim what it has.
    async fn finish(
        &self,
        claim: &PersistentVolumeClaim,
        volume: &PersistentVolume,
    ) -> Result<Requeue, ControllerError> {
        let name = volume.key().name;
        if volume_name(claim) != Some(&name) {
            let patch = json!({
                "metadata": {
                    "resourceVersion": claim.metadata.resource_version,
                    "annotations": {BIND_COMPLETED: "yes", BY_CONTROLLER: "yes"},
                },
                "spec": {"volumeName": name},
            });
            let patched = self.claims.patch_merge(&claim.key(), None, &patch).await;
            patched.act("name its volume in claim", &claim.key())?;
        }
        let spec = volume.spec.clone().unwrap_or_default();
        let status = json!({"phase": "Bound", "accessModes": spec.access_modes,
            "capacity": spec.capacity});
        let held = claim.status.as_ref().map(|held| (held.phase.as_deref(), &held.capacity));
        if held != Some((Some("Bound"), &spec.capacity)) {
            self.status(claim, status).await?;
        }
        Ok(Requeue::Done)
    }

    async fn status(
        &self,
        claim: &PersistentVolumeClaim,
        status: Value,
    ) -> Result<(), ControllerError> {
        let key = claim.key();
        let patch = json!({"status": status});
        let patched = self.claims.patch_merge(&key, Some("status"), &patch).await;
        patched.act("write the status of claim", &key).map(drop)
    }

    /// A volume that stands for a directory on the node; the node makes it when a pod comes.
    async fn provision(
        &self,
        claim: &PersistentVolumeClaim,
        class: &StorageClass,
        node_name: &str,
    ) -> Result<Requeue, ControllerError> {
        let key = claim.key();
        let node = self.informers.nodes.get_key(&ObjectKey::cluster(node_name));
        let notes = node.as_ref().and_then(|node| node.metadata.annotations.as_ref());
        let Some(directory) = notes.and_then(|notes| notes.get(VOLUMES_DIRECTORY)) else {
            let message = format!("node {node_name} does not say where it keeps volumes");
            self.events.record(claim, Severity::Warning, "ProvisioningFailed", message);
            return Ok(Requeue::After(VOLUME_RECHECK));
        };
        let name = format!("pvc-{}", claim.uid());
        let spec = claim.spec.clone().unwrap_or_default();
        let asked = spec.resources.and_then(|resources| resources.requests).unwrap_or_default();
        let volume = json!({
            "metadata": {"name": name, "annotations": {PROVISIONED_BY: LOCAL_PATH}},
            "spec": {
                "capacity": {"storage": asked.get("storage")},
                "accessModes": spec.access_modes,
                "persistentVolumeReclaimPolicy": class.reclaim_policy,
                "storageClassName": class.metadata.name,
                "claimRef": reference_to(claim),
                "local": {"path": format!("{}/{name}", directory.trim_end_matches('/'))},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [{
                    "key": "kubernetes.io/hostname", "operator": "In", "values": [node_name],
                }]}]}},
            },
        });
        let volume: PersistentVolume =
            crate::client::typed::from_value(volume).act("describe a volume for claim", &key)?;
        match self.volumes.create(&volume).await {
            Ok(_) => {
                let message = format!("Successfully provisioned volume {name}");
                self.events.record(claim, Severity::Normal, "ProvisioningSucceeded", message);
                Ok(Requeue::Done)
            }
            // An earlier look made it, and the cache will show it.
            Err(error) if error.is_conflict() => Ok(Requeue::After(VOLUME_RECHECK)),
            Err(error) => Err(error).act("make a volume for claim", &key),
        }
    }

    /// Lets a deleted claim go once no pod uses it.
    async fn release_claim(
        &self,
        claim: &PersistentVolumeClaim,
    ) -> Result<Requeue, ControllerError> {
        let Some(rest) = without(claim, CLAIM_FINALIZER) else { return Ok(Requeue::Done) };
        let key = claim.key();
        let uses = |pod: &Pod| !is_ended(pod) && claims_of(pod).any(|name| name == key.name);
        let near = self.informers.pods.list_namespace(&key.namespace);
        if near.iter().any(|pod| uses(pod)) {
            return Ok(Requeue::Done);
        }
        // The cache may be older than a pod.
        let live = self.pods.list(key.scope(), &ListOptions::default()).await;
        if live.act("list the pods near claim", &key)?.iter().any(uses) {
            return Ok(Requeue::After(VOLUME_RECHECK));
        }
        let patch = json!({"metadata": {
            "resourceVersion": claim.metadata.resource_version, "finalizers": rest}});
        match self.claims.patch_merge(&key, None, &patch).await {
            Err(error) if !error.is_not_found() => Err(error).act("let go claim", &key),
            _ => Ok(Requeue::Done),
        }
    }

    async fn volume(&self, key: &ObjectKey) -> Result<Requeue, ControllerError> {
        let Some(volume) = self.informers.volumes.get_key(key) else { return Ok(Requeue::Done) };
        let named = claim_key(&volume);
        let mut claim = named.as_ref().and_then(|key| self.informers.claims.get_key(key));
        let nodes = self.informers.nodes.list();
        let nodes: Vec<&Node> = nodes.iter().map(|one| &**one).collect();
        let mut step = decide_volume(&volume, claim.as_deref(), &nodes);
        if let Some(key) = named.filter(|_| !matches!(step, VolumeStep::Bound)) {
            // The cache may be older than the claim, and to let go loses data.
            claim = self.claims.find(&key).await.act("read claim", &key)?.map(Arc::new);
            step = decide_volume(&volume, claim.as_deref(), &nodes);
        }
        let phase = match step {
            VolumeStep::Available => "Available",
            VolumeStep::Bound => "Bound",
            VolumeStep::Released | VolumeStep::Reclaim | VolumeStep::Forget => "Released",
            VolumeStep::Failed => "Failed",
        };
        let held = volume.status.as_ref().and_then(|status| status.phase.as_deref());
        if held != Some(phase) {
            let message = (step == VolumeStep::Failed)
                .then_some("nothing here can delete this volume; delete it by hand");
            if let Some(message) = message {
                let reason = "VolumeFailedDelete";
                self.events.record(&*volume, Severity::Warning, reason, message.to_owned());
            }
            let patch = json!({"status": {"phase": phase, "message": message}});
            let patched = self.volumes.patch_merge(key, Some("status"), &patch).await;
            patched.act("write the status of volume", key)?;
        }
        if step == VolumeStep::Forget && !volume.is_terminating() {
            tracing::info!(volume = %key, "its only node is gone, and so is its data");
            self.volumes.delete_if_same(&volume, None).await.act("forget volume", key)?;
        }
        if volume.is_terminating()
            && step != VolumeStep::Bound
            && let Some(rest) = without(&*volume, VOLUME_FINALIZER)
        {
            let patch = json!({"metadata": {"finalizers": rest}});
            match self.volumes.patch_merge(key, None, &patch).await {
                Err(error) if !error.is_not_found() => return Err(error).act("let go volume", key),
                _ => {}
            }
        }
        Ok(Requeue::Done)
    }
}

fn reference_to(claim: &PersistentVolumeClaim) -> Value {
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": claim.metadata.name,
        "namespace": claim.metadata.namespace, "uid": claim.metadata.uid})
}

/// A step without what it borrows.
enum Todo {
    Nothing,
    Say { severity: Severity, reason: &'static str, message: String },
    SetClass(String),
    Bind,
    Keep(Box<PersistentVolume>),
    Provision { class: Box<StorageClass>, node: String },
    Lose(String),
}

fn step_of(step: ClaimStep<'_>) -> Todo {
    match step {
        ClaimStep::Wait { reason: "", .. } => Todo::Nothing,
        ClaimStep::Wait { reason, message } => {
            let normal = ["WaitForFirstConsumer", "FailedBinding"].contains(&reason);
            let severity = if normal { Severity::Normal } else { Severity::Warning };
            Todo::Say { severity, reason, message }
        }
        ClaimStep::SetClass(name) => Todo::SetClass(name.to_owned()),
        ClaimStep::Bind(_) => Todo::Bind,
        ClaimStep::Keep(volume) => Todo::Keep(Box::new(volume.clone())),
        ClaimStep::Provision { class, node } => {
            Todo::Provision { class: Box::new(class.clone()), node }
        }
        ClaimStep::Lose(message) => Todo::Lose(message),
    }
}

#[async_trait]
impl Controller for Volumes {
    /// A claim's key, or a volume's, which has no namespace.
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "persistentvolume-binder"
    }

    fn inputs(&self) -> Vec<Input<ObjectKey>> {
        let pending = {
            let claims = self.informers.claims.clone();
            move || -> Vec<ObjectKey> {
                let all = claims.list();
                let open = all.iter().filter(|claim| phase_of(claim) != "Bound");
                open.map(|claim| claim.key()).collect()
            }
        };
        let (of_volume, of_class) = (pending.clone(), pending);
        let volumes = self.informers.volumes.clone();
        vec![
            Input::new(&self.informers.claims, |key, claim: &PersistentVolumeClaim| {
                let volume = volume_name(claim).map(ObjectKey::cluster);
                std::iter::once(key.clone()).chain(volume).collect()
            }),
            Input::new(&self.informers.volumes, move |key, volume: &PersistentVolume| {
                match claim_key(volume) {
                    Some(claim) => vec![key.clone(), claim],
                    None => std::iter::once(key.clone()).chain(of_volume()).collect(),
                }
            }),
            Input::new(&self.informers.classes, move |_, _: &StorageClass| of_class()),
            Input::new(&self.informers.pods, |key, pod: &Pod| {
                claims_of(pod).map(|name| ObjectKey::new(key.namespace.clone(), name)).collect()
            }),
            Input::on_difference(
                &self.informers.nodes,
                |_, _| false,
                move |_, _: &Node| volumes.list().iter().map(|volume| volume.key()).collect(),
            ),
        ]
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, ControllerError> {
        if key.namespace.is_empty() { self.volume(key).await } else { self.claim(key).await }
    }
}
