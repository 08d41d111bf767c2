//! What new objects are given and refused, over a store in memory.

use std::sync::Arc;

use serde_json::{Value, json};

use super::access::{Author, Identity, Origin};
use super::memory_kv::MemoryKv;
use super::update::Part;
use super::{Address, Objects, ObjectsOptions, WriteOptions};
use crate::model::kinds::{self, Kind, Subresource};
use crate::model::kv::{Op, TxnRequest};
use crate::model::status::Status;
use crate::store::Kv;

fn kind(group: &str, plural: &str) -> &'static Kind {
    kinds::by_path(group, "v1", plural).unwrap()
}

fn at(group: &str, plural: &str, name: &str) -> Address {
    let kind = kind(group, plural);
    Address::new(kind, kind.namespaced.then_some("default"), name)
}

/// One control node over a store that others may use too.
fn server(kv: &Arc<MemoryKv>) -> Arc<Objects> {
    let options = ObjectsOptions { service_range: "10.96.0.0/24".parse().unwrap() };
    Arc::new(Objects::new(kv.clone(), options))
}

struct World {
    kv: Arc<MemoryKv>,
    objects: Arc<Objects>,
}

fn admin() -> Identity {
    Identity::new("admin", &["system:masters"]).authenticated()
}

fn author(who: Identity, verb: &str, kind: &Kind) -> Arc<Author> {
    let origin = Origin { uri: "/test".into(), ..Origin::default() };
    Arc::new(Author::new(who, None, origin, verb, kind, None))
}

fn by(author: &Arc<Author>) -> WriteOptions {
    WriteOptions { author: Some(author.clone()), ..WriteOptions::default() }
}

impl World {
    async fn new() -> Self {
        let kv = Arc::new(MemoryKv::new());
        let objects = server(&kv);
        objects.ensure_bootstrap().await.unwrap();
        Self { kv, objects }
    }

    async fn create(&self, group: &str, plural: &str, object: Value) -> Result<Value, Status> {
        let kind = kind(group, plural);
        let namespace = kind.namespaced.then_some("default");
        self.objects.create(kind, namespace, object, WriteOptions::default()).await
    }

    /// The same as an administrator: also what he is told, and what the log keeps of it.
    async fn told(
        &self,
        group: &str,
        plural: &str,
        object: Value,
    ) -> (Result<Value, Status>, Vec<String>, Value) {
        let kind = kind(group, plural);
        let author = author(admin(), "create", kind);
        let namespace = kind.namespaced.then_some("default");
        let done = self.objects.create(kind, namespace, object, by(&author)).await;
        if let Err(status) = &done {
            self.objects.record_apart(&author, status.code, &status.reason).await.unwrap();
        }
        self.objects.chain_audit().await.unwrap();
        let page = self.objects.audit_page(&Default::default()).await.unwrap();
        let last = page.items.last().unwrap().record["annotations"].clone();
        (done, author.warnings(), last)
    }

    /// Sets labels of the namespace `default`; what the author is told.
    async fn label(&self, labels: Value) -> Result<Vec<String>, Status> {
        let address = at("", "namespaces", "default");
        let author = author(admin(), "update", address.kind);
        let mut namespace = self.objects.get(&address, None).await?;
        json_patch::merge(&mut namespace["metadata"]["labels"], &labels);
        self.objects.update(&address, None, namespace, by(&author)).await?;
        Ok(author.warnings())
    }

    /// What a controller does with a new quota.
    async fn count(&self, name: &str) {
        let address = at("", "resourcequotas", name);
        let mut quota = self.objects.get(&address, None).await.unwrap();
        let hard = quota["spec"]["hard"].clone();
        let names = hard.as_object().unwrap().keys();
        let none: serde_json::Map<String, Value> =
            names.map(|name| (name.clone(), "0".into())).collect();
        quota["status"] = json!({"hard": hard, "used": none});
        let part = Some(Subresource::Status);
        self.objects.update(&address, part, quota, WriteOptions::default()).await.unwrap();
    }
}

