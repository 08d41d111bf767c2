//! Removes the directories of released volumes of this node, and then the volumes.
//!
//! Why the node itself: only it can, and the volume's object stays until it has, so nothing
//! is forgotten when the node is away for a while.
//! Invariants: only a directory that the provisioner made, directly below this node's place
//! for volumes and under the volume's own name, of a volume that the API says is released
//! and is to be deleted; everything else stays.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::PersistentVolume;
use tokio_util::sync::CancellationToken;

use super::context::Context;
use crate::base::limits::VOLUME_RECLAIM_INTERVAL;
use crate::client::typed::{Kind, Typed};
use crate::client::{ApiError, ListOptions};
use crate::logic::volume_binding::{LOCAL_PATH, PROVISIONED_BY, is_bound};
use crate::sys::{pod_files, pod_mounts};

/// The directory to remove, if the volume is one that must go.
fn directory(volume: &PersistentVolume, root: &Path) -> Option<PathBuf> {
    let spec = volume.spec.as_ref()?;
    let notes = volume.metadata.annotations.as_ref()?;
    let path = PathBuf::from(&spec.local.as_ref()?.path);
    let name = volume.metadata.name.as_deref()?;
    let released = volume.status.as_ref()?.phase.as_deref() == Some("Released");
    let ours = notes.get(PROVISIONED_BY).is_some_and(|by| by == LOCAL_PATH);
    let deleted = spec.persistent_volume_reclaim_policy.as_deref() == Some("Delete");
    let own = path == root.join(name) && !name.contains('/') && !name.starts_with('.');
    (released && ours && deleted && own && is_bound(volume)).then_some(path)
}

/// Whether the volume is on this node.
fn is_here(volume: &PersistentVolume, node_name: &str) -> bool {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required.as_ref());
    let terms =
        required.map(|required| required.node_selector_terms.as_slice()).unwrap_or_default();
    let expressions = terms.iter().flat_map(|term| term.match_expressions.iter().flatten());
    let mut hosts = expressions.filter(|one| one.key == "kubernetes.io/hostname");
    hosts.any(|one| one.values.iter().flatten().any(|value| value == node_name))
}

/// Looks again and again until cancelled.
pub(crate) async fn run(context: Arc<Context>, cancel: CancellationToken) {
    let root = context.config.node.paths.volumes();
    if let Err(error) = pod_files::make_dir(&root, 0o711) {
        tracing::warn!(path = %root.display(), %error, "cannot make the place for volumes");
    }
    let volumes = Typed::<PersistentVolume>::new(context.api.clone());
    let mut tick = tokio::time::interval(VOLUME_RECLAIM_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = tick.tick() => {}
        }
        if let Err(error) = look(&context, &volumes, &root).await {
            tracing::debug!(%error, "cannot look for released volumes");
        }
    }
}

async fn look(
    context: &Context,
    volumes: &Typed<PersistentVolume>,
    root: &Path,
) -> Result<(), ApiError> {
    for volume in volumes.list(None, &ListOptions::default()).await? {
        let Some(path) = directory(&volume, root) else { continue };
        if !is_here(&volume, context.node_name()) {
            continue;
        }
        let shown = path.display().to_string();
        let removed = tokio::task::spawn_blocking(move || pod_mounts::remove_tree(&path)).await;
        let removed = removed.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        match removed {
            Ok(()) => {
                tracing::info!(volume = %volume.key(), path = shown, "a released volume is removed");
                volumes.delete_if_same(&volume, None).await?;
            }
            Err(error) => tracing::warn!(path = shown, %error, "cannot remove a released volume"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn volume(patch: Value) -> PersistentVolume {
        let mut whole = json!({
            "metadata": {"name": "pvc-1", "annotations": {PROVISIONED_BY: LOCAL_PATH}},
            "spec": {
                "persistentVolumeReclaimPolicy": "Delete",
                "local": {"path": "/data/volumes/pvc-1"},
                "claimRef": {"name": "c", "namespace": "d", "uid": "u"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]}]}]}},
            },
            "status": {"phase": "Released"},
        });
        json_patch::merge(&mut whole, &patch);
        serde_json::from_value(whole).unwrap()
    }

    #[test]
    fn only_a_released_directory_of_our_own_is_removed() {
        let root = Path::new("/data/volumes");
        let of = |patch| directory(&volume(patch), root);
        assert_eq!(of(json!({})), Some(root.join("pvc-1")));
        for patch in [
            json!({"status": {"phase": "Bound"}}),
            json!({"metadata": {"annotations": null}}),
            json!({"spec": {"persistentVolumeReclaimPolicy": "Retain"}}),
            json!({"spec": {"local": {"path": "/data/volumes"}}}),
            json!({"spec": {"local": {"path": "/etc"}}}),
            json!({"spec": {"local": {"path": "/data/volumes/pvc-2"}}}),
            json!({"spec": {"claimRef": null}}),
        ] {
            assert_eq!(of(patch.clone()), None, "{patch}");
        }
        assert!(is_here(&volume(json!({})), "n1"));
        assert!(!is_here(&volume(json!({})), "n2"));
        assert!(!is_here(&volume(json!({"spec": {"nodeAffinity": null}})), "n1"));
    }
}
