//! The controllers that look at every resource, and kinds that come and go under them.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::client::fake::eventually_async;
use crate::controllers::{ControllerOptions, ControllerSet};
use crate::model::kinds;
use crate::objects::ObjectsOptions;
use crate::objects::memory_kv::MemoryKv;

const DATABASES: &str = include_str!("../model/kinds/custom/databases.yaml");

fn now() -> WriteOptions {
    WriteOptions::default()
}

#[tokio::test]
async fn collection_namespaces_and_quotas_follow_kinds_that_are_made_later() {
    let options = ObjectsOptions { service_range: "10.96.0.0/24".parse().unwrap() };
    let objects = Arc::new(Objects::new(Arc::new(MemoryKv::new()), options));
    objects.ensure_bootstrap().await.unwrap();
    let cancel = CancellationToken::new();
    let set = ControllerSet::new(ControllerOptions {
        custom: Some(objects.kinds().preferred()),
        ..ControllerOptions::default()
    });
    let api = Arc::new(InProcessApi::new(objects.clone()));
    let mut tasks = JoinSet::new();
    let (stop, follower, keeper) = (cancel.clone(), objects.clone(), objects.clone());
    tasks.spawn(async move { set.run(api, stop).await });
    let stop = cancel.clone();
    tasks.spawn(async move { follower.follow_definitions(stop).await });
    let stop = cancel.clone();
    tasks.spawn(async move { keeper.keep_definitions(stop).await });

    let table = |group: &str, plural: &str| kinds::by_path(group, "v1", plural).unwrap();
    let namespace = json!({"metadata": {"name": "shop"}});
    objects.create(table("", "namespaces"), None, namespace, now()).await.unwrap();
    let counted = "count/databases.stable.example.com";
    let quota = json!({"metadata": {"name": "few"}, "spec": {"hard": {counted: "2"}}});
    objects.create(table("", "resourcequotas"), Some("shop"), quota, now()).await.unwrap();
    let definition: Value = serde_saphyr::from_str(DATABASES).unwrap();
    let definitions = table("apiextensions.k8s.io", "customresourcedefinitions");
    objects.create(definitions, None, definition, now()).await.unwrap();
    let served =
        || async { objects.find_kind("stable.example.com", "v1", "databases").await.is_some() };
    eventually_async("the kind is served", served).await;
    let kind = objects.find_kind("stable.example.com", "v1", "databases").await.unwrap();
    let used = |wanted: &'static str| {
        let objects = objects.clone();
        move || {
            let objects = objects.clone();
            async move {
                let address = Address::new(table("", "resourcequotas"), Some("shop"), "few");
                let quota = objects.get(&address, None).await.unwrap();
                quota["status"]["used"][counted] == wanted
            }
        }
    };
    eventually_async("nothing is used", used("0")).await;
    let database = |name: &str, owners: Value| json!({"metadata": {"name": name, "ownerReferences": owners}, "spec": {"engine": "mysql"}});
    let first = database("first", json!([]));
    let first = objects.create(kind, Some("shop"), first, now()).await.unwrap();
    let owner = json!([{"apiVersion": "stable.example.com/v1", "kind": "Database",
        "name": "first", "uid": first["metadata"]["uid"]}]);
    objects.create(kind, Some("shop"), database("second", owner.clone()), now()).await.unwrap();
    let map = json!({"metadata": {"name": "settings", "ownerReferences": owner}});
    objects.create(table("", "configmaps"), Some("shop"), map, now()).await.unwrap();
    let third = objects.create(kind, Some("shop"), database("third", json!([])), now()).await;
    assert!(third.unwrap_err().message.contains("exceeded quota: few"));
    eventually_async("two are used", used("2")).await;

    // What the owner had goes with it, of whatever kind.
    let address = Address::new(kind, Some("shop"), "first");
    objects.delete(&address, &DeleteRequest::default()).await.unwrap();
    let empty = |kind: &'static Kind| {
        let objects = objects.clone();
        move || {
            let objects = objects.clone();
            async move {
                let list = ListRequest::all(kind, Some("shop"));
                objects.list(&list).await.unwrap().items.is_empty()
            }
        }
    };
    eventually_async("the databases are gone", empty(kind)).await;
    eventually_async("the map is gone", empty(table("", "configmaps"))).await;
    eventually_async("nothing is used again", used("0")).await;

    // A namespace is emptied of them too.
    objects.create(kind, Some("shop"), database("last", json!([])), now()).await.unwrap();
    let shop = Address::new(table("", "namespaces"), None, "shop");
    objects.delete(&shop, &DeleteRequest::default()).await.unwrap();
    let gone = || async { objects.get(&shop, None).await.is_err() };
    eventually_async("the namespace is gone", gone).await;
    assert!(empty(kind)().await);
    cancel.cancel();
    tasks.join_all().await;
}

