//! A pod's volumes and the files that every pod gets, as directories on the host.
//!
//! Layout of a pod's directory: `etc/hosts`, `etc/resolv.conf`, `volumes/<name>`,
//! `containers/<name>/<attempt>` (last words). Invariants: everything of a pod lies in
//! its directory, and going over it again changes nothing that is right already.
//! Not here: the file operations (sys/pod_files.rs).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapVolumeSource, Container, PodSpec, Volume, VolumeMount,
};

use super::AgentError;
use super::config_maps::ConfigMaps;
use super::labels::PodIdentity;
use super::quantity::milli;
use crate::engine::port::Bind;
use crate::sys::pod_files::{self, PublishedFile};

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

    /// Where a container's program may leave its last words.
    pub(crate) fn termination_log(&self, container: &str, attempt: u32) -> PathBuf {
        self.root.join("containers").join(container).join(attempt.to_string())
    }
}

/// Makes or refreshes every volume of the pod.
pub(crate) async fn prepare(
    dir: &PodDir,
    identity: &PodIdentity,
    spec: &PodSpec,
    config_maps: &ConfigMaps,
) -> Result<(), AgentError> {
    pod_files::make_dir(dir.root(), 0o755).map_err(AgentError::files("make", dir.root()))?;
    let group = spec.security_context.as_ref().and_then(|context| context.fs_group);
    for volume in spec.volumes.iter().flatten() {
        let path = dir.volume(&volume.name);
        if let Some(source) = &volume.config_map {
            let files = config_map_files(identity, source, config_maps).await?;
            pod_files::publish_directory(&path, &files)
                .map_err(AgentError::files("write configMap files to", &path))?;
        } else if volume.empty_dir.is_some() {
            empty_dir(volume, &path, group).map_err(AgentError::files("make", &path))?;
        } else if let Some(host) = &volume.host_path {
            host_path(Path::new(&host.path), host.type_.as_deref())?;
        } else {
            let name = &volume.name;
            let reason = format!(
                "volume {name}: only configMap, emptyDir and hostPath volumes are supported"
            );
            return Err(AgentError::config(reason));
        }
    }
    Ok(())
}

fn empty_dir(volume: &Volume, path: &Path, group: Option<i64>) -> std::io::Result<()> {
    let source = volume.empty_dir.clone().unwrap_or_default();
    let is_new = !path.exists();
    if is_new {
        pod_files::make_dir(path, 0o777)?;
    }
    if source.medium.as_deref() == Some("Memory") {
        let bytes = source.size_limit.as_ref().and_then(|limit| milli(&limit.0));
        let bytes = bytes.and_then(|milli| u64::try_from(milli / 1_000).ok());
        pod_files::mount_memory(path, bytes)?;
    }
    match group.and_then(|group| u32::try_from(group).ok()) {
        Some(group) if is_new => pod_files::give_to_group(path, group),
        _ => Ok(()),
    }
}

fn host_path(path: &Path, kind: Option<&str>) -> Result<(), AgentError> {
    let is_right = match kind.unwrap_or_default() {
        "DirectoryOrCreate" => {
            if !path.exists() {
                pod_files::make_dir(path, 0o755).map_err(AgentError::files("make", path))?;
            }
            path.is_dir()
        }
        "FileOrCreate" => {
            if !path.exists() {
                pod_files::touch_file(path, 0o644).map_err(AgentError::files("make", path))?;
            }
            path.is_file()
        }
        "Directory" => path.is_dir(),
        "File" => path.is_file(),
        _ => path.exists(),
    };
    if is_right {
        return Ok(());
    }
    let kind = kind.filter(|kind| !kind.is_empty()).unwrap_or("existing path");
    Err(AgentError::config(format!(
        "hostPath type check failed: {} is not a {kind}",
        path.display()
    )))
}

async fn config_map_files(
    identity: &PodIdentity,
    source: &ConfigMapVolumeSource,
    config_maps: &ConfigMaps,
) -> Result<BTreeMap<String, PublishedFile>, AgentError> {
    let optional = source.optional.unwrap_or(false);
    match config_maps.get(&identity.namespace, &source.name).await? {
        Some(map) => project(source, map, optional),
        None if optional => Ok(BTreeMap::new()),
        None => Err(AgentError::config(format!("configmap \"{}\" not found", source.name))),
    }
}

