//! Pods' lives, and agents that die at every point of them.

use std::time::Duration;

use serde_json::json;

use super::world::{World, until};
use crate::agent::LogOptions;
use crate::engine::fake::FakeEngine;
use crate::model::threshold::Threshold;

fn world() -> World<FakeEngine> {
    World::new(FakeEngine::default())
}

fn simple() -> serde_json::Value {
    json!({"containers": [{"name": "main", "image": "app"}]})
}

const POD: &str = "k8s_POD_web_default_uid-web_0";
const MAIN: &str = "k8s_main_web_default_uid-web_0";

async fn until_ready(world: &World<FakeEngine>) {
    until("the pod is ready", || world.condition("web", "Ready") == "True").await;
}

async fn until_nothing_left(world: &World<FakeEngine>) {
    until("nothing is left of the pod", || {
        world.engine.containers().is_empty()
            && world.network.attached.lock().unwrap().is_empty()
            && world.api.object("pods/default/web").is_none()
            && !world.dir.path().join("data/pods/uid-web").exists()
    })
    .await;
}

#[tokio::test]
async fn a_pod_is_born_and_ends() {
    let world = world();
    world.pod("web", simple());
    let agent = world.start();
    until_ready(&world).await;
    assert_eq!(world.engine.starts(), [POD, MAIN]);
    let status = world.status("web");
    assert_eq!(status["phase"], "Running");
    assert_eq!(status["podIP"], "127.0.0.1");
    assert_eq!(status["hostIP"], "127.0.0.1");
    assert_eq!(agent.agent.local_pods().len(), 1);
    until("the node is registered", || {
        let node = world.api.object("nodes//n1").unwrap_or_default();
        node["status"]["capacity"]["pods"] == "110"
            && node["metadata"]["labels"]["topology.kubernetes.io/zone"] == "a"
    })
    .await;
    until("events are written", || world.api.reasons().contains(&"Started".to_owned())).await;
    let options = LogOptions::default();
    assert!(agent.agent.logs("default", "web", &options).await.is_ok());
    assert!(agent.agent.logs("default", "none", &options).await.is_err());
    world.delete("web", 5);
    until_nothing_left(&world).await;
    agent.stop().await;
}

/// The claim of the main line: wherever the agent dies, its successor makes the pod
/// whole, starts nothing twice, and an end leaves nothing.
#[tokio::test]
async fn an_agent_that_dies_at_any_change_restarts_nothing_and_leaves_nothing() {
    for change in 0..20 {
        let world = world();
        world.pod("web", simple());
        world.engine.hang_after(Some(change));
        let first = world.start();
        until("the agent hangs or the pod is ready", || {
            world.engine.has_hung() || world.condition("web", "Ready") == "True"
        })
        .await;
        let finished = !world.engine.has_hung();
        first.kill().await;
        world.engine.hang_after(None);
        let second = world.start();
        until_ready(&world).await;
        assert_eq!(world.engine.starts(), [POD, MAIN], "died at change {change}");
        assert_eq!(world.engine.containers().len(), 2, "died at change {change}");
        world.delete("web", 5);
        until_nothing_left(&world).await;
        second.stop().await;
        if finished {
            return;
        }
    }
    panic!("the pod never became ready in one life");
}

#[tokio::test]
async fn an_agent_that_dies_while_ending_a_pod_leaves_nothing() {
    for change in 0..12 {
        let world = world();
        world.pod("web", simple());
        let first = world.start();
        until_ready(&world).await;
        world.engine.hang_after(Some(change));
        world.delete("web", 5);
        until("the agent hangs or is done", || {
            world.engine.has_hung() || world.api.object("pods/default/web").is_none()
        })
        .await;
        first.kill().await;
        world.engine.hang_after(None);
        let second = world.start();
        until_nothing_left(&world).await;
        assert_eq!(world.engine.starts(), [POD, MAIN], "died at change {change}");
        second.stop().await;
    }
}

#[tokio::test]
async fn a_restarted_agent_touches_nothing_that_runs() {
    let world = world();
    world.pod("web", simple());
    let first = world.start();
    until_ready(&world).await;
    first.kill().await;
    let version =
        world.api.object("pods/default/web").unwrap()["metadata"]["resourceVersion"].clone();
    let second = world.start();
    until("the second agent knows the pod", || second.agent.local_pods().len() == 1).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let now = world.api.object("pods/default/web").unwrap();
    assert_eq!(now["metadata"]["resourceVersion"], version, "no status flapped");
    assert_eq!(world.engine.starts(), [POD, MAIN]);
    assert!(world.engine.stops().is_empty());
    second.stop().await;
}

#[tokio::test]
async fn a_pod_that_vanished_while_the_node_was_away_is_ended() {
    let world = world();
    world.pod("web", simple());
    let first = world.start();
    until_ready(&world).await;
    first.kill().await;
    world.api.remove("pods/default/web");
    let second = world.start();
    until_nothing_left(&world).await;
    second.stop().await;
}

#[tokio::test]
async fn a_stale_list_ends_no_pod() {
    let world = world();
    world.pod("web", simple());
    let first = world.start();
    until_ready(&world).await;
    first.kill().await;
    world.api.list_nothing(true);
    let second = world.start();
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert_eq!(world.engine.running().len(), 2, "the API still has the pod");
    second.stop().await;
}

