//! Which control nodes this node talks to, as they come and go.
//!
//! ```text
//!  start:  the set on disk, then node.yaml's ──► client, registries
//!  later:  ask any of them who they are ──► disk, client, registries, engine's trust
//! ```
//! Why asked again and again and not watched: a node that was cut off for a week must
//! find its way back with the same code, and a list of three costs nothing.
//! Invariants: the set on disk is the newest that a control node told; an empty one is
//! never taken; a node that is told that it was removed notes it and stops.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::base::chain::chain;
use crate::client::http::HttpSetupError;
use crate::client::{ApiError, HttpApi};
use crate::install::apply::{Places, node_credentials};
use crate::install::node_service::Others;
use crate::install::ports::Remote;
use crate::install::refused::NODE_REMOVED;
use crate::install::registry_trust;
use crate::install::remote::HttpsRemote;
use crate::install::removal_note::{REMOVED_TEXT, RemovalNote};
use crate::model::node_config::{NodeConfig, Paths, Role};
use crate::model::node_list::{NodeList, Removed, Stage};
use crate::sys::clock;
use crate::sys::files;
use crate::sys::tls::{TlsError, TlsIdentity};

/// How often the set is asked for.
const ASK_INTERVAL: Duration = Duration::from_secs(15);

/// This node was removed; the process restarts and then serves only that.
#[derive(Debug, thiserror::Error)]
#[error("{REMOVED_TEXT}")]
pub(crate) struct WasRemoved;

