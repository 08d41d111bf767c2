//! Server-side apply, owners of fields and schemas, as a raw client sees them over HTTP.

use serde_json::{Value, json};

use super::tests::Server;

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const CONFIG_MAP: &str = "/api/v1/namespaces/default/configmaps/c";

fn deployment(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "labels": {"app": "d"}}, "spec": spec,
    })
}

fn spec(replicas: i64, image: &str) -> Value {
    json!({
        "replicas": replicas,
        "selector": {"matchLabels": {"app": "d"}},
        "template": {
            "metadata": {"labels": {"app": "d"}},
            "spec": {"containers": [{"name": "a", "image": image}]},
        },
    })
}

impl Server {
    async fn patch(&self, path: &str, media: &str, body: &Value) -> (u16, Value) {
        let response = reqwest::Client::new()
            .patch(self.url(path))
            .header("content-type", media)
            .header("user-agent", "curl/8.0")
            .body(body.to_string())
            .send()
            .await
            .unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    async fn apply(&self, path: &str, query: &str, body: &Value) -> (u16, Value) {
        self.patch(&format!("{path}?{query}"), "application/apply-patch+yaml", body).await
    }
}

/// manager, operation and subresource of every entry; appliers first, then by name, as
/// which of two wrote first is a matter of seconds.
fn managers(object: &Value) -> Vec<(&str, &str, &str)> {
    let list = object["metadata"]["managedFields"].as_array().map(Vec::as_slice);
    let mut found: Vec<(&str, &str, &str)> = list
        .unwrap_or_default()
        .iter()
        .map(|entry| {
            let text = |field: &str| entry[field].as_str().unwrap_or_default();
            (text("manager"), text("operation"), text("subresource"))
        })
        .collect();
    found.sort_by_key(|(manager, operation, _)| (*operation, *manager));
    found
}

/// What a manager owns.
fn fields_of(object: &Value, manager: &str) -> Value {
    let list = object["metadata"]["managedFields"].as_array().unwrap();
    list.iter().find(|entry| entry["manager"] == manager).unwrap()["fieldsV1"].clone()
}

#[tokio::test]
async fn an_apply_creates_owns_what_it_says_and_conflicts() {
    let server = Server::start().await;
    let path = format!("{DEPLOYMENTS}/d");
    let config = deployment("d", &spec(2, "a:1"));
    let (code, made) = server.apply(&path, "fieldManager=one", &config).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(managers(&made), [("one", "Apply", "")]);
    let entry = &made["metadata"]["managedFields"][0];
    assert_eq!(
        (&entry["apiVersion"], &entry["fieldsType"]),
        (&json!("apps/v1"), &json!("FieldsV1"))
    );
    let fields = &entry["fieldsV1"];
    assert_eq!(fields["f:spec"]["f:replicas"], json!({}));
    // Defaults are in the object and belong to nobody.
    assert_eq!(made["spec"]["revisionHistoryLimit"], 10);
    assert!(fields["f:spec"].get("f:revisionHistoryLimit").is_none(), "{fields}");
    let (code, same) = server.apply(&path, "fieldManager=one", &config).await;
    assert_eq!((code, &same), (200, &made), "the same apply writes nothing");

    let scale = json!({"spec": {"replicas": 5}});
    let merge = "application/merge-patch+json";
    let (code, scaled) = server.patch(&format!("{path}/scale"), merge, &scale).await;
    assert_eq!(code, 200, "{scaled}");
    let (_, object) = server.get(&path).await;
    assert_eq!(managers(&object), [("one", "Apply", ""), ("curl", "Update", "scale")]);
    let (code, status) = server.apply(&path, "fieldManager=one", &config).await;
    assert_eq!((code, status["reason"].as_str()), (409, Some("Conflict")));
    assert_eq!(
        status["message"],
        "Apply failed with 1 conflict: conflict with \"curl\" with subresource \"scale\" using apps/v1: .spec.replicas"
    );
    assert_eq!(
        status["details"]["causes"],
        json!([{
            "reason": "FieldManagerConflict",
            "message": "conflict with \"curl\" with subresource \"scale\" using apps/v1",
            "field": ".spec.replicas",
        }])
    );
    let (code, dry) = server.apply(&path, "fieldManager=one&force=true&dryRun=All", &config).await;
    assert_eq!((code, &dry["spec"]["replicas"]), (200, &json!(2)));
    assert_eq!(server.get(&path).await.1, object, "a dry run writes nothing");
    let (code, forced) = server.apply(&path, "fieldManager=one&force=true", &config).await;
    assert_eq!((code, &forced["spec"]["replicas"]), (200, &json!(2)));
    assert_eq!(managers(&forced), [("one", "Apply", "")]);
}

#[tokio::test]
async fn status_is_applied_and_owned_by_its_own_path() {
    let server = Server::start().await;
    let path = format!("{DEPLOYMENTS}/d");
    let mut config = deployment("d", &spec(2, "a:1"));
    config["status"] = json!({"replicas": 7});
    let (_, made) = server.apply(&path, "fieldManager=one", &config).await;
    assert!(made["status"].get("replicas").is_none(), "{made}");
    let status = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "status": {"replicas": 2, "conditions": [{"type": "Available", "status": "True"}]},
        "spec": {"replicas": 9}});
    let (code, object) = server.apply(&format!("{path}/status"), "fieldManager=two", &status).await;
    assert_eq!((code, &object["spec"]["replicas"]), (200, &json!(2)), "{object}");
    assert_eq!(object["status"]["replicas"], 2);
    assert_eq!(managers(&object), [("one", "Apply", ""), ("two", "Apply", "status")]);
    let fields = fields_of(&object, "two");
    assert!(fields.get("f:spec").is_none(), "{fields}");
    assert!(
        fields["f:status"]["f:conditions"].get("k:{\"type\":\"Available\"}").is_some(),
        "{fields}"
    );
    let missing = format!("{DEPLOYMENTS}/x/status");
    assert_eq!(server.apply(&missing, "fieldManager=two", &status).await.0, 404);
    let scale = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "spec": {"replicas": 4}});
    let (code, scaled) =
        server.apply(&format!("{path}/scale"), "fieldManager=hpa&force=true", &scale).await;
    assert_eq!((code, &scaled["spec"]["replicas"]), (200, &json!(4)), "{scaled}");
    let (_, object) = server.get(&path).await;
    assert!(managers(&object).contains(&("hpa", "Apply", "scale")), "{object}");
}

