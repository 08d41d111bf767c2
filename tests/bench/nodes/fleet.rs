//! Agents without containers: they register, say that they live, and call every pod running.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use holdfast::base::limits::NODE_STATUS_REPORT;
use holdfast::client::{
    ApiError, DeleteOptions, HttpApi, ListOptions, ObjectApi, PatchKind, ResourceRef, WatchEvent,
};
use holdfast::logic::node_life::heartbeat_period;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// What the pods of the measurement ask of their nodes.
pub(crate) const LABEL: &str = "bench.holdfast.io/simulated";
const NODE: ResourceRef = ResourceRef::of::<Node>(false);
const POD: ResourceRef = ResourceRef::of::<Pod>(true);
const LEASE: ResourceRef = ResourceRef::of::<Lease>(true);
const LEASES: Option<&str> = Some("kube-node-lease");
/// Registrations under way at a time.
const AT_ONCE: usize = 32;
/// Pods that one node reports beside each other, as an agent's workers do.
const REPORTS_AT_ONCE: usize = 8;

/// All simulated nodes; they end with it.
#[derive(Debug)]
pub(crate) struct Fleet {
    /// When each pod was first seen by its node.
    seen: watch::Receiver<Vec<Instant>>,
    _agents: JoinSet<()>,
}

impl Fleet {
    /// Answers when every node is registered and watches its pods.
    pub(crate) async fn register(
        names: Vec<String>,
        clients: Vec<HttpApi>,
    ) -> Result<Self, anyhow::Error> {
        let nodes = names.len();
        let (sender, seen) = watch::channel(Vec::new());
        let sender = Arc::new(sender);
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let mut registrations = JoinSet::new();
        for (number, (name, api)) in names.into_iter().zip(clients).enumerate() {
            let agent = Agent { api, name, number, seen: sender.clone() };
            let places = places.clone();
            registrations.spawn(async move {
                let _place = places.acquire_owned().await;
                agent.register().await.map(|()| agent)
            });
        }
        let mut agents = JoinSet::new();
        while let Some(done) = registrations.join_next().await {
            let agent = Arc::new(done??);
            agents.spawn(agent.clone().live(nodes));
            agents.spawn(agent.follow());
        }
        Ok(Self { seen, _agents: agents })
    }

    /// How many pods were seen so far.
    pub(crate) fn seen(&self) -> usize {
        self.seen.borrow().len()
    }

    /// Waits until `upto` pods were seen; answers when the first after `from` and the last were.
    pub(crate) async fn until(
        &self,
        from: usize,
        upto: usize,
        started: Instant,
        patience: Duration,
    ) -> Result<(Instant, Instant), anyhow::Error> {
        let mut seen = self.seen.clone();
        let left = patience.saturating_sub(started.elapsed());
        let done = tokio::time::timeout(left, seen.wait_for(|all| all.len() >= upto)).await;
        anyhow::ensure!(
            done.is_ok(),
            "after {patience:?} only {} of {} pods were placed",
            self.seen().saturating_sub(from),
            upto - from
        );
        let all = self.seen.borrow();
        Ok((all[from], all[upto - 1]))
    }
}

#[derive(Debug)]
struct Agent {
    api: HttpApi,
    name: String,
    number: usize,
    seen: Arc<watch::Sender<Vec<Instant>>>,
}