/// Why there is no client for the API.
#[derive(Debug, thiserror::Error)]
pub enum ApiSetupError {
    #[error("cannot use this node's keys")]
    Keys(#[from] TlsError),
    #[error("cannot reach the API of this node")]
    Client(#[from] HttpSetupError),
}

/// The set on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Known {
    /// API addresses.
    servers: Vec<SocketAddr>,
}

fn path(paths: &Paths) -> PathBuf {
    paths.data.join("control-nodes.json")
}

/// The newest set that was told, if any was. A torn or foreign file is as good as none.
fn newest(paths: &Paths) -> Vec<SocketAddr> {
    let content = files::read_if_present(&path(paths)).ok().flatten().unwrap_or_default();
    serde_json::from_slice::<Known>(&content).unwrap_or_default().servers
}

/// API addresses of control nodes, the newest first; those of `node.yaml` stay as a last
/// resort. This node's own is not among them.
pub fn known(config: &NodeConfig) -> Vec<SocketAddr> {
    let own = SocketAddr::new(config.address, config.ports.api);
    let mut servers = newest(&config.paths);
    servers.extend(&config.servers);
    let mut seen = std::collections::BTreeSet::from([own]);
    servers.retain(|server| seen.insert(*server));
    servers
}

/// Where images come from: the own registry, else those of the newest control nodes.
pub(super) fn registries(config: &NodeConfig) -> Vec<SocketAddr> {
    if config.has_role(Role::Control) {
        return config.registries();
    }
    let of = |server: &SocketAddr| SocketAddr::new(server.ip(), config.ports.registry);
    known(config).iter().map(of).collect()
}

/// How the API is asked: over the own server first, where there is one.
fn servers(config: &NodeConfig, others: &[SocketAddr]) -> Vec<String> {
    let own = config.has_role(Role::Control);
    let own = own.then(|| format!("https://127.0.0.1:{}", config.ports.api));
    own.into_iter().chain(others.iter().map(|server| format!("https://{server}"))).collect()
}

/// The API as this node's agent and network use it: over HTTPS, own server first.
pub(super) fn node_api(
    config: &NodeConfig,
    identity: &TlsIdentity,
) -> Result<HttpApi, ApiSetupError> {
    Ok(HttpApi::over(servers(config, &known(config)), identity.client()?)?)
}

/// Lets the engine pull from these registries by the node's certificate of now; whether it
/// could be told of all.
pub(super) fn tell_engine(config: &NodeConfig, registries: &[SocketAddr]) -> bool {
    let certificates = Places::default().engine_certificates;
    let mut told = true;
    for registry in registries {
        let trusted = registry_trust::trust(&config.paths, &certificates, *registry);
        if let Err(error) = trusted {
            let error = chain(&error);
            tracing::warn!(%registry, error, "the engine cannot be told of a registry");
            told = false;
        }
    }
    told
}

/// Follows the set until cancelled.
#[derive(Debug)]
pub(super) struct ControlNodes {
    pub config: Arc<NodeConfig>,
    pub api: HttpApi,
    /// Those that images are asked of, on a node without a registry.
    pub registries: Arc<ArcSwap<Vec<SocketAddr>>>,
}

impl ControlNodes {
    pub(super) async fn run(self, cancel: CancellationToken) -> Result<(), WasRemoved> {
        let mut tick = tokio::time::interval(ASK_INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                _ = tick.tick() => {}
            }
            let asked = tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                asked = self.api.get_raw("/holdfast/v1/nodes", &[], "application/json") => asked,
            };
            match asked {
                Ok(document) => match serde_json::from_value::<NodeList>(document) {
                    Ok(list) => {
                        if self.keep(control_nodes(&self.config, &list)) {
                            self.follow();
                        }
                    }
                    Err(error) => tracing::warn!(%error, "the list of nodes cannot be read"),
                },
                Err(ApiError::Refused(status)) if status.reason == NODE_REMOVED => {
                    note_removal(&self.config, "a control node refused this node's certificate");
                    return Err(WasRemoved);
                }
                Err(error) => {
                    tracing::debug!(error = chain(&error), "no control node names the others");
                }
            }
        }
    }

    /// Keeps a set that differs from the one before; whether it does.
    fn keep(&self, now: Vec<SocketAddr>) -> bool {
        if now.is_empty() || now == newest(&self.config.paths) {
            return false;
        }
        tracing::info!(servers = ?now, "the control nodes have changed");
        let json = serde_json::to_vec(&Known { servers: now }).expect("addresses serialize");
        let kept = files::write_atomic(&path(&self.config.paths), &json, 0o644);
        if let Err(error) = &kept {
            tracing::warn!(error = chain(error), "cannot note the control nodes");
        }
        kept.is_ok()
    }

    /// Goes by the set on disk from now on.
    fn follow(&self) {
        self.api.set_servers(servers(&self.config, &known(&self.config)));
        if self.config.has_role(Role::Control) {
            return;
        }
        let registries = registries(&self.config);
        tell_engine(&self.config, &registries);
        self.registries.store(Arc::new(registries));
    }
}

/// The others as this node asks them by its own certificate.
#[derive(Debug)]
pub(super) struct OtherControlNodes {
    pub config: Arc<NodeConfig>,
    pub remote: HttpsRemote,
}

#[async_trait]
impl Others for OtherControlNodes {
    async fn take_out(&self, own_name: &str) -> Result<Removed, String> {
        let own = node_credentials(&self.config.paths).map_err(|error| chain(&error))?;
        let mut silent = Vec::new();
        for server in known(&self.config) {
            match self.remote.leave(server, &own, own_name).await {
                Ok(removed) => return Ok(removed),
                Err(error) => silent.push(chain(&error)),
            }
        }
        if silent.is_empty() {
            silent.push("no other control node is known".to_owned());
        }
        Err(silent.join("; "))
    }
}

/// The API addresses of control nodes that have joined and stay, in order of their names.
fn control_nodes(config: &NodeConfig, list: &NodeList) -> Vec<SocketAddr> {
    let in_order = list
        .nodes
        .iter()
        .filter(|node| node.stage == Stage::Joined && node.roles.contains(&Role::Control));
    in_order.filter_map(|node| Some(SocketAddr::new(node.address?, config.ports.api))).collect()
}

