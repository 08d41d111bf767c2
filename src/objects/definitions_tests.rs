//! The life of definitions and of their objects, on two control nodes over one store.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::custom_kinds::definition_kind;
use super::definitions::CLEANUP;
use super::fields::FieldValidation;
use super::memory_kv::MemoryKv;
use super::{
    Address, ApplyRequest, Change, DeleteRequest, ListRequest, Objects, ObjectsOptions, Patch,
    PatchType, WatchRequest, WriteOptions,
};
use crate::logic::conditions::condition;
use crate::logic::definition::holds;
use crate::model::kinds::{Kind, Subresource};
use crate::model::status::Status;

const DATABASES: &str = include_str!("../model/kinds/custom/databases.yaml");

fn databases() -> Value {
    serde_saphyr::from_str(DATABASES).unwrap()
}

fn node(kv: &Arc<MemoryKv>) -> Arc<Objects> {
    let options = ObjectsOptions { service_range: "10.96.0.0/24".parse().unwrap() };
    Arc::new(Objects::new(kv.clone(), options))
}

/// Two control nodes; the first leads and follows, the second follows nothing by itself, as
/// if its watch were slow.
struct World {
    first: Arc<Objects>,
    second: Arc<Objects>,
    _tasks: JoinSet<()>,
}

fn now() -> WriteOptions {
    WriteOptions::default()
}

fn at(name: &str) -> Address {
    Address::new(definition_kind(), None, name)
}

async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl World {
    async fn new() -> Self {
        let kv = Arc::new(MemoryKv::new());
        let (first, second) = (node(&kv), node(&kv));
        first.ensure_bootstrap().await.unwrap();
        let mut tasks = JoinSet::new();
        let (follower, keeper) = (first.clone(), first.clone());
        let cancel = CancellationToken::new();
        let stop = cancel.clone();
        tasks.spawn(async move { follower.follow_definitions(stop).await });
        tasks.spawn(async move { keeper.keep_definitions(cancel).await });
        Self { first, second, _tasks: tasks }
    }

    async fn define(&self, definition: Value) -> Result<Value, Status> {
        self.first.create(definition_kind(), None, definition, now()).await
    }

    async fn definition(&self, name: &str) -> Option<Value> {
        self.first.get(&at(name), None).await.ok()
    }

    async fn established(&self, name: &str) -> Value {
        eventually(&format!("{name} is established"), async || {
            self.definition(name).await.filter(|own| holds(own, "Established"))
        })
        .await
    }

    async fn with_databases() -> (Self, &'static Kind) {
        let world = Self::new().await;
        world.define(databases()).await.unwrap();
        world.established("databases.stable.example.com").await;
        let kind = world.second.find_kind("stable.example.com", "v1", "databases").await.unwrap();
        (world, kind)
    }
}

fn database(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"engine": "postgres"}})
}

#[tokio::test]
async fn a_definition_is_served_by_a_node_that_never_heard_of_it() {
    let (world, kind) = World::with_databases().await;
    let made = world.second.create(kind, Some("default"), database("one"), now()).await.unwrap();
    assert_eq!(
        (&made["spec"]["replicas"], &made["metadata"]["generation"]),
        (&1.into(), &1.into())
    );
    // The same kind in its other version, on the other node.
    let old = world.first.find_kind("stable.example.com", "v1beta1", "databases").await.unwrap();
    let listed = world.first.list(&ListRequest::all(old, Some("default"))).await.unwrap();
    assert_eq!(listed.items[0]["apiVersion"], "stable.example.com/v1beta1");
    assert_eq!(listed.items[0]["spec"]["engine"], "postgres");
    assert!(world.first.find_kind("stable.example.com", "v2", "databases").await.is_none());
    assert!(world.first.find_kind("other.example.com", "v1", "databases").await.is_none());
}

#[tokio::test]
async fn a_changed_schema_reaches_every_node_and_keeps_the_kind() {
    let (world, kind) = World::with_databases().await;
    let mut changed = world.definition("databases.stable.example.com").await.unwrap();
    let schema = &mut changed["spec"]["versions"][1]["schema"]["openAPIV3Schema"];
    schema["properties"]["spec"]["properties"]["replicas"]["maximum"] = 2.into();
    world.first.update(&at("databases.stable.example.com"), None, changed, now()).await.unwrap();
    world.second.freshen_kinds().await;
    let again = world.second.find_kind("stable.example.com", "v1", "databases").await.unwrap();
    assert!(std::ptr::eq(kind, again), "only its schema is another");
    let mut wrong = database("big");
    wrong["spec"]["replicas"] = 3.into();
    let status = world.second.create(kind, Some("default"), wrong, now()).await.unwrap_err();
    assert_eq!(
        status.message,
        "Database.stable.example.com \"big\" is invalid: spec.replicas: Invalid value: 3: spec.replicas in body should be less than or equal to 2"
    );
}

