//! Accounts and the authority come back, roles that gather follow those that they gather,
//! and what quotas bound is counted.

use k8s_openapi::api::core::v1::{
    ConfigMap, Namespace, PersistentVolumeClaim, Pod, ResourceQuota, ServiceAccount,
};
use k8s_openapi::api::rbac::v1::ClusterRole;
use serde_json::{Value, json};

use super::lab::Lab;
use crate::client::api::{DeleteOptions, PatchKind, ResourceRef};
use crate::client::fake::eventually;

const NAMESPACES: ResourceRef = ResourceRef::of::<Namespace>(false);
const ACCOUNTS: ResourceRef = ResourceRef::of::<ServiceAccount>(true);
const ROLES: ResourceRef = ResourceRef::of::<ClusterRole>(false);

fn role(name: &str, labels: Value, rules: Value) -> Value {
    json!({"metadata": {"name": name, "labels": labels}, "rules": rules})
}

fn rule(verb: &str) -> Value {
    json!({"verbs": [verb], "apiGroups": [""], "resources": ["pods"]})
}

#[tokio::test]
async fn a_namespace_gets_its_default_account_back() {
    let lab = Lab::start(&[]).await;
    let api = lab.fake.shared();
    api.create(&NAMESPACES, None, &json!({"metadata": {"name": "shop"}})).await.unwrap();
    let there = || lab.fake.all("serviceaccounts").len() == 1;
    eventually("an old namespace gets an account", there).await;
    api.delete(&ACCOUNTS, Some("shop"), "default", &DeleteOptions::default()).await.unwrap();
    eventually("it comes back", || lab.fake.creations("serviceaccounts") == 2 && there()).await;
    lab.stop().await;
}

#[tokio::test]
async fn a_role_that_gathers_follows_what_it_gathers() {
    let mut lab = Lab::start(&[]).await;
    let api = lab.fake.shared();
    let mut view = role("view", json!({}), json!([]));
    view["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {"to": "view"}}]});
    for role in [
        view,
        role("pods", json!({"to": "view"}), json!([rule("get")])),
        role("other", json!({}), json!([rule("delete")])),
    ] {
        api.create(&ROLES, None, &role).await.unwrap();
    }
    let verbs = |lab: &Lab| -> Vec<String> {
        let rules = lab.get("clusterroles", "view")["rules"].clone();
        let rules = rules.as_array().cloned().unwrap_or_default();
        rules.iter().map(|rule| rule["verbs"][0].as_str().unwrap().to_owned()).collect()
    };
    eventually("it has what it gathers", || verbs(&lab) == ["get"]).await;
    let more = json!({"rules": [rule("get"), rule("watch")]});
    api.patch(&ROLES, None, "pods", None, PatchKind::Merge, &more).await.unwrap();
    eventually("and what came to that", || verbs(&lab) == ["get", "watch"]).await;
    lab.change_leader().await;
    api.delete(&ROLES, None, "pods", &DeleteOptions::default()).await.unwrap();
    eventually("and no more when that is gone", || verbs(&lab).is_empty()).await;
    lab.stop().await;
}

const MAPS: ResourceRef = ResourceRef::of::<ConfigMap>(true);
const QUOTAS: ResourceRef = ResourceRef::of::<ResourceQuota>(true);

#[tokio::test]
async fn every_namespace_is_told_the_authority_again_and_again() {
    let mut lab = Lab::start(&[]).await;
    let api = lab.fake.shared();
    for name in ["shop", "bank"] {
        api.create(&NAMESPACES, None, &json!({"metadata": {"name": name}})).await.unwrap();
    }
    let told = |lab: &Lab| {
        let maps = lab.fake.all("configmaps");
        let own = maps.iter().filter(|map| map["metadata"]["name"] == "kube-root-ca.crt");
        own.filter(|map| map["data"] == json!({"ca.crt": "PEM"})).count()
    };
    eventually("both are told", || told(&lab) == 2).await;
    let forged = json!({"data": {"ca.crt": "FORGED", "more": "x"}});
    let name = "kube-root-ca.crt";
    api.patch(&MAPS, Some("shop"), name, None, PatchKind::Merge, &forged).await.unwrap();
    eventually("a forged one is mended", || told(&lab) == 2).await;
    lab.change_leader().await;
    api.delete(&MAPS, Some("bank"), name, &DeleteOptions::default()).await.unwrap();
    eventually("a lost one comes back", || told(&lab) == 2).await;
    lab.stop().await;
}

#[tokio::test]
async fn what_a_quota_bounds_is_counted_when_things_come_end_and_go() {
    let mut lab = Lab::start(&["a1"]).await;
    let api = lab.fake.shared();
    let pods: ResourceRef = ResourceRef::of::<Pod>(true);
    let claims: ResourceRef = ResourceRef::of::<PersistentVolumeClaim>(true);
    let pod = |name: &str| {
        json!({"metadata": {"name": name}, "spec": {"schedulerName": "none", "containers": [
            {"name": "c", "image": "c:1", "resources": {"requests": {"cpu": "500m"}}}]}})
    };
    for name in ["one", "two"] {
        api.create(&pods, Some("shop"), &pod(name)).await.unwrap();
    }
    let hard = json!({"pods": "5", "requests.cpu": "4", "count/pods": "9",
        "persistentvolumeclaims": "1", "count/widgets.example.com": "1"});
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": hard}});
    api.create(&QUOTAS, Some("shop"), &quota).await.unwrap();
    let used = |lab: &Lab, wanted: Value| {
        let status = lab.get("resourcequotas", "q")["status"].clone();
        status["used"] == wanted && status["hard"] == hard
    };
    let count = |pods: &str, cpu: &str, all: &str, claims: &str| {
        json!({"count/pods": all, "persistentvolumeclaims": claims, "pods": pods,
            "requests.cpu": cpu})
    };
    eventually("what is there is counted", || used(&lab, count("2", "1", "2", "0"))).await;
    let done = json!({"status": {"phase": "Succeeded"}});
    api.patch(&pods, Some("shop"), "one", Some("status"), PatchKind::Merge, &done).await.unwrap();
    eventually("a pod that ended uses nothing", || used(&lab, count("1", "500m", "2", "0"))).await;
    let claim = json!({"metadata": {"name": "c"}, "spec": {"storageClassName": ""}});
    api.create(&claims, Some("shop"), &claim).await.unwrap();
    eventually("a claim is counted", || used(&lab, count("1", "500m", "2", "1"))).await;
    lab.change_leader().await;
    let now = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
    api.delete(&pods, Some("shop"), "two", &now).await.unwrap();
    eventually("a pod that is gone is not", || used(&lab, count("0", "0", "1", "1"))).await;
    lab.stop().await;
}
