//! Which volume a claim gets, and what becomes of both.
//!
//! ```text
//!  claim unbound ─► the smallest volume that fits ─► volume names the claim (1)
//!                                                 ─► claim names the volume (2) ─► both Bound
//!  claim waits for its first pod: the scheduler names a node, and only then (1)
//!  claim gone ─► volume Released ─► Retain: stays │ Delete: its directory and it go
//! ```
//! Why the volume is written first: it has room for one claim's name and is changed under a
//! guard of its revision, so two claims can never both believe that they have it.
//! Invariants (tested over random lives): a volume is never bound to two claims, and a claim
//! never to two volumes; a volume that was bound is never given to another claim; class,
//! modes, size, selector and node fit.
//! Source: Kubernetes' `pkg/controller/volume/persistentvolume`.
//! Not here: writing it (controllers/volumes.rs), mounting (agent/volumes).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;

use crate::logic::amount::milli;
use crate::logic::rollout_selector;
use crate::logic::schedule_filter::any_term_matches;

/// Our own provisioner: directories of the nodes.
pub const LOCAL_PATH: &str = "holdfast.io/local-path";
/// The node that a claim's first pod goes to; written by the scheduler.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// Who made a volume.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// Where a node keeps directories for volumes; the node's agent says so.
pub const VOLUMES_DIRECTORY: &str = "holdfast.io/volumes-directory";
/// The class that claims without one get.
pub const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// A claim's class; `None` where it has none yet, empty where it wants none.
pub fn class_of_claim(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.spec.as_ref()?.storage_class_name.as_deref()
}

fn class_of_volume(volume: &PersistentVolume) -> &str {
    let spec = volume.spec.as_ref();
    spec.and_then(|spec| spec.storage_class_name.as_deref()).unwrap_or_default()
}

/// The newest class that is marked as the default.
pub fn default_class<'a>(
    classes: impl Iterator<Item = &'a StorageClass>,
) -> Option<&'a StorageClass> {
    let marked = |class: &&StorageClass| {
        let notes = class.metadata.annotations.as_ref();
        notes.and_then(|notes| notes.get(DEFAULT_CLASS)).is_some_and(|value| value == "true")
    };
    classes.filter(marked).max_by_key(|class| {
        let made = class.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (made, std::cmp::Reverse(class.metadata.name.clone()))
    })
}

/// Whether the class waits for the first pod.
pub fn waits_for_pod(class: Option<&StorageClass>) -> bool {
    class.and_then(|class| class.volume_binding_mode.as_deref()) == Some("WaitForFirstConsumer")
}

/// Whether the volume names exactly this claim, or would take it by its name.
pub fn is_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(reference) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) else {
        return false;
    };
    let own = |held: &Option<String>, other: &Option<String>| held == other;
    own(&reference.name, &claim.metadata.name)
        && own(&reference.namespace, &claim.metadata.namespace)
        && reference
            .uid
            .as_ref()
            .is_none_or(|uid| uid.is_empty() || Some(uid) == claim.metadata.uid.as_ref())
}

/// Whether the volume has been given to a claim by uid.
pub fn is_bound(volume: &PersistentVolume) -> bool {
    let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    reference.and_then(|held| held.uid.as_deref()).is_some_and(|uid| !uid.is_empty())
}

fn is_named(volume: &PersistentVolume) -> bool {
    volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_some())
}

fn storage(
    list: Option<&BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>,
) -> i128 {
    list.and_then(|list| list.get("storage")).and_then(|amount| milli(&amount.0)).unwrap_or(0)
}

/// What the volume holds, in thousandths of a byte.
fn capacity(volume: &PersistentVolume) -> i128 {
    storage(volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()))
}

/// Whether the volume's node affinity lets a node use it.
pub fn fits_node(volume: &PersistentVolume, node: &Node) -> bool {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required.as_ref());
    required.is_none_or(|required| any_term_matches(&required.node_selector_terms, node))
}

/// Why a volume is not for a claim, in words; `None` if it would do.
pub fn mismatch(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<&'static str> {
    let (Some(offer), Some(wish)) = (&volume.spec, &claim.spec) else {
        return Some("it has no spec");
    };
    let resources = wish.resources.as_ref();
    let asked = storage(resources.and_then(|resources| resources.requests.as_ref()));
    let modes = offer.access_modes.as_deref().unwrap_or_default();
    let filesystem =
        |mode: &Option<String>| mode.as_deref().unwrap_or("Filesystem") == "Filesystem";
    if capacity(volume) < asked {
        Some("requested PV is too small")
    } else if class_of_volume(volume) != class_of_claim(claim).unwrap_or_default() {
        Some("storageClassName does not match")
    } else if filesystem(&offer.volume_mode) != filesystem(&wish.volume_mode) {
        Some("incompatible volumeMode")
    } else if !wish.access_modes.iter().flatten().all(|mode| modes.contains(mode)) {
        Some("incompatible accessMode")
    } else {
        None
    }
}

