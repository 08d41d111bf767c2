//! The informer against the in-memory API: outages, expiry, indexes.

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;
use tokio::task::JoinSet;

use super::*;
use crate::client::api::DeleteOptions;
use crate::client::fake::{FakeApi, eventually};

fn config_map(name: &str, team: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "shop", "labels": {"team": team}}})
}

fn teams(object: &ConfigMap) -> Vec<String> {
    let labels = object.metadata.labels.iter().flatten();
    labels.filter(|(key, _)| *key == "team").map(|(_, value)| value.clone()).collect()
}

struct Fixture {
    fake: FakeApi,
    informer: Informer<ConfigMap>,
    cancel: CancellationToken,
    tasks: JoinSet<()>,
}

impl Fixture {
    async fn start() -> Self {
        let fake = FakeApi::new();
        let options = ListOptions::default();
        let informer = Informer::typed_indexed(fake.shared(), options, &[("team", teams)]);
        let cancel = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(informer.clone().run(cancel.clone()));
        Self { fake, informer, cancel, tasks }
    }

    async fn create(&self, name: &str, team: &str) {
        let api = self.fake.shared();
        api.create(&ConfigMap::REF, Some("shop"), &config_map(name, team)).await.unwrap();
    }

    async fn delete(&self, name: &str) {
        let options = DeleteOptions::default();
        self.fake.shared().delete(&ConfigMap::REF, Some("shop"), name, &options).await.unwrap();
    }

    async fn stop(mut self) {
        self.cancel.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

#[tokio::test]
async fn creations_and_deletions_reach_the_cache_and_the_index() {
    let fixture = Fixture::start().await;
    fixture.informer.synced().await;
    let mut changes = fixture.informer.changes();
    fixture.create("one", "red").await;
    let change = changes.recv().await.unwrap();
    assert_eq!(change.key, ObjectKey::new("shop", "one"));
    assert!(change.old.is_none() && change.new.is_some());
    assert_eq!(fixture.informer.by_index("team", "red").len(), 1);
    fixture.delete("one").await;
    let change = changes.recv().await.unwrap();
    assert!(change.old.is_some() && change.new.is_none());
    assert!(fixture.informer.by_index("team", "red").is_empty());
    fixture.stop().await;
}

#[tokio::test]
async fn a_deletion_during_an_outage_with_expired_history_is_reported() {
    let fixture = Fixture::start().await;
    fixture.create("kept", "red").await;
    fixture.create("gone", "red").await;
    let informer = fixture.informer.clone();
    eventually("both are cached", || informer.len() == 2).await;
    let mut changes = fixture.informer.changes();

    fixture.fake.break_watches();
    fixture.fake.set_reachable(false);
    tokio::time::sleep(Duration::from_millis(80)).await;
    fixture.fake.set_reachable(true);
    fixture.delete("gone").await;
    fixture.fake.compact();

    eventually("the deletion is seen", || informer.get("shop", "gone").is_none()).await;
    let change = changes.recv().await.unwrap();
    assert_eq!(change.key.name, "gone");
    assert!(change.new.is_none());
    assert!(informer.get("shop", "kept").is_some());
    fixture.stop().await;
}

#[tokio::test]
async fn a_broken_watch_goes_on_without_listing_again() {
    let fixture = Fixture::start().await;
    fixture.informer.synced().await;
    let lists = fixture.fake.list_count();
    fixture.fake.break_watches();
    fixture.create("later", "blue").await;
    let informer = fixture.informer.clone();
    eventually("the object arrives", || informer.get("shop", "later").is_some()).await;
    assert_eq!(fixture.fake.list_count(), lists);
    fixture.stop().await;
}

#[test]
fn versions_compare_as_numbers() {
    assert!(is_newer("10", "9"));
    assert!(!is_newer("9", "9"));
    assert!(!is_newer("9", "10"));
    assert!(is_newer("x", "9"));
}

#[tokio::test]
async fn one_namespace_is_listed_alone() {
    let fixture = Fixture::start().await;
    for (namespace, name) in [("a", "x"), ("ab", "y"), ("a", "z")] {
        let object = json!({"metadata": {"name": name, "namespace": namespace}});
        fixture.fake.shared().create(&ConfigMap::REF, Some(namespace), &object).await.unwrap();
    }
    let informer = fixture.informer.clone();
    eventually("all are cached", || informer.len() == 3).await;
    let names: Vec<_> =
        informer.list_namespace("a").iter().map(|object| object.key().name).collect();
    assert_eq!(names, ["x", "z"]);
    fixture.stop().await;
}