#[tokio::test]
async fn a_watch_ends_when_its_kind_is_served_no_more() {
    let (world, _) = World::with_databases().await;
    let first = &world.first;
    let kind = first.find_kind("stable.example.com", "v1", "databases").await.unwrap();
    let watch = WatchRequest { bookmarks: false, ..WatchRequest::of(ListRequest::all(kind, None)) };
    let mut changes = first.watch(&watch).await.unwrap();
    first.create(kind, Some("default"), database("one"), now()).await.unwrap();
    assert!(matches!(changes.next().await, Some(Change::Added(_))));
    let name = "databases.stable.example.com";
    let mut changed = world.definition(name).await.unwrap();
    changed["spec"]["versions"][1]["schema"]["openAPIV3Schema"]["description"] = "new".into();
    first.update(&at(name), None, changed, now()).await.unwrap();
    first.create(kind, Some("default"), database("two"), now()).await.unwrap();
    assert!(matches!(changes.next().await, Some(Change::Added(_))), "another schema ends nothing");
    first.delete(&at(name), &DeleteRequest::default()).await.unwrap();
    let rest =
        tokio::time::timeout(Duration::from_secs(60), changes.collect::<Vec<Change>>()).await;
    let rest = rest.expect("the watch ends");
    assert!(rest.iter().all(|change| matches!(change, Change::Deleted(_))), "{rest:?}");
}

#[tokio::test]
async fn patches_status_and_scale_work_as_for_any_kind() {
    let (world, kind) = World::with_databases().await;
    let objects = &world.second;
    objects.create(kind, Some("default"), database("one"), now()).await.unwrap();
    let one = Address::new(kind, Some("default"), "one");
    let patch = |kind, body| Patch { kind, body };
    let run = async |patch: Patch, part| {
        objects.patch(&one, part, &patch, FieldValidation::Strict, now()).await
    };
    let merged = run(patch(PatchType::Merge, json!({"spec": {"version": "16"}})), None).await;
    assert_eq!(merged.unwrap().0["metadata"]["generation"], 2);
    let unknown = run(patch(PatchType::Merge, json!({"spec": {"colour": 1}})), None).await;
    assert!(
        unknown
            .unwrap_err()
            .message
            .ends_with("strict decoding error: unknown field \"spec.colour\"")
    );
    let strategic = run(patch(PatchType::Strategic, json!({})), None).await.unwrap_err();
    assert_eq!((strategic.code, strategic.reason.as_str()), (415, "UnsupportedMediaType"));
    let status = json!({"status": {"replicas": 2, "selector": "app=db"}, "spec": {"version": "9"}});
    let part = Some(Subresource::Status);
    let said = run(patch(PatchType::Merge, status), part).await.unwrap().0;
    assert_eq!((&said["spec"]["version"], &said["status"]["replicas"]), (&"16".into(), &2.into()));
    assert_eq!(said["metadata"]["generation"], 2);
    let part = Some(Subresource::Scale);
    let scaled =
        run(patch(PatchType::Merge, json!({"spec": {"replicas": 4}})), part).await.unwrap().0;
    assert_eq!((&scaled["kind"], &scaled["spec"]["replicas"]), (&"Scale".into(), &4.into()));
    assert_eq!(scaled["status"], json!({"replicas": 2, "selector": "app=db"}));
    assert_eq!(objects.get(&one, None).await.unwrap()["spec"]["replicas"], 4);
}

