//! The parts of a pod's life that few pods have: sidecars, hooks, deadlines, containers
//! that come later, and people who look in.

use futures::StreamExt;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::world::{World, until};
use crate::agent::SessionTarget;
use crate::engine::fake::FakeEngine;
use crate::engine::session::{SessionOutput, SessionStreams};

fn world() -> World<FakeEngine> {
    World::new(FakeEngine::default())
}

fn name(container: &str, attempt: u32) -> String {
    format!("k8s_{container}_web_default_uid-web_{attempt}")
}

async fn until_ready(world: &World<FakeEngine>) {
    until("the pod is ready", || world.condition("web", "Ready") == "True").await;
}

async fn until_gone(world: &World<FakeEngine>) {
    until("nothing is left", || world.engine.containers().is_empty()).await;
}

fn with_sidecars() -> Value {
    let sidecar = |name: &str| json!({"name": name, "image": "app", "restartPolicy": "Always"});
    json!({
        "restartPolicy": "Never",
        "initContainers": [sidecar("zeta"), sidecar("alpha")],
        "containers": [{"name": "main", "image": "app"}, {"name": "other", "image": "app"}],
    })
}

fn places(list: &[String], names: &[&str]) -> Vec<usize> {
    let place = |one: &&str| list.iter().position(|known| *known == name(one, 0));
    names.iter().map(|one| place(one).unwrap_or_else(|| panic!("{one} in {list:?}"))).collect()
}

#[tokio::test]
async fn sidecars_start_first_and_stop_last_in_reverse() {
    let world = world();
    world.pod("web", with_sidecars());
    let agent = world.start();
    until_ready(&world).await;
    assert!(places(&world.engine.starts(), &["zeta", "alpha", "main"]).is_sorted());
    world.delete("web", 5);
    until_gone(&world).await;
    let stops = world.engine.stops();
    assert!(places(&stops, &["main", "alpha", "zeta"]).is_sorted(), "{stops:?}");
    assert!(places(&stops, &["other", "alpha"]).is_sorted(), "{stops:?}");
    agent.stop().await;
}

#[tokio::test]
async fn sidecars_of_a_finished_pod_stop_in_reverse() {
    let world = world();
    world.pod("web", with_sidecars());
    let agent = world.start();
    until_ready(&world).await;
    for main in ["main", "other"] {
        world.engine.exit(&name(main, 0), 0);
    }
    until("the pod has succeeded", || world.status("web")["phase"] == "Succeeded").await;
    until("nothing runs", || world.engine.running().is_empty()).await;
    let stops = world.engine.stops();
    assert!(places(&stops, &["alpha", "zeta"]).is_sorted(), "{stops:?}");
    agent.stop().await;
}

#[tokio::test]
async fn hooks_that_fail_are_told_and_hold_nothing_up() {
    let world = world();
    let hook = json!({"exec": {"command": ["x"]}});
    world.pod(
        "web",
        json!({"containers": [{"name": "main", "image": "app", "lifecycle": {"preStop": hook}}]}),
    );
    let agent = world.start();
    until_ready(&world).await;
    world.engine.fail_execs(true);
    world.delete("web", 5);
    until_gone(&world).await;
    until("the hook's failure is told", || {
        world.api.reasons().contains(&"FailedPreStopHook".to_owned())
    })
    .await;
    agent.stop().await;
}

