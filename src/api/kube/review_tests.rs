//! Who am I, may I, and acting as somebody else: over HTTP and with kubectl.

use http::Method;
use serde_json::{Value, json};

use super::kubectl_tests::Kubectl;
use super::tests::Server;

const SELF: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
const OTHERS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";

fn about(verb: &str, resource: &str, name: &str) -> Value {
    json!({"spec": {"resourceAttributes": {"verb": verb, "resource": resource, "name": name}}})
}

impl Server {
    async fn allowed(&self, path: &str, question: Value) -> Value {
        let (code, answer) = self.send(Method::POST, path, question).await;
        assert_eq!(code, 201, "{answer}");
        answer["status"]["allowed"].clone()
    }

    async fn as_other(&self, headers: &[(&str, &str)], path: &str) -> (u16, Value) {
        let mut request = reqwest::Client::new().get(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }
}

#[tokio::test]
async fn a_node_learns_what_it_may() {
    let server = Server::start_as(Some(("system:node:n1", "system:nodes"))).await;
    assert_eq!(server.allowed(SELF, about("get", "pods", "x")).await, true);
    assert_eq!(server.allowed(SELF, about("update", "nodes", "n1")).await, true);
    assert_eq!(server.allowed(SELF, about("update", "nodes", "n2")).await, false);
    assert_eq!(server.allowed(SELF, about("impersonate", "users", "x")).await, false);
    for (verb, path, allowed) in
        [("get", "/version", true), ("get", "/metrics", false), ("post", "/version", false)]
    {
        let question = json!({"spec": {"nonResourceAttributes": {"verb": verb, "path": path}}});
        assert_eq!(server.allowed(SELF, question).await, allowed, "{verb} {path}");
    }
    // What others may is not for it to know.
    let mut question = about("get", "pods", "x");
    question["spec"]["user"] = "jane".into();
    let (code, status) = server.send(Method::POST, OTHERS, question).await;
    assert_eq!((code, status["reason"].as_str()), (403, Some("Forbidden")), "{status}");
    let rules = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let (_, answer) =
        server.send(Method::POST, rules, json!({"spec": {"namespace": "default"}})).await;
    let own = answer["status"]["resourceRules"].as_array().unwrap();
    assert!(own.iter().any(|rule| rule["resourceNames"] == json!(["n1"])), "{answer}");
    assert_eq!(answer["status"]["incomplete"], true);
}

#[tokio::test]
async fn an_administrator_learns_what_others_may() {
    let server = Server::start().await;
    for (user, groups, allowed) in [
        ("jane", json!([]), false),
        ("jane", json!(["system:masters"]), true),
        ("system:node:n1", json!(["system:nodes"]), true),
    ] {
        let mut question = about("get", "pods", "x");
        question["spec"]["user"] = user.into();
        question["spec"]["groups"] = groups;
        assert_eq!(server.allowed(OTHERS, question.clone()).await, allowed, "{question}");
        let local = "/apis/authorization.k8s.io/v1/namespaces/shop/localsubjectaccessreviews";
        let (code, _) = server.send(Method::POST, local, question.clone()).await;
        assert_eq!(code, 400, "another namespace than the path's");
        question["spec"]["resourceAttributes"]["namespace"] = "shop".into();
        assert_eq!(server.allowed(local, question).await, allowed);
    }
    for wrong in [json!({}), json!({"spec": {}}), json!({"spec": {"user": "x"}})] {
        let (code, status) = server.send(Method::POST, OTHERS, wrong.clone()).await;
        assert!((400..500).contains(&code), "{wrong}: {status}");
    }
    let token = "/apis/authentication.k8s.io/v1/tokenreviews";
    let (code, answer) = server.send(Method::POST, token, json!({"spec": {"token": "x"}})).await;
    assert_eq!((code, &answer["status"]["authenticated"]), (201, &json!(false)), "{answer}");
    // Nothing of all this is kept.
    assert_eq!(server.get(SELF).await.0, 405);
}

#[tokio::test]
async fn whoever_acts_as_another_has_the_others_rights() {
    let server = Server::start().await;
    let pods = "/api/v1/namespaces/default/pods";
    let (code, status) = server.as_other(&[("impersonate-user", "jane")], pods).await;
    assert_eq!(code, 403);
    assert!(status["message"].as_str().unwrap().contains("User \"jane\" cannot list"), "{status}");
    let masters = [("impersonate-user", "jane"), ("impersonate-group", "system:masters")];
    assert_eq!(server.as_other(&masters, pods).await.0, 200);
    let account = [("impersonate-user", "system:serviceaccount:shop:web")];
    assert_eq!(server.as_other(&account, pods).await.0, 403);
    assert_eq!(server.as_other(&[("impersonate-group", "x")], pods).await.0, 400);
    assert_eq!(server.as_other(&[("impersonate-uid", "1")], pods).await.0, 400);
    let server = Server::start_as(Some(("system:node:n1", "system:nodes"))).await;
    let (code, status) = server.as_other(&masters, pods).await;
    assert_eq!(code, 403);
    assert_eq!(
        status["message"],
        "users \"jane\" is forbidden: User \"system:node:n1\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope"
    );
}

#[tokio::test]
async fn kubectl_auth_answers() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let out = kubectl.run(&["auth", "whoami"]).await;
    assert!(
        out.contains("admin") && out.contains("[system:masters system:authenticated]"),
        "{out}"
    );
    assert_eq!(kubectl.run(&["auth", "can-i", "create", "pods"]).await.trim(), "yes");
    let denied = kubectl.try_run(&["auth", "can-i", "create", "pods", "--as=jane"], "").await;
    assert!(!denied.ok && denied.out.trim() == "no", "{denied:?}");
    let out = kubectl.run(&["auth", "can-i", "--list"]).await;
    assert!(out.contains("selfsubjectaccessreviews.authorization.k8s.io"), "{out}");
    let out = kubectl.run(&["auth", "whoami", "--as=jane", "--as-group=dev"]).await;
    assert!(out.contains("jane") && out.contains("[dev system:authenticated]"), "{out}");
    let refused = kubectl.try_run(&["get", "pods", "--as=jane"], "").await;
    assert!(refused.err.contains("pods is forbidden: User \"jane\" cannot list"), "{refused:?}");
}