fn pod(name: &str, patch: Value) -> Value {
    let mut pod = json!({"metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "c:1"}]}});
    json_patch::merge(&mut pod, &patch);
    pod
}

#[tokio::test]
async fn a_pod_gets_its_accounts_token_and_needs_the_account() {
    let world = World::new().await;
    let made = world.create("", "pods", pod("a", json!({}))).await.unwrap();
    let volume = made["spec"]["volumes"][0]["name"].as_str().unwrap();
    assert!(volume.starts_with("kube-api-access-") && volume.len() == 21, "{volume}");
    let mount = &made["spec"]["containers"][0]["volumeMounts"][0];
    assert_eq!(mount["name"], volume);
    assert_eq!(mount["mountPath"], "/var/run/secrets/kubernetes.io/serviceaccount");
    assert_eq!(made["spec"]["serviceAccountName"], "default");
    let stored = world.objects.get(&at("", "pods", "a"), None).await.unwrap();
    assert_eq!(stored["spec"], made["spec"]);
    let quiet = pod("b", json!({"spec": {"automountServiceAccountToken": false}}));
    let made = world.create("", "pods", quiet).await.unwrap();
    assert!(made["spec"].get("volumes").is_none());
    let stranger = pod("c", json!({"spec": {"serviceAccountName": "robot"}}));
    let refused = world.create("", "pods", stranger).await.unwrap_err();
    assert_eq!(refused.code, 403);
    assert_eq!(
        refused.message,
        "pods \"c\" is forbidden: error looking up service account default/robot: serviceaccount \"robot\" not found"
    );
}

#[tokio::test]
async fn a_namespace_refuses_notes_and_warns_as_its_labels_say() {
    let world = World::new().await;
    world.create("", "pods", pod("old", json!({"spec": {"hostPID": true}}))).await.unwrap();
    let told = world
        .label(json!({"pod-security.kubernetes.io/enforce": "baseline",
            "pod-security.kubernetes.io/audit": "restricted",
            "pod-security.kubernetes.io/warn": "restricted"}))
        .await
        .unwrap();
    assert_eq!(
        told,
        [
            "existing pods in namespace \"default\" violate the new PodSecurity enforce level \"baseline:latest\"",
            "old: host namespaces",
        ]
    );
    let (done, told, noted) =
        world.told("", "pods", pod("host", json!({"spec": {"hostNetwork": true}}))).await;
    let refused = done.unwrap_err();
    assert_eq!((refused.code, refused.reason.as_str()), (403, "Forbidden"));
    assert_eq!(
        refused.message,
        "pods \"host\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)"
    );
    assert!(told.is_empty(), "who is refused is not warned as well");
    let said = noted["pod-security.kubernetes.io/audit-violations"].as_str().unwrap();
    assert!(said.starts_with("would violate PodSecurity \"restricted:latest\": "), "{said}");
    assert_eq!(noted["pod-security.kubernetes.io/enforce-policy"], "baseline:latest");

    let (done, told, _) = world.told("", "pods", pod("plain", json!({}))).await;
    done.unwrap();
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("would violate PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false (container \"c\""), "{told:?}");

    let web = json!({"metadata": {"name": "web"}, "spec": {
        "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
        "spec": {"hostNetwork": true, "containers": [{"name": "c", "image": "c:1"}]}}}});
    let (done, told, noted) = world.told("apps", "deployments", web).await;
    done.unwrap();
    assert!(told[0].contains("host namespaces (hostNetwork=true)"), "{told:?}");
    assert!(noted.get("pod-security.kubernetes.io/enforce-policy").is_none(), "{noted}");

    let bad = world.label(json!({"pod-security.kubernetes.io/enforce": "strict"})).await;
    assert_eq!(
        bad.unwrap_err().message,
        "Namespace \"default\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of privileged, baseline, restricted"
    );
}

