//! The object layer against a store in memory.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::{Value, json};

use super::access::{self, Decision, Identity};
use super::fields::FieldValidation;
use super::memory_kv::MemoryKv;
use super::{
    Address, Change, DeleteRequest, ListRequest, Objects, ObjectsOptions, Patch, PatchType,
    Propagation, WatchRequest, WriteOptions,
};
use crate::logic::selector::{FieldSelector, LabelSelector};
use crate::model::kinds::{self, Kind, Subresource};
use crate::model::status::Status;
use crate::store::Kv;

pub(super) const NOW: WriteOptions =
    WriteOptions { dry_run: false, manager: String::new(), author: None };

pub(super) fn kind(group: &str, plural: &str) -> &'static Kind {
    kinds::by_path(group, "v1", plural).unwrap()
}

pub(super) fn at(group: &str, plural: &str, name: &str) -> Address {
    let kind = kind(group, plural);
    Address::new(kind, kind.namespaced.then_some("default"), name)
}

pub(super) struct World {
    pub(super) kv: Arc<MemoryKv>,
    pub(super) objects: Objects,
}

impl World {
    pub(super) async fn new() -> Self {
        let kv = Arc::new(MemoryKv::new());
        let options = ObjectsOptions { service_range: "10.96.0.0/28".parse().unwrap() };
        let objects = Objects::new(kv.clone(), options);
        objects.ensure_bootstrap().await.unwrap();
        Self { kv, objects }
    }

    pub(super) async fn create(
        &self,
        group: &str,
        plural: &str,
        object: Value,
    ) -> Result<Value, Status> {
        let kind = kind(group, plural);
        let namespace = kind.namespaced.then_some("default");
        self.objects.create(kind, namespace, object, NOW).await
    }

    async fn config_map(&self, name: &str, labels: Value) -> Value {
        let object = json!({"metadata": {"name": name, "labels": labels}, "data": {"k": "v"}});
        self.create("", "configmaps", object).await.unwrap()
    }

    async fn deployment(&self) -> Value {
        let object = json!({
            "metadata": {"name": "web"},
            "spec": {
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "c", "image": "c:1"}]},
                },
            },
        });
        self.create("apps", "deployments", object).await.unwrap()
    }

    async fn pod(&self, name: &str, node: Option<&str>) -> Value {
        let mut object = json!({
            "metadata": {"name": name},
            "spec": {"containers": [{"name": "c", "image": "c:1"}]},
        });
        if let Some(node) = node {
            object["spec"]["nodeName"] = node.into();
        }
        self.create("", "pods", object).await.unwrap()
    }

    pub(super) async fn merge(&self, address: &Address, body: Value) -> Result<Value, Status> {
        let patch = Patch { kind: PatchType::Merge, body };
        let done = self.objects.patch(address, None, &patch, FieldValidation::Strict, NOW).await?;
        Ok(done.0)
    }

    async fn watch(&self, labels: &str, from: Option<i64>) -> BoxStream<'static, Change> {
        let request = WatchRequest {
            kind: kind("", "configmaps"),
            namespace: Some("default".into()),
            labels: LabelSelector::parse(labels).unwrap(),
            fields: FieldSelector::default(),
            resource_version: from.map(|revision| revision.to_string()),
            send_initial_events: from.is_none(),
            bookmarks: true,
        };
        self.objects.watch(&request).await.unwrap()
    }
}

async fn next(stream: &mut BoxStream<'static, Change>) -> String {
    let change = tokio::time::timeout(Duration::from_secs(30), stream.next()).await;
    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap_or("?").to_owned();
    match change.expect("a change comes").expect("the watch goes on") {
        Change::Added(object) => format!("+{}", name(&object)),
        Change::Modified(object) => format!("~{}", name(&object)),
        Change::Deleted(object) => format!("-{}", name(&object)),
        Change::Bookmark { initial_end, .. } => format!("bookmark {initial_end}"),
        Change::Error(status) => format!("error {}", status.reason),
    }
}

#[tokio::test]
async fn bootstrap_is_idempotent() {
    let world = World::new().await;
    let before = world.kv.revision();
    world.objects.ensure_bootstrap().await.unwrap();
    assert_eq!(world.kv.revision(), before);
    let api = world.objects.get(&at("", "services", "kubernetes"), None).await.unwrap();
    assert_eq!(api["spec"]["clusterIP"], "10.96.0.1");
    assert_eq!(api["spec"]["ports"][0]["targetPort"], 6443);
}