#[tokio::test]
async fn writers_own_what_they_change_by_name_or_program() {
    let server = Server::start().await;
    let map = json!({"metadata": {"name": "c"}, "data": {"a": "1", "b": "1"}});
    let post = http::Method::POST;
    let list = "/api/v1/namespaces/default/configmaps?fieldManager=maker";
    assert_eq!(server.send(post, list, map).await.0, 201);
    let merge = "application/merge-patch+json";
    let change = json!({"data": {"a": "2", "b": null}});
    let (_, object) = server.patch(CONFIG_MAP, merge, &change).await;
    assert_eq!(managers(&object), [("curl", "Update", ""), ("maker", "Update", "")]);
    assert_eq!(fields_of(&object, "curl"), json!({"f:data": {"f:a": {}}}));
    assert_eq!(fields_of(&object, "maker"), json!({"f:data": {}}));
    // Writing the same again changes nothing, not even a time.
    assert_eq!(server.patch(CONFIG_MAP, merge, &change).await.1, object);
    // Emptied by request, they stay empty until somebody applies.
    for reset in [json!([]), json!([{}])] {
        let clear = json!({"metadata": {"managedFields": reset}});
        let (code, bare) = server.patch(CONFIG_MAP, merge, &clear).await;
        assert_eq!((code, managers(&bare)), (200, vec![]), "{bare}");
    }
    let (_, bare) = server.patch(CONFIG_MAP, merge, &json!({"data": {"c": "1"}})).await;
    assert_eq!(managers(&bare), []);
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"d": "1"}});
    let (_, applied) = server.apply(CONFIG_MAP, "fieldManager=one", &config).await;
    assert_eq!(managers(&applied), [("one", "Apply", ""), ("before-first-apply", "Update", "")]);
    let bad = json!({"metadata": {"managedFields": [{"operation": "Steal"}]}});
    let (code, status) = server.patch(CONFIG_MAP, merge, &bad).await;
    assert_eq!(code, 400, "{status}");
}

