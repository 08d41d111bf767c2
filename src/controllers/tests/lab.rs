//! The stage: an in-memory API, all controllers, and agents that pretend.
//!
//! The pretended agents beat, make bound pods ready after a moment and finish graceful
//! deletions, each for the nodes that live.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::apps::v1::{
    ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet,
};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{
    Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, Service,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::client::api::{DeleteOptions, PatchKind, ResourceRef, SharedApi};
use crate::client::fake::FakeApi;
use crate::client::typed::Kind;
use crate::controllers::endpoints::object::ENDPOINTS;
use crate::controllers::informers::BUDGETS;
use crate::controllers::node_life::Patience;
use crate::controllers::{ControllerOptions, ControllerSet};

pub(super) const DEAD_AFTER: Duration = Duration::from_millis(800);

pub(super) struct Lab {
    pub(super) fake: FakeApi,
    alive: Arc<Mutex<BTreeSet<String>>>,
    cancel: CancellationToken,
    tasks: JoinSet<()>,
    /// The controllers, the newest last.
    leaders: Vec<(CancellationToken, JoinSet<()>)>,
}

fn resource(plural: &str) -> ResourceRef {
    match plural {
        "deployments" => Deployment::REF,
        "replicasets" => ReplicaSet::REF,
        "statefulsets" => StatefulSet::REF,
        "daemonsets" => DaemonSet::REF,
        "controllerrevisions" => ControllerRevision::REF,
        "jobs" => Job::REF,
        "cronjobs" => CronJob::REF,
        "pods" => Pod::REF,
        "services" => Service::REF,
        "nodes" => Node::REF,
        "namespaces" => Namespace::REF,
        "endpoints" => ENDPOINTS,
        "endpointslices" => EndpointSlice::REF,
        "persistentvolumes" => PersistentVolume::REF,
        "persistentvolumeclaims" => PersistentVolumeClaim::REF,
        "storageclasses" => StorageClass::REF,
        "poddisruptionbudgets" => BUDGETS,
        other => panic!("unknown resource {other}"),
    }
}

pub(super) fn name_of(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap().to_owned()
}

pub(super) fn deployment(name: &str, replicas: i32, image: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "shop"}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "c", "image": image}]}}}})
}

impl Lab {
    pub(super) async fn start(nodes: &[&str]) -> Self {
        let lab = Self {
            fake: FakeApi::new(),
            alive: Arc::default(),
            cancel: CancellationToken::new(),
            tasks: JoinSet::new(),
            leaders: Vec::new(),
        };
        for node in nodes {
            lab.add_node(node, "4").await;
        }
        let mut lab = lab;
        let agents = Agents { fake: lab.fake.clone(), alive: Arc::clone(&lab.alive) };
        lab.tasks.spawn(agents.run(lab.cancel.clone()));
        lab.start_controllers();
        lab
    }