/// A control node's part in definitions: it follows and keeps them.
fn keep(objects: &Arc<Objects>, tasks: &mut JoinSet<()>, cancel: &CancellationToken) {
    let (follower, stop) = (objects.clone(), cancel.clone());
    tasks.spawn(async move { follower.follow_definitions(stop).await });
    let (keeper, stop) = (objects.clone(), cancel.clone());
    tasks.spawn(async move { keeper.keep_definitions(stop).await });
}

#[tokio::test]
async fn what_the_objects_of_a_deleted_definition_owned_is_collected_by_whoever_leads_then() {
    let options = ObjectsOptions { service_range: "10.96.0.0/24".parse().unwrap() };
    let objects = Arc::new(Objects::new(Arc::new(MemoryKv::new()), options));
    objects.ensure_bootstrap().await.unwrap();
    let cancel = CancellationToken::new();
    let mut tasks = JoinSet::new();
    keep(&objects, &mut tasks, &cancel);
    let table = |group: &str, plural: &str| kinds::by_path(group, "v1", plural).unwrap();
    let definitions = table("apiextensions.k8s.io", "customresourcedefinitions");
    let definition: Value = serde_saphyr::from_str(DATABASES).unwrap();
    objects.create(definitions, None, definition, now()).await.unwrap();
    let served =
        || async { objects.find_kind("stable.example.com", "v1", "databases").await.is_some() };
    eventually_async("the kind is served", served).await;
    let kind = objects.find_kind("stable.example.com", "v1", "databases").await.unwrap();
    let database = json!({"metadata": {"name": "first"}, "spec": {"engine": "mysql"}});
    let owner = objects.create(kind, Some("default"), database, now()).await.unwrap();
    let maps = table("", "configmaps");
    let other = json!({"metadata": {"name": "other"}});
    let other = objects.create(maps, Some("default"), other, now()).await.unwrap();
    let by_database = json!({"apiVersion": "stable.example.com/v1", "kind": "Database",
        "name": "first", "uid": owner["metadata"]["uid"]});
    let by_map = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "other",
        "uid": other["metadata"]["uid"]});
    // Of a kind that was never served here: nobody knows whether such an owner is gone.
    let by_stranger = json!({"apiVersion": "else.example.com/v1", "kind": "Database",
        "name": "first", "uid": "d2b8ae7a-6ff7-4ef5-8a0e-9f4ba0a5b7c1"});
    for (name, owners) in [
        ("only", json!([by_database])),
        ("both", json!([by_database, by_map])),
        ("strange", json!([by_stranger])),
    ] {
        let map = json!({"metadata": {"name": name, "ownerReferences": owners}});
        objects.create(maps, Some("default"), map, now()).await.unwrap();
    }
    // No namespace, and an owner that has one: it is never collected, and holds nothing up.
    let class = json!({"metadata": {"name": "class", "ownerReferences": [by_database]},
        "value": 1});
    let classes = table("scheduling.k8s.io", "priorityclasses");
    objects.create(classes, None, class, now()).await.unwrap();

    // The objects go, but nobody collects what they owned: the definition stays.
    let address = Address::new(definitions, None, "databases.stable.example.com");
    objects.delete(&address, &DeleteRequest::default()).await.unwrap();
    let waits = || async {
        let definition = objects.get(&address, None).await.unwrap();
        let conditions = definition["status"]["conditions"].as_array().unwrap();
        conditions.iter().any(|condition| {
            condition["type"] == "Terminating"
                && condition["message"].as_str().unwrap().ends_with("is not collected yet")
        })
    };
    eventually_async("the definition waits for what was owned", waits).await;
    assert!(objects.list(&ListRequest::all(kind, None)).await.unwrap().items.is_empty());
    // That leader is no more; the next one begins with all controllers.
    cancel.cancel();
    tasks.join_all().await;
    let cancel = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let set = ControllerSet::new(ControllerOptions {
        custom: Some(objects.kinds().preferred()),
        ..ControllerOptions::default()
    });
    let (api, stop) = (Arc::new(InProcessApi::new(objects.clone())), cancel.clone());
    tasks.spawn(async move { set.run(api, stop).await });
    keep(&objects, &mut tasks, &cancel);
    let gone = || async { objects.get(&address, None).await.is_err() };
    eventually_async("the definition is gone", gone).await;
    let map = |name: &'static str| {
        let objects = objects.clone();
        async move { objects.get(&Address::new(maps, Some("default"), name), None).await }
    };
    assert!(map("only").await.is_err());
    assert_eq!(map("both").await.unwrap()["metadata"]["ownerReferences"], json!([by_map]));
    assert!(map("strange").await.is_ok());
    assert!(objects.get(&Address::new(classes, None, "class"), None).await.is_ok());
    cancel.cancel();
    tasks.join_all().await;
}
