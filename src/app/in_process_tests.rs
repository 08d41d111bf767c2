//! Controllers on the real object layer: what needs its subresources and its versions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::client::fake::eventually_async;
use crate::client::usage::{Measured, NodeReport, PodUsage, Usage, UsageReader};
use crate::controllers::{ControllerOptions, ControllerSet};
use crate::model::kinds;
use crate::objects::ObjectsOptions;
use crate::objects::memory_kv::MemoryKv;
use crate::sys::clock;

const NOW: WriteOptions = WriteOptions { dry_run: false, manager: String::new(), author: None };

fn kind(group: &str, version: &str, plural: &str) -> &'static Kind {
    kinds::by_path(group, version, plural).unwrap()
}

async fn list(objects: &Objects, group: &str, version: &str, plural: &str) -> Vec<Value> {
    let kind = kind(group, version, plural);
    let request = ListRequest::all(kind, kind.namespaced.then_some("default"));
    objects.list(&request).await.unwrap().items
}

async fn create(objects: &Objects, group: &str, version: &str, plural: &str, object: Value) {
    let kind = kind(group, version, plural);
    objects.create(kind, kind.namespaced.then_some("default"), object, NOW).await.unwrap();
}

/// Every pod uses the same.
#[derive(Debug)]
struct Even {
    objects: Arc<Objects>,
    cpu_milli: u64,
}

#[async_trait]
impl UsageReader for Even {
    async fn reports(&self, nodes: &[String]) -> BTreeMap<String, Arc<NodeReport>> {
        let usage = Usage { cpu_nano: self.cpu_milli * 1_000_000, memory_bytes: 1 << 20 };
        let measured = Measured { time: clock::now(), window_ms: 10_000 };
        let pods = list(&self.objects, "", "v1", "pods").await;
        let pods = pods.iter().map(|pod| PodUsage {
            uid: pod["metadata"]["uid"].as_str().unwrap().to_owned(),
            measured,
            containers: [("c".to_owned(), usage)].into(),
        });
        let report = Arc::new(NodeReport { node: None, pods: pods.collect() });
        nodes.iter().map(|node| (node.clone(), Arc::clone(&report))).collect()
    }
}

