//! The real kubectl against budgets, priorities, autoscalers and what things use.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use serde_json::json;

use super::kubectl_tests::Kubectl;
use crate::client::usage::{Measured, NodeReport, NodeUsage, PodUsage, Usage, UsageReader};

/// Nodes that tell what a test makes them tell.
#[derive(Debug, Default)]
pub(super) struct ToldUsage(pub(super) Mutex<BTreeMap<String, Arc<NodeReport>>>);

#[async_trait]
impl UsageReader for ToldUsage {
    async fn reports(&self, nodes: &[String]) -> BTreeMap<String, Arc<NodeReport>> {
        let told = self.0.lock().unwrap();
        nodes.iter().filter_map(|node| Some((node.clone(), told.get(node)?.clone()))).collect()
    }
}

#[tokio::test]
async fn top_shows_what_nodes_tell_and_says_when_they_do_not() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.create_running_pod().await;
    let out = kubectl.try_run(&["top", "pods"], "").await;
    assert!(!out.ok, "{out:?}");
    assert!(out.err.contains("metrics not available yet"), "{out:?}");
    let (code, status) =
        kubectl.server.get("/apis/metrics.k8s.io/v1beta1/namespaces/default/pods/web").await;
    assert_eq!(
        (code, status["message"].as_str()),
        (404, Some("podmetrics.metrics.k8s.io \"default/web\" not found"))
    );
    let (_, pod) = kubectl.server.get("/api/v1/namespaces/default/pods/web").await;
    let measured = Measured { time: "2026-01-01T00:00:00Z".parse().unwrap(), window_ms: 12_034 };
    let usage =
        |milli: u64, mib: u64| Usage { cpu_nano: milli * 1_000_000, memory_bytes: mib << 20 };
    let report = NodeReport {
        node: Some(NodeUsage { measured, usage: usage(500, 1024) }),
        pods: vec![PodUsage {
            uid: pod["metadata"]["uid"].as_str().unwrap().to_owned(),
            measured,
            containers: [("hello".to_owned(), usage(250, 20))].into(),
        }],
    };
    kubectl.server.usage.0.lock().unwrap().insert("n1".into(), Arc::new(report));
    let out = kubectl.run(&["top", "pods", "--containers"]).await;
    assert!(out.contains("POD") && out.contains("web") && out.contains("hello"), "{out}");
    assert!(out.contains("250m") && out.contains("20Mi"), "{out}");
    let out = kubectl.run(&["top", "pods", "-l", "app=other"]).await;
    assert!(!out.contains("web"), "{out}");
    let out = kubectl.run(&["top", "nodes"]).await;
    // Of two processors and four gibibytes.
    assert!(out.contains("n1") && out.contains("500m") && out.contains("25%"), "{out}");
    assert!(out.contains("1024Mi"), "{out}");
    let out = kubectl.run(&["get", "pods.metrics.k8s.io"]).await;
    assert!(out.contains("250000000n") && out.contains("20480Ki"), "{out}");
    assert!(out.contains("12.034s"), "{out}");
}

#[tokio::test]
async fn budgets_and_classes_are_made_and_shown() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let made = &["create", "pdb", "web", "--selector=app=web", "--min-available=50%"];
    kubectl.run(made).await;
    let out = kubectl.run(&["get", "pdb", "web"]).await;
    let line: Vec<&str> = out.lines().nth(1).unwrap().split_whitespace().take(4).collect();
    assert_eq!(line, ["web", "50%", "N/A", "0"], "{out}");
    let out = kubectl.run(&["describe", "pdb", "web"]).await;
    assert!(out.contains("Min available:") && out.contains("app=web"), "{out}");
    let class = &["create", "priorityclass", "high", "--value=1000", "--description=mine"];
    kubectl.run(class).await;
    let out = kubectl.run(&["get", "pc"]).await;
    assert!(out.contains("system-node-critical") && out.contains("2000001000"), "{out}");
    assert!(out.contains("PREEMPTIONPOLICY"), "{out}");
    let second = ["create", "priorityclass", "a", "--value=1", "--global-default=true"];
    kubectl.run(&second).await;
    let third = ["create", "priorityclass", "b", "--value=2", "--global-default=true"];
    let out = kubectl.try_run(&third, "").await;
    assert!(out.err.contains("PriorityClass a is already marked as default"), "{out:?}");
    let patch = r#"{"value": 7}"#;
    let out = kubectl.try_run(&["patch", "pc", "high", "-p", patch], "").await;
    assert!(out.err.contains("value: Forbidden: may not be changed in an update."), "{out:?}");
}

#[tokio::test]
async fn pods_get_the_priority_of_their_class() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let pod = |name: &str, more: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{{more} containers: [{{name: c, image: 'hello:1'}}]}}\n"
        )
    };
    let out = kubectl.try_run(&["create", "-f", "-"], &pod("x", "priorityClassName: nope,")).await;
    assert!(
        out.err.contains("pods \"x\" is forbidden: no PriorityClass with name nope was found"),
        "{out:?}"
    );
    let of = |name: &'static str| {
        let path = "jsonpath={.spec.priority} {.spec.priorityClassName} {.spec.preemptionPolicy}";
        ["get", "pod", name, "-o", path]
    };
    kubectl.run_with(&["create", "-f", "-"], &pod("none", "")).await;
    assert_eq!(kubectl.run(&of("none")).await, "0  PreemptLowerPriority");
    let critical = pod("crit", "priorityClassName: system-node-critical,");
    kubectl.run_with(&["create", "-f", "-"], &critical).await;
    let wanted = "2000001000 system-node-critical PreemptLowerPriority";
    assert_eq!(kubectl.run(&of("crit")).await, wanted);
    let wrong = pod("wrong", "priority: 5,");
    let out = kubectl.try_run(&["create", "-f", "-"], &wrong).await;
    assert!(out.err.contains("must not be provided in pod spec"), "{out:?}");
    let mut class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
        "metadata": {"name": "usual"}, "value": 10, "globalDefault": true});
    class["preemptionPolicy"] = "Never".into();
    kubectl.run_with(&["create", "-f", "-"], &class.to_string()).await;
    kubectl.run_with(&["create", "-f", "-"], &pod("usual", "")).await;
    assert_eq!(kubectl.run(&of("usual")).await, "10 usual Never");
    // Applied again as it was written, nothing changes.
    let manifest = pod("applied", "");
    kubectl.run_with(&["apply", "-f", "-"], &manifest).await;
    let out = kubectl.run_with(&["apply", "-f", "-"], &manifest).await;
    assert!(out.contains("unchanged"), "{out}");
}
