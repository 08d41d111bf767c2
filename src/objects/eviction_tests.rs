//! Evictions against a store in memory.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::model::kinds;
use crate::model::status::Status;
use crate::objects::memory_kv::MemoryKv;
use crate::objects::{Address, DeleteRequest, Objects, ObjectsOptions, WriteOptions};

const NOW: WriteOptions = WriteOptions { dry_run: false, manager: String::new(), author: None };

fn at(group: &str, plural: &str, name: &str) -> Address {
    Address::new(kinds::by_path(group, "v1", plural).unwrap(), Some("default"), name)
}

async fn world() -> Objects {
    let options = ObjectsOptions { service_range: "10.96.0.0/28".parse().unwrap() };
    let objects = Objects::new(Arc::new(MemoryKv::new()), options);
    objects.ensure_bootstrap().await.unwrap();
    objects
}

async fn create(objects: &Objects, group: &str, plural: &str, object: Value) -> Value {
    let kind = kinds::by_path(group, "v1", plural).unwrap();
    objects.create(kind, Some("default"), object, NOW).await.unwrap()
}

async fn set_status(objects: &Objects, address: &Address, status: Value) {
    let mut object = objects.get(address, None).await.unwrap();
    object["status"] = status;
    let part = Some(kinds::Subresource::Status);
    objects.update(address, part, object, NOW).await.unwrap();
}

/// A pod on a node, running; ready or not.
async fn pod(objects: &Objects, name: &str, ready: bool) {
    let spec = json!({"nodeName": "a1", "containers": [{"name": "c", "image": "hello:1"}]});
    let object = json!({"metadata": {"name": name, "labels": {"app": "web"}}, "spec": spec});
    create(objects, "", "pods", object).await;
    let word = if ready { "True" } else { "False" };
    let status = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": word}]});
    set_status(objects, &at("", "pods", name), status).await;
}

async fn budget(objects: &Objects, name: &str, spec: Value, status: Value) {
    let mut whole = json!({"selector": {"matchLabels": {"app": "web"}}});
    json_patch::merge(&mut whole, &spec);
    let object = json!({"metadata": {"name": name}, "spec": whole});
    create(objects, "policy", "poddisruptionbudgets", object).await;
    set_status(objects, &at("policy", "poddisruptionbudgets", name), status).await;
}

fn status(allowed: i64) -> Value {
    json!({"observedGeneration": 1, "disruptionsAllowed": allowed, "currentHealthy": 2 + allowed,
        "desiredHealthy": 2, "expectedPods": 3})
}

async fn evict(objects: &Objects, name: &str) -> Result<(), Status> {
    objects.evict(&at("", "pods", name), &DeleteRequest::default()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn evictions_at_once_take_no_more_than_is_allowed() {
    let objects = Arc::new(world().await);
    for name in ["p0", "p1", "p2", "p3", "p4"] {
        pod(&objects, name, true).await;
    }
    budget(&objects, "web", json!({"minAvailable": 2}), status(2)).await;
    let mut tries = JoinSet::new();
    for at in 0..5 {
        let objects = Arc::clone(&objects);
        tries.spawn(async move { evict(&objects, &format!("p{at}")).await });
    }
    let outcomes = tries.join_all().await;
    let refused: Vec<Status> = outcomes.into_iter().filter_map(Result::err).collect();
    assert_eq!(refused.len(), 3, "{refused:?}");
    for status in &refused {
        assert_eq!((status.code, status.reason.as_str()), (429, "TooManyRequests"));
        assert_eq!(
            status.message,
            "Cannot evict pod as it would violate the pod's disruption budget."
        );
        let causes = &status.details.as_ref().unwrap().causes;
        assert_eq!(causes[0].reason, "DisruptionBudget");
        assert_eq!(
            causes[0].message,
            "The disruption budget web needs 2 healthy pods and has 4 currently"
        );
    }
    let held = objects.get(&at("policy", "poddisruptionbudgets", "web"), None).await.unwrap();
    assert_eq!(held["status"]["disruptionsAllowed"], 0);
    assert_eq!(held["status"]["disruptedPods"].as_object().unwrap().len(), 2);
    let mut going = 0;
    for name in ["p0", "p1", "p2", "p3", "p4"] {
        let pod = objects.get(&at("", "pods", name), None).await.unwrap();
        if pod["metadata"].get("deletionTimestamp").is_some() {
            let conditions = pod["status"]["conditions"].as_array().unwrap();
            let target = conditions.iter().find(|one| one["type"] == "DisruptionTarget").unwrap();
            assert_eq!(target["reason"], "EvictionByEvictionAPI");
            going += 1;
        }
    }
    assert_eq!(going, 2);
}

#[tokio::test]
async fn a_trial_takes_nothing() {
    let objects = world().await;
    pod(&objects, "p0", true).await;
    budget(&objects, "web", json!({"minAvailable": 0}), status(1)).await;
    let trial = DeleteRequest { dry_run: true, ..DeleteRequest::default() };
    for _ in 0..3 {
        objects.evict(&at("", "pods", "p0"), &trial).await.unwrap();
    }
    let held = objects.get(&at("policy", "poddisruptionbudgets", "web"), None).await.unwrap();
    assert_eq!(held["status"]["disruptionsAllowed"], 1);
    let pod = objects.get(&at("", "pods", "p0"), None).await.unwrap();
    assert_eq!(pod["metadata"].get("deletionTimestamp"), None);
}

#[tokio::test]
async fn budgets_say_nothing_about_pods_that_keep_nothing_up() {
    let objects = world().await;
    budget(&objects, "web", json!({"minAvailable": 2}), status(0)).await;
    pod(&objects, "ill", false).await;
    evict(&objects, "ill").await.unwrap();
    pod(&objects, "over", true).await;
    set_status(&objects, &at("", "pods", "over"), json!({"phase": "Succeeded"})).await;
    evict(&objects, "over").await.unwrap();
    pod(&objects, "well", true).await;
    assert_eq!(evict(&objects, "well").await.unwrap_err().code, 429);
}

#[tokio::test]
async fn a_pod_of_two_budgets_is_refused() {
    let objects = world().await;
    pod(&objects, "p0", true).await;
    budget(&objects, "one", json!({"minAvailable": 0}), status(1)).await;
    budget(&objects, "two", json!({"minAvailable": 0}), status(1)).await;
    let status = evict(&objects, "p0").await.unwrap_err();
    assert_eq!((status.code, status.message.as_str()), (500, super::SEVERAL));
}
