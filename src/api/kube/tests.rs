//! A server over plain HTTP for the tests here, and what a raw client sees.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Extension;
use bytes::Bytes;
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::kubectl_scaling_tests::ToldUsage;
use super::stream_tests::NodeClient;
use super::{KubeState, LogOptions, LogStream, PodLogs, router};
use crate::api::identity::PeerIdentity;
use crate::api::pod_streams::fake::TestNode;
use crate::model::status::Status;
use crate::objects::memory_kv::MemoryKv;
use crate::objects::{Objects, ObjectsOptions};

/// Gives lines that say what was asked for.
#[derive(Debug)]
pub(super) struct EchoLogs;

#[async_trait]
impl PodLogs for EchoLogs {
    async fn open(&self, pod: &Value, options: LogOptions) -> Result<LogStream, Status> {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let lines = vec![
            format!("hello from {name}/{}\n", options.container),
            format!("tail={:?} follow={}\n", options.tail_lines, options.follow),
        ];
        Ok(futures::stream::iter(lines).map(|line| Ok(Bytes::from(line))).boxed())
    }
}

pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) objects: Arc<Objects>,
    pub(super) kv: Arc<MemoryKv>,
    /// Runs every pod.
    pub(super) node: TestNode,
    pub(super) usage: Arc<ToldUsage>,
    _tasks: JoinSet<()>,
}

impl Server {
    pub(super) async fn start() -> Self {
        Self::start_as(Some(("admin", "system:masters"))).await
    }

    pub(super) async fn start_as(identity: Option<(&str, &str)>) -> Self {
        Self::start_behind(identity, |app| app).await
    }

    /// `before` is what requests go through first.
    pub(super) async fn start_behind(
        identity: Option<(&str, &str)>,
        before: impl FnOnce(axum::Router) -> axum::Router,
    ) -> Self {
        // Another test may have installed it first; that is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let kv = Arc::new(MemoryKv::new());
        let options = ObjectsOptions { service_range: "10.96.0.0/24".parse().unwrap() };
        let objects = Arc::new(Objects::new(kv.clone(), options));
        objects.ensure_bootstrap().await.unwrap();
        let node = TestNode::start().await;
        let usage = Arc::new(ToldUsage::default());
        let state = KubeState {
            usage: usage.clone(),
            objects: objects.clone(),
            logs: Arc::new(EchoLogs),
            streams: Arc::new(NodeClient::new(&node)),
            conversations: TaskTracker::new(),
        };
        let mut app = before(router(state));
        if let Some((user, group)) = identity {
            let peer = PeerIdentity {
                user: user.to_owned(),
                groups: vec![group.to_owned()],
                key_fingerprint: String::new(),
            };
            app = app.layer(Extension(peer));
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, app).await.unwrap() });
        let cancel = CancellationToken::new();
        let (follower, keeper, stop) = (objects.clone(), objects.clone(), cancel.clone());
        tasks.spawn(async move { follower.follow_definitions(stop).await });
        tasks.spawn(async move { keeper.keep_definitions(cancel).await });
        Self { address, objects, kv, node, usage, _tasks: tasks }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(super) async fn send(&self, method: http::Method, path: &str, body: Value) -> (u16, Value) {
        let response = reqwest::Client::new()
            .request(method, self.url(path))
            .json(&body)
            .send()
            .await
            .unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    pub(super) async fn get(&self, path: &str) -> (u16, Value) {
        let response = reqwest::get(self.url(path)).await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }
}

#[tokio::test]
async fn nobody_gets_nothing_but_health() {
    let server = Server::start_as(None).await;
    let (code, status) = server.get("/api/v1/pods").await;
    assert_eq!((code, status["reason"].as_str()), (401, Some("Unauthorized")));
    let health = reqwest::get(server.url("/readyz")).await.unwrap();
    assert_eq!(health.text().await.unwrap(), "ok");
}