impl Agent {
    async fn register(&self) -> Result<(), ApiError> {
        let center = ["a", "b", "c"][self.number % 3];
        let node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": self.name, "labels": {
                LABEL: "true", "kubernetes.io/hostname": self.name, "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64", "topology.kubernetes.io/region": "city",
                "topology.kubernetes.io/zone": center,
            }},
        });
        self.api.create(&NODE, None, &node).await?;
        let resources = json!({"cpu": "32", "memory": "134217728Ki",
            "ephemeral-storage": "1073741824Ki", "pods": "110"});
        let address = format!("10.99.{}.{}", self.number / 250, self.number % 250 + 1);
        let mut status = self.conditions();
        status["status"]["capacity"] = resources.clone();
        status["status"]["allocatable"] = resources;
        status["status"]["addresses"] = json!([{"type": "InternalIP", "address": address}]);
        self.write_status(&status).await?;
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": self.name},
            "spec": {"holderIdentity": self.name, "leaseDurationSeconds": 40},
        });
        self.api.create(&LEASE, LEASES, &lease).await.map(drop)
    }

    async fn write_status(&self, status: &Value) -> Result<(), ApiError> {
        let status_of = Some("status");
        self.api.patch(&NODE, None, &self.name, status_of, PatchKind::Merge, status).await.map(drop)
    }

    /// As an agent says it, in the same words and as long.
    fn conditions(&self) -> Value {
        let now = jiff::Timestamp::now().round(jiff::Unit::Second).expect("in range").to_string();
        let condition = |kind: &str, status: &str, reason: &str, message: &str| {
            json!({"type": kind, "status": status, "reason": reason, "message": message,
                "lastHeartbeatTime": now, "lastTransitionTime": "2026-01-01T00:00:00Z"})
        };
        json!({"status": {
            "conditions": [
                condition("MemoryPressure", "False", "AgentHasSufficientMemory",
                    "the node has sufficient memory available"),
                condition("DiskPressure", "False", "AgentHasNoDiskPressure",
                    "the node has no disk pressure"),
                condition("PIDPressure", "False", "AgentHasSufficientPID",
                    "the node has sufficient process ids available"),
                condition("Ready", "True", "AgentReady", "the agent is posting ready status"),
            ],
            "nodeInfo": {"machineID": self.name, "systemUUID": "", "bootID": "", "kernelVersion": "",
                "osImage": "", "containerRuntimeVersion": "docker://20.10.24",
                "kubeletVersion": "v1.32.0+holdfast", "kubeProxyVersion": "",
                "operatingSystem": "linux", "architecture": "amd64"},
        }})
    }

    /// The node's signs of life, at an agent's pace; no two nodes' at the same moment.
    async fn live(self: Arc<Self>, nodes: usize) {
        let period = heartbeat_period(u32::try_from(nodes).unwrap_or(u32::MAX));
        let share = self.number as f64 / nodes as f64;
        let mut beat =
            tokio::time::interval_at(tokio::time::Instant::now() + period.mul_f64(share), period);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut reported = Instant::now();
        loop {
            beat.tick().await;
            let now = jiff::Timestamp::now().to_string();
            let patch = json!({"spec": {"renewTime": now}});
            let renewal =
                self.api.patch(&LEASE, LEASES, &self.name, None, PatchKind::Merge, &patch);
            if let Err(error) = renewal.await {
                eprintln!("{} cannot say that it lives: {error}", self.name);
            }
            if reported.elapsed() >= NODE_STATUS_REPORT {
                reported = Instant::now();
                if let Err(error) = self.write_status(&self.conditions()).await {
                    eprintln!("{} cannot report itself: {error}", self.name);
                }
            }
        }
    }

    /// Takes up what is placed here until the fleet ends; a watch that breaks begins anew.
    async fn follow(self: Arc<Self>) {
        let mut known = std::collections::HashSet::new();
        loop {
            if let Err(error) = self.follow_once(&mut known).await {
                eprintln!("{} lost its watch: {error}", self.name);
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }

    async fn follow_once(
        self: &Arc<Self>,
        known: &mut std::collections::HashSet<String>,
    ) -> Result<(), ApiError> {
        let mut options = ListOptions {
            field_selector: Some(format!("spec.nodeName={}", self.name)),
            ..ListOptions::default()
        };
        let list = self.api.list(&POD, None, &options).await?;
        let places = Arc::new(Semaphore::new(REPORTS_AT_ONCE));
        for pod in list.items {
            self.clone().take(pod, known, &places).await;
        }
        options.resource_version = Some(list.resource_version);
        let mut events = self.api.watch(&POD, None, &options).await?;
        while let Some(event) = events.next().await {
            match event? {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
                    self.clone().take(pod, known, &places).await;
                }
                WatchEvent::Error(status) => return Err(status.into()),
                WatchEvent::Deleted(_) | WatchEvent::Bookmark(_) => {}
            }
        }
        Ok(())
    }

    async fn take(
        self: Arc<Self>,
        pod: Value,
        known: &mut std::collections::HashSet<String>,
        places: &Arc<Semaphore>,
    ) {
        let metadata = &pod["metadata"];
        let uid = metadata["uid"].as_str().unwrap_or_default().to_owned();
        let leaves = !metadata["deletionTimestamp"].is_null();
        if !leaves {
            if !known.insert(uid.clone()) {
                return;
            }
            self.seen.send_modify(|all| all.push(Instant::now()));
        }
        let place = places.clone().acquire_owned().await;
        tokio::spawn(async move {
            let _place = place;
            let (namespace, name) =
                (pod["metadata"]["namespace"].as_str(), pod["metadata"]["name"].as_str());
            let name = name.unwrap_or_default();
            let done = if leaves {
                let options = DeleteOptions {
                    grace_period_seconds: Some(0),
                    uid: Some(uid),
                    ..DeleteOptions::default()
                };
                self.api.delete(&POD, namespace, name, &options).await
            } else {
                let status = self.running(&pod);
                let patched = self.api.patch(
                    &POD,
                    namespace,
                    name,
                    Some("status"),
                    PatchKind::Merge,
                    &status,
                );
                patched.await.map(drop)
            };
            match done {
                Err(error) if !error.is_not_found() => eprintln!("pod {name}: {error}"),
                _ => {}
            }
        });
    }

    fn running(&self, pod: &Value) -> Value {
        let now = jiff::Timestamp::now().round(jiff::Unit::Second).expect("in range").to_string();
        let condition =
            |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": now});
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
        // Not unique in the cluster, which nobody looks at.
        let byte = uid.bytes().fold(1_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
        let ip = format!("10.{}.{}.{byte}", 128 + self.number / 250, self.number % 250);
        json!({"status": {
            "phase": "Running", "hostIP": "10.99.0.1", "podIP": ip, "podIPs": [{"ip": ip}],
            "startTime": now,
            "conditions": [condition("PodReadyToStartContainers"), condition("Initialized"),
                condition("ContainersReady"), condition("Ready"), condition("PodScheduled")],
            "containerStatuses": [{"name": "app", "ready": true, "started": true,
                "restartCount": 0, "image": "holdfast/pause:1", "imageID": "",
                "containerID": format!("docker://{uid}"),
                "state": {"running": {"startedAt": now}}, "lastState": {}}],
        }})
    }
}