/// The volume that an unbound claim gets: one that names it already, else the smallest that
/// is free and fits. With a node, only volumes that the node can use.
pub fn choose<'a>(
    claim: &PersistentVolumeClaim,
    volumes: impl Iterator<Item = &'a PersistentVolume>,
    node: Option<&Node>,
) -> Option<&'a PersistentVolume> {
    let mut best: Option<&PersistentVolume> = None;
    let selector = claim.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    for volume in volumes {
        if mismatch(volume, claim).is_some() || node.is_some_and(|node| !fits_node(volume, node)) {
            continue;
        }
        if is_for(volume, claim) {
            return Some(volume);
        }
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
        let free = !is_named(volume)
            && volume.metadata.deletion_timestamp.is_none()
            && matches!(phase, None | Some("Available" | "Pending"));
        let selected = selector.is_none_or(|selector| {
            rollout_selector::matches(selector, volume.metadata.labels.as_ref())
        });
        let rank = |volume: &PersistentVolume| (capacity(volume), volume.metadata.name.clone());
        if free && selected && best.is_none_or(|held| rank(volume) < rank(held)) {
            best = Some(volume);
        }
    }
    best
}

/// What to do for a claim now.
#[derive(Clone, Debug, PartialEq)]
pub enum ClaimStep<'a> {
    /// Nothing can be done; the reason and words for an event.
    Wait { reason: &'static str, message: String },
    /// Give it the default class.
    SetClass(&'a str),
    /// Write the claim's name into the volume, and then the volume's into the claim.
    Bind(&'a PersistentVolume),
    /// Make a directory's volume on this node.
    Provision { class: &'a StorageClass, node: String },
    /// The volume is gone or is another claim's.
    Lose(String),
    /// It has what it wants: phase Bound.
    Keep(&'a PersistentVolume),
}

/// What the decision about a claim looks at.
#[derive(Clone, Copy, Debug)]
pub struct Shelf<'a> {
    pub volumes: &'a [&'a PersistentVolume],
    pub classes: &'a [&'a StorageClass],
    pub nodes: &'a [&'a Node],
}

impl<'a> Shelf<'a> {
    pub fn class(&self, name: &str) -> Option<&'a StorageClass> {
        self.classes.iter().copied().find(|class| class.metadata.name.as_deref() == Some(name))
    }

    pub fn volume(&self, name: &str) -> Option<&'a PersistentVolume> {
        self.volumes.iter().copied().find(|volume| volume.metadata.name.as_deref() == Some(name))
    }

    fn node(&self, name: &str) -> Option<&'a Node> {
        self.nodes.iter().copied().find(|node| node.metadata.name.as_deref() == Some(name))
    }

    /// Decides for a claim that is not being deleted.
    pub fn decide(&self, claim: &PersistentVolumeClaim) -> ClaimStep<'a> {
        let spec = claim.spec.as_ref();
        if let Some(name) =
            spec.and_then(|spec| spec.volume_name.as_deref()).filter(|n| !n.is_empty())
        {
            return self.decide_named(claim, name);
        }
        let Some(class_name) = class_of_claim(claim) else {
            return match default_class(self.classes.iter().copied()) {
                Some(class) => {
                    ClaimStep::SetClass(class.metadata.name.as_deref().unwrap_or_default())
                }
                None => self.decide_open(claim, None),
            };
        };
        let class = self.class(class_name);
        if class.is_none() && !class_name.is_empty() {
            if let Some(volume) = choose(claim, self.volumes.iter().copied(), None) {
                return ClaimStep::Bind(volume);
            }
            let message = format!("storageclass.storage.k8s.io \"{class_name}\" not found");
            return ClaimStep::Wait { reason: "ProvisioningFailed", message };
        }
        self.decide_open(claim, class)
    }

    fn decide_named(&self, claim: &PersistentVolumeClaim, name: &str) -> ClaimStep<'a> {
        let was_bound = claim
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref())
            .is_some_and(|phase| phase == "Bound" || phase == "Lost");
        match self.volume(name) {
            None if was_bound => ClaimStep::Lose(
                "Bound claim has lost its PersistentVolume. Data on the volume is lost!".into(),
            ),
            None => {
                let message = format!("volume \"{name}\" does not exist yet");
                ClaimStep::Wait { reason: "FailedBinding", message }
            }
            Some(volume) if is_bound(volume) && is_for(volume, claim) => ClaimStep::Keep(volume),
            Some(_) if was_bound => ClaimStep::Lose(
                "Two claims are bound to the same volume, this one is bound incorrectly".into(),
            ),
            Some(volume) if is_named(volume) && !is_for(volume, claim) => {
                let message = format!("volume \"{name}\" already bound to a different claim.");
                ClaimStep::Wait { reason: "FailedBinding", message }
            }
            Some(volume) => match mismatch(volume, claim) {
                Some(why) => {
                    let message = format!("Cannot bind to requested volume \"{name}\": {why}");
                    ClaimStep::Wait { reason: "VolumeMismatch", message }
                }
                None => ClaimStep::Bind(volume),
            },
        }
    }

    fn decide_open(
        &self,
        claim: &PersistentVolumeClaim,
        class: Option<&'a StorageClass>,
    ) -> ClaimStep<'a> {
        // What names the claim already is its own, whatever the class says of waiting.
        let own = self.volumes.iter().copied().find(|volume| is_for(volume, claim));
        if let Some(volume) = own.filter(|volume| mismatch(volume, claim).is_none()) {
            return ClaimStep::Bind(volume);
        }
        let notes = claim.metadata.annotations.as_ref();
        let selected = notes.and_then(|notes| notes.get(SELECTED_NODE));
        let node = selected.and_then(|name| self.node(name));
        if waits_for_pod(class) && node.is_none() {
            let message = "waiting for first consumer to be created before binding".into();
            return ClaimStep::Wait { reason: "WaitForFirstConsumer", message };
        }
        if let Some(volume) = choose(claim, self.volumes.iter().copied(), node) {
            return ClaimStep::Bind(volume);
        }
        match (class, node) {
            (Some(class), Some(node)) if class.provisioner == LOCAL_PATH => {
                let node = node.metadata.name.clone().unwrap_or_default();
                ClaimStep::Provision { class, node }
            }
            (Some(class), None) if class.provisioner == LOCAL_PATH => {
                let message = format!(
                    "{LOCAL_PATH} makes directories of one node: the class must say \
                     volumeBindingMode WaitForFirstConsumer"
                );
                ClaimStep::Wait { reason: "ProvisioningFailed", message }
            }
            _ => {
                let message =
                    "no persistent volumes available for this claim and no storage class is set"
                        .into();
                ClaimStep::Wait { reason: "FailedBinding", message }
            }
        }
    }

    /// Whether a pod with this claim may go to the node, and what must be written first.
    pub fn for_node(&self, claim: &PersistentVolumeClaim, node: &Node) -> NodeFit {
        let name = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            return match self.volume(name) {
                Some(volume) if !fits_node(volume, node) => NodeFit::Conflict,
                Some(volume) if is_bound(volume) && is_for(volume, claim) => NodeFit::Ready,
                _ => NodeFit::Unbound,
            };
        }
        let class = class_of_claim(claim).and_then(|name| self.class(name));
        if !waits_for_pod(class) {
            return NodeFit::Unbound;
        }
        let selected =
            claim.metadata.annotations.as_ref().and_then(|notes| notes.get(SELECTED_NODE));
        if selected.is_some_and(|selected| Some(selected) != node.metadata.name.as_ref()) {
            return NodeFit::Conflict;
        }
        let found = choose(claim, self.volumes.iter().copied(), Some(node)).is_some();
        let provisions = class
            .is_some_and(|class| class.provisioner == LOCAL_PATH && topology_allows(class, node));
        if found || provisions { NodeFit::Bindable } else { NodeFit::NothingToBind }
    }
}

