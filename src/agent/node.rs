//! This node's object in the API: what it is, what it has, and that it lives.
//!
//! Why the heartbeat goes into the status: one small merge patch every
//! [`NODE_HEARTBEAT`] is what the node controller watches; a silent node is a dead node.
//! Invariant: `Ready` is false while the engine has not answered for
//! [`ENGINE_SILENCE_MAX`]; a daemon that restarts is back sooner and changes nothing.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::context::Context;
use crate::base::limits::{NODE_HEARTBEAT, NODE_MAX_PODS};
use crate::client::{ApiError, PatchKind, ResourceRef};
use crate::engine::port::EngineVersion;
use crate::logic::volume_binding::VOLUMES_DIRECTORY;
use crate::model::node_config::Role;
use crate::sys::clock;

const NODES: ResourceRef = ResourceRef::of::<Node>(false);
/// Silence after which the node says that it is not ready.
const ENGINE_SILENCE_MAX: Duration = Duration::from_secs(15);
/// How soon a registration that failed is tried again.
const REGISTER_RETRY: Duration = Duration::from_secs(1);

/// What is known of the engine.
#[derive(Clone, Debug, Default)]
struct EngineHealth {
    version: EngineVersion,
    answered_at: Option<Instant>,
    trouble: String,
}

/// Keeps the Node object current.
#[derive(Debug)]
pub(crate) struct NodeReporter {
    context: Arc<Context>,
    /// Each condition's status and since when.
    since: Vec<(String, String, Timestamp)>,
    registered: bool,
}

impl NodeReporter {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context, since: Vec::new(), registered: false }
    }

    pub(crate) async fn run(self, cancel: CancellationToken) {
        let (sender, receiver) = watch::channel(EngineHealth::default());
        let context = Arc::clone(&self.context);
        tokio::select! {
            () = cancel.cancelled() => {}
            () = watch_engine(context, sender) => {}
            () = self.beat(receiver) => {}
        }
    }

    async fn beat(mut self, mut engine: watch::Receiver<EngineHealth>) {
        // The first report should carry the engine's version, if it answers soon.
        let _ = tokio::time::timeout(NODE_HEARTBEAT, engine.changed()).await;
        let mut tick = tokio::time::interval(NODE_HEARTBEAT);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let health = engine.borrow().clone();
            let outcome = if self.registered {
                self.heartbeat(&health).await
            } else {
                self.register(&health).await
            };
            match outcome {
                Ok(()) => self.registered = true,
                Err(error) => {
                    self.registered &= !error.is_not_found();
                    tracing::debug!(%error, "cannot report this node");
                    if !self.registered {
                        // Nobody knows the node yet; that should not last for a heartbeat.
                        tokio::time::sleep(REGISTER_RETRY).await;
                        tick.reset_immediately();
                    }
                }
            }
        }
    }

    fn name(&self) -> &str {
        self.context.node_name()
    }

    fn labels(&self) -> Value {
        let node = &self.context.config.node;
        let mut labels = json!({
            "kubernetes.io/hostname": node.node_name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": self.context.host.architecture,
            "topology.kubernetes.io/region": node.site,
            "topology.kubernetes.io/zone": node.center,
        });
        if node.has_role(Role::Control) {
            labels["node-role.kubernetes.io/control-plane"] = json!("");
        }
        if node.has_role(Role::Worker) {
            labels["node-role.kubernetes.io/worker"] = json!("");
        }
        labels
    }

    /// Creates the object or brings it up to date, then writes the whole status.
    async fn register(&mut self, health: &EngineHealth) -> Result<(), ApiError> {
        let range = self.context.config.node.pod_range.to_string();
        let volumes = self.context.config.node.paths.volumes().display().to_string();
        let metadata = json!({"name": self.name(), "labels": self.labels(),
            "annotations": {VOLUMES_DIRECTORY: volumes}});
        let spec = json!({"podCIDR": range, "podCIDRs": [range]});
        let wanted = json!({"metadata": metadata, "spec": spec});
        let api = &self.context.api;
        match api.patch(&NODES, None, self.name(), None, PatchKind::Merge, &wanted).await {
            Err(error) if error.is_not_found() => {
                let mut node = wanted;
                node["apiVersion"] = json!("v1");
                node["kind"] = json!("Node");
                match api.create(&NODES, None, &node).await {
                    Err(error) if error.is_conflict() => {}
                    other => {
                        other?;
                    }
                }
            }
            other => self.remember_conditions(&other?),
        }
        let mut status = self.whole_status(health);
        status["conditions"] = self.conditions(health);
        self.write(status).await
    }

    async fn heartbeat(&mut self, health: &EngineHealth) -> Result<(), ApiError> {
        let mut status = json!({"conditions": self.conditions(health)});
        status["nodeInfo"] = self.node_info(health);
        self.write(status).await
    }

    async fn write(&self, status: Value) -> Result<(), ApiError> {
        let patch = json!({"status": status});
        let api = &self.context.api;
        api.patch(&NODES, None, self.name(), Some("status"), PatchKind::Merge, &patch).await?;
        Ok(())
    }

    /// Keeps the transition times of a former life of the agent.
    fn remember_conditions(&mut self, node: &Value) {
        let Ok(node) = serde_json::from_value::<Node>(node.clone()) else { return };
        for old in node.status.and_then(|status| status.conditions).unwrap_or_default() {
            if let Some(at) = old.last_transition_time {
                self.since.push((old.type_, old.status, at.0));
            }
        }
    }

    fn node_info(&self, health: &EngineHealth) -> Value {
        let host = &self.context.host;
        json!({
            "machineID": host.machine_id, "systemUUID": host.system_uuid, "bootID": host.boot_id,
            "kernelVersion": host.kernel, "osImage": host.os_image,
            "containerRuntimeVersion": format!("docker://{}", health.version.engine),
            "kubeletVersion": "v1.32.0+holdfast", "kubeProxyVersion": "",
            "operatingSystem": "linux", "architecture": host.architecture,
        })
    }

    fn whole_status(&self, health: &EngineHealth) -> Value {
        let host = &self.context.host;
        let resources = json!({
            "cpu": host.cpus.to_string(),
            "memory": format!("{}Ki", host.memory_bytes / 1024),
            "ephemeral-storage": format!("{}Ki", host.disk_bytes / 1024),
            "pods": NODE_MAX_PODS.to_string(),
        });
        json!({
            "capacity": resources, "allocatable": resources,
            "addresses": [
                {"type": "InternalIP", "address": self.context.host_ip()},
                {"type": "Hostname", "address": self.name()},
            ],
            "nodeInfo": self.node_info(health),
        })
    }

    fn conditions(&mut self, health: &EngineHealth) -> Value {
        let now = Timestamp::from_second(clock::now().as_second()).unwrap_or_default();
        let board = &self.context.pressure;
        let list: Vec<Value> = condition_words(health, |condition| board.holds(condition))
            .into_iter()
            .map(|(type_, status, reason, message)| {
                let since = self.since(type_, status, now);
                json!({"type": type_, "status": status, "reason": reason, "message": message,
                    "lastHeartbeatTime": now, "lastTransitionTime": since})
            })
            .collect();
        Value::Array(list)
    }

    fn since(&mut self, type_: &str, status: &str, now: Timestamp) -> Timestamp {
        match self.since.iter_mut().find(|(known, ..)| known == type_) {
            Some((_, old, at)) => {
                if old != status {
                    (*old, *at) = (status.to_owned(), now);
                }
                *at
            }
            None => {
                self.since.push((type_.to_owned(), status.to_owned(), now));
                now
            }
        }
    }
}

