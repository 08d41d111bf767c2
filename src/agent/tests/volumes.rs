//! Volumes of pods: what reaches the files, what reaches the disk, and what is left.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::world::{World, until};
use crate::engine::fake::FakeEngine;
use crate::sys::pod_mounts::{is_mounted, mounts_at_or_below};

fn world() -> World<FakeEngine> {
    let world = World::new(FakeEngine::default());
    let secret = json!({"metadata": {"name": "db"}, "type": "Opaque",
        "data": {"password": "aHVudGVyMg==", "user": "cm9vdA=="}});
    world.api.put("secrets/default/db", secret);
    let map = json!({"metadata": {"name": "settings"}, "data": {"colour": "red"}});
    world.api.put("configmaps/default/settings", map);
    world
}

/// Mounting needs rights that not every machine gives its tests.
fn may_mount() -> bool {
    nix::unistd::geteuid().is_root()
}

fn volume(world: &World<FakeEngine>, name: &str) -> PathBuf {
    world.dir.path().join("data/pods/uid-web/volumes").join(name)
}

fn spec() -> Value {
    json!({
        "serviceAccountName": "robot",
        "securityContext": {"fsGroup": 2000},
        "containers": [{"name": "main", "image": "app",
            "env": [
                {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}},
                {"name": "NONE", "valueFrom": {"secretKeyRef":
                    {"name": "absent", "key": "x", "optional": true}}},
            ],
            "envFrom": [{"prefix": "DB_", "secretRef": {"name": "db"}}],
            "volumeMounts": [
                {"name": "s", "mountPath": "/s"},
                {"name": "all", "mountPath": "/all"},
                {"name": "data", "mountPath": "/data", "subPathExpr": "$(DB_user)/x"},
            ]}],
        "volumes": [
            {"name": "s", "secret": {"secretName": "db", "defaultMode": 0o400}},
            {"name": "data", "emptyDir": {}},
            {"name": "all", "projected": {"sources": [
                {"configMap": {"name": "settings"}},
                {"secret": {"name": "db", "items": [{"key": "user", "path": "db/user"}]}},
                {"secret": {"name": "absent", "optional": true}},
                {"downwardAPI": {"items": [
                    {"path": "pod/name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
                {"serviceAccountToken": {"path": "token", "audience": "vault"}},
            ]}},
        ],
    })
}

#[tokio::test]
async fn secrets_reach_files_and_variables_and_never_a_disk() {
    if !may_mount() {
        return;
    }
    let world = world();
    world.pod("web", spec());
    let agent = world.start();
    until("the pod is ready", || world.condition("web", "Ready") == "True").await;
    let read = |name: &str, file: &str| std::fs::read_to_string(volume(&world, name).join(file));
    assert_eq!(read("s", "password").unwrap(), "hunter2");
    let mode = std::fs::metadata(volume(&world, "s").join("user")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o440, "the pod's group may read");
    assert_eq!(read("all", "colour").unwrap(), "red");
    assert_eq!(read("all", "db/user").unwrap(), "root");
    assert_eq!(read("all", "pod/name").unwrap(), "web");
    assert_eq!(read("all", "token").unwrap(), "token of robot for uid-web");
    for name in ["s", "all"] {
        assert!(is_mounted(&volume(&world, name)).unwrap(), "{name} lies in memory");
    }
    let env = world.engine.environment("k8s_main_web_default_uid-web_0");
    for line in ["PASSWORD=hunter2", "DB_user=root"] {
        assert!(env.iter().any(|held| held == line), "{line}: {env:?}");
    }
    assert!(volume(&world, "data").join("root/x").is_dir());
    // Nothing that the agent keeps for the time without an API holds a secret.
    let kept = world.dir.path().join("data/agent");
    let mut pending = vec![kept];
    while let Some(next) = pending.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                let text = std::fs::read_to_string(&path).unwrap();
                assert!(!text.contains("aHVudGVyMg") && !text.contains("hunter2"), "{path:?}");
            }
        }
    }
    world.delete("web", 0);
    until("nothing is left", || world.api.object("pods/default/web").is_none()).await;
    let pods = world.dir.path().join("data/pods");
    assert!(!pods.join("uid-web").exists());
    assert!(mounts_at_or_below(&pods).unwrap().is_empty());
    agent.stop().await;
}

#[tokio::test]
async fn a_changed_secret_reaches_a_running_pod_and_a_missing_one_holds_it_back() {
    if !may_mount() {
        return;
    }
    let world = world();
    let mount = json!({"containers": [{"name": "main", "image": "app",
        "volumeMounts": [{"name": "s", "mountPath": "/s"}]}],
        "volumes": [{"name": "s", "secret": {"secretName": "late"}}]});
    world.pod("web", mount);
    let agent = world.start();
    until("the mount's failure is told", || {
        world.api.reasons().contains(&"FailedMount".to_owned())
    })
    .await;
    let secret = |text: &str| json!({"metadata": {"name": "late"}, "data": {"k": text}});
    world.api.put("secrets/default/late", secret("b25l"));
    until("the pod is ready", || world.condition("web", "Ready") == "True").await;
    let file = volume(&world, "s").join("k");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "one");
    world.api.put("secrets/default/late", secret("dHdv"));
    until("the new value is there", || std::fs::read_to_string(&file).unwrap() == "two").await;
    assert_eq!(world.engine.starts().len(), 2, "pause and main, once each");
    agent.stop().await;
    crate::sys::pod_mounts::remove_tree(&world.dir.path().join("data/pods")).unwrap();
}