#[tokio::test]
async fn another_image_or_a_debugger_is_judged_anew_and_a_label_is_not() {
    let world = World::new().await;
    world.create("", "pods", pod("old", json!({"spec": {"hostPID": true}}))).await.unwrap();
    world.label(json!({"pod-security.kubernetes.io/enforce": "baseline"})).await.unwrap();
    let address = at("", "pods", "old");
    let change = async |patch: Value| {
        let mut pod = world.objects.get(&address, None).await.unwrap();
        json_patch::merge(&mut pod, &patch);
        let author = author(admin(), "update", address.kind);
        world.objects.update(&address, None, pod, by(&author)).await
    };
    change(json!({"metadata": {"labels": {"a": "b"}}})).await.unwrap();
    let mut containers =
        world.objects.get(&address, None).await.unwrap()["spec"]["containers"].clone();
    containers[0]["image"] = "c:2".into();
    let refused = change(json!({"spec": {"containers": containers}})).await.unwrap_err();
    assert!(refused.message.contains("violates PodSecurity \"baseline:latest\""), "{refused}");
}

#[tokio::test]
async fn ranges_fill_in_and_refuse() {
    let world = World::new().await;
    let range = json!({"metadata": {"name": "r"}, "spec": {"limits": [
        {"type": "Container", "max": {"cpu": "2"}, "default": {"memory": "64Mi"},
            "defaultRequest": {"cpu": "100m"}},
        {"type": "PersistentVolumeClaim", "max": {"storage": 1024}}]}});
    let made = world.create("", "limitranges", range).await.unwrap();
    let of_container = &made["spec"]["limits"][0];
    assert_eq!(of_container["default"], json!({"memory": "64Mi", "cpu": "2"}));
    assert_eq!(of_container["defaultRequest"], json!({"cpu": "100m", "memory": "64Mi"}));
    let made = world.create("", "pods", pod("a", json!({}))).await.unwrap();
    let resources = &made["spec"]["containers"][0]["resources"];
    assert_eq!(resources["limits"], json!({"memory": "64Mi", "cpu": "2"}));
    assert_eq!(resources["requests"], json!({"cpu": "100m", "memory": "64Mi"}));
    assert_eq!(made["status"]["qosClass"], "Burstable", "the class follows what was filled in");
    let greedy = json!({"spec": {"containers": [{"name": "c", "image": "c:1",
        "resources": {"limits": {"cpu": "3"}}}]}});
    let refused = world.create("", "pods", pod("b", greedy)).await.unwrap_err();
    assert_eq!(
        refused.message,
        "pods \"b\" is forbidden: [maximum cpu usage per Container is 2, but limit is 3]"
            .replace(['[', ']'], "")
    );
    let claim = json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}}}});
    let refused = world.create("", "persistentvolumeclaims", claim).await.unwrap_err();
    assert_eq!(
        refused.message,
        "persistentvolumeclaims \"c\" is forbidden: maximum storage usage per PersistentVolumeClaim is 1024, but request is 1Gi"
    );
}