    pub(super) fn start_controllers(&mut self) {
        let patience = Patience { dead_after: DEAD_AFTER, grace: Duration::from_millis(50) };
        let set = ControllerSet::new(ControllerOptions {
            authority: "PEM".into(),
            ..ControllerOptions::default()
        });
        let set = set.with_patience(patience);
        let (api, cancel) = (self.fake.shared(), self.cancel.child_token());
        let stop = cancel.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { set.run(api, stop).await });
        self.leaders.push((cancel, tasks));
    }

    /// The leader falls in the middle of whatever it does; another takes over.
    pub(super) async fn change_leader(&mut self) {
        if let Some((cancel, mut tasks)) = self.leaders.pop() {
            cancel.cancel();
            while let Some(ended) = tasks.join_next().await {
                ended.unwrap();
            }
        }
        self.start_controllers();
    }

    pub(super) async fn stop(mut self) {
        self.cancel.cancel();
        for (_, mut tasks) in self.leaders {
            while let Some(ended) = tasks.join_next().await {
                ended.unwrap();
            }
        }
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }

    pub(super) async fn add_node(&self, name: &str, cpu: &str) {
        let serial = self.fake.all("nodes").len() + 1;
        let node = json!({
            "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": &name[..1]}},
            "spec": {},
            "status": {
                "allocatable": {"cpu": cpu, "memory": "4Gi", "pods": "110"},
                "addresses": [{"type": "InternalIP", "address": format!("10.0.0.{serial}")}],
                "conditions": [{"type": "Ready", "status": "True",
                    "lastHeartbeatTime": "2026-01-01T00:00:00Z"}]}});
        self.create("nodes", node).await;
        self.alive.lock().unwrap().insert(name.to_owned());
    }

    pub(super) async fn label_control_node(&self, name: &str) {
        let labels = json!({"node-role.kubernetes.io/control-plane": ""});
        self.patch_in("nodes", None, name, json!({"metadata": {"labels": labels}})).await;
    }

    pub(super) fn kill(&self, node: &str) {
        self.alive.lock().unwrap().remove(node);
    }

    pub(super) fn revive(&self, node: &str) {
        self.alive.lock().unwrap().insert(node.to_owned());
    }

    fn api(&self) -> SharedApi {
        self.fake.shared()
    }

    pub(super) async fn create(&self, plural: &str, object: Value) {
        let namespace = object["metadata"]["namespace"].as_str().map(str::to_owned);
        self.api().create(&resource(plural), namespace.as_deref(), &object).await.unwrap();
    }

    pub(super) async fn patch_in(
        &self,
        plural: &str,
        namespace: Option<&str>,
        name: &str,
        patch: Value,
    ) {
        let (api, resource) = (self.api(), resource(plural));
        let patched = api.patch(&resource, namespace, name, None, PatchKind::Merge, &patch).await;
        patched.unwrap();
    }

    pub(super) async fn patch(&self, plural: &str, name: &str, patch: Value) {
        self.patch_in(plural, Some("shop"), name, patch).await;
    }

    pub(super) async fn set_image(&self, deployment: &str, image: &str) {
        let containers = json!([{"name": "c", "image": image}]);
        let patch = json!({"spec": {"template": {"spec": {"containers": containers}}}});
        self.patch("deployments", deployment, patch).await;
    }

    pub(super) async fn delete(&self, plural: &str, name: &str, policy: Option<&str>) {
        let options = DeleteOptions {
            propagation_policy: policy.map(str::to_owned),
            ..DeleteOptions::default()
        };
        self.api().delete(&resource(plural), Some("shop"), name, &options).await.unwrap();
    }

    /// An operator takes the node out of the cluster.
    pub(super) async fn delete_node(&self, name: &str) {
        self.kill(name);
        let options = DeleteOptions::default();
        self.api().delete(&Node::REF, None, name, &options).await.unwrap();
    }

    /// The object of this name, or null.
    pub(super) fn get(&self, plural: &str, name: &str) -> Value {
        let found = self.fake.all(plural).into_iter().find(|object| name_of(object) == name);
        found.unwrap_or_default()
    }

    pub(super) fn node(&self, name: &str) -> Value {
        self.get("nodes", name)
    }

    fn condition_of(&self, object: &Value, kind: &str) -> Option<Value> {
        let conditions = object["status"]["conditions"].as_array()?;
        conditions.iter().find(|condition| condition["type"] == kind).cloned()
    }

    /// The reason of a condition.
    pub(super) fn condition(&self, object: &Value, kind: &str) -> Option<String> {
        self.condition_of(object, kind)?["reason"].as_str().map(str::to_owned)
    }

    pub(super) fn condition_status(&self, object: &Value, kind: &str) -> Option<String> {
        self.condition_of(object, kind)?["status"].as_str().map(str::to_owned)
    }

    pub(super) fn ready_pods(&self, app: &str) -> Vec<Value> {
        let pods = self.fake.all("pods").into_iter();
        pods.filter(|pod| pod["metadata"]["labels"]["app"] == app && serves(pod)).collect()
    }

    /// Replays the pods' history: fewest ready and most present since event `from`.
    pub(super) fn extremes_since(&self, from: usize) -> (usize, usize) {
        let history = self.fake.history("pods");
        let (mut ready, mut present) = (BTreeSet::new(), BTreeSet::new());
        let (mut least, mut most) = (usize::MAX, 0);
        for (at, (kind, pod)) in history.iter().enumerate() {
            let name = name_of(pod);
            let stays = *kind != "DELETED" && pod["metadata"]["deletionTimestamp"].is_null();
            if stays {
                present.insert(name.clone())
            } else {
                present.remove(&name)
            };
            if stays && serves(pod) {
                ready.insert(name)
            } else {
                ready.remove(&name)
            };
            if at >= from {
                least = least.min(ready.len());
                most = most.max(present.len());
            }
        }
        (least, most)
    }
}

