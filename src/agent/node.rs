//! This node's object in the API: what it is and has, and whether its engine answers.
//!
//! Why by a watch of its own object: what the API holds is compared with what is, and
//! written when they differ, also when it was another who changed it (the node controller
//! calls a silent node's state unknown, an operator deletes the object). Otherwise it is
//! written every [`NODE_STATUS_REPORT`]; that the node lives is said by its Lease.
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
use super::node_lease;
use crate::base::limits::{NODE_HEARTBEAT, NODE_MAX_PODS, NODE_STATUS_REPORT};
use crate::client::informer::Informer;
use crate::client::{ApiError, ListOptions, PatchKind, ResourceRef};
use crate::engine::port::EngineVersion;
use crate::logic::conditions::condition;
use crate::logic::volume_binding::VOLUMES_DIRECTORY;
use crate::model::node_config::Role;
use crate::sys::clock;

const NODES: ResourceRef = ResourceRef::of::<Node>(false);
/// Silence after which the node says that it is not ready.
const ENGINE_SILENCE_MAX: Duration = Duration::from_secs(15);
/// How soon a report that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What is known of the engine.
#[derive(Clone, Debug, Default)]
struct EngineHealth {
    version: EngineVersion,
    answered_at: Option<Instant>,
    trouble: String,
}

/// Keeps the Node object and its Lease current.
#[derive(Debug)]
pub(crate) struct NodeReporter {
    context: Arc<Context>,
    /// When the status was last written; `None` before this agent wrote the whole object.
    reported_at: Option<Instant>,
}

impl NodeReporter {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context, reported_at: None }
    }

    pub(crate) async fn run(self, cancel: CancellationToken) {
        let (sender, receiver) = watch::channel(EngineHealth::default());
        let context = Arc::clone(&self.context);
        let own = ListOptions {
            field_selector: Some(format!("metadata.name={}", self.name())),
            ..ListOptions::default()
        };
        let own = Informer::new(context.api.clone(), NODES, own);
        tokio::select! {
            () = cancel.cancelled() => {}
            () = own.clone().run(cancel.child_token()) => {}
            () = watch_engine(Arc::clone(&context), sender) => {}
            () = node_lease::run(context) => {}
            () = self.report(receiver, own) => {}
        }
    }

    async fn report(mut self, mut engine: watch::Receiver<EngineHealth>, own: Informer) {
        // The first report should carry the engine's version, if it answers soon.
        let _ = tokio::time::timeout(NODE_HEARTBEAT, engine.changed()).await;
        own.synced().await;
        let mut changes = own.changes();
        let mut tick = tokio::time::interval(NODE_HEARTBEAT);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                // Also when some were missed: all of them are about this one object.
                _ = changes.recv() => {}
            }
            let health = engine.borrow().clone();
            let outcome = match own.get("", self.name()) {
                Some(held) if self.reported_at.is_some() => self.refresh(&held, &health).await,
                _ => self.register(&health).await,
            };
            if let Err(error) = outcome {
                tracing::debug!(%error, "cannot report this node");
                tokio::time::sleep(RETRY).await;
                tick.reset_immediately();
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
        let held = match api.patch(&NODES, None, self.name(), None, PatchKind::Merge, &wanted).await
        {
            Err(error) if error.is_not_found() => {
                let mut node = wanted;
                node["apiVersion"] = json!("v1");
                node["kind"] = json!("Node");
                match api.create(&NODES, None, &node).await {
                    Err(error) if error.is_conflict() => api.get(&NODES, None, self.name()).await?,
                    other => other?,
                }
            }
            other => other?,
        };
        let mut status = self.whole_status(health);
        status["conditions"] = self.conditions(&held, health);
        self.write(status).await
    }

    /// Writes the status if what the API holds is something else, or nothing was written
    /// for long.
    async fn refresh(&mut self, held: &Value, health: &EngineHealth) -> Result<(), ApiError> {
        let recent = self.reported_at.is_some_and(|at| at.elapsed() < NODE_STATUS_REPORT);
        let info = self.node_info(health);
        let words = self.words(health);
        if recent && held.pointer("/status/nodeInfo") == Some(&info) && says(held, &words) {
            return Ok(());
        }
        self.write(json!({"conditions": self.conditions(held, health), "nodeInfo": info})).await
    }

    async fn write(&mut self, status: Value) -> Result<(), ApiError> {
        let patch = json!({"status": status});
        let api = &self.context.api;
        let name = self.context.node_name();
        api.patch(&NODES, None, name, Some("status"), PatchKind::Merge, &patch).await?;
        self.reported_at = Some(Instant::now());
        Ok(())
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

    fn words(&self, health: &EngineHealth) -> Vec<Words> {
        condition_words(health, |condition| self.context.pressure.holds(condition))
    }

    /// A condition that is as the API holds it has been so since then.
    fn conditions(&self, held: &Value, health: &EngineHealth) -> Value {
        let now = json!(Timestamp::from_second(clock::now().as_second()).unwrap_or_default());
        let list = self.words(health).into_iter().map(|(type_, status, reason, message)| {
            let same = condition(held, type_).filter(|old| old["status"] == status);
            let since = same.map_or(&now, |old| &old["lastTransitionTime"]);
            json!({"type": type_, "status": status, "reason": reason, "message": message,
                "lastHeartbeatTime": now, "lastTransitionTime": since})
        });
        Value::Array(list.collect())
    }
}

/// Whether the node's conditions are these and no others.
fn says(node: &Value, words: &[Words]) -> bool {
    let held = node.pointer("/status/conditions").and_then(Value::as_array);
    held.is_some_and(|held| held.len() == words.len())
        && words.iter().all(|(type_, status, reason, message)| {
            condition(node, type_).is_some_and(|held| {
                held["status"] == *status
                    && held["reason"] == *reason
                    && held["message"] == message.as_str()
            })
        })
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