/// Notes on disk that this node was removed; the note is what the next start goes by.
pub(super) fn note_removal(config: &NodeConfig, from: &str) {
    tracing::error!(from, "{REMOVED_TEXT}");
    let note = RemovalNote {
        node_name: config.node_name.clone(),
        learned_at: clock::now(),
        learned_from: from.to_owned(),
    };
    if let Err(error) = note.write(&config.paths) {
        tracing::error!(error = chain(&error), "cannot note that this node was removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::HttpConfig;

    fn config(dir: &std::path::Path, roles: &[&str]) -> NodeConfig {
        let at = |name: &str| dir.join(name);
        serde_json::from_value(serde_json::json!({
            "clusterName": "lab", "clusterId": "6f3c1f0e-6b8e-4a4e-9c37-0e6d0f1f7c11",
            "generation": 1, "nodeName": "w1", "address": "10.77.0.41", "site": "city",
            "center": "b", "roles": roles, "podRange": "10.244.64.0/24",
            "servers": ["10.77.0.11:6443", "10.77.0.21:6443"],
            "network": {"podRange": "10.244.0.0/16", "serviceRange": "10.96.0.0/16",
                        "clusterDomain": "cluster.local"},
            "paths": {"config": at("etc"), "data": at("data"), "run": at("run")},
            "pauseImage": "holdfast/pause:1",
        }))
        .unwrap()
    }

    fn list() -> NodeList {
        let node = |name: &str, address: &str, stage: &str, roles: &[&str]| {
            serde_json::json!({
                "name": name, "stage": stage, "roles": roles, "site": "city", "center": "a",
                "address": address, "podRange": null, "memberId": null, "ready": true,
                "reason": "", "member": null,
            })
        };
        serde_json::from_value(serde_json::json!({"answeredBy": "a1", "nodes": [
            node("a1", "10.77.0.11", "leaving", &["control", "worker"]),
            node("b1", "10.77.0.21", "joined", &["control"]),
            node("c1", "10.77.0.31", "joined", &["control", "worker"]),
            node("d1", "10.77.0.51", "joining", &["control"]),
            node("w1", "10.77.0.41", "joined", &["worker"]),
        ]}))
        .unwrap()
    }

    #[test]
    fn the_newest_set_is_kept_and_goes_before_the_one_of_the_join() {
        crate::sys::tls::install_crypto();
        let dir = tempfile::tempdir().unwrap();
        let config = Arc::new(config(dir.path(), &["worker"]));
        files::create_dir(&config.paths.data, 0o755).unwrap();
        files::create_dir(&config.paths.pki(), 0o700).unwrap();
        let authority = crate::pki::Authority::create("lab", clock::now()).unwrap();
        let ca_pem = authority.certificate_pem().as_bytes().to_vec();
        let servers = servers(&config, &known(&config));
        assert_eq!(servers, ["https://10.77.0.11:6443", "https://10.77.0.21:6443"]);
        let api =
            HttpApi::new(HttpConfig { servers, ca_pem, identity: None, token: None }).unwrap();
        let of = Arc::new(ArcSwap::from_pointee(registries(&config)));
        let following = ControlNodes { config: config.clone(), api, registries: of.clone() };
        // Only those that have joined and stay; an empty list is not believed.
        let told = control_nodes(&config, &list());
        let addresses: Vec<String> = told.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.77.0.21:6443", "10.77.0.31:6443"]);
        following.keep(told);
        following.keep(Vec::new());
        let known: Vec<String> = known(&config).iter().map(ToString::to_string).collect();
        assert_eq!(known, ["10.77.0.21:6443", "10.77.0.31:6443", "10.77.0.11:6443"]);
        assert_eq!(registries(&config)[1].to_string(), "10.77.0.31:5000");
        std::fs::write(path(&config.paths), b"torn").unwrap();
        assert_eq!(super::known(&config), config.servers);
    }
}