/// Ready and not leaving.
fn serves(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    pod["metadata"]["deletionTimestamp"].is_null()
        && conditions
            .iter()
            .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

struct Agents {
    fake: FakeApi,
    alive: Arc<Mutex<BTreeSet<String>>>,
}

impl Agents {
    async fn run(self, cancel: CancellationToken) {
        let mut round = 0_i64;
        while !cancel.is_cancelled() {
            round += 1;
            let alive = self.alive.lock().unwrap().clone();
            if round % 10 == 1 {
                for node in &alive {
                    self.beat(node, round).await;
                }
            }
            for pod in self.fake.all("pods") {
                let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
                if alive.contains(node) {
                    self.care(&pod, round).await;
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn beat(&self, node: &str, round: i64) {
        let api = self.fake.shared();
        let Ok(mut object) = api.get(&Node::REF, None, node).await else { return };
        let time = jiff::Timestamp::from_second(1_800_000_000 + round).unwrap();
        object["status"]["conditions"] = json!([{"type": "Ready", "status": "True",
            "lastHeartbeatTime": time.to_string()}]);
        // A lost race is made good by the next beat.
        let _ = api.update(&Node::REF, None, node, Some("status"), &object).await;
    }

    async fn care(&self, pod: &Value, round: i64) {
        let api = self.fake.shared();
        let name = name_of(pod);
        if !pod["metadata"]["deletionTimestamp"].is_null() {
            let now = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
            let _ = api.delete(&Pod::REF, Some("shop"), &name, &now).await;
        } else if pod["status"]["podIP"].is_null() {
            let mut changed = pod.clone();
            changed["status"] = json!({"phase": "Running",
                "podIP": format!("10.1.{}.{}", round / 250 % 250, round % 250 + 1),
                "conditions": [{"type": "Ready", "status": "True",
                    "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
            let _ = api.update(&Pod::REF, Some("shop"), &name, Some("status"), &changed).await;
        } else if let Some(code) = exit_code(pod) {
            let mut changed = pod.clone();
            changed["status"]["phase"] = json!(if code == 0 { "Succeeded" } else { "Failed" });
            changed["status"]["conditions"] = json!([]);
            // Long ago, so that no back-off is left.
            let end = json!({"exitCode": code, "finishedAt": "2026-01-01T00:00:00Z"});
            changed["status"]["containerStatuses"] = json!([{"name": "c", "image": "",
                "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": end}}]);
            let _ = api.update(&Pod::REF, Some("shop"), &name, Some("status"), &changed).await;
        }
    }
}

/// The image `exit:N` says that its program ends, and how.
fn exit_code(pod: &Value) -> Option<i64> {
    let image = pod["spec"]["containers"][0]["image"].as_str()?;
    let code = image.strip_prefix("exit:")?.parse().ok()?;
    (pod["status"]["phase"] == "Running").then_some(code)
}
