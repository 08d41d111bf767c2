//! The agent against a real Docker Engine.
//!
//! Needs `HOLDFAST_TEST_ENGINE` (the engine's socket) and `HOLDFAST_TEST_IMAGE` (an image
//! it holds, with busybox's `sh`, `sleep`, `cat` and `httpd` in `/bin`,
//! whose own command sleeps); skips otherwise.
//! Every run uses a node name of its own and removes what carries it.

use std::time::Duration;

use futures::TryStreamExt;
use serde_json::json;

use super::world::{World, until};
use crate::agent::{LogBytes, LogOptions};
use crate::engine::port::RunState;
use crate::engine::{DockerEngine, Engine};

fn world() -> Option<World<DockerEngine>> {
    let read = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (Some(socket), Some(image)) = (read("HOLDFAST_TEST_ENGINE"), read("HOLDFAST_TEST_IMAGE"))
    else {
        eprintln!("skipped: HOLDFAST_TEST_ENGINE and HOLDFAST_TEST_IMAGE are not set");
        return None;
    };
    let mut world = World::new(DockerEngine::new(socket));
    world.pause_image = image;
    world.node_name = format!("test-{}", uuid::Uuid::new_v4().simple());
    Some(world)
}

fn image() -> String {
    std::env::var("HOLDFAST_TEST_IMAGE").unwrap()
}

async fn states(world: &World<DockerEngine>) -> Vec<(String, String, RunState)> {
    let label = ("io.holdfast.node".to_owned(), world.node_name.clone());
    let list = world.engine.list(&[label]).await.unwrap();
    list.into_iter().map(|one| (one.name, one.id, one.state)).collect()
}

async fn until_gone(world: &World<DockerEngine>) {
    until("the pod's object is gone", || world.api.object("pods/default/web").is_none()).await;
    assert_eq!(states(world).await, []);
}

async fn text(stream: LogBytes) -> String {
    let pieces: Vec<bytes::Bytes> = stream.try_collect().await.unwrap();
    String::from_utf8(pieces.concat()).unwrap()
}

#[tokio::test]
async fn a_pod_lives_on_docker_and_survives_its_agent() {
    let Some(world) = world() else { return };
    world.api.put(
        "configmaps/default/settings",
        json!({"metadata": {"name": "settings"},
        "data": {"colour": "red"}}),
    );
    let script = "trap 'echo bye; exit 0' TERM; cat /etc/settings/colour; echo; \
        echo name=$NAME ip=$IP host=$(hostname); echo kept > /scratch/x; \
        cat /etc/resolv.conf; while true; do sleep 0.1; done";
    world.pod(
        "web",
        json!({
        "initContainers": [{"name": "init", "image": image(),
            "command": ["/bin/sh", "-c", "echo prepared > /scratch/ready"], "volumeMounts": [{"name": "s", "mountPath": "/scratch"}]}],
        "containers": [{"name": "main", "image": image(), "command": ["/bin/sh", "-c", script],
            "env": [
                {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
            "resources": {"limits": {"cpu": "500m", "memory": "32Mi"}},
            "readinessProbe": {"exec": {"command": ["/bin/sh", "-c", "test -f /scratch/ready"]},
                "periodSeconds": 1},
            "volumeMounts": [{"name": "v", "mountPath": "/etc/settings"},
                {"name": "s", "mountPath": "/scratch"}]}],
        "volumes": [{"name": "v", "configMap": {"name": "settings"}},
            {"name": "s", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]}),
    );
    let first = world.start();
    until("the pod is ready", || world.condition("web", "Ready") == "True").await;
    let log = text(
        first
            .agent
            .logs(
                "default",
                "web",
                &LogOptions { container: Some("main".into()), ..LogOptions::default() },
            )
            .await
            .unwrap(),
    )
    .await;
    assert!(log.starts_with("red\nname=web ip=127.0.0.1 host=web\n"), "{log}");
    assert!(log.contains("search default.svc.cluster.local"), "{log}");
    let before = states(&world).await;
    assert_eq!(before.len(), 3, "pause, init, main");
    first.kill().await;
    let second = world.start();
    until("the second agent knows it", || !second.agent.local_pods().is_empty()).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(states(&world).await, before, "nothing was made, ended or removed");
    world.delete("web", 5);
    until_gone(&world).await;
    second.stop().await;
}

#[tokio::test]
async fn a_crash_is_seen_reported_and_restarted() {
    let Some(world) = world() else { return };
    let script = "echo attempt; echo sorry > /dev/termination-log; exit 3";
    world.pod(
        "web",
        json!({"containers": [
        {"name": "main", "image": image(), "command": ["/bin/sh", "-c", script]}]}),
    );
    let agent = world.start();
    until("it is in back-off", || {
        let status = &world.status("web")["containerStatuses"][0];
        status["state"]["waiting"]["reason"] == "CrashLoopBackOff"
            && status["lastState"]["terminated"]["exitCode"] == 3
            && status["lastState"]["terminated"]["message"] == "sorry\n"
            && status["restartCount"] == 1
    })
    .await;
    let previous = LogOptions { previous: true, ..LogOptions::default() };
    let log = text(agent.agent.logs("default", "web", &previous).await.unwrap()).await;
    assert_eq!(log, "attempt\n");
    world.delete("web", 0);
    until_gone(&world).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_command_that_does_not_exist_is_a_start_error() {
    let Some(world) = world() else { return };
    world.pod(
        "web",
        json!({"restartPolicy": "Never", "containers": [
        {"name": "main", "image": image(), "command": ["/no/such/program"]}]}),
    );
    let agent = world.start();
    until("the pod has failed", || world.status("web")["phase"] == "Failed").await;
    let status = world.status("web");
    let terminated = &status["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(terminated["reason"], "StartError", "{status}");
    world.delete("web", 0);
    until_gone(&world).await;
    agent.stop().await;
}

#[tokio::test]
async fn http_probes_decide_readiness_and_a_stubborn_pod_is_killed() {
    let Some(world) = world() else { return };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let script = format!(
        "mkdir -p /www; echo ok > /www/index.html; trap '' TERM; httpd -p 127.0.0.1:{port} -h /www; while true; do sleep 0.1; done"
    );
    world.pod("web", json!({"hostNetwork": true, "containers": [
        {"name": "main", "image": image(), "command": ["/bin/sh", "-c", script],
         "readinessProbe": {"httpGet": {"path": "/index.html", "port": port}, "periodSeconds": 1}}]}));
    let agent = world.start();
    until("the pod is ready", || world.condition("web", "Ready") == "True").await;
    world.delete("web", 1);
    until_gone(&world).await;
    agent.stop().await;
}
