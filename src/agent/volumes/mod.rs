//! A pod's volumes and the files that every pod gets, as directories on the host.
//!
//! Layout of a pod's directory: `etc/hosts`, `etc/resolv.conf`, `volumes/<name>`,
//! `parts/<container>/<mount>` (mounted parts of volumes), `containers/<name>/<attempt>`
//! (last words). Invariants: everything of a pod lies in its directory, and going over it
//! again changes nothing that is right already; what outlives a pod never lies there, it is
//! mounted there at most; secrets and tokens lie in memory.
//! Not here: which keys become which files (`projected`), the file operations
//! (sys/pod_files.rs, sys/published_files.rs), mounts (sys/pod_mounts.rs).

mod claimed;
mod host_path;
mod projected;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, PodSpec, Volume, VolumeMount};

use super::AgentError;
use super::account_tokens::AccountTokens;
use super::downward::Downward;
use super::references::References;
use crate::engine::port::Bind;
use crate::logic::amount::milli;
use crate::sys::published_files::publish_directory;
use crate::sys::{pod_files, pod_mounts};

/// Where one pod's files are.
#[derive(Clone, Debug)]
pub(crate) struct PodDir {
    root: PathBuf,
}

impl PodDir {
    pub(crate) fn new(pods: &Path, uid: &str) -> Self {
        Self { root: pods.join(uid) }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn hosts(&self) -> PathBuf {
        self.root.join("etc/hosts")
    }

    pub(crate) fn resolv_conf(&self) -> PathBuf {
        self.root.join("etc/resolv.conf")
    }

    fn volume(&self, name: &str) -> PathBuf {
        self.root.join("volumes").join(name)
    }

    /// Where the part of a volume is mounted that a container asks for.
    fn part(&self, container: &str, mount: usize) -> PathBuf {
        self.root.join("parts").join(container).join(mount.to_string())
    }

    /// Where a container's program may leave its last words.
    pub(crate) fn termination_log(&self, container: &str, attempt: u32) -> PathBuf {
        self.root.join("containers").join(container).join(attempt.to_string())
    }
}

/// What volumes are made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sources<'a> {
    pub dir: &'a PodDir,
    pub downward: &'a Downward<'a>,
    pub references: &'a References,
    pub tokens: &'a AccountTokens,
}

impl Sources<'_> {
    /// The group that the pod's volumes belong to.
    fn group(&self) -> Option<u32> {
        let context = self.downward.spec.security_context.as_ref()?;
        u32::try_from(context.fs_group?).ok()
    }
}

/// Where a volume is on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    path: PathBuf,
    read_only: bool,
}

/// All volumes of a pod by their names.
pub(crate) type Places = BTreeMap<String, Place>;

/// Makes or refreshes every volume of the pod.
pub(crate) async fn prepare(sources: &Sources<'_>) -> Result<Places, AgentError> {
    let root = sources.dir.root();
    pod_files::make_dir(root, 0o755).map_err(AgentError::files("make", root))?;
    let mut places = Places::new();
    for volume in sources.downward.spec.volumes.iter().flatten() {
        places.insert(volume.name.clone(), make(sources, volume).await?);
    }
    Ok(places)
}

async fn make(sources: &Sources<'_>, volume: &Volume) -> Result<Place, AgentError> {
    let path = sources.dir.volume(&volume.name);
    if let Some(host) = &volume.host_path {
        host_path::check(Path::new(&host.path), host.type_.as_deref())?;
        return Ok(Place { path: PathBuf::from(&host.path), read_only: false });
    }
    if volume.empty_dir.is_some() {
        empty_dir(volume, &path, sources.group())?;
        return Ok(Place { path, read_only: false });
    }
    if let Some(claim) = &volume.persistent_volume_claim {
        return claimed::place(sources, claim, &path).await;
    }
    if let Some(nfs) = &volume.nfs {
        return claimed::mount_nfs(nfs, Vec::new(), false, &path).await;
    }
    let Some(files) = projected::files(sources, volume).await? else {
        let name = &volume.name;
        let reason = format!("volume {name}: its kind is not supported");
        return Err(AgentError::config(reason));
    };
    if projected::is_secret(volume) {
        pod_files::make_dir(&path, 0o755)
            .and_then(|()| pod_mounts::mount_memory(&path, None, 0o755))
            .map_err(AgentError::files("mount memory on", &path))?;
    }
    publish_directory(&path, &files, sources.group())
        .map_err(AgentError::files("write the files of", &path))?;
    // What the API says is not for the pod to change, as in Kubernetes.
    Ok(Place { path, read_only: true })
}

fn empty_dir(volume: &Volume, path: &Path, group: Option<u32>) -> Result<(), AgentError> {
    let source = volume.empty_dir.clone().unwrap_or_default();
    let is_new = !path.exists();
    let made = (|| {
        if is_new {
            pod_files::make_dir(path, 0o777)?;
        }
        match source.medium.as_deref() {
            None | Some("") => {}
            Some("Memory") => {
                let bytes = source.size_limit.as_ref().and_then(|limit| milli(&limit.0));
                let bytes = bytes.and_then(|milli| u64::try_from(milli / 1_000).ok());
                pod_mounts::mount_memory(path, bytes, 0o1777)?;
            }
            Some(_) => return Ok(false),
        }
        if let Some(group) = group
            && is_new
        {
            pod_files::give_to_group(path, group)?;
        }
        Ok(true)
    })();
    if made.map_err(AgentError::files("make", path))? {
        return Ok(());
    }
    let medium = source.medium.unwrap_or_default();
    let reason = format!("volume {}: the medium {medium} is not supported", volume.name);
    Err(AgentError::config(reason))
}

/// What a container mounts. `expand` resolves `subPathExpr`.
pub(crate) fn binds(
    dir: &PodDir,
    spec: &PodSpec,
    places: &Places,
    container: &Container,
    expand: impl Fn(&str) -> String,
) -> Result<Vec<Bind>, AgentError> {
    let mut binds = Vec::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let declared = spec.volumes.iter().flatten().any(|volume| volume.name == mount.name);
        let Some(place) = places.get(&mount.name).filter(|_| declared) else {
            let reason =
                format!("container {} mounts unknown volume {}", container.name, mount.name);
            return Err(AgentError::config(reason));
        };
        binds.push(bind(place, mount, &dir.part(&container.name, index), &expand)?);
    }
    Ok(binds)
}

fn bind(
    place: &Place,
    mount: &VolumeMount,
    part: &Path,
    expand: impl Fn(&str) -> String,
) -> Result<Bind, AgentError> {
    let sub = match (&mount.sub_path, &mount.sub_path_expr) {
        (Some(path), _) if !path.is_empty() => Some(path.clone()),
        (_, Some(expression)) if !expression.is_empty() => Some(expand(expression)),
        _ => None,
    };
    let source = match sub {
        Some(sub) => {
            pod_mounts::mount_below(&place.path, &sub, part)
                .map_err(AgentError::files("mount a subPath of", &place.path))?;
            part.to_owned()
        }
        None => place.path.clone(),
    };
    Ok(Bind {
        source,
        target: mount.mount_path.clone(),
        read_only: mount.read_only.unwrap_or(false) || place.read_only,
        follows_host: mount.mount_propagation.as_deref() == Some("HostToContainer"),
    })
}
