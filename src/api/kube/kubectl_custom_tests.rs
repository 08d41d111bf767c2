//! The real kubectl against kinds that it never heard of.

use serde_json::{Value, json};

use super::kubectl_tests::Kubectl;

const DATABASES: &str = include_str!("../../model/kinds/custom/databases.yaml");
const SHOP: &str = "apiVersion: stable.example.com/v1
kind: Database
metadata: {name: shop, labels: {tier: gold}}
spec:
  engine: postgres
  replicas: 3
  users: [{name: app, rights: [read]}]
";

async fn defined() -> Option<Kubectl> {
    let kubectl = Kubectl::start().await?;
    let out = kubectl.try_run(&["apply", "-f", "-"], DATABASES).await;
    assert!(out.ok, "{out:?}");
    assert!(
        out.out.contains(
            "customresourcedefinition.apiextensions.k8s.io/databases.stable.example.com created"
        ),
        "{out:?}"
    );
    assert!(out.err.contains("Warning: 1 x-kubernetes-validations (CEL) of version v1 are stored and published but not evaluated"), "{out:?}");
    let wait = [
        "wait",
        "--for=condition=Established",
        "crd/databases.stable.example.com",
        "--timeout=60s",
    ];
    assert!(kubectl.run(&wait).await.contains("condition met"));
    Some(kubectl)
}

#[tokio::test]
async fn a_custom_kind_is_applied_shown_and_deleted_like_any_other() {
    let Some(kubectl) = defined().await else { return };
    assert!(kubectl.run(&["get", "crd"]).await.contains("databases.stable.example.com"));
    assert_eq!(
        kubectl.run_with(&["apply", "-f", "-"], SHOP).await.trim(),
        "database.stable.example.com/shop created"
    );
    assert_eq!(
        kubectl.run_with(&["apply", "-f", "-"], SHOP).await.trim(),
        "database.stable.example.com/shop unchanged"
    );
    let changed = SHOP.replace("replicas: 3", "replicas: 2");
    assert_eq!(
        kubectl.run_with(&["apply", "-f", "-"], &changed).await.trim(),
        "database.stable.example.com/shop configured"
    );
    let body = json!({"status": {"host": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}}).to_string();
    kubectl
        .run(&["patch", "db", "shop", "--subresource=status", "--type=merge", "-p", &body])
        .await;
    let rows = kubectl.run(&["get", "db"]).await;
    let cells: Vec<Vec<&str>> =
        rows.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(cells[0], ["NAME", "ENGINE", "REPLICAS", "READY", "AGE"], "{rows}");
    assert_eq!(cells[1][..4], ["shop", "postgres", "2", "True"], "{rows}");
    let wide = kubectl.run(&["get", "databases.v1.stable.example.com", "-o", "wide"]).await;
    assert!(wide.contains("HOST") && wide.contains("10.0.0.1"), "{wide}");
    assert!(kubectl.run(&["get", "all"]).await.contains("database.stable.example.com/shop"));
    assert!(kubectl.run(&["get", "db", "-l", "tier=gold", "-o", "name"]).await.contains("shop"));
    let engine = ["get", "db", "--field-selector=spec.engine=mysql", "-o", "name"];
    assert_eq!(kubectl.run(&engine).await, "");
    let out = kubectl.run(&["scale", "db/shop", "--replicas=5"]).await;
    assert!(out.contains("scaled"), "{out}");
    let replicas = ["get", "db", "shop", "-o", "jsonpath={.spec.replicas}"];
    assert_eq!(kubectl.run(&replicas).await, "5");
    let described = kubectl.run(&["describe", "db", "shop"]).await;
    assert!(described.contains("Engine:") && described.contains("postgres"), "{described}");
    let old = kubectl
        .try_run(&["get", "databases.v1beta1.stable.example.com", "shop", "-o", "yaml"], "")
        .await;
    assert!(old.out.contains("apiVersion: stable.example.com/v1beta1"), "{old:?}");
    assert!(
        old.err.contains("Warning: stable.example.com/v1beta1 Database is deprecated; use v1"),
        "{old:?}"
    );
    assert!(kubectl.run(&["delete", "db", "shop"]).await.contains("deleted"));
    kubectl.run_with(&["apply", "-f", "-"], SHOP).await;
    let deleted =
        kubectl.run(&["delete", "crd", "databases.stable.example.com", "--timeout=60s"]).await;
    assert!(deleted.contains("deleted"), "{deleted}");
    let listed = kubectl.run(&["api-resources"]).await;
    assert!(!listed.contains("stable.example.com"), "{listed}");
    let gone = kubectl.try_run(&["get", "db"], "").await;
    assert!(gone.err.contains("the server doesn't have a resource type \"db\""), "{gone:?}");
}