/// Which keys become which files.
fn project(
    source: &ConfigMapVolumeSource,
    map: ConfigMap,
    optional: bool,
) -> Result<BTreeMap<String, PublishedFile>, AgentError> {
    let bits = |mode: Option<i32>| mode.and_then(|mode| u32::try_from(mode).ok());
    let default_mode = bits(source.default_mode).unwrap_or(0o644);
    let mut content: BTreeMap<String, Vec<u8>> =
        map.data.unwrap_or_default().into_iter().map(|(k, v)| (k, v.into_bytes())).collect();
    content.extend(map.binary_data.unwrap_or_default().into_iter().map(|(k, v)| (k, v.0)));
    let Some(items) = source.items.as_ref().filter(|items| !items.is_empty()) else {
        let whole = content
            .into_iter()
            .map(|(key, content)| (key, PublishedFile { content, mode: default_mode }));
        return Ok(whole.collect());
    };
    let mut files = BTreeMap::new();
    for item in items {
        match content.get(&item.key) {
            Some(bytes) => {
                let mode = bits(item.mode).unwrap_or(default_mode);
                files.insert(item.path.clone(), PublishedFile { content: bytes.clone(), mode });
            }
            None if optional => {}
            None => {
                let (name, key) = (&source.name, &item.key);
                let reason = format!("configmap {name} has no key {key}");
                return Err(AgentError::config(reason));
            }
        }
    }
    Ok(files)
}

/// What a container mounts. `expand` resolves `subPathExpr`.
pub(crate) fn binds(
    dir: &PodDir,
    spec: &PodSpec,
    container: &Container,
    expand: impl Fn(&str) -> String,
) -> Result<Vec<Bind>, AgentError> {
    let mut binds = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let volume = spec.volumes.iter().flatten().find(|volume| volume.name == mount.name);
        let Some(volume) = volume else {
            let reason =
                format!("container {} mounts unknown volume {}", container.name, mount.name);
            return Err(AgentError::config(reason));
        };
        binds.push(bind(dir, volume, mount, &expand)?);
    }
    Ok(binds)
}

fn bind(
    dir: &PodDir,
    volume: &Volume,
    mount: &VolumeMount,
    expand: impl Fn(&str) -> String,
) -> Result<Bind, AgentError> {
    let root = match &volume.host_path {
        Some(host) => PathBuf::from(&host.path),
        None => dir.volume(&volume.name),
    };
    let sub = match (&mount.sub_path, &mount.sub_path_expr) {
        (Some(path), _) if !path.is_empty() => Some(path.clone()),
        (_, Some(expression)) if !expression.is_empty() => Some(expand(expression)),
        _ => None,
    };
    let source = match sub {
        Some(sub) => pod_files::resolve_below(&root, &sub)
            .map_err(AgentError::files("open subPath in", &root))?,
        None => root,
    };
    Ok(Bind {
        source,
        target: mount.mount_path.clone(),
        // A configMap is read-only in the container, as in Kubernetes.
        read_only: mount.read_only.unwrap_or(false) || volume.config_map.is_some(),
        follows_host: mount.mount_propagation.as_deref() == Some("HostToContainer"),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map() -> ConfigMap {
        serde_json::from_value(json!({"data": {"a": "1", "b": "2"}, "binaryData": {"c": "AAE="}}))
            .unwrap()
    }

    #[test]
    fn a_whole_map_or_chosen_items_become_files() {
        let source: ConfigMapVolumeSource = serde_json::from_value(json!({"name": "m"})).unwrap();
        let whole = project(&source, map(), false).unwrap();
        assert_eq!(whole.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(whole["c"].content, [0, 1]);
        let source: ConfigMapVolumeSource = serde_json::from_value(json!({"name": "m",
            "defaultMode": 0o400, "items": [{"key": "a", "path": "x/y"}]}))
        .unwrap();
        let chosen = project(&source, map(), false).unwrap();
        assert_eq!(chosen.keys().collect::<Vec<_>>(), ["x/y"]);
        assert_eq!(chosen["x/y"].mode, 0o400);
    }

    #[test]
    fn a_missing_key_is_an_error_unless_optional() {
        let source: ConfigMapVolumeSource =
            serde_json::from_value(json!({"name": "m", "items": [{"key": "z", "path": "z"}]}))
                .unwrap();
        assert!(project(&source, map(), false).is_err());
        assert!(project(&source, map(), true).unwrap().is_empty());
    }
}
