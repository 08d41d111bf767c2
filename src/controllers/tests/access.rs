//! Accounts come back, and roles that gather follow those that they gather.

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
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