#[tokio::test]
async fn a_quota_holds_through_several_masters_at_once() {
    let world = World::new().await;
    let quota = json!({"metadata": {"name": "q"},
        "spec": {"hard": {"pods": 7, "requests.cpu": "2", "count/configmaps": "3"}}});
    world.create("", "resourcequotas", quota).await.unwrap();
    let asking = |name: &str| {
        let cpu =
            json!([{"name": "c", "image": "c:1", "resources": {"requests": {"cpu": "250m"}}}]);
        pod(name, json!({"spec": {"containers": cpu}}))
    };
    let early = world.create("", "pods", asking("early")).await.unwrap_err();
    assert_eq!(
        early.message,
        "pods \"early\" is forbidden: status unknown for quota: q, resources: pods,requests.cpu"
    );
    world.count("q").await;
    let silent = world.create("", "pods", pod("silent", json!({}))).await.unwrap_err();
    assert_eq!(
        silent.message,
        "pods \"silent\" is forbidden: failed quota: q: must specify requests.cpu for: c"
    );
    let masters = [world.objects.clone(), server(&world.kv), server(&world.kv)];
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..30 {
        let (master, pod) = (masters[number % 3].clone(), asking(&format!("p{number}")));
        tasks.spawn(async move {
            let options = WriteOptions::default();
            master.create(kind("", "pods"), Some("default"), pod, options).await
        });
    }
    let outcomes = tasks.join_all().await;
    let made = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(made, 7, "{outcomes:?}");
    for refused in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert!(
            refused.message.ends_with(
                "is forbidden: exceeded quota: q, requested: pods=1, used: pods=7, limited: pods=7"
            ),
            "{refused}"
        );
    }
    let quota = world.objects.get(&at("", "resourcequotas", "q"), None).await.unwrap();
    assert_eq!(
        quota["status"]["used"],
        json!({"count/configmaps": "0", "pods": "7", "requests.cpu": "1750m"})
    );
    let trial = WriteOptions { dry_run: true, ..WriteOptions::default() };
    let map = json!({"metadata": {"name": "m"}});
    world.objects.create(kind("", "configmaps"), Some("default"), map, trial).await.unwrap();
    let again = world.objects.get(&at("", "resourcequotas", "q"), None).await.unwrap();
    assert_eq!(again, quota, "a trial is not charged");
}

#[tokio::test]
async fn a_quota_that_comes_between_look_and_write_turns_the_write_away() {
    let world = World::new().await;
    let address = at("", "configmaps", "m");
    let map = json!({"metadata": {"name": "m"}});
    let plan = world.objects.plan_quota(&address, None, &map, false).await.unwrap();
    let write =
        |compare| TxnRequest { compare, success: vec![Op::put("/test", "x")], failure: Vec::new() };
    assert!(world.kv.txn(write(plan.compare.clone())).await.unwrap().succeeded);
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"count/configmaps": "0"}}});
    world.create("", "resourcequotas", quota).await.unwrap();
    assert!(!world.kv.txn(write(plan.compare)).await.unwrap().succeeded);
}

#[tokio::test]
async fn bad_quotas_and_ranges_are_refused_field_by_field() {
    let world = World::new().await;
    let of = async |plural: &str, spec: Value| {
        let object = json!({"metadata": {"name": "x"}, "spec": spec});
        let status = world.create("", plural, object).await.unwrap_err();
        let causes = status.details.unwrap().causes;
        causes
            .into_iter()
            .map(|cause| format!("{}: {}", cause.field, cause.message))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        of(
            "resourcequotas",
            json!({"hard": {"wood": "1", "pods": "-1", "secrets": "500m"},
            "scopes": ["BestEffort", "NotBestEffort"]})
        )
        .await,
        [
            "spec.hard[wood]: Invalid value: \"wood\": must be a standard resource for quota",
            "spec.hard[pods]: Invalid value: \"-1\": must be greater than or equal to 0",
            "spec.hard[secrets]: Invalid value: \"500m\": must be an integer",
            "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: conflicting scopes",
            "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: unsupported scope applied to resource",
            "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: unsupported scope applied to resource",
        ]
    );
    assert_eq!(
        of(
            "limitranges",
            json!({"limits": [
            {"type": "Pod", "min": {"cpu": "2"}, "max": {"cpu": "1"}, "default": {"cpu": "1"}},
            {"type": "PersistentVolumeClaim"}]})
        )
        .await,
        [
            "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'",
            "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
            "spec.limits[0].default[cpu]: Invalid value: \"2\": min value 2 is greater than default value 1",
            "spec.limits[1]: Required value: either minimum or maximum storage value is required, but neither was provided",
        ]
    );
}