#[tokio::test]
async fn without_an_api_a_new_agent_goes_on_restarting_what_crashes() {
    let world = world();
    world.pod("web", simple());
    let first = world.start();
    until_ready(&world).await;
    first.kill().await;
    world.api.be_away(true);
    let second = world.start();
    world.engine.exit(MAIN, 1);
    until("the container is restarted", || {
        world.engine.running().iter().any(|name| name == "k8s_main_web_default_uid-web_1")
    })
    .await;
    assert_eq!(world.engine.running().len(), 2);
    world.api.be_away(false);
    until("the restart is reported", || {
        world.status("web")["containerStatuses"][0]["restartCount"] == 1
    })
    .await;
    second.stop().await;
}

#[tokio::test]
async fn a_silent_engine_changes_nothing() {
    let world = world();
    let mut spec = simple();
    spec["containers"][0]["livenessProbe"] =
        json!({"exec": {"command": ["x"]}, "periodSeconds": 1, "failureThreshold": 1});
    world.pod("web", spec);
    let agent = world.start();
    until_ready(&world).await;
    world.engine.be_silent(true);
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(world.condition("web", "Ready"), "True");
    world.engine.be_silent(false);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(world.engine.starts(), [POD, MAIN]);
    assert!(world.engine.stops().is_empty());
    agent.stop().await;
}

#[tokio::test]
async fn a_failed_liveness_probe_restarts_the_container() {
    let world = world();
    let mut spec = simple();
    spec["containers"][0]["livenessProbe"] =
        json!({"exec": {"command": ["x"]}, "periodSeconds": 1, "failureThreshold": 1});
    world.pod("web", spec);
    let agent = world.start();
    until_ready(&world).await;
    world.engine.fail_execs(true);
    until("the container is stopped", || {
        world.engine.stops().first().is_some_and(|name| name == MAIN)
    })
    .await;
    world.engine.fail_execs(false);
    until("a later attempt is ready", || {
        let restarts = &world.status("web")["containerStatuses"][0]["restartCount"];
        restarts.as_u64() >= Some(1) && world.condition("web", "Ready") == "True"
    })
    .await;
    agent.stop().await;
}

#[tokio::test]
async fn a_dead_sandbox_is_replaced_with_its_containers() {
    let world = world();
    world.pod("web", simple());
    let agent = world.start();
    until_ready(&world).await;
    world.engine.exit(POD, 137);
    until("a new sandbox and a new attempt run", || {
        let mut running = world.engine.running();
        running.sort();
        running == ["k8s_POD_web_default_uid-web_1", "k8s_main_web_default_uid-web_1"]
    })
    .await;
    agent.stop().await;
}

#[tokio::test]
async fn a_job_succeeds_and_gives_its_address_back() {
    let world = world();
    let mut spec = simple();
    spec["restartPolicy"] = json!("Never");
    world.pod("web", spec);
    let agent = world.start();
    until_ready(&world).await;
    world.engine.exit(MAIN, 0);
    until("the pod has succeeded", || world.status("web")["phase"] == "Succeeded").await;
    until("its sandbox is stopped", || world.engine.running().is_empty()).await;
    until("its address is free", || world.network.attached.lock().unwrap().is_empty()).await;
    agent.stop().await;
}

#[tokio::test]
async fn an_image_that_is_nowhere_is_said_in_the_status() {
    let world = world();
    world.pod("web", json!({"containers": [{"name": "main", "image": "missing"}]}));
    let agent = world.start();
    until("the status says so", || {
        world.status("web")["containerStatuses"][0]["state"]["waiting"]["reason"] == "ErrImagePull"
    })
    .await;
    assert_eq!(world.status("web")["phase"], "Pending");
    world.delete("web", 0);
    until_nothing_left(&world).await;
    agent.stop().await;
}

#[tokio::test]
async fn config_maps_become_files_and_variables() {
    let world = world();
    world.api.put(
        "configmaps/default/settings",
        json!({"metadata": {"name": "settings"},
        "data": {"colour": "red"}}),
    );
    world.pod(
        "web",
        json!({
        "containers": [{"name": "main", "image": "app",
            "envFrom": [{"configMapRef": {"name": "settings"}}],
            "volumeMounts": [{"name": "v", "mountPath": "/etc/settings"}]}],
        "volumes": [{"name": "v", "configMap": {"name": "settings"}}]}),
    );
    let agent = world.start();
    until_ready(&world).await;
    let file = world.dir.path().join("data/pods/uid-web/volumes/v/colour");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "red");
    agent.stop().await;
}

#[tokio::test]
async fn a_node_that_runs_out_ends_the_pod_that_matters_least_and_says_so() {
    let mut world = world();
    // Memory is never all available, so the node lacks some from the start.
    world.eviction.memory_available = Threshold::Permille(1_000);
    let mut critical = simple();
    critical["priority"] = 2_000_001_000.into();
    world.pod("critical", critical);
    world.pod("web", simple());
    let agent = world.start();
    until("the pod is evicted", || world.status("web")["phase"] == "Failed").await;
    let status = world.status("web");
    assert_eq!(status["reason"], "Evicted");
    let message = status["message"].as_str().unwrap();
    assert!(
        message.starts_with("The node was low on resource: memory. Threshold quantity: "),
        "{message}"
    );
    assert_eq!(world.condition("web", "DisruptionTarget"), "True");
    until("its containers have ended", || {
        world.engine.running().iter().all(|name| !name.contains("_web_"))
    })
    .await;
    until("the node says what it lacks", || {
        let node = world.api.object("nodes//n1").unwrap_or_default();
        let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|one| one["type"] == "MemoryPressure" && one["status"] == "True")
    })
    .await;
    until("the event is written", || world.api.reasons().contains(&"Evicted".to_owned())).await;
    until("the critical pod runs", || world.condition("critical", "Ready") == "True").await;
    agent.stop().await;
}