#[tokio::test]
async fn a_start_hook_that_fails_ends_the_container_and_its_restart_waits() {
    let world = world();
    world.engine.fail_execs(true);
    let hook = json!({"exec": {"command": ["x"]}});
    world.pod(
        "web",
        json!({"terminationGracePeriodSeconds": 1, "containers": [
            {"name": "main", "image": "app", "lifecycle": {"postStart": hook}}]}),
    );
    let agent = world.start();
    until("the container waits for its restart", || {
        let status = world.status("web");
        status["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    })
    .await;
    until("all is told", || {
        let reasons = world.api.reasons();
        ["FailedPostStartHook", "Killing", "BackOff"]
            .iter()
            .all(|reason| reasons.contains(&(*reason).to_owned()))
    })
    .await;
    agent.stop().await;
}

#[tokio::test]
async fn a_pod_whose_time_is_over_fails_and_is_stopped() {
    let world = world();
    world.pod(
        "web",
        json!({"activeDeadlineSeconds": 2, "containers": [{"name": "main", "image": "app"}]}),
    );
    let agent = world.start();
    until_ready(&world).await;
    until("the pod has failed", || world.status("web")["phase"] == "Failed").await;
    let status = world.status("web");
    assert_eq!(status["reason"], "DeadlineExceeded");
    assert_eq!(status["message"], "Pod was active on the node longer than the specified deadline");
    until("nothing runs", || world.engine.running().is_empty()).await;
    until("its end is reported", || {
        !world.status("web")["containerStatuses"][0]["state"]["terminated"].is_null()
    })
    .await;
    assert_eq!(world.status("web")["reason"], "DeadlineExceeded", "the reason stays");
    assert_eq!(world.engine.starts().len(), 2, "nothing is started again");
    agent.stop().await;
}

#[tokio::test]
async fn an_ephemeral_container_runs_once_beside_the_others() {
    let world = world();
    world.pod("web", json!({"containers": [{"name": "main", "image": "app"}]}));
    let agent = world.start();
    until_ready(&world).await;
    let mut object = world.api.object("pods/default/web").unwrap();
    object["spec"]["ephemeralContainers"] =
        json!([{"name": "look", "image": "tools", "targetContainerName": "main"}]);
    world.api.put("pods/default/web", object);
    let state = |what: &str| {
        let status = world.status("web");
        !status["ephemeralContainerStatuses"][0]["state"][what].is_null()
    };
    until("it runs", || state("running")).await;
    assert_eq!(world.condition("web", "Ready"), "True");
    world.engine.exit(&name("look", 0), 1);
    until("its end is reported", || state("terminated")).await;
    assert_eq!(world.status("web")["phase"], "Running");
    world.engine.exit(&name("main", 0), 0);
    until("the other is restarted", || world.engine.running().contains(&name("main", 1))).await;
    let looks = world.engine.starts().into_iter().filter(|one| one.contains("_look_")).count();
    assert_eq!(looks, 1, "nobody restarts it");
    world.delete("web", 1);
    until_gone(&world).await;
    agent.stop().await;
}

#[tokio::test]
async fn people_get_into_what_runs_and_into_nothing_else() {
    let world = world();
    world.pod("web", json!({"containers": [{"name": "main", "image": "app", "stdin": true}]}));
    let agent = world.start();
    until_ready(&world).await;
    let target = SessionTarget {
        namespace: "default".into(),
        pod: "web".into(),
        uid: "uid-web".into(),
        container: "main".into(),
    };
    let streams = SessionStreams { stdin: true, stdout: true, ..SessionStreams::default() };
    let command = ["say".to_owned(), "this".to_owned()];
    let mut session = agent.agent.exec(&target, &command, streams).await.unwrap();
    let mut input = session.input.take().unwrap();
    input.write_all(b" and that").await.unwrap();
    input.shutdown().await.unwrap();
    let mut said = Vec::new();
    while let Some(piece) = session.output.next().await {
        match piece.unwrap() {
            SessionOutput::Stdout(bytes) | SessionOutput::Stderr(bytes) => said.extend(bytes),
        }
    }
    assert_eq!(String::from_utf8(said).unwrap(), "say this and that");
    assert_eq!(session.control.exit_code().await.unwrap(), Some(0));
    assert!(agent.agent.attach(&target, streams).await.unwrap().input.is_some());
    let others = [
        SessionTarget { uid: "uid-of-another".into(), ..target.clone() },
        SessionTarget { container: "none".into(), ..target.clone() },
        SessionTarget { namespace: "other".into(), ..target.clone() },
    ];
    for other in others {
        let error = agent.agent.exec(&other, &command, streams).await.unwrap_err();
        assert!(error.to_string().contains("container not found"), "{error}");
    }
    assert!(agent.agent.exec(&target, &[], streams).await.is_err());
    agent.stop().await;
}

#[tokio::test]
async fn the_nodes_ports_lead_to_the_pod_that_asks_for_them() {
    let world = world();
    world.pod(
        "web",
        json!({"containers": [{"name": "main", "image": "app",
            "ports": [{"containerPort": 8080, "hostPort": 80}]}]}),
    );
    let agent = world.start();
    until_ready(&world).await;
    let published = world.network.published.lock().unwrap()["uid-web"].clone();
    assert_eq!((published[0].port, published[0].endpoints[0].1), (80, 8_080));
    agent.stop().await;
}