#[tokio::test]
async fn a_node_says_of_itself_what_a_kubelet_may() {
    let world = World::new().await;
    // The seed of a cluster registers before anything is written down of it.
    let seed = Identity::new("system:node:a1", &["system:nodes"]).authenticated();
    let roles = json!({"metadata": {"name": "a1",
        "labels": {"node-role.kubernetes.io/control-plane": ""}}, "spec": {}});
    let options = by(&author(seed, "create", kind("", "nodes")));
    world.objects.create(kind("", "nodes"), None, roles, options).await.unwrap();
    let record = json!({"name": "w1", "address": "10.0.0.1", "site": "s", "center": "a",
        "roles": ["worker"], "podRange": "10.244.0.0/24", "keyFingerprint": "x", "joined": true});
    let put = Op::put("/holdfast/nodes/w1", record.to_string());
    world.kv.txn(TxnRequest { success: vec![put], ..TxnRequest::default() }).await.unwrap();
    let node = Identity::new("system:node:w1", &["system:nodes"]).authenticated();
    let address = at("", "nodes", "w1");
    let kind = address.kind;
    let labelled =
        |labels: Value| json!({"metadata": {"name": "w1", "labels": labels}, "spec": {}});
    let create = async |labels: Value| {
        let options = by(&author(node.clone(), "create", kind));
        world.objects.create(kind, None, labelled(labels), options).await
    };
    let refused = create(json!({"node-role.kubernetes.io/control-plane": ""})).await.unwrap_err();
    assert_eq!(
        refused.message,
        "nodes \"w1\" is forbidden: is not allowed to set the following labels: node-role.kubernetes.io/control-plane"
    );
    create(json!({"node-role.kubernetes.io/worker": "", "kubernetes.io/hostname": "w1",
        "topology.kubernetes.io/zone": "a", "example.com/rack": "7"}))
    .await
    .unwrap();
    let change = async |who: &Identity, patch: Value| {
        let mut object = world.objects.get(&address, None).await.unwrap();
        json_patch::merge(&mut object, &patch);
        let options = by(&author(who.clone(), "update", kind));
        world.objects.update(&address, None, object, options).await.map_err(|status| status.message)
    };
    let labels = |labels: Value| json!({"metadata": {"labels": labels}});
    change(&node, labels(json!({"example.com/rack": "8", "node.kubernetes.io/x": "y"})))
        .await
        .unwrap();
    for label in [
        "node-restriction.kubernetes.io/secret",
        "a.node-restriction.kubernetes.io/secret",
        "node-role.kubernetes.io/control-plane",
        "unknown.kubernetes.io/x",
        "x.k8s.io/y",
    ] {
        assert_eq!(
            change(&node, labels(json!({label: "x"}))).await.unwrap_err(),
            format!("nodes \"w1\" is forbidden: is not allowed to modify labels: {label}")
        );
    }
    change(&admin(), labels(json!({"node-restriction.kubernetes.io/secret": "x"}))).await.unwrap();
    let dropped = labels(json!({"node-restriction.kubernetes.io/secret": null}));
    assert!(change(&node, dropped).await.is_err());
    let taint = json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}});
    assert_eq!(
        change(&node, taint.clone()).await.unwrap_err(),
        "nodes \"w1\" is forbidden: node \"w1\" is not allowed to modify taints"
    );
    change(&admin(), taint).await.unwrap();
    assert!(change(&node, json!({"spec": {"taints": null}})).await.is_err());
    let unchanged = json!({"metadata": {"annotations": {"a": "b"}}});
    change(&node, unchanged).await.unwrap();
    let object = world.objects.get(&address, None).await.unwrap();
    let options = by(&author(node.clone(), "update", kind));
    // The heartbeat's way never reaches labels.
    world.objects.modify(&address, Part::Status, &options, |_| Ok(object.clone())).await.unwrap();
}
