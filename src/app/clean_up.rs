//! What `reset` removes beside files and services: containers and the pod network.
//!
//! Why through the engine: only it knows how to take a container's mounts and control
//! groups away. Invariants: only containers with our node's label are touched; nothing
//! is assumed to be gone because the engine is silent.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::future;

use super::config::{self, ConfigError};
use super::node::NFT;
use crate::agent::{CONTAINER_GRACE_LABEL, CONTAINER_NODE_LABEL};
use crate::base::chain::chain;
use crate::engine::port::ContainerSummary;
use crate::engine::{DockerEngine, Engine, EngineError};
use crate::install::apply::{ENGINE_SERVICE, cgroup_parent};
use crate::install::ports::CleanUp;
use crate::model::node_config::{NodeConfig, Paths};
use crate::network;
use crate::sys::services::{ServiceError, ServiceManager};
use crate::sys::{cgroup, files};

/// The longest that one container may take to end by itself.
const GRACE_MAX: Duration = Duration::from_secs(10);

/// How long an engine that was just started may take until it answers.
const WAKE_LIMIT: Duration = Duration::from_secs(60);
const WAKE_POLL: Duration = Duration::from_millis(200);

/// The node's own configuration; `None` where the installation did not get that far.
fn node_config(paths: &Paths) -> Result<Option<NodeConfig>, String> {
    match config::load(&paths.node_config()) {
        Ok(config) => Ok(Some(config)),
        Err(ConfigError::Absent { .. }) => Ok(None),
        Err(error) => Err(chain(&error)),
    }
}

/// Removes the containers of this node's pods.
#[derive(Debug)]
pub struct Containers {
    paths: Paths,
    services: Arc<dyn ServiceManager>,
}

impl Containers {
    /// For the node whose directories these are.
    pub fn new(paths: Paths, services: Arc<dyn ServiceManager>) -> Self {
        Self { paths, services }
    }

    /// An engine that was stopped or has died is started once more, for only it can remove
    /// what it made; one that runs must answer as it is.
    async fn wake(&self, engine: &DockerEngine) -> Result<(), String> {
        let failed = |error: ServiceError| {
            format!(
                "the container engine cannot be started to remove its containers: {}",
                chain(&error)
            )
        };
        if self.services.is_running(ENGINE_SERVICE).await.map_err(failed)? {
            return Ok(());
        }
        self.services.start(ENGINE_SERVICE).await.map_err(failed)?;
        let deadline = Instant::now() + WAKE_LIMIT;
        while engine.version().await.is_err() && Instant::now() < deadline {
            tokio::time::sleep(WAKE_POLL).await;
        }
        Ok(())
    }

    /// Whether the engine has ever made a container that is still there; on its disk, for
    /// an engine that does not run cannot be asked.
    fn may_hold_containers(&self) -> Result<bool, String> {
        let directory = self.paths.engine_data().join("containers");
        Ok(!files::list_dir(&directory).map_err(|error| chain(&error))?.is_empty())
    }
}

fn grace_of(container: &ContainerSummary) -> Duration {
    let label = container.labels.get(CONTAINER_GRACE_LABEL);
    let seconds = label.and_then(|text| text.parse().ok()).unwrap_or_default();
    Duration::from_secs(seconds).min(GRACE_MAX)
}

async fn end(engine: &DockerEngine, container: &ContainerSummary) -> Result<(), EngineError> {
    engine.stop(&container.id, grace_of(container)).await?;
    engine.remove(&container.id).await
}

#[async_trait]
impl CleanUp for Containers {
    fn name(&self) -> &'static str {
        "containers"
    }

    async fn clean_up(&self) -> Result<(), String> {
        let Some(config) = node_config(&self.paths)? else { return Ok(()) };
        if self.may_hold_containers()? {
            let engine = DockerEngine::new(self.paths.engine_socket());
            self.wake(&engine).await?;
            let label = (CONTAINER_NODE_LABEL.to_owned(), config.node_name.clone());
            let ours = engine.list(&[label]).await.map_err(|error| {
                format!(
                    "the container engine at {} does not answer, so its containers cannot be \
                     removed; restart {ENGINE_SERVICE} and run reset again ({})",
                    self.paths.engine_socket().display(),
                    chain(&error)
                )
            })?;
            let ended = future::join_all(ours.iter().map(|one| end(&engine, one))).await;
            let failures: Vec<String> = ended
                .iter()
                .zip(&ours)
                .filter_map(|(ended, one)| {
                    let error = ended.as_ref().err()?;
                    Some(format!("{}: {}", one.name, chain(error)))
                })
                .collect();
            if !failures.is_empty() {
                return Err(failures.join("; "));
            }
        }
        let group = cgroup_parent(&config.node_name);
        cgroup::remove_uninhabited(&group).map_err(|error| chain(&error))
    }
}

/// Removes what the node set in the kernel's network.
#[derive(Debug)]
pub struct PodNetwork {
    paths: Paths,
}

impl PodNetwork {
    /// For the node whose directories these are.
    pub fn new(paths: Paths) -> Self {
        Self { paths }
    }
}

#[async_trait]
impl CleanUp for PodNetwork {
    fn name(&self) -> &'static str {
        "network"
    }

    async fn clean_up(&self) -> Result<(), String> {
        let config = node_config(&self.paths)?;
        let dns: Option<Ipv4Addr> = config.and_then(|config| match config.network.dns_address() {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        });
        network::clean_up(NFT.as_ref(), dns).await.map_err(|error| chain(&error))
    }
}