#[tokio::test]
async fn explain_and_validation_know_the_schema() {
    let Some(kubectl) = defined().await else { return };
    // kubectl learns short names when it lists, as with any server.
    let out = kubectl.run(&["api-resources", "--api-group=stable.example.com"]).await;
    assert!(out.contains("databases") && out.contains("stable.example.com/v1 "), "{out}");
    let out = kubectl.run(&["explain", "db"]).await;
    assert!(
        out.contains("GROUP:      stable.example.com") && out.contains("KIND:       Database"),
        "{out}"
    );
    assert!(out.contains("Database is a database that an operator runs."), "{out}");
    let out = kubectl.run(&["explain", "db.spec.engine"]).await;
    assert!(
        out.contains("FIELD: engine <string>") && out.contains("The engine that runs."),
        "{out}"
    );
    let out = kubectl.run(&["explain", "db.metadata.labels"]).await;
    assert!(out.contains("labels <map[string]string>"), "{out}");
    let unknown = SHOP.replace("replicas: 3", "replicaz: 3");
    let refused = kubectl.try_run(&["create", "-f", "-"], &unknown).await;
    assert!(
        refused.err.contains("strict decoding error: unknown field \"spec.replicaz\""),
        "{refused:?}"
    );
    let pruned =
        kubectl.run_with(&["create", "--validate=ignore", "-o", "json", "-f", "-"], &unknown).await;
    let pruned: Value = serde_json::from_str(&pruned).unwrap();
    assert_eq!(
        (&pruned["spec"]["replicas"], &pruned["spec"]["replicaz"]),
        (&1.into(), &Value::Null)
    );
    let wrong =
        SHOP.replace("engine: postgres", "engine: oracle").replace("name: shop", "name: odd");
    let refused = kubectl.try_run(&["apply", "-f", "-"], &wrong).await;
    assert!(refused.err.contains("The Database \"odd\" is invalid: spec.engine: Unsupported value: \"oracle\": supported values: \"postgres\", \"mysql\""), "{refused:?}");
    let strategic = kubectl.try_run(&["patch", "db", "shop", "-p", "{}"], "").await;
    assert!(
        strategic.err.contains("application/strategic-merge-patch+json is not supported")
            || strategic.err.contains("media type"),
        "{strategic:?}"
    );
}

#[tokio::test]
async fn server_side_apply_keeps_owners_of_custom_fields() {
    let Some(kubectl) = defined().await else { return };
    kubectl.run_with(&["apply", "--server-side", "--field-manager=a", "-f", "-"], SHOP).await;
    let other = SHOP.replace("replicas: 3", "replicas: 4");
    let refused =
        kubectl.try_run(&["apply", "--server-side", "--field-manager=b", "-f", "-"], &other).await;
    assert!(refused.err.contains("conflict with \"a\": .spec.replicas"), "{refused:?}");
    kubectl
        .run_with(
            &["apply", "--server-side", "--field-manager=b", "--force-conflicts", "-f", "-"],
            &other,
        )
        .await;
    let out = kubectl.run(&["get", "db", "shop", "-o", "yaml", "--show-managed-fields"]).await;
    assert!(out.contains("k:{\"name\":\"app\"}"), "{out}");
    let refused = kubectl
        .try_run(&["create", "-f", "-"], &DATABASES.replace("storage: true", "storage: false"))
        .await;
    assert!(
        refused.err.contains("must have exactly one version marked as storage version"),
        "{refused:?}"
    );
}