#[tokio::test]
async fn a_stale_update_is_a_conflict_and_an_empty_one_writes_nothing() {
    let world = World::new().await;
    let first = world.config_map("a", json!({})).await;
    let address = at("", "configmaps", "a");
    let second = world.merge(&address, json!({"data": {"k": "w"}})).await.unwrap();
    let stale = world.objects.update(&address, None, first, NOW).await.unwrap_err();
    assert_eq!(stale.code, 409);
    assert_eq!(
        stale.message,
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again"
    );
    let before = world.kv.revision();
    let same = world.objects.update(&address, None, second.clone(), NOW).await.unwrap();
    assert_eq!((same, world.kv.revision()), (second, before));
}

#[tokio::test]
async fn generation_counts_spec_changes_and_status_has_its_own_path() {
    let world = World::new().await;
    let made = world.deployment().await;
    assert_eq!(made["metadata"]["generation"], 1);
    let address = at("apps", "deployments", "web");
    let body = json!({"spec": {"replicas": 3}, "status": {"replicas": 9}});
    let changed = world.merge(&address, body).await.unwrap();
    assert_eq!(changed["metadata"]["generation"], 2);
    assert!(changed["status"]["replicas"].is_null());
    let mut wanted = changed.clone();
    wanted["spec"]["replicas"] = 7.into();
    wanted["status"] = json!({"replicas": 3});
    let part = Some(Subresource::Status);
    let after = world.objects.update(&address, part, wanted, NOW).await.unwrap();
    assert_eq!((&after["spec"]["replicas"], &after["status"]["replicas"]), (&json!(3), &json!(3)));
    assert_eq!(after["metadata"]["generation"], 2);
    let labelled =
        world.merge(&address, json!({"metadata": {"labels": {"a": "b"}}})).await.unwrap();
    assert_eq!(labelled["metadata"]["generation"], 2);
    let selector = json!({"spec": {"selector": {"matchLabels": {"app": "x"}},
        "template": {"metadata": {"labels": {"app": "x"}}}}});
    let refused = world.merge(&address, selector).await.unwrap_err();
    assert!(
        refused.message.contains(
            "spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"x\"}}: field is immutable"
        ),
        "{refused}"
    );
}

