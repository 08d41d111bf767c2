//! Budgets, priorities and preemption: all controllers against the in-memory API.

use serde_json::{Value, json};

use super::lab::{Lab, deployment, name_of};
use crate::client::fake::eventually;

fn budget(spec: Value) -> Value {
    let mut whole = json!({"selector": {"matchLabels": {"app": "web"}}});
    json_patch::merge(&mut whole, &spec);
    json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": "web", "namespace": "shop", "generation": 1}, "spec": whole})
}

#[tokio::test]
async fn a_budget_follows_its_pods() {
    let lab = Lab::start(&["a1", "b1"]).await;
    lab.create("poddisruptionbudgets", budget(json!({"maxUnavailable": "50%"}))).await;
    lab.create("deployments", deployment("web", 3, "hello:1")).await;
    let numbers = || {
        let status = lab.get("poddisruptionbudgets", "web")["status"].clone();
        ["currentHealthy", "desiredHealthy", "disruptionsAllowed", "expectedPods"]
            .map(|field| status[field].as_i64().unwrap_or(-1))
    };
    eventually("three are healthy", || numbers() == [3, 1, 2, 3]).await;
    let held = lab.get("poddisruptionbudgets", "web");
    assert_eq!(lab.condition(&held, "DisruptionAllowed"), Some("SufficientPods".into()));
    lab.patch("deployments", "web", json!({"spec": {"replicas": 1}})).await;
    eventually("one is left, and must stay", || numbers() == [1, 0, 1, 1]).await;
    let none = json!({"spec": {"maxUnavailable": 0}, "metadata": {"generation": 2}});
    lab.patch("poddisruptionbudgets", "web", none).await;
    eventually("none may go", || numbers() == [1, 1, 0, 1]).await;
    assert_eq!(lab.get("poddisruptionbudgets", "web")["status"]["observedGeneration"], 2);
    lab.stop().await;
}

fn pod(name: &str, priority: i64, cpu: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "shop"}, "spec": {
        "priority": priority,
        "containers": [{"name": "c", "image": "hello:1",
            "resources": {"requests": {"cpu": cpu}}}]}})
}

fn node_of(pod: &Value) -> &str {
    pod["spec"]["nodeName"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_pod_that_matters_more_gets_the_room_of_one_that_matters_less() {
    let lab = Lab::start(&["a1", "b1"]).await;
    lab.create("pods", pod("low", 1, "4")).await;
    lab.create("pods", pod("middle", 5, "4")).await;
    eventually("both run", || {
        ["low", "middle"].iter().all(|name| !node_of(&lab.get("pods", name)).is_empty())
    })
    .await;
    let room = node_of(&lab.get("pods", "low")).to_owned();
    let before = lab.fake.history("pods").len();
    lab.create("pods", pod("high", 9, "4")).await;
    eventually("the high one has the low one's room", || {
        node_of(&lab.get("pods", "high")) == room && lab.get("pods", "low").is_null()
    })
    .await;
    assert!(!lab.get("pods", "middle").is_null(), "nobody else went");
    let history = lab.fake.history("pods");
    let said = |name: &str, pointer: &str, wanted: &str| {
        history[before..].iter().any(|(_, pod)| {
            name_of(pod) == name && pod.pointer(pointer).is_some_and(|held| held == wanted)
        })
    };
    assert!(said("high", "/status/nominatedNodeName", &room));
    assert!(
        said("low", "/status/conditions/0/reason", "PreemptionByScheduler")
            || said("low", "/status/conditions/1/reason", "PreemptionByScheduler")
            || said("low", "/status/conditions/2/reason", "PreemptionByScheduler")
    );
    eventually("the event says so", || {
        let events = lab.fake.all("events");
        events
            .iter()
            .any(|event| event["reason"] == "Preempted" && event["involvedObject"]["name"] == "low")
    })
    .await;

    // One that is not above anybody waits, and says why.
    lab.create("pods", pod("lowest", 1, "4")).await;
    eventually("it says why it waits", || {
        let events = lab.fake.all("events");
        events.iter().any(|event| {
            event["reason"] == "FailedScheduling"
                && event["involvedObject"]["name"] == "lowest"
                && event["message"]
                    == "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod."
        })
    })
    .await;
    lab.stop().await;
}