#[tokio::test]
async fn what_an_applier_drops_goes_from_the_object() {
    let server = Server::start().await;
    let config = |data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data});
    server.apply(CONFIG_MAP, "fieldManager=one", &config(json!({"a": "1", "b": "1"}))).await;
    server.apply(CONFIG_MAP, "fieldManager=two", &config(json!({"b": "1", "c": "1"}))).await;
    let (_, object) = server.apply(CONFIG_MAP, "fieldManager=one", &config(json!({}))).await;
    assert_eq!(object["data"], json!({"b": "1", "c": "1"}));
    let nothing = json!({"apiVersion": "v1", "kind": "ConfigMap"});
    let (_, object) = server.apply(CONFIG_MAP, "fieldManager=two", &nothing).await;
    assert!(object.get("data").is_none_or(|data| data == &json!({})), "{object}");
}

#[tokio::test]
async fn bad_applies_are_refused_with_the_reason() {
    let server = Server::start().await;
    let good = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "1"}});
    let (code, status) = server.apply(CONFIG_MAP, "force=true", &good).await;
    assert_eq!(code, 422);
    assert_eq!(
        status["message"],
        "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"
    );
    let merge = "application/merge-patch+json";
    let (code, _) = server.patch(&format!("{CONFIG_MAP}?force=true"), merge, &good).await;
    assert_eq!(code, 422);
    let long = format!("fieldManager={}", "x".repeat(129));
    assert_eq!(server.apply(CONFIG_MAP, &long, &good).await.0, 400);
    for (change, word) in [
        (json!({"apiVersion": "v2"}), "Specified patch version: v2, expected: v1"),
        (json!({"kind": "Secret"}), "expected kind (ConfigMap)"),
        (json!({"metadata": {"name": "other"}}), "does not match the name on the URL"),
        (json!({"metadata": {"managedFields": []}}), "metadata.managedFields must be nil"),
        (json!({"dota": {}}), ".dota: field not declared in schema"),
        (json!({"data": {"a": 1}}), ".data.a: expected string, got 1"),
    ] {
        let mut config = good.clone();
        for (field, value) in change.as_object().unwrap() {
            config[field] = value.clone();
        }
        let (code, status) = server.apply(CONFIG_MAP, "fieldManager=one", &config).await;
        assert_eq!(code, 400, "{config}: {status}");
        assert!(status["message"].as_str().unwrap().contains(word), "{status}");
    }
    for body in [json!([]), json!("x"), json!(null), json!({"metadata": 1, "apiVersion": "v1"})] {
        let (code, status) = server.apply(CONFIG_MAP, "fieldManager=one", &body).await;
        assert!((400..500).contains(&code), "{body}: {status}");
    }
    let (code, _) = server.patch(CONFIG_MAP, "application/apply-patch+cbor", &good).await;
    assert_eq!(code, 415);
    // An apply that names a version means an object that is there.
    let mut versioned = good.clone();
    versioned["metadata"] = json!({"name": "c", "resourceVersion": "1"});
    let (code, status) = server.apply(CONFIG_MAP, "fieldManager=one", &versioned).await;
    assert_eq!((code, status["reason"].as_str()), (409, Some("Conflict")));
}

#[tokio::test]
async fn schemas_are_served_for_all_that_is_served() {
    let server = Server::start().await;
    let (_, index) = server.get("/openapi/v3").await;
    for (path, place) in index["paths"].as_object().unwrap() {
        let (code, document) = server.get(place["serverRelativeURL"].as_str().unwrap()).await;
        assert_eq!(code, 200, "{path}");
        let schemas = document["components"]["schemas"].as_object().unwrap();
        assert!(schemas.contains_key("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"), "{path}");
    }
    let (_, document) = server.get("/openapi/v3/apis/apps/v1").await;
    let schemas = &document["components"]["schemas"];
    assert_eq!(
        schemas["io.k8s.api.apps.v1.Deployment"]["x-kubernetes-group-version-kind"],
        json!([{"group": "apps", "version": "v1", "kind": "Deployment"}])
    );
    assert!(schemas.get("io.k8s.api.discovery.v1.EndpointSlice").is_none());
    let (_, swagger) = server.get("/openapi/v2").await;
    assert!(swagger["definitions"].get("io.k8s.api.core.v1.Pod").is_some());
}