#[tokio::test]
async fn a_stranger_is_refused_in_kubernetes_words() {
    let server = Server::start_as(Some(("jane", "dev"))).await;
    let (code, status) = server.get("/api/v1/namespaces/default/pods/x").await;
    assert_eq!(code, 403);
    assert_eq!(
        status["message"],
        "pods \"x\" is forbidden: User \"jane\" cannot get resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    let (_, status) = server.get("/apis/apps/v1/deployments").await;
    assert_eq!(
        status["message"],
        "deployments.apps is forbidden: User \"jane\" cannot list resource \"deployments\" in API group \"apps\" at the cluster scope"
    );
}

#[tokio::test]
async fn unknown_resources_fields_and_types_are_refused() {
    let server = Server::start().await;
    let (code, status) = server.get("/apis/networking.k8s.io/v1/ipaddresses").await;
    assert_eq!(code, 404);
    assert_eq!(status["message"], "the server could not find the requested resource");
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let post = http::Method::POST;
    let strict = format!("{path}?fieldValidation=Strict");
    let body = json!({"metadata": {"name": "a"}, "spec": {"replicaz": 1}});
    let (code, status) = server.send(post.clone(), &strict, body).await;
    assert_eq!(code, 400);
    assert_eq!(
        status["message"],
        "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: unknown field \"spec.replicaz\""
    );
    for (validation, code) in [("Strict", 400), ("Ignore", 201), ("Warn", 409)] {
        let response = reqwest::Client::new()
            .post(server.url(&format!(
                "/api/v1/namespaces/default/configmaps?fieldValidation={validation}"
            )))
            .header("content-type", "application/json")
            .body(r#"{"metadata": {"name": "twice"}, "data": {"a": "1", "a": "2"}}"#)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status().as_u16(), code, "{validation}");
        let text = response.text().await.unwrap();
        assert_eq!(
            text.contains("duplicate field \\\"data.a\\\""),
            validation == "Strict",
            "{text}"
        );
    }
    let body = json!({"metadata": {"name": "a"}, "spec": {"replicas": "three"}});
    let (code, status) = server.send(post.clone(), path, body).await;
    assert_eq!((code, status["reason"].as_str()), (400, Some("BadRequest")));
    assert!(status["message"].as_str().unwrap().contains("three"), "{status}");
    let (code, status) = server.send(post, path, json!({"kind": "Pod"})).await;
    assert_eq!(code, 400);
    assert!(status["message"].as_str().unwrap().contains("expected kind"), "{status}");
}

#[tokio::test]
async fn misshapen_bodies_are_refused_and_break_nothing() {
    let server = Server::start().await;
    let shapes = [
        json!([]),
        json!("x"),
        json!({"metadata": "x"}),
        json!({"metadata": {"name": 5}}),
        json!({"metadata": {"name": "kubernetes"}, "spec": "x"}),
        json!({"metadata": {"name": "kubernetes", "labels": [1]}}),
        json!({"metadata": {"name": "kubernetes"}, "spec": {"ports": {"a": 1}}}),
    ];
    let paths = [
        "/api/v1/namespaces/default/services",
        "/api/v1/namespaces",
        "/api/v1/namespaces/default/pods",
        "/apis/apps/v1/namespaces/default/deployments",
    ];
    for path in paths {
        for shape in &shapes {
            for (method, path) in [
                (http::Method::POST, format!("{path}?fieldValidation=Ignore")),
                (http::Method::PUT, format!("{path}/kubernetes?fieldValidation=Ignore")),
            ] {
                let (code, status) = server.send(method, &path, shape.clone()).await;
                // The last is no error where the kind has no such field: it is ignored.
                assert!(code < 500, "{path} {shape}: {status}");
            }
        }
    }
    let service = "/api/v1/namespaces/default/services/kubernetes?fieldValidation=Ignore";
    for shape in &shapes {
        let response = reqwest::Client::new()
            .patch(server.url(service))
            .header("content-type", "application/merge-patch+json")
            .body(shape.to_string())
            .send()
            .await
            .unwrap();
        assert!(response.status().is_client_error(), "{shape}: {response:?}");
    }
}

#[tokio::test]
async fn a_watch_streams_each_change_as_it_happens() {
    let server = Server::start().await;
    let path = "/api/v1/namespaces/default/configmaps?watch=true&allowWatchBookmarks=true&resourceVersion=";
    let path = format!("{path}{}", server.kv.revision());
    let mut stream = reqwest::get(server.url(&path)).await.unwrap().bytes_stream();
    let create = server
        .send(
            http::Method::POST,
            "/api/v1/namespaces/default/configmaps",
            json!({"metadata": {"name": "a"}, "data": {"k": "v"}}),
        )
        .await;
    assert_eq!(create.0, 201);
    let mut next = async || {
        let line = tokio::time::timeout(Duration::from_secs(30), stream.next());
        let line = line.await.expect("a change is sent at once").unwrap().unwrap();
        serde_json::from_slice::<Value>(&line).unwrap()
    };
    let added = next().await;
    assert_eq!(
        (added["type"].as_str(), added["object"]["data"]["k"].as_str()),
        (Some("ADDED"), Some("v"))
    );
    assert_eq!(
        added["object"]["metadata"]["resourceVersion"],
        create.1["metadata"]["resourceVersion"]
    );
    server.kv.progress();
    let bookmark = next().await;
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["metadata"]["resourceVersion"], server.kv.revision().to_string());
    let gone = server
        .send(http::Method::DELETE, "/api/v1/namespaces/default/configmaps/a", json!({}))
        .await;
    assert_eq!((gone.0, gone.1["status"].as_str()), (200, Some("Success")));
    assert_eq!(next().await["type"], "DELETED");
}

#[tokio::test]
async fn tables_carry_rows_and_metadata() {
    let server = Server::start().await;
    let table = reqwest::Client::new()
        .get(server.url("/api/v1/namespaces/kube-system/services"))
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")
        .send()
        .await
        .unwrap()
        .json::<Value>()
        .await
        .unwrap();
    assert_eq!(table["kind"], "Table");
    let cells = &table["rows"][0]["cells"];
    assert_eq!(cells[0], "kube-dns");
    assert_eq!(cells[2], "10.96.0.10");
    assert_eq!(cells[4], "53/UDP,53/TCP");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
}