#[tokio::test]
async fn apply_merges_by_the_keys_of_the_schema() {
    let (world, kind) = World::with_databases().await;
    let one = Address::new(kind, Some("default"), "one");
    let apply = async |manager: &str, users: Value| {
        let config = json!({"apiVersion": "stable.example.com/v1", "kind": "Database",
            "metadata": {"name": "one"}, "spec": {"engine": "mysql", "users": users}});
        let request = ApplyRequest { config, force: false, may_create: Ok(()) };
        let options = WriteOptions { manager: manager.into(), ..now() };
        world.first.apply(&one, None, request, options).await
    };
    apply("a", json!([{"name": "x", "rights": ["read"]}])).await.unwrap();
    let both = apply("b", json!([{"name": "y"}])).await.unwrap().object;
    let names: Vec<_> =
        both["spec"]["users"].as_array().unwrap().iter().map(|user| user["name"].clone()).collect();
    assert_eq!(names, ["x", "y"]);
    let last = apply("a", json!([])).await.unwrap().object;
    assert_eq!(last["spec"]["users"], json!([{"name": "y"}]));
}

#[tokio::test]
async fn names_that_others_have_are_not_accepted_until_they_go() {
    let (world, _) = World::with_databases().await;
    let mut other = databases();
    other["metadata"]["name"] = "stores.stable.example.com".into();
    other["spec"]["names"] = json!({"plural": "stores", "kind": "Store", "shortNames": ["db"]});
    world.define(other).await.unwrap();
    let refused = eventually("the short name is refused", async || {
        let own = world.definition("stores.stable.example.com").await?;
        condition(&own, "NamesAccepted").cloned()
    })
    .await;
    assert_eq!(
        (&refused["status"], &refused["reason"], &refused["message"]),
        (&"False".into(), &"ShortNamesConflict".into(), &"\"db\" is already in use".into())
    );
    assert!(world.second.find_kind("stable.example.com", "v1", "stores").await.is_none());
    world
        .first
        .delete(&at("databases.stable.example.com"), &DeleteRequest::default())
        .await
        .unwrap();
    world.established("stores.stable.example.com").await;
    assert!(world.second.find_kind("stable.example.com", "v1", "stores").await.is_some());
}

#[tokio::test]
async fn objects_go_before_their_definition_and_none_is_made_meanwhile() {
    let (world, kind) = World::with_databases().await;
    let mut held = database("held");
    held["metadata"]["finalizers"] = json!(["example.com/wait"]);
    world.second.create(kind, Some("default"), held, now()).await.unwrap();
    world.second.create(kind, Some("kube-system"), database("free"), now()).await.unwrap();
    let name = "databases.stable.example.com";
    let ended = world.first.delete(&at(name), &DeleteRequest::default()).await.unwrap();
    assert!(!ended.gone);
    assert_eq!(ended.object["metadata"]["finalizers"], json!([CLEANUP]));
    eventually("the free one is gone, the other waits", async || {
        let own = world.definition(name).await?;
        let said = condition(&own, "Terminating")?;
        let left = world.second.list(&ListRequest::all(kind, None)).await.ok()?.items;
        (said["reason"] == "InstanceDeletionInProgress" && left.len() == 1).then_some(())
    })
    .await;
    let late = world.second.create(kind, Some("default"), database("late"), now()).await;
    let late = late.unwrap_err();
    assert_eq!(
        (late.code, late.message.as_str()),
        (405, "create not allowed while custom resource definition is terminating")
    );
    let body = json!({"metadata": {"finalizers": null}});
    let patch = Patch { kind: PatchType::Merge, body };
    let address = Address::new(kind, Some("default"), "held");
    let freed = world.second.patch(&address, None, &patch, FieldValidation::Ignore, now());
    freed.await.unwrap();
    eventually("the definition is gone", async || {
        world.definition(name).await.is_none().then_some(())
    })
    .await;
    let late = world.second.create(kind, Some("default"), database("late"), now()).await;
    assert_eq!(late.unwrap_err().code, 404);
    assert!(world.second.list(&ListRequest::all(kind, None)).await.unwrap().items.is_empty());
    // The same again works like the first time.
    world.define(databases()).await.unwrap();
    world.established(name).await;
    world.second.create(kind, Some("default"), database("new"), now()).await.unwrap();
}

#[tokio::test]
async fn rules_that_are_not_evaluated_are_said_on_the_definition() {
    let (world, _) = World::with_databases().await;
    let own = world.established("databases.stable.example.com").await;
    let said = condition(&own, "ValidationRulesEnforced").unwrap();
    assert_eq!(
        (&said["status"], &said["reason"]),
        (&"False".into(), &"ExpressionsNotEvaluated".into())
    );
    assert_eq!(own["status"]["acceptedNames"]["shortNames"], json!(["db"]));
}