/// Makes bound pods run, as if for an hour.
async fn pretend_agent(objects: Arc<Objects>, cancel: CancellationToken) {
    let address = |pod: &Value| {
        let name = pod["metadata"]["name"].as_str().unwrap();
        Address::new(kind("", "v1", "pods"), Some("default"), name)
    };
    while !cancel.is_cancelled() {
        for mut pod in list(&objects, "", "v1", "pods").await {
            let part = Some(Subresource::Status);
            if pod["spec"]["nodeName"].is_string() && pod["status"]["phase"] == "Pending" {
                let long_ago = "2020-01-01T00:00:00Z";
                pod["status"]["phase"] = "Running".into();
                pod["status"]["startTime"] = long_ago.into();
                pod["status"]["conditions"] =
                    json!([{"type": "Ready", "status": "True", "lastTransitionTime": long_ago}]);
                let _ = objects.update(&address(&pod), part, pod, NOW).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn deployment() -> Value {
    json!({"metadata": {"name": "web"}, "spec": {
        "replicas": 2,
        "selector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [
            {"name": "c", "image": "hello:1", "resources": {"requests": {"cpu": "100m"}}}]}}}})
}

fn condition(object: &Value, kind: &str) -> (String, String) {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.into_iter().find(|one| one["type"] == kind).unwrap_or_default();
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"))
}

#[tokio::test]
async fn an_autoscaler_of_either_version_scales_its_deployment_by_what_pods_use() {
    let options = ObjectsOptions { service_range: "10.96.0.0/24".parse().unwrap() };
    let objects = Arc::new(Objects::new(Arc::new(MemoryKv::new()), options));
    objects.ensure_bootstrap().await.unwrap();
    let node = json!({"metadata": {"name": "a1"}, "status": {
        "allocatable": {"cpu": "8", "memory": "8Gi", "pods": "110"},
        "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": clock::now()}]}});
    create(&objects, "", "v1", "nodes", node).await;
    let cancel = CancellationToken::new();
    let usage = Arc::new(Even { objects: objects.clone(), cpu_milli: 90 });
    let set = ControllerSet::new(ControllerOptions {
        usage: Some(usage),
        ..ControllerOptions::default()
    });
    let api = Arc::new(InProcessApi::new(objects.clone()));
    let stop = cancel.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { set.run(api, stop).await });
    tasks.spawn(pretend_agent(objects.clone(), cancel.clone()));
    create(&objects, "apps", "v1", "deployments", deployment()).await;
    let running = |count: usize| {
        let objects = objects.clone();
        move || {
            let objects = objects.clone();
            async move {
                let pods = list(&objects, "", "v1", "pods").await;
                let runs = |pod: &&Value| pod["status"]["phase"] == "Running";
                pods.iter().filter(runs).count() == count
            }
        }
    };
    eventually_async("two pods run", running(2)).await;
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    let autoscaler = json!({"metadata": {"name": "web"}, "spec": {
        "maxReplicas": 10, "scaleTargetRef": target, "targetCPUUtilizationPercentage": 50}});
    create(&objects, "autoscaling", "v1", "horizontalpodautoscalers", autoscaler).await;
    // 90 % against 50 % of two is 3.6.
    eventually_async("four pods run", running(4)).await;
    eventually_async("the autoscaler says so", || async {
        let held = list(&objects, "autoscaling", "v2", "horizontalpodautoscalers").await;
        condition(&held[0], "AbleToScale") == ("True".into(), "SucceededRescale".into())
            && condition(&held[0], "ScalingActive") == ("True".into(), "ValidMetricFound".into())
            && condition(&held[0], "ScalingLimited").1 == "DesiredWithinRange"
            && held[0]["status"]["desiredReplicas"] == 4
            && held[0]["status"]["currentMetrics"][0]["resource"]["current"]
                == json!({"averageUtilization": 90, "averageValue": "90m"})
    })
    .await;
    let old = list(&objects, "autoscaling", "v1", "horizontalpodautoscalers").await;
    assert_eq!(old[0]["apiVersion"], "autoscaling/v1");
    assert_eq!(old[0]["status"]["currentCPUUtilizationPercentage"], 90);
    eventually_async("the event says so", || async {
        let events = list(&objects, "", "v1", "events").await;
        events.iter().any(|event| {
            event["reason"] == "SuccessfulRescale"
                && event["message"]
                    == "New size: 4; reason: cpu resource utilization (percentage of request) above target"
        })
    })
    .await;

    // What nobody serves fails as without an adapter, and nothing is scaled.
    let pods = json!({"type": "Pods", "pods": {"metric": {"name": "hits"},
        "target": {"type": "AverageValue", "averageValue": "10"}}});
    let address =
        Address::new(kind("autoscaling", "v2", "horizontalpodautoscalers"), Some("default"), "web");
    let mut held = objects.get(&address, None).await.unwrap();
    held["spec"]["metrics"] = json!([pods]);
    held["metadata"]["resourceVersion"] = Value::Null;
    objects.update(&address, None, held, NOW).await.unwrap();
    eventually_async("it says what it lacks", || async {
        let held = objects.get(&address, None).await.unwrap();
        condition(&held, "ScalingActive") == ("False".into(), "FailedGetPodsMetric".into())
    })
    .await;
    assert!(running(4)().await);

    // Two of the same pods would pull them both ways.
    let second = json!({"metadata": {"name": "again"}, "spec": {
        "maxReplicas": 10, "scaleTargetRef": target}});
    create(&objects, "autoscaling", "v2", "horizontalpodautoscalers", second).await;
    let second = Address { name: "again".into(), ..address };
    eventually_async("the second says so", || async {
        let held = objects.get(&second, None).await.unwrap();
        condition(&held, "ScalingActive") == ("False".into(), "AmbiguousSelector".into())
    })
    .await;
    assert!(running(4)().await);
    cancel.cancel();
    tasks.join_all().await;
}