#[tokio::test]
async fn names_are_generated_namespaces_must_exist_and_owners_of_fields_are_the_server() {
    let world = World::new().await;
    let object = json!({"metadata": {"generateName": "x-", "uid": "mine", "generation": 9}});
    let made = world.create("", "configmaps", object).await.unwrap();
    let name = made["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("x-") && name.len() == 7, "{name}");
    assert_ne!(made["metadata"]["uid"], "mine");
    let kind = kind("", "configmaps");
    let object = json!({"metadata": {"name": "a"}});
    let nowhere = world.objects.create(kind, Some("nope"), object, NOW).await.unwrap_err();
    assert_eq!(nowhere.message, "namespaces \"nope\" not found");
}

#[tokio::test]
async fn pages_of_a_list_are_one_revision() {
    let world = World::new().await;
    for index in 0..7 {
        world.config_map(&format!("m{index}"), json!({"odd": (index % 2 == 1).to_string()})).await;
    }
    let mut request =
        ListRequest { limit: 3, ..ListRequest::all(kind("", "configmaps"), Some("default")) };
    let first = world.objects.list(&request).await.unwrap();
    assert_eq!((first.items.len(), first.remaining), (3, Some(4)));
    world.config_map("m9", json!({})).await;
    request.continue_token = first.continue_token.clone();
    let second = world.objects.list(&request).await.unwrap();
    request.continue_token = second.continue_token.clone();
    let third = world.objects.list(&request).await.unwrap();
    assert_eq!((second.items.len(), third.items.len()), (3, 1));
    assert_eq!((third.revision, third.continue_token), (first.revision, None));
    request.labels = LabelSelector::parse("odd=true").unwrap();
    request.limit = 2;
    request.continue_token = None;
    let odd = world.objects.list(&request).await.unwrap();
    assert_eq!((odd.items.len(), odd.remaining), (2, None));
    request.continue_token = odd.continue_token;
    assert_eq!(world.objects.list(&request).await.unwrap().items.len(), 1);
    world.config_map("m10", json!({})).await;
    world.kv.compact(world.kv.revision()).await.unwrap();
    let expired = world.objects.list(&request).await.unwrap_err();
    assert_eq!((expired.code, expired.reason.as_str()), (410, "Expired"));
}

#[tokio::test]
async fn a_selection_is_entered_and_left() {
    let world = World::new().await;
    world.config_map("old", json!({"in": "yes"})).await;
    let mut watch = world.watch("in=yes", None).await;
    assert_eq!(next(&mut watch).await, "+old");
    assert_eq!(next(&mut watch).await, "bookmark true");
    world.config_map("a", json!({"in": "no"})).await;
    let address = at("", "configmaps", "a");
    world.merge(&address, json!({"metadata": {"labels": {"in": "yes"}}})).await.unwrap();
    assert_eq!(next(&mut watch).await, "+a");
    world.merge(&address, json!({"data": {"k": "x"}})).await.unwrap();
    assert_eq!(next(&mut watch).await, "~a");
    world.merge(&address, json!({"metadata": {"labels": {"in": "no"}}})).await.unwrap();
    assert_eq!(next(&mut watch).await, "-a");
    world.objects.delete(&address, &DeleteRequest::default()).await.unwrap();
    world.objects.delete(&at("", "configmaps", "old"), &DeleteRequest::default()).await.unwrap();
    assert_eq!(next(&mut watch).await, "-old");
}

#[tokio::test]
async fn a_node_hears_of_its_pods_as_they_come_and_go_and_a_name_of_its_object() {
    let world = World::new().await;
    let watch = async |plural: &str, fields: &str| {
        let list = ListRequest::selecting(kind("", plural), Some("default"), "", fields).unwrap();
        let from = Some(world.kv.revision().to_string());
        let list = ListRequest { resource_version: from, ..list };
        world.objects.watch(&WatchRequest::of(list)).await.unwrap()
    };
    let mut own = watch("pods", "spec.nodeName=n1").await;
    let mut waiting = watch("pods", "spec.nodeName=,status.phase!=Failed").await;
    let mut named = watch("configmaps", "metadata.name=b").await;
    world.pod("other", Some("n2")).await;
    world.pod("a", None).await;
    assert_eq!(next(&mut waiting).await, "+a");
    let binding = json!({"target": {"kind": "Node", "name": "n1"}});
    let address = at("", "pods", "a");
    world.objects.bind(&address, &binding, NOW).await.unwrap();
    assert_eq!((next(&mut own).await, next(&mut waiting).await), ("+a".into(), "-a".into()));
    world.merge(&address, json!({"metadata": {"labels": {"k": "v"}}})).await.unwrap();
    assert_eq!(next(&mut own).await, "~a");
    let now = DeleteRequest { grace_period_seconds: Some(0), ..DeleteRequest::default() };
    world.objects.delete(&at("", "pods", "other"), &now).await.unwrap();
    world.objects.delete(&address, &now).await.unwrap();
    assert_eq!(next(&mut own).await, "-a");
    for name in ["a", "b", "bb"] {
        world.config_map(name, json!({})).await;
    }
    assert_eq!(next(&mut named).await, "+b");
    world.objects.delete(&at("", "configmaps", "bb"), &now).await.unwrap();
    world.objects.delete(&at("", "configmaps", "b"), &now).await.unwrap();
    assert_eq!(next(&mut named).await, "-b");
}

#[tokio::test]
async fn a_watch_resumes_and_an_old_one_is_expired() {
    let world = World::new().await;
    let start = world.kv.revision();
    world.config_map("a", json!({})).await;
    world.config_map("b", json!({})).await;
    let mut watch = world.watch("", Some(start)).await;
    assert_eq!((next(&mut watch).await.as_str(), next(&mut watch).await.as_str()), ("+a", "+b"));
    world.kv.compact(world.kv.revision()).await.unwrap();
    let mut late = world.watch("", Some(start)).await;
    assert_eq!(next(&mut late).await, "error Expired");
    assert!(late.next().await.is_none());
}

#[tokio::test]
async fn a_pod_on_a_node_gets_its_grace() {
    let world = World::new().await;
    world.pod("bound", Some("n1")).await;
    world.pod("free", None).await;
    let free = at("", "pods", "free");
    assert!(world.objects.delete(&free, &DeleteRequest::default()).await.unwrap().gone);
    let bound = at("", "pods", "bound");
    let marked = world.objects.delete(&bound, &DeleteRequest::default()).await.unwrap();
    assert!(!marked.gone);
    assert_eq!(marked.object["metadata"]["deletionGracePeriodSeconds"], 30);
    let again = world.objects.delete(&bound, &DeleteRequest::default()).await.unwrap();
    assert_eq!(
        again.object["metadata"]["resourceVersion"],
        marked.object["metadata"]["resourceVersion"]
    );
    let part = Some(Subresource::Status);
    let status = json!({"status": {"phase": "Running"}});
    world.objects.update(&bound, part, status, NOW).await.unwrap();
    let now = DeleteRequest { grace_period_seconds: Some(0), ..DeleteRequest::default() };
    let wrong = DeleteRequest { uid: Some("other".into()), ..now.clone() };
    assert_eq!(world.objects.delete(&bound, &wrong).await.unwrap_err().code, 409);
    assert!(world.objects.delete(&bound, &now).await.unwrap().gone);
    assert!(world.objects.get(&bound, None).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn finalizers_hold_an_object_until_the_last_is_gone() {
    let world = World::new().await;
    world.deployment().await;
    let address = at("apps", "deployments", "web");
    let request = DeleteRequest { propagation: Propagation::Foreground, ..Default::default() };
    let marked = world.objects.delete(&address, &request).await.unwrap();
    assert!(!marked.gone);
    assert_eq!(marked.object["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    let more = json!({"metadata": {"finalizers": ["foregroundDeletion", "x/y"]}});
    assert_eq!(world.merge(&address, more).await.unwrap_err().code, 422);
    world.merge(&address, json!({"metadata": {"finalizers": null}})).await.unwrap();
    assert!(world.objects.get(&address, None).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn a_namespace_goes_when_it_is_finalized() {
    let world = World::new().await;
    let own = at("", "namespaces", "kube-system");
    let refused = world.objects.delete(&own, &DeleteRequest::default()).await.unwrap_err();
    assert_eq!(
        refused.message,
        "namespaces \"kube-system\" is forbidden: this namespace may not be deleted"
    );
    world.create("", "namespaces", json!({"metadata": {"name": "shop"}})).await.unwrap();
    let address = at("", "namespaces", "shop");
    let marked = world.objects.delete(&address, &DeleteRequest::default()).await.unwrap();
    assert_eq!((marked.gone, &marked.object["status"]["phase"]), (false, &json!("Terminating")));
    let object = json!({"metadata": {"name": "late"}});
    let late = world.objects.create(kind("", "configmaps"), Some("shop"), object, NOW).await;
    let late = late.unwrap_err();
    assert_eq!(late.code, 403);
    assert_eq!(late.details.unwrap().causes[0].reason, "NamespaceTerminating");
    let part = Some(Subresource::Finalize);
    let done = json!({"spec": {"finalizers": []}});
    world.objects.update(&address, part, done, NOW).await.unwrap();
    assert!(world.objects.get(&address, None).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn service_addresses_are_unique_and_come_back() {
    let world = World::new().await;
    let service =
        |name: String| json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}});
    // A /28 has 14 addresses; 1 and 10 are taken.
    let creates = (0..12).map(|index| world.create("", "services", service(format!("s{index}"))));
    let made = futures::future::join_all(creates).await;
    let mut addresses: Vec<String> = made
        .into_iter()
        .map(|service| service.unwrap()["spec"]["clusterIP"].as_str().unwrap().to_owned())
        .collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 12);
    let full = world.create("", "services", service("full".into())).await.unwrap_err();
    assert!(full.message.contains("is full"), "{full}");
    let first = at("", "services", "s0");
    let ip = world.objects.get(&first, None).await.unwrap()["spec"]["clusterIP"].clone();
    let mut wanted = service("taken".into());
    wanted["spec"]["clusterIP"] = ip.clone();
    let taken = world.create("", "services", wanted.clone()).await.unwrap_err();
    assert!(taken.message.contains("provided IP is already allocated"), "{taken}");
    world.objects.delete(&first, &DeleteRequest::default()).await.unwrap();
    let made = world.create("", "services", wanted).await.unwrap();
    assert_eq!(made["spec"]["clusterIPs"], json!([ip]));
    let address = at("", "services", "taken");
    // Which address it has is left to chance.
    let other = if ip == "10.96.0.3" { "10.96.0.4" } else { "10.96.0.3" };
    let moved = json!({"spec": {"clusterIP": other, "clusterIPs": null}});
    assert_eq!(world.merge(&address, moved).await.unwrap_err().code, 422);
    let odd = json!({"spec": {"type": "Tunnel"}});
    let refused = world.merge(&address, odd).await.unwrap_err();
    assert!(refused.message.contains("spec.type: Unsupported value: \"Tunnel\""), "{refused}");
}

#[tokio::test]
async fn a_pod_is_bound_once_and_its_spec_stays() {
    let world = World::new().await;
    world.pod("a", None).await;
    let address = at("", "pods", "a");
    let bind = |node: &str| json!({"target": {"kind": "Node", "name": node}});
    world.objects.bind(&address, &bind("n1"), NOW).await.unwrap();
    let again = world.objects.bind(&address, &bind("n2"), NOW).await.unwrap_err();
    assert!(again.message.contains("pod a is already assigned to node \"n1\""), "{again}");
    let pod = world.objects.get(&address, None).await.unwrap();
    assert_eq!(pod["spec"]["nodeName"], "n1");
    assert_eq!(pod["status"]["conditions"][0]["type"], "PodScheduled");
    let refused = world.merge(&address, json!({"spec": {"hostname": "x"}})).await.unwrap_err();
    assert!(refused.message.contains("pod updates may not change fields other than"), "{refused}");
    let other = json!({"spec": {"containers": [{"name": "d", "image": "c:2"}]}});
    assert_eq!(world.merge(&address, other).await.unwrap_err().code, 422);
    let mut wanted = pod.clone();
    wanted["spec"]["containers"][0]["image"] = "c:2".into();
    world.objects.update(&address, None, wanted, NOW).await.unwrap();
}

#[tokio::test]
async fn racing_patches_all_land() {
    let world = World::new().await;
    world.config_map("a", json!({})).await;
    let address = at("", "configmaps", "a");
    let patches =
        (0..6).map(|index| world.merge(&address, json!({"data": {format!("k{index}"): "v"}})));
    for result in futures::future::join_all(patches).await {
        result.unwrap();
    }
    let object = world.objects.get(&address, None).await.unwrap();
    assert_eq!(object["data"].as_object().unwrap().len(), 7);
}

#[tokio::test]
async fn a_node_writes_itself_and_its_pods_and_nothing_else() {
    let world = World::new().await;
    world.pod("own", Some("n1")).await;
    world.pod("other", Some("n2")).await;
    let identity = Identity::new("system:node:n1", &["system:nodes"]);
    let ask = |verb, plural, subresource, name| access::Request {
        verb,
        group: "",
        resource: plural,
        subresource,
        namespace: "default",
        name,
    };
    for (request, allowed) in [
        (ask("list", "pods", None, ""), true),
        (ask("update", "nodes", Some("status"), "n1"), true),
        (ask("create", "nodes", None, "n1"), true),
        (ask("update", "nodes", None, "n2"), false),
        (ask("patch", "pods", Some("status"), "own"), true),
        (ask("patch", "pods", Some("status"), "other"), false),
        (ask("delete", "pods", None, "own"), true),
        (ask("delete", "pods", None, "other"), false),
        (ask("update", "pods", None, "own"), false),
        (ask("create", "events", None, "e"), true),
        (ask("create", "pods", Some("binding"), "own"), false),
        (ask("deletecollection", "pods", None, ""), false),
    ] {
        let answer = world.objects.authorize(&identity, &request).await;
        assert_eq!(answer.is_ok(), allowed, "{request:?}");
    }
    let needs = |map: &str, secret: &str| {
        json!({"containers": [{"name": "c", "image": "c:1",
            "envFrom": [{"configMapRef": {"name": map}}],
            "env": [{"name": "P", "valueFrom": {"secretKeyRef": {"name": secret, "key": "p"}}}]}]})
    };
    for (pod, node, map, secret) in [("p1", "n1", "mine", "mine"), ("p2", "n2", "theirs", "theirs")]
    {
        let mut spec = needs(map, secret);
        spec["nodeName"] = node.into();
        world.create("", "pods", json!({"metadata": {"name": pod}, "spec": spec})).await.unwrap();
    }
    for plural in ["configmaps", "secrets"] {
        for (request, allowed) in [
            (ask("get", plural, None, "mine"), true),
            (ask("get", plural, None, "theirs"), false),
            (ask("list", plural, None, ""), false),
            (ask("watch", plural, None, ""), false),
            (ask("update", plural, None, "mine"), false),
        ] {
            let answer = world.objects.authorize(&identity, &request).await;
            assert_eq!(answer.is_ok(), allowed, "{request:?}");
        }
    }
    world.objects.delete(&at("", "pods", "p1"), &DeleteRequest::default()).await.unwrap();
    let now = DeleteRequest { grace_period_seconds: Some(0), ..DeleteRequest::default() };
    world.objects.delete(&at("", "pods", "p1"), &now).await.unwrap();
    let request = ask("get", "secrets", None, "mine");
    assert!(world.objects.authorize(&identity, &request).await.is_err(), "the pod is gone");
    let stranger = Identity::new("system:node:n1", &["dev"]);
    assert_eq!(access::decide(&stranger, &ask("get", "pods", None, "own")), Decision::Deny);
}
