//! What a shell needs to use the lab: addresses and credentials of its cluster.
//!
//! Invariant: the kubeconfig is a copy whose only change is the server's address; it is
//! readable by its owner only.

use serde_json::Value;

use super::Lab;
use super::error::{LabError, files};
use super::record::Forwards;
use crate::sys::tree;

/// Where the product puts them on the first master.
const PKI: &str = "etc/holdfast/pki";
/// What etcd's clients need, by the variable that `etcdctl` reads it from.
const ETCD_FILES: [(&str, &str); 3] =
    [("ETCDCTL_CACERT", "ca.crt"), ("ETCDCTL_CERT", "admin.crt"), ("ETCDCTL_KEY", "admin.key")];
const KUBECONFIG: &str = "etc/holdfast/admin.kubeconfig";
const PASSWORD: &str = "etc/holdfast/admin.password";

impl Lab {
    /// Names and values of the environment; writes the kubeconfig into the lab's directory.
    pub fn env(&self) -> Result<Vec<(&'static str, String)>, LabError> {
        let not_up = || LabError::NoLab { dir: self.dir.path().to_owned() };
        let forwards = self.dir.read_forwards()?.ok_or_else(not_up)?;
        let port = |service: &str| forwards.any.get(service).copied().ok_or_else(not_up);
        let (api, registry) = (port("api")?, port("registry")?);
        let mut env = Vec::new();
        let read = |name: &str| self.read_from_master(name);
        if let Some(text) = read(KUBECONFIG)? {
            let path = self.dir.kubeconfig();
            let changed =
                point_at(&text, &format!("https://127.0.0.1:{api}")).map_err(|reason| {
                    LabError::Answer {
                        host: self.record.hosts[0].name.clone(),
                        command: format!("read /{KUBECONFIG}"),
                        reason,
                    }
                })?;
            tree::replace(&path, changed.as_bytes(), 0o600)
                .map_err(files("write the lab's kubeconfig"))?;
            env.push(("KUBECONFIG", path.to_string_lossy().into_owned()));
        }
        self.etcd_env(&forwards, &mut env)?;
        env.push(("HOLDFAST_REGISTRY", format!("127.0.0.1:{registry}")));
        env.push(("HOLDFAST_ADMIN_URL", format!("https://127.0.0.1:{api}/ui/")));
        if let Some(password) = read(PASSWORD)? {
            env.push(("HOLDFAST_ADMIN_PASSWORD", password.trim().to_owned()));
        }
        env.push(("HOLDFAST_LAB_DIR", self.dir.path().to_string_lossy().into_owned()));
        Ok(env)
    }

    /// Every host's port, and the administrator's certificate as files of the lab.
    fn etcd_env(
        &self,
        forwards: &Forwards,
        env: &mut Vec<(&'static str, String)>,
    ) -> Result<(), LabError> {
        let ports = self.record.hosts.iter().filter_map(|host| forwards.hosts.get(&host.name));
        let ports = ports.filter_map(|ports| ports.get("etcd"));
        let endpoints: Vec<String> =
            ports.map(|port| format!("https://127.0.0.1:{port}")).collect();
        env.push(("ETCDCTL_API", "3".to_owned()));
        env.push(("ETCDCTL_ENDPOINTS", endpoints.join(",")));
        let dir = self.dir.etcd();
        tree::make_dir(&dir).map_err(files("make the folder for etcd's clients"))?;
        for (variable, name) in ETCD_FILES {
            if let Some(text) = self.read_from_master(&format!("{PKI}/{name}"))? {
                let path = dir.join(name);
                tree::replace(&path, text.as_bytes(), 0o600)
                    .map_err(files("write a certificate for etcd's clients"))?;
                env.push((variable, path.to_string_lossy().into_owned()));
            }
        }
        Ok(())
    }

    /// A file from the first master's disk, which can be read while the host is down.
    fn read_from_master(&self, name: &str) -> Result<Option<String>, LabError> {
        let path = self.dir.root(&self.record.hosts[0].name).join(name);
        tree::read(&path).map_err(files("read a host's disk"))
    }
}

/// The kubeconfig with another server in each of its clusters.
fn point_at(kubeconfig: &str, server: &str) -> Result<String, String> {
    let mut config: Value =
        serde_saphyr::from_str(kubeconfig).map_err(|error| error.to_string())?;
    let clusters = config
        .get_mut("clusters")
        .and_then(Value::as_array_mut)
        .ok_or("the kubeconfig names no clusters")?;
    for cluster in clusters {
        let place = cluster.pointer_mut("/cluster/server").ok_or("a cluster has no server")?;
        *place = Value::String(server.to_owned());
    }
    serde_saphyr::to_string(&config).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_server_changes() {
        let text = "apiVersion: v1\nkind: Config\nclusters:\n- name: lab\n  cluster:\n    \
                    server: https://10.77.0.11:6443\n    certificate-authority-data: YWJj\n\
                    users:\n- name: admin\n  user: {client-key-data: a2V5}\n";
        let changed = point_at(text, "https://127.0.0.1:40001").unwrap();
        let mut before: Value = serde_saphyr::from_str(text).unwrap();
        let after: Value = serde_saphyr::from_str(&changed).unwrap();
        before["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:40001".into();
        assert_eq!(after, before);
    }

    #[test]
    fn a_file_without_clusters_is_refused() {
        assert!(point_at("kind: Config\n", "https://x").is_err());
    }
}
