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
