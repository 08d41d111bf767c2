//! Volumes that a claim stands for: directories of the node, and network file systems.
//!
//! Invariants: a claim is used only when it and its volume name each other; what lies on
//! the node is used where it lies and mounted nowhere, so that removing a pod's directory
//! can never reach it.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{
    NFSVolumeSource, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimVolumeSource,
};

use super::{Place, Sources, host_path};
use crate::agent::AgentError;
use crate::client::ResourceRef;
use crate::logic::volume_binding::{LOCAL_PATH, PROVISIONED_BY, is_bound, is_for};
use crate::sys::pod_files;
use crate::sys::pod_mounts::{self, NfsSource};

const CLAIMS: ResourceRef = ResourceRef::of::<PersistentVolumeClaim>(true);
const VOLUMES: ResourceRef = ResourceRef::of::<PersistentVolume>(false);

/// Where the claim's volume is; mounts it if need be.
pub(super) async fn place(
    sources: &Sources<'_>,
    wish: &PersistentVolumeClaimVolumeSource,
    mount_point: &Path,
) -> Result<Place, AgentError> {
    let (namespace, name) = (&sources.downward.identity.namespace, &wish.claim_name);
    let claim: PersistentVolumeClaim =
        sources.references.object(&CLAIMS, Some(namespace.as_str()), name).await?.ok_or_else(
            || AgentError::config(format!("persistentvolumeclaim \"{name}\" not found")),
        )?;
    let unbound = || AgentError::config(format!("persistentvolumeclaim \"{name}\" is not bound"));
    let volume_name = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone());
    let volume_name = volume_name.filter(|name| !name.is_empty()).ok_or_else(unbound)?;
    let volume: PersistentVolume =
        sources.references.object(&VOLUMES, None, &volume_name).await?.ok_or_else(unbound)?;
    if !is_bound(&volume) || !is_for(&volume, &claim) {
        return Err(unbound());
    }
    let read_only = wish.read_only.unwrap_or(false);
    let spec = volume.spec.clone().unwrap_or_default();
    if let Some(host) = &spec.host_path {
        host_path::check(Path::new(&host.path), host.type_.as_deref())?;
        return Ok(Place { path: PathBuf::from(&host.path), read_only });
    }
    if let Some(local) = &spec.local {
        let path = PathBuf::from(&local.path);
        let notes = volume.metadata.annotations.as_ref();
        let ours =
            notes.and_then(|notes| notes.get(PROVISIONED_BY)).is_some_and(|by| by == LOCAL_PATH);
        own_directory(sources, &path, ours)?;
        return Ok(Place { path, read_only });
    }
    if let Some(nfs) = &spec.nfs {
        let options = spec.mount_options.unwrap_or_default();
        return mount_nfs(nfs, options, read_only, mount_point).await;
    }
    Err(AgentError::config(format!("volume {volume_name}: its kind is not supported")))
}

fn own_directory(sources: &Sources<'_>, path: &Path, ours: bool) -> Result<(), AgentError> {
    if path.is_dir() {
        return Ok(());
    }
    if !ours {
        let reason = format!("path \"{}\" does not exist", path.display());
        return Err(AgentError::config(reason));
    }
    // Only directly below the place for volumes, which is there since the agent started.
    let made = pod_files::make_one_dir(path, 0o777).and_then(|()| match sources.group() {
        Some(group) => pod_files::give_to_group(path, group),
        None => Ok(()),
    });
    made.map_err(AgentError::files("make", path))
}

/// Mounts a network file system on the pod's own mount point.
pub(super) async fn mount_nfs(
    source: &NFSVolumeSource,
    options: Vec<String>,
    read_only: bool,
    mount_point: &Path,
) -> Result<Place, AgentError> {
    let read_only = read_only || source.read_only.unwrap_or(false);
    let address = resolve(&source.server).await?;
    let wish = NfsSource { address, path: source.path.clone(), read_only, options };
    let at = mount_point.to_owned();
    let mounted = tokio::task::spawn_blocking(move || pod_mounts::mount_nfs(&wish, &at)).await;
    let mounted = mounted.unwrap_or_else(|error| Err(io::Error::other(error)));
    mounted.map_err(|error| {
        let from = format!("{}:{}", source.server, source.path);
        AgentError::config(if pod_mounts::is_unknown_filesystem(&error) {
            format!("cannot mount {from}: the kernel of this node has no NFS client (module nfsv4)")
        } else {
            format!("cannot mount {from}: {error}")
        })
    })?;
    Ok(Place { path: mount_point.to_owned(), read_only })
}

async fn resolve(server: &str) -> Result<IpAddr, AgentError> {
    if let Ok(address) = server.parse() {
        return Ok(address);
    }
    let unknown = |why: String| AgentError::config(format!("NFS server {server}: {why}"));
    let mut found =
        tokio::net::lookup_host((server, 0)).await.map_err(|error| unknown(error.to_string()))?;
    found.next().map(|address| address.ip()).ok_or_else(|| unknown("has no address".into()))
}
