//! One node with everything around the agent, and the agent that comes and goes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::fake_api::FakeApi;
use crate::agent::ports::{ImageError, ImageSource, PodNetwork, PodNetworkError, ResolvedImage};
use crate::agent::{Agent, AgentConfig};
use crate::base::ids::{ClusterId, Generation};
use crate::engine::Engine;
use crate::logic::balance::VirtualPort;
use crate::model::node_config::{ClusterNetwork, NodeConfig, Paths, Ports, Role};
use crate::model::threshold::EvictionThresholds;

/// Long enough for a loaded machine; nothing waits this long when all is well.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct FakeNetwork {
    pub attached: Mutex<BTreeSet<String>>,
    pub published: Mutex<BTreeMap<String, Vec<VirtualPort>>>,
}

#[async_trait]
impl PodNetwork for FakeNetwork {
    async fn attach(&self, pod_uid: &str, pid: i32) -> Result<IpAddr, PodNetworkError> {
        assert!(pid > 0, "a sandbox that runs has a process");
        self.attached.lock().unwrap().insert(pod_uid.to_owned());
        Ok(Ipv4Addr::LOCALHOST.into())
    }

    async fn detach(&self, pod_uid: &str) -> Result<(), PodNetworkError> {
        self.attached.lock().unwrap().remove(pod_uid);
        Ok(())
    }

    async fn publish(&self, pod_uid: &str, ports: Vec<VirtualPort>) {
        self.published.lock().unwrap().insert(pod_uid.to_owned(), ports);
    }

    async fn attached(&self) -> Result<Vec<String>, PodNetworkError> {
        Ok(self.attached.lock().unwrap().iter().cloned().collect())
    }

    fn dns_server(&self) -> IpAddr {
        Ipv4Addr::new(10, 96, 0, 10).into()
    }
}

/// Names stand for themselves; `missing` is in no registry.
#[derive(Debug)]
struct FakeImages;

#[async_trait]
impl ImageSource for FakeImages {
    async fn resolve(&self, image: &str) -> Result<ResolvedImage, ImageError> {
        if image.contains("missing") {
            return Err(ImageError::Absent { image: image.to_owned() });
        }
        Ok(ResolvedImage { pull: image.to_owned(), digest: "sha256:0".into() })
    }
}

pub(super) struct World<E> {
    pub dir: tempfile::TempDir,
    pub api: Arc<FakeApi>,
    pub engine: Arc<E>,
    pub network: Arc<FakeNetwork>,
    pub pause_image: String,
    pub node_name: String,
    pub cgroup_parent: Option<String>,
    pub eviction: EvictionThresholds,
}

/// A running agent; dropping it without `stop` is a kill.
pub(super) struct Running {
    pub agent: Arc<Agent>,
    cancel: CancellationToken,
    tasks: JoinSet<()>,
}

impl Running {
    pub(super) async fn stop(mut self) {
        self.cancel.cancel();
        while self.tasks.join_next().await.is_some() {}
    }

    /// Ends every task where it stands.
    pub(super) async fn kill(mut self) {
        self.tasks.shutdown().await;
    }
}

impl<E: Engine> World<E> {
    pub(super) fn new(engine: E) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            api: Arc::default(),
            engine: Arc::new(engine),
            network: Arc::default(),
            pause_image: "pause".into(),
            node_name: "n1".into(),
            cgroup_parent: None,
            eviction: EvictionThresholds::default(),
        }
    }

    fn config(&self) -> AgentConfig {
        let root = self.dir.path();
        let node = NodeConfig {
            cluster_name: "test".into(),
            cluster_id: ClusterId(uuid::Uuid::nil()),
            generation: Generation(1),
            node_name: self.node_name.clone(),
            address: Ipv4Addr::LOCALHOST.into(),
            site: "s1".into(),
            center: "a".into(),
            roles: vec![Role::Control, Role::Worker],
            member_id: None,
            pod_range: "10.1.0.0/24".parse().unwrap(),
            network: ClusterNetwork {
                pod_range: "10.1.0.0/16".parse().unwrap(),
                service_range: "10.96.0.0/16".parse().unwrap(),
                cluster_domain: "cluster.local".into(),
            },
            servers: Vec::new(),
            paths: Paths {
                config: root.join("etc"),
                data: root.join("data"),
                run: root.join("run"),
            },
            ports: Ports::default(),
            pause_image: self.pause_image.clone(),
            eviction: self.eviction,
        };
        let mut config = AgentConfig::new(node);
        config.cgroup_parent.clone_from(&self.cgroup_parent);
        config
    }

    pub(super) fn start(&self) -> Running {
        std::fs::create_dir_all(self.dir.path().join("data")).unwrap();
        let agent = Agent::new(
            self.config(),
            self.api.clone(),
            self.engine.clone(),
            self.network.clone(),
            Arc::new(FakeImages),
        );
        let agent = Arc::new(agent.unwrap());
        let cancel = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&agent).run(cancel.clone()));
        Running { agent, cancel, tasks }
    }

    /// Unlike on any other node, because tests share a real engine.
    fn uid(&self, name: &str) -> String {
        match self.node_name.as_str() {
            "n1" => format!("uid-{name}"),
            node => format!("uid-{name}-{node}"),
        }
    }

    /// Binds a pod to this node.
    pub(super) fn pod(&self, name: &str, spec: Value) {
        let mut spec = spec;
        spec["nodeName"] = json!(self.node_name);
        let object = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "uid": self.uid(name)},
            "spec": spec, "status": {"phase": "Pending"}});
        self.api.put(&format!("pods/default/{name}"), object);
    }

    /// What a user's delete does.
    pub(super) fn delete(&self, name: &str, grace: i64) {
        let path = format!("pods/default/{name}");
        let mut object = self.api.object(&path).unwrap();
        object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        object["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
        self.api.put(&path, object);
    }

    pub(super) fn status(&self, name: &str) -> Value {
        let object = self.api.object(&format!("pods/default/{name}")).unwrap_or_default();
        object["status"].clone()
    }

    pub(super) fn condition(&self, name: &str, type_: &str) -> String {
        let status = self.status(name);
        let all = status["conditions"].as_array().cloned().unwrap_or_default();
        let found = all.into_iter().find(|one| one["type"] == type_);
        found.unwrap_or_default()["status"].as_str().unwrap_or_default().to_owned()
    }
}

/// Waits until it is so, or fails with what was waited for.
pub(super) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