/// Whether a node may be used for a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeFit {
    /// Bound to a volume that the node can use.
    Ready,
    /// Waits for its binding, which this node can serve.
    Bindable,
    /// Its volume is elsewhere.
    Conflict,
    /// No volume for it can be used here.
    NothingToBind,
    /// It waits for a binding that no node has to do with.
    Unbound,
}

fn topology_allows(class: &StorageClass, node: &Node) -> bool {
    let Some(terms) = class.allowed_topologies.as_ref().filter(|terms| !terms.is_empty()) else {
        return true;
    };
    let label = |key: &str| node.metadata.labels.as_ref().and_then(|labels| labels.get(key));
    terms.iter().any(|term| {
        let mut all = term.match_label_expressions.iter().flatten();
        all.all(|one| label(&one.key).is_some_and(|value| one.values.contains(value)))
    })
}

/// What to do for a volume now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeStep {
    Available,
    Bound,
    /// Its claim is gone and it stays.
    Released,
    /// Its claim is gone; its directory is removed by the node that has it.
    Reclaim,
    /// Its claim and the only node that could have it are gone.
    Forget,
    /// Its claim is gone, it should be deleted, and nobody here can delete it.
    Failed,
}

/// Decides for a volume. `claim` is the claim of the name in its `claimRef`.
pub fn decide_volume(
    volume: &PersistentVolume,
    claim: Option<&PersistentVolumeClaim>,
    nodes: &[&Node],
) -> VolumeStep {
    let policy =
        volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    if !is_bound(volume) {
        return VolumeStep::Available;
    }
    if claim.is_some_and(|claim| is_for(volume, claim)) {
        return VolumeStep::Bound;
    }
    if policy != Some("Delete") {
        return VolumeStep::Released;
    }
    let notes = volume.metadata.annotations.as_ref();
    let ours = notes.and_then(|notes| notes.get(PROVISIONED_BY)).is_some_and(|by| by == LOCAL_PATH);
    match ours {
        false => VolumeStep::Failed,
        true if nodes.iter().any(|node| fits_node(volume, node)) => VolumeStep::Reclaim,
        true => VolumeStep::Forget,
    }
}

#[cfg(test)]
#[path = "volume_binding_tests.rs"]
mod tests;
