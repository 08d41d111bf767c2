//! Whole scenarios: all controllers against the in-memory API and pretended agents.

#[path = "tests/access.rs"]
mod access;
#[path = "tests/jobs.rs"]
mod jobs;
#[path = "tests/lab.rs"]
mod lab;
#[path = "tests/scaling.rs"]
mod scaling;
#[path = "tests/sets.rs"]
mod sets;
#[path = "tests/storage.rs"]
mod storage;

use std::time::Duration;

use serde_json::{Value, json};

use self::lab::{Lab, deployment, name_of};
use crate::client::fake::eventually;

#[tokio::test]
async fn a_deployment_of_three_comes_up_spread_over_nodes_and_centers() {
    let lab = Lab::start(&["a1", "a2", "b1", "c1"]).await;
    lab.create("deployments", deployment("web", 3, "hello:1")).await;
    eventually("three pods are ready", || lab.ready_pods("web").len() == 3).await;
    eventually("the deployment says so", || {
        let deployment = lab.get("deployments", "web");
        deployment["status"]["availableReplicas"] == 3
            && deployment["status"]["observedGeneration"] == 1
            && lab.condition(&deployment, "Progressing") == Some("NewReplicaSetAvailable".into())
            && lab.condition(&deployment, "Available") == Some("MinimumReplicasAvailable".into())
    })
    .await;
    let mut centers: Vec<String> = lab
        .ready_pods("web")
        .iter()
        .map(|pod| pod["spec"]["nodeName"].as_str().unwrap()[..1].to_owned())
        .collect();
    centers.sort();
    assert_eq!(centers, ["a", "b", "c"]);
    assert_eq!(lab.fake.creations("pods"), 3);
    lab.stop().await;
}

