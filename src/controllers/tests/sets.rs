//! StatefulSets and DaemonSets: order, identity, history, and nodes that fall silent.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::lab::{DEAD_AFTER, Lab, name_of};
use crate::client::fake::eventually;

fn stateful(replicas: i32, image: &str) -> Value {
    json!({"metadata": {"name": "db", "namespace": "shop"}, "spec": {
        "replicas": replicas, "serviceName": "peers", "podManagementPolicy": "OrderedReady",
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        "selector": {"matchLabels": {"app": "db"}},
        "template": {"metadata": {"labels": {"app": "db"}},
            "spec": {"containers": [{"name": "c", "image": image}]}}}})
}

fn daemon(image: &str) -> Value {
    json!({"metadata": {"name": "agent", "namespace": "shop"}, "spec": {
        "updateStrategy": {"type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
        "selector": {"matchLabels": {"app": "agent"}},
        "template": {"metadata": {"labels": {"app": "agent"}},
            "spec": {"containers": [{"name": "c", "image": image}]}}}})
}

async fn set_image(lab: &Lab, plural: &str, name: &str, image: &str) {
    let containers = json!([{"name": "c", "image": image}]);
    let patch = json!({"spec": {"template": {"spec": {"containers": containers}}}});
    lab.patch(plural, name, patch).await;
}

/// The pods' history as (`ADDED`, name), and that no name was there twice at once.
fn lives(lab: &Lab) -> Vec<(&'static str, String)> {
    let mut there = BTreeSet::new();
    let mut lives = Vec::new();
    for (kind, pod) in lab.fake.history("pods") {
        let name = name_of(&pod);
        match kind {
            "ADDED" => assert!(there.insert(name.clone()), "{name} was made twice"),
            "DELETED" => assert!(there.remove(&name)),
            _ => continue,
        }
        lives.push((kind, name));
    }
    lives
}

fn images(lab: &Lab, app: &str) -> Vec<String> {
    let pods = lab.ready_pods(app).into_iter();
    pods.map(|pod| pod["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_stateful_set_starts_in_order_with_stable_names() {
    let lab = Lab::start(&["a1", "b1", "c1"]).await;
    lab.create("statefulsets", stateful(3, "hello:1")).await;
    eventually("the status is complete", || {
        let status = &lab.get("statefulsets", "db")["status"];
        status["readyReplicas"] == 3
            && status["updatedReplicas"] == 3
            && status["currentRevision"] == status["updateRevision"]
    })
    .await;
    let made: Vec<String> = lives(&lab).into_iter().map(|(_, name)| name).collect();
    assert_eq!(made, ["db-0", "db-1", "db-2"]);
    // Each was made only once the one before was ready.
    let mut ready = BTreeSet::new();
    for (kind, pod) in lab.fake.history("pods") {
        let ordinal: usize = name_of(&pod)[3..].parse().unwrap();
        if kind == "ADDED" {
            assert_eq!(ready.len(), ordinal, "{}", name_of(&pod));
        }
        if pod["status"]["conditions"].as_array().is_some_and(|all| {
            all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True")
        }) {
            ready.insert(ordinal);
        }
    }
    let pod = lab.get("pods", "db-1");
    assert_eq!(pod["spec"]["hostname"], "db-1");
    assert_eq!(pod["spec"]["subdomain"], "peers");
    let labels = &pod["metadata"]["labels"];
    assert_eq!(labels["statefulset.kubernetes.io/pod-name"], "db-1");
    assert_eq!(labels["apps.kubernetes.io/pod-index"], "1");
    let revision = lab.fake.all("controllerrevisions").remove(0);
    assert_eq!(labels["controller-revision-hash"], revision["metadata"]["name"]);
    lab.stop().await;
}

#[tokio::test]
async fn a_stateful_update_goes_down_to_the_partition_and_back_by_its_history() {
    let lab = Lab::start(&["a1", "b1"]).await;
    lab.create("statefulsets", stateful(3, "hello:1")).await;
    eventually("the first version stands", || {
        lab.get("statefulsets", "db")["status"]["readyReplicas"] == 3
    })
    .await;
    let update = json!({"spec": {"updateStrategy": {"rollingUpdate": {"partition": 2}}}});
    lab.patch("statefulsets", "db", update).await;
    set_image(&lab, "statefulsets", "db", "hello:2").await;
    eventually("one is updated", || {
        let status = &lab.get("statefulsets", "db")["status"];
        status["updatedReplicas"] == 1 && status["readyReplicas"] == 3
    })
    .await;
    assert_eq!(images(&lab, "db"), ["hello:1", "hello:1", "hello:2"]);
    // Below the partition a lost pod comes back as it was.
    lab.delete("pods", "db-0", None).await;
    eventually("it is back", || {
        lives(&lab).iter().filter(|life| **life == ("ADDED", "db-0".into())).count() == 2
            && lab.ready_pods("db").len() == 3
    })
    .await;
    assert_eq!(images(&lab, "db"), ["hello:1", "hello:1", "hello:2"]);
    let update = json!({"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}});
    lab.patch("statefulsets", "db", update).await;
    let complete = |lab: &Lab, image: &str| {
        let status = &lab.get("statefulsets", "db")["status"];
        status["currentRevision"] == status["updateRevision"] && images(lab, "db") == [image; 3]
    };
    eventually("all are updated", || complete(&lab, "hello:2")).await;
    let tail: Vec<_> = lives(&lab).into_iter().rev().take(4).collect();
    let name = |kind, at: i32| (kind, format!("db-{at}"));
    assert_eq!(tail, [name("ADDED", 0), name("DELETED", 0), name("ADDED", 1), name("DELETED", 1)]);
    // Back again, as kubectl does it: the old revision gets the highest number.
    set_image(&lab, "statefulsets", "db", "hello:1").await;
    eventually("the first version is back", || complete(&lab, "hello:1")).await;
    let mut numbers: Vec<i64> = lab
        .fake
        .all("controllerrevisions")
        .iter()
        .map(|one| one["revision"].as_i64().unwrap())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [2, 3]);
    lab.stop().await;
}

#[tokio::test]
async fn a_stateful_set_shrinks_from_the_highest() {
    let lab = Lab::start(&["a1"]).await;
    lab.create("statefulsets", stateful(3, "hello:1")).await;
    eventually("three", || lab.ready_pods("db").len() == 3).await;
    lab.patch("statefulsets", "db", json!({"spec": {"replicas": 1}})).await;
    eventually("one", || lab.fake.all("pods").len() == 1).await;
    let gone: Vec<String> =
        lives(&lab).into_iter().filter(|life| life.0 == "DELETED").map(|life| life.1).collect();
    assert_eq!(gone, ["db-2", "db-1"]);
    lab.stop().await;
}

#[tokio::test]
async fn a_pod_of_a_silent_node_is_waited_for_and_never_runs_twice() {
    let lab = Lab::start(&["a1", "b1", "c1"]).await;
    lab.create("statefulsets", stateful(3, "hello:1")).await;
    eventually("three", || lab.ready_pods("db").len() == 3).await;
    let lost = lab.ready_pods("db").remove(1);
    let node = lost["spec"]["nodeName"].as_str().unwrap().to_owned();
    lab.kill(&node);
    let name = name_of(&lost);
    eventually("its deletion is asked for", || {
        lab.get("pods", &name)["metadata"]["deletionTimestamp"].is_string()
    })
    .await;
    tokio::time::sleep(DEAD_AFTER * 2).await;
    assert_eq!(lab.get("pods", &name)["metadata"]["uid"], lost["metadata"]["uid"]);
    assert_eq!(lab.fake.creations("pods"), 3);
    // The agent comes back and confirms: now it is made again.
    lab.revive(&node);
    eventually("it runs again", || {
        let pod = lab.get("pods", &name);
        pod["metadata"]["uid"] != lost["metadata"]["uid"] && lab.ready_pods("db").len() == 3
    })
    .await;
    assert_eq!(lives(&lab).len(), 5);
    lab.stop().await;
}

#[tokio::test]
async fn an_operators_word_frees_the_pods_of_a_silent_node() {
    let lab = Lab::start(&["a1", "b1", "c1"]).await;
    lab.create("statefulsets", stateful(3, "hello:1")).await;
    eventually("three", || lab.ready_pods("db").len() == 3).await;
    let node_of =
        |name: &str| lab.get("pods", name)["spec"]["nodeName"].as_str().unwrap().to_owned();
    let (first, second) = (node_of("db-2"), node_of("db-1"));
    lab.kill(&first);
    eventually("the node is marked", || {
        lab.get("pods", "db-2")["metadata"]["deletionTimestamp"].is_string()
    })
    .await;
    let mut taints = lab.node(&first)["spec"]["taints"].as_array().unwrap().clone();
    taints.push(json!({"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}));
    lab.patch_in("nodes", None, &first, json!({"spec": {"taints": taints}})).await;
    eventually("it runs elsewhere", || lab.ready_pods("db").len() == 3 && node_of("db-2") != first)
        .await;
    lab.kill(&second);
    eventually("the other is marked", || {
        lab.get("pods", "db-1")["metadata"]["deletionTimestamp"].is_string()
    })
    .await;
    lab.delete_node(&second).await;
    eventually("all run on what is left", || {
        lab.ready_pods("db").len() == 3 && node_of("db-1") != second
    })
    .await;
    lives(&lab);
    lab.stop().await;
}

#[tokio::test]
async fn a_daemon_runs_on_every_node_and_on_those_that_join() {
    let lab = Lab::start(&["a1", "b1"]).await;
    lab.create("daemonsets", daemon("hello:1")).await;
    eventually("two", || lab.get("daemonsets", "agent")["status"]["numberAvailable"] == 2).await;
    lab.add_node("c1", "4").await;
    eventually("three", || lab.get("daemonsets", "agent")["status"]["numberAvailable"] == 3).await;
    let mut nodes: Vec<String> = lab
        .ready_pods("agent")
        .iter()
        .map(|pod| pod["spec"]["nodeName"].as_str().unwrap().to_owned())
        .collect();
    nodes.sort();
    assert_eq!(nodes, ["a1", "b1", "c1"]);
    // A silent node keeps its daemon: it bears the taint.
    lab.kill("b1");
    eventually("the node is marked", || {
        lab.node("b1")["spec"]["taints"].as_array().is_some_and(|taints| taints.len() == 2)
    })
    .await;
    tokio::time::sleep(DEAD_AFTER * 2).await;
    assert_eq!(lab.fake.all("pods").len(), 3);
    lab.delete_node("b1").await;
    eventually("two are left", || lab.fake.all("pods").len() == 2).await;
    assert_eq!(lab.fake.creations("pods"), 3);
    lab.stop().await;
}

#[tokio::test]
async fn a_daemon_update_takes_one_node_after_the_other() {
    let lab = Lab::start(&["a1", "b1", "c1"]).await;
    lab.create("daemonsets", daemon("hello:1")).await;
    eventually("three", || lab.get("daemonsets", "agent")["status"]["numberAvailable"] == 3).await;
    let before = lab.fake.history("pods").len();
    set_image(&lab, "daemonsets", "agent", "hello:2").await;
    eventually("all are new", || {
        let status = &lab.get("daemonsets", "agent")["status"];
        images(&lab, "agent") == ["hello:2"; 3]
            && status["updatedNumberScheduled"] == 3
            && status["numberAvailable"] == 3
    })
    .await;
    let (least_ready, most) = lab.extremes_since(before);
    assert!(least_ready >= 2 && most <= 3, "{least_ready} ready, {most} there");
    // With a surge nobody is missing.
    let surge = json!({"spec": {"updateStrategy":
        {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}}});
    lab.patch("daemonsets", "agent", surge).await;
    let before = lab.fake.history("pods").len();
    set_image(&lab, "daemonsets", "agent", "hello:3").await;
    eventually("all are newer", || {
        images(&lab, "agent") == ["hello:3"; 3] && lab.fake.all("pods").len() == 3
    })
    .await;
    let (least_ready, most) = lab.extremes_since(before);
    assert!(least_ready >= 3 && most <= 4, "{least_ready} ready, {most} there");
    assert_eq!(lab.fake.all("controllerrevisions").len(), 3);
    lab.stop().await;
}

#[tokio::test]
async fn a_taint_drives_out_those_who_do_not_bear_it() {
    let lab = Lab::start(&["a1"]).await;
    for (name, tolerations) in [
        ("bears", json!([{"operator": "Exists"}])),
        ("awhile", json!([{"key": "work", "operator": "Exists", "tolerationSeconds": 1}])),
        ("not", json!([])),
    ] {
        let pod = json!({"metadata": {"name": name, "namespace": "shop", "labels": {"app": "x"}},
            "spec": {"tolerations": tolerations, "containers": [{"name": "c", "image": "hello:1"}]}});
        lab.create("pods", pod).await;
    }
    eventually("three", || lab.ready_pods("x").len() == 3).await;
    let taints = json!({"spec": {"taints": [{"key": "work", "effect": "NoExecute"}]}});
    lab.patch_in("nodes", None, "a1", taints).await;
    eventually("one is left", || lab.fake.all("pods").len() == 1).await;
    let gone: Vec<String> =
        lives(&lab).into_iter().filter(|life| life.0 == "DELETED").map(|life| life.1).collect();
    assert_eq!(gone, ["not", "awhile"]);
    lab.stop().await;
}