type Words = (&'static str, &'static str, &'static str, String);

/// In the kubelet's words, which people and programs look for.
fn condition_words(health: &EngineHealth, under: impl Fn(&str) -> bool) -> Vec<Words> {
    let pressure = |type_, low: (&'static str, &str), fine: (&'static str, &str)| {
        let (status, words) = if under(type_) { ("True", low) } else { ("False", fine) };
        (type_, status, words.0, words.1.to_owned())
    };
    let answers = health.answered_at.is_some_and(|at| at.elapsed() < ENGINE_SILENCE_MAX);
    let ready = if answers {
        ("Ready", "True", "KubeletReady", "kubelet is posting ready status".to_owned())
    } else {
        let message = format!("the container engine does not answer: {}", health.trouble);
        ("Ready", "False", "EngineNotAnswering", message)
    };
    vec![
        pressure(
            "MemoryPressure",
            ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
            ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ),
        pressure(
            "DiskPressure",
            ("KubeletHasDiskPressure", "kubelet has disk pressure"),
            ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ),
        pressure(
            "PIDPressure",
            ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
            ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ),
        ready,
    ]
}

/// Asks the engine for its version over and over.
async fn watch_engine(context: Arc<Context>, sender: watch::Sender<EngineHealth>) {
    let mut tick = tokio::time::interval(NODE_HEARTBEAT);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let answer = context.engine.version().await;
        sender.send_modify(|health| match answer {
            Ok(version) => {
                *health = EngineHealth {
                    version,
                    answered_at: Some(Instant::now()),
                    trouble: String::new(),
                };
            }
            Err(error) => health.trouble = error.to_string(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_engine_makes_the_node_unready() {
        let words = |health: &EngineHealth| {
            let all = condition_words(health, |condition| condition == "DiskPressure");
            all.iter().map(|(type_, status, ..)| format!("{type_}={status}")).collect::<Vec<_>>()
        };
        let silent = words(&EngineHealth::default());
        assert_eq!(silent.last().map(String::as_str), Some("Ready=False"));
        let health = EngineHealth { answered_at: Some(Instant::now()), ..EngineHealth::default() };
        let fine = ["MemoryPressure=False", "DiskPressure=True", "PIDPressure=False", "Ready=True"];
        assert_eq!(words(&health), fine);
    }
}