#[tokio::test]
async fn an_update_rolls_without_ever_going_below_its_bounds() {
    let lab = Lab::start(&["a1", "b1", "c1"]).await;
    let mut web = deployment("web", 4, "hello:1");
    web["spec"]["strategy"] = json!({"type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}});
    lab.create("deployments", web).await;
    eventually("the first version stands", || lab.ready_pods("web").len() == 4).await;
    eventually("it is noted", || lab.get("deployments", "web")["status"]["availableReplicas"] == 4)
        .await;
    let before = lab.fake.history("pods").len();

    lab.set_image("web", "hello:2").await;
    eventually("the second version stands", || {
        let status = &lab.get("deployments", "web")["status"];
        let pods = lab.ready_pods("web");
        pods.len() == 4
            && pods.iter().all(|pod| pod["spec"]["containers"][0]["image"] == "hello:2")
            && status["updatedReplicas"] == 4
            && status["replicas"] == 4
    })
    .await;
    let (least_ready, most) = lab.extremes_since(before);
    assert!(least_ready >= 3, "only {least_ready} were ready");
    assert!(most <= 5, "there were {most}");
    eventually("the revision is noted", || {
        lab.get("deployments", "web")["metadata"]["annotations"]
            ["deployment.kubernetes.io/revision"]
            == "2"
    })
    .await;
    assert_eq!(lab.fake.all("replicasets").len(), 2);

    // Back again: the old ReplicaSet is taken up, not made anew.
    lab.set_image("web", "hello:1").await;
    eventually("the first version is back", || {
        let pods = lab.ready_pods("web");
        pods.len() == 4
            && pods.iter().all(|pod| pod["spec"]["containers"][0]["image"] == "hello:1")
            && lab.get("deployments", "web")["status"]["updatedReplicas"] == 4
    })
    .await;
    assert_eq!(lab.fake.all("replicasets").len(), 2);
    lab.stop().await;
}

#[tokio::test]
async fn recreate_ends_all_old_pods_before_it_makes_new_ones() {
    let lab = Lab::start(&["a1", "b1"]).await;
    let mut web = deployment("web", 3, "hello:1");
    web["spec"]["strategy"] = json!({"type": "Recreate"});
    lab.create("deployments", web).await;
    eventually("the first version stands", || lab.ready_pods("web").len() == 3).await;
    let before = lab.fake.history("pods").len();
    lab.set_image("web", "hello:2").await;
    eventually("the second version stands", || {
        let pods = lab.ready_pods("web");
        pods.len() == 3 && pods.iter().all(|pod| pod["spec"]["containers"][0]["image"] == "hello:2")
    })
    .await;
    let history = lab.fake.history("pods");
    let events = &history[before..];
    let first_new = events.iter().position(|(kind, _)| *kind == "ADDED").unwrap();
    let gone = events[..first_new].iter().filter(|(kind, _)| *kind == "DELETED").count();
    assert_eq!(gone, 3, "a new pod was made while old ones were there");
    lab.stop().await;
}

#[tokio::test]
async fn scaling_up_and_down_follows_and_a_paused_rollout_waits() {
    let lab = Lab::start(&["a1", "b1"]).await;
    lab.create("deployments", deployment("web", 2, "hello:1")).await;
    eventually("two", || lab.ready_pods("web").len() == 2).await;
    lab.patch("deployments", "web", json!({"spec": {"replicas": 5}})).await;
    eventually("five", || lab.ready_pods("web").len() == 5).await;
    lab.patch("deployments", "web", json!({"spec": {"paused": true}})).await;
    lab.set_image("web", "hello:2").await;
    lab.patch("deployments", "web", json!({"spec": {"replicas": 1}})).await;
    eventually("one", || lab.ready_pods("web").len() == 1).await;
    assert_eq!(lab.fake.all("replicasets").len(), 1, "a paused rollout began");
    lab.patch("deployments", "web", json!({"spec": {"paused": false}})).await;
    eventually("the new version", || {
        let pods = lab.ready_pods("web");
        pods.len() == 1 && pods[0]["spec"]["containers"][0]["image"] == "hello:2"
    })
    .await;
    lab.stop().await;
}

#[tokio::test]
async fn pods_of_a_dead_node_are_replaced_and_a_returning_node_is_taken_back() {
    let lab = Lab::start(&["a1", "b1", "c1"]).await;
    lab.create("deployments", deployment("web", 3, "hello:1")).await;
    eventually("three pods are ready", || lab.ready_pods("web").len() == 3).await;
    lab.kill("b1");
    eventually("the pods are ready elsewhere", || {
        let pods = lab.ready_pods("web");
        pods.len() == 3 && pods.iter().all(|pod| pod["spec"]["nodeName"] != "b1")
    })
    .await;
    eventually("the node is marked", || {
        let node = lab.node("b1");
        lab.condition_status(&node, "Ready") == Some("Unknown".into())
            && node["spec"]["taints"].as_array().is_some_and(|taints| taints.len() == 2)
    })
    .await;
    lab.revive("b1");
    eventually("the taint is lifted", || {
        let node = lab.node("b1");
        lab.condition_status(&node, "Ready") == Some("True".into())
            && node["spec"]["taints"].as_array().is_none_or(|taints| taints.is_empty())
    })
    .await;
    assert_eq!(lab.ready_pods("web").len(), 3);
    lab.stop().await;
}

#[tokio::test]
async fn nobody_is_evicted_while_the_api_itself_is_silent() {
    let lab = Lab::start(&["a1", "b1"]).await;
    lab.create("deployments", deployment("web", 2, "hello:1")).await;
    eventually("two pods are ready", || lab.ready_pods("web").len() == 2).await;
    let before: Vec<String> = lab.ready_pods("web").iter().map(name_of).collect();
    lab.fake.set_reachable(false);
    tokio::time::sleep(lab::DEAD_AFTER * 3).await;
    lab.fake.set_reachable(true);
    tokio::time::sleep(lab::DEAD_AFTER * 2).await;
    let after: Vec<String> = lab.ready_pods("web").iter().map(name_of).collect();
    assert_eq!(before, after);
    lab.stop().await;
}

#[tokio::test]
async fn a_stale_cache_never_makes_a_pod_twice() {
    let lab = Lab::start(&["a1", "b1"]).await;
    lab.create("deployments", deployment("web", 2, "hello:1")).await;
    eventually("two pods are ready", || lab.ready_pods("web").len() == 2).await;
    // The scale-up is seen, then the caches stand still while the pods are made.
    let set = lab.fake.all("replicasets").remove(0);
    lab.patch("deployments", "web", json!({"spec": {"replicas": 6}})).await;
    eventually("the set is sized", || {
        lab.get("replicasets", &name_of(&set))["spec"]["replicas"] == 6
    })
    .await;
    lab.fake.freeze(true);
    tokio::time::sleep(Duration::from_millis(300)).await;
    lab.fake.freeze(false);
    eventually("six pods are ready", || lab.ready_pods("web").len() == 6).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(lab.fake.creations("pods"), 6);
    lab.stop().await;
}

#[tokio::test]
async fn two_sets_of_controllers_at_once_end_with_the_wanted_number() {
    let mut lab = Lab::start(&["a1", "b1"]).await;
    lab.start_controllers();
    lab.create("deployments", deployment("web", 3, "hello:1")).await;
    eventually("exactly three pods are left", || {
        lab.ready_pods("web").len() == 3
            && lab.fake.all("pods").len() == 3
            && lab.get("deployments", "web")["status"]["availableReplicas"] == 3
    })
    .await;
    assert_eq!(lab.fake.all("replicasets").len(), 1);
    lab.stop().await;
}

#[tokio::test]
async fn what_a_deleted_deployment_owned_is_collected() {
    let lab = Lab::start(&["a1", "b1"]).await;
    lab.create("deployments", deployment("web", 2, "hello:1")).await;
    eventually("two pods are ready", || lab.ready_pods("web").len() == 2).await;
    lab.delete("deployments", "web", None).await;
    eventually("sets and pods are gone", || {
        lab.fake.all("replicasets").is_empty() && lab.fake.all("pods").is_empty()
    })
    .await;
    lab.stop().await;
}

#[tokio::test]
async fn a_foreground_deletion_ends_with_the_owner() {
    let lab = Lab::start(&["a1", "b1"]).await;
    lab.create("deployments", deployment("web", 2, "hello:1")).await;
    eventually("two pods are ready", || lab.ready_pods("web").len() == 2).await;
    lab.delete("deployments", "web", Some("Foreground")).await;
    eventually("everything is gone", || {
        lab.fake.all("deployments").is_empty()
            && lab.fake.all("replicasets").is_empty()
            && lab.fake.all("pods").is_empty()
    })
    .await;
    let ends = |plural: &str| -> u64 {
        let gone = lab.fake.history(plural).into_iter().filter(|(kind, _)| *kind == "DELETED");
        let versions = gone.map(|(_, object)| {
            object["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap()
        });
        versions.max().unwrap()
    };
    assert!(ends("pods") < ends("replicasets") && ends("replicasets") < ends("deployments"));
    lab.stop().await;
}

#[tokio::test]
async fn orphaned_sets_survive_and_are_adopted_again() {
    let lab = Lab::start(&["a1", "b1"]).await;
    lab.create("deployments", deployment("web", 2, "hello:1")).await;
    eventually("two pods are ready", || lab.ready_pods("web").len() == 2).await;
    lab.delete("deployments", "web", Some("Orphan")).await;
    eventually("the deployment is gone", || lab.fake.all("deployments").is_empty()).await;
    assert_eq!(lab.ready_pods("web").len(), 2);
    lab.create("deployments", deployment("web", 2, "hello:1")).await;
    eventually("the set is adopted", || {
        let set = lab.fake.all("replicasets").remove(0);
        set["metadata"]["ownerReferences"][0]["kind"] == "Deployment"
    })
    .await;
    assert_eq!(lab.fake.all("replicasets").len(), 1);
    assert_eq!(lab.fake.creations("pods"), 2);
    lab.stop().await;
}

#[tokio::test]
async fn a_deleted_namespace_is_emptied_and_let_go() {
    let lab = Lab::start(&["a1"]).await;
    let shop = json!({"metadata": {"name": "shop"}, "spec": {"finalizers": ["kubernetes"]}});
    lab.create("namespaces", shop).await;
    lab.create("deployments", deployment("web", 2, "hello:1")).await;
    eventually("two pods are ready", || lab.ready_pods("web").len() == 2).await;
    lab.delete("namespaces", "shop", None).await;
    eventually("nothing is left", || {
        ["namespaces", "deployments", "replicasets", "pods"]
            .iter()
            .all(|plural| lab.fake.all(plural).is_empty())
    })
    .await;
    lab.stop().await;
}

#[tokio::test]
async fn a_services_slices_follow_its_ready_pods() {
    let lab = Lab::start(&["a1", "b1"]).await;
    let service = json!({"metadata": {"name": "web", "namespace": "shop"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}});
    lab.create("services", service).await;
    lab.create("deployments", deployment("web", 2, "hello:1")).await;
    let ready = |lab: &Lab| -> Vec<Value> {
        let slices = lab.fake.all("endpointslices");
        let endpoints =
            slices.iter().flat_map(|slice| slice["endpoints"].as_array().unwrap().clone());
        endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true).collect()
    };
    eventually("two endpoints are ready", || ready(&lab).len() == 2).await;
    assert_eq!(ready(&lab)[0]["zone"], "a");
    let slice = lab.fake.all("endpointslices").remove(0);
    assert_eq!(slice["ports"][0]["port"], 8080);
    assert_eq!(slice["metadata"]["labels"]["kubernetes.io/service-name"], "web");
    let addresses = |lab: &Lab| {
        let objects = lab.fake.all("endpoints");
        let subset = objects.first().map(|object| object["subsets"][0].clone());
        subset
            .filter(|subset| subset["ports"] == json!([{"port": 8080, "protocol": "TCP"}]))
            .and_then(|subset| Some(subset["addresses"].as_array()?.len()))
    };
    eventually("older programs read two addresses", || addresses(&lab) == Some(2)).await;
    lab.patch("deployments", "web", json!({"spec": {"replicas": 1}})).await;
    eventually("one endpoint is ready", || ready(&lab).len() == 1).await;
    eventually("older programs read one address", || addresses(&lab) == Some(1)).await;
    lab.delete("services", "web", None).await;
    eventually("the slices are gone", || lab.fake.all("endpointslices").is_empty()).await;
    eventually("the endpoints are gone", || lab.fake.all("endpoints").is_empty()).await;
    lab.stop().await;
}

#[tokio::test]
async fn a_service_without_a_selector_leads_where_its_endpoints_say() {
    let lab = Lab::start(&["a1"]).await;
    let metadata = json!({"name": "db", "namespace": "shop"});
    let written = json!({"metadata": metadata, "subsets": [
        {"addresses": [{"ip": "192.0.2.9"}], "ports": [{"port": 5432}]}]});
    lab.create("endpoints", written).await;
    let service = json!({"metadata": metadata, "spec": {"ports": [{"port": 5432}]}});
    lab.create("services", service).await;
    let leads_to = |lab: &Lab, ip: &str| {
        let slices = lab.fake.all("endpointslices");
        slices.len() == 1
            && slices[0]["endpoints"][0]["addresses"] == json!([ip])
            && slices[0]["endpoints"][0]["conditions"] == json!({"ready": true})
            && slices[0]["metadata"]["labels"]["kubernetes.io/service-name"] == "db"
    };
    eventually("a slice says it too", || leads_to(&lab, "192.0.2.9")).await;
    let moved =
        json!({"subsets": [{"addresses": [{"ip": "192.0.2.10"}], "ports": [{"port": 5432}]}]});
    lab.patch("endpoints", "db", moved).await;
    eventually("the slice follows", || leads_to(&lab, "192.0.2.10")).await;
    lab.patch("services", "db", json!({"spec": {"selector": {"app": "db"}}})).await;
    eventually("with a selector nothing is mirrored", || {
        lab.fake.all("endpointslices").is_empty()
            && lab.get("endpoints", "db")["subsets"] == json!([])
    })
    .await;
    lab.delete("services", "db", None).await;
    eventually("what was written over goes too", || lab.fake.all("endpoints").is_empty()).await;
    lab.stop().await;
}

#[tokio::test]
async fn what_a_person_wrote_outlives_its_service() {
    let lab = Lab::start(&["a1"]).await;
    let metadata = json!({"name": "db", "namespace": "shop"});
    let subsets = json!([{"addresses": [{"ip": "192.0.2.9"}], "ports": [{"port": 5432}]}]);
    lab.create("endpoints", json!({"metadata": metadata, "subsets": subsets})).await;
    lab.create("services", json!({"metadata": metadata, "spec": {"ports": [{"port": 5432}]}}))
        .await;
    eventually("it is mirrored", || lab.fake.all("endpointslices").len() == 1).await;
    lab.delete("services", "db", None).await;
    eventually("the slice is gone", || lab.fake.all("endpointslices").is_empty()).await;
    assert_eq!(lab.get("endpoints", "db")["subsets"], subsets);
    lab.stop().await;
}

#[tokio::test]
async fn the_apis_own_service_leads_to_the_control_nodes() {
    let lab = Lab::start(&["a1", "b1"]).await;
    let service = json!({"metadata": {"name": "kubernetes", "namespace": "default"},
        "spec": {"ports": [{"name": "https", "port": 443, "targetPort": 6443}]}});
    lab.create("services", service).await;
    lab.label_control_node("a1").await;
    eventually("the control node is there", || {
        let slices = lab.fake.all("endpointslices");
        slices.len() == 1
            && slices[0]["endpoints"].as_array().unwrap().len() == 1
            && slices[0]["endpoints"][0]["addresses"][0] == "10.0.0.1"
            && slices[0]["ports"][0]["port"] == 6443
    })
    .await;
    lab.stop().await;
}

#[tokio::test]
async fn a_pod_that_fits_nowhere_says_why_and_is_placed_once_there_is_room() {
    let lab = Lab::start(&["a1", "b1"]).await;
    let big = json!({"metadata": {"name": "big", "namespace": "shop"}, "spec": {"containers":
        [{"name": "c", "image": "hello:1", "resources": {"requests": {"cpu": "6"}}}]}});
    lab.create("pods", big).await;
    eventually("it says why", || {
        let pod = lab.get("pods", "big");
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|condition| {
            condition["type"] == "PodScheduled"
                && condition["message"] == "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod."
        })
    })
    .await;
    eventually("an event says it too", || {
        lab.fake.all("events").iter().any(|event| event["reason"] == "FailedScheduling")
    })
    .await;
    lab.add_node("c1", "8").await;
    eventually("it is placed", || lab.get("pods", "big")["spec"]["nodeName"] == "c1").await;
    lab.stop().await;
}
