//! The protocol over a store in memory, driven through its JSON side, which goes through
//! every gRPC service's own framing.

mod gateway;
mod locks;
mod memory;
mod watches;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{EtcdApi, EtcdStore};
use crate::api::identity::PeerIdentity;
use memory::Memory;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(20);

fn b64(text: &str) -> String {
    STANDARD.encode(text)
}

fn plain(value: &Value) -> String {
    String::from_utf8(STANDARD.decode(value.as_str().unwrap()).unwrap()).unwrap()
}

/// A member that serves nobody but the test.
struct Member {
    router: Router,
    store: Arc<Memory>,
}

impl Member {
    fn new() -> Self {
        let store = Memory::new();
        let router = EtcdApi::new(EtcdStore::of(store.clone()), 2379).router();
        Self { router, store }
    }

    async fn send(&self, mut request: Request, groups: &[&str]) -> axum::response::Response {
        let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
        if !groups.is_empty() {
            let identity =
                PeerIdentity { user: "someone".into(), groups, key_fingerprint: String::new() };
            request.extensions_mut().insert(identity);
        }
        let answer = tokio::time::timeout(PATIENCE, self.router.clone().oneshot(request)).await;
        answer.unwrap().unwrap()
    }

    /// A JSON call by an administrator; the body as it comes.
    async fn open(&self, path: &str, body: Body) -> axum::response::Response {
        let request = Request::post(format!("/v3/{path}")).body(body).unwrap();
        self.send(request, &["system:masters"]).await
    }

    async fn call(&self, path: &str, body: Value) -> (StatusCode, Value) {
        let answer = self.open(path, Body::from(body.to_string())).await;
        let status = answer.status();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    async fn ok(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.call(path, body).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        answer
    }

    async fn put(&self, key: &str, value: &str) -> i64 {
        let answer = self.ok("kv/put", json!({ "key": b64(key), "value": b64(value) })).await;
        answer["header"]["revision"].as_str().unwrap().parse().unwrap()
    }
}

/// The lines of a streaming answer, one by one.
struct Lines {
    body: Body,
    text: Vec<u8>,
}

impl Lines {
    fn of(answer: axum::response::Response) -> Self {
        assert_eq!(answer.status(), StatusCode::OK);
        Self { body: answer.into_body(), text: Vec::new() }
    }

    /// The next line's document; `None` at the end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.text.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.unwrap()?;
            if let Ok(data) = frame.unwrap().into_data() {
                self.text.extend_from_slice(&data);
            }
        }
    }

    async fn result(&mut self) -> Value {
        let line = self.next().await.expect("one more line");
        assert!(line["error"].is_null(), "{line}");
        line["result"].clone()
    }
}

#[tokio::test]
async fn keys_are_written_read_compared_and_deleted_over_json() {
    let member = Member::new();
    assert_eq!(member.put("a", "1").await, 2);
    let found = member.ok("kv/range", json!({ "key": b64("a") })).await;
    assert_eq!(
        found,
        json!({
            "header": {
                "cluster_id": "77", "member_id": "1", "revision": "2", "raft_term": "3"
            },
            "kvs": [{
                "key": b64("a"), "create_revision": "2", "mod_revision": "2", "version": "1",
                "value": b64("1")
            }],
            "count": "1"
        })
    );
    let txn = json!({
        "compare": [{ "key": b64("a"), "target": "VALUE", "value": b64("1") }],
        "success": [
            { "requestPut": { "key": b64("b"), "value": b64("2"), "prevKv": true } },
            { "request_range": { "key": b64("a"), "rangeEnd": b64("c"), "limit": "1" } }
        ]
    });
    let done = member.ok("kv/txn", txn).await;
    assert_eq!((&done["succeeded"], &done["header"]["revision"]), (&json!(true), &json!("3")));
    let range = &done["responses"][1]["response_range"];
    assert_eq!((&range["count"], &range["more"]), (&json!("2"), &json!(true)));
    assert_eq!(done["responses"][0]["response_put"], json!({ "header": { "revision": "3" } }));
    let gone = json!({ "key": b64("a"), "range_end": b64("c"), "prev_kv": true });
    let gone = member.ok("kv/deleterange", gone).await;
    assert_eq!(gone["deleted"], "2");
    assert_eq!(gone["prev_kvs"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_streamed_range_merges_to_the_whole() {
    let member = Member::new();
    for key in ["a", "b", "c"] {
        member.put(key, key).await;
    }
    let body = json!({ "key": b64("a"), "range_end": b64("\0") }).to_string();
    let mut lines = Lines::of(member.open("kv/rangestream", Body::from(body)).await);
    let (mut keys, mut headers, mut count) = (Vec::new(), 0, Value::Null);
    while let Some(line) = lines.next().await {
        let chunk = &line["result"]["range_response"];
        headers += usize::from(chunk["header"].is_object());
        keys.extend(chunk["kvs"].as_array().into_iter().flatten().map(|kv| plain(&kv["key"])));
        count = chunk["count"].clone();
    }
    assert_eq!((keys.join(""), headers, count), ("abc".to_owned(), 1, json!("3")));
}

#[tokio::test]
async fn refusals_carry_etcds_text_code_and_status() {
    let member = Member::new();
    let (status, told) = member.call("kv/range", json!({})).await;
    let text = "etcdserver: key is not provided";
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(told, json!({ "error": text, "code": 3, "message": text }));
    let (status, told) = member.call("lease/revoke", json!({ "ID": "5" })).await;
    assert_eq!((status, &told["code"]), (StatusCode::NOT_FOUND, &json!(5)));
    assert_eq!(told["error"], "etcdserver: requested lease not found");
    let (status, told) = member.call("kv/put", json!({ "key": 7 })).await;
    assert_eq!((status, &told["code"]), (StatusCode::BAD_REQUEST, &json!(3)));
    let (_, told) =
        member.call("maintenance/downgrade", json!({ "action": "ENABLE", "version": "3.6" })).await;
    assert_eq!(told["error"], "etcdserver: invalid downgrade target version");
    let (status, _) = member.call("auth/enable", json!({})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn leases_are_granted_kept_and_revoked() {
    let member = Member::new();
    let granted = member.ok("lease/grant", json!({ "TTL": "60", "ID": 17 })).await;
    assert_eq!((&granted["ID"], &granted["TTL"]), (&json!("17"), &json!("60")));
    member.ok("kv/put", json!({ "key": b64("k"), "lease": "17" })).await;
    let left = member.ok("lease/timetolive", json!({ "ID": 17, "keys": true })).await;
    assert_eq!(left["grantedTTL"], "60");
    assert_eq!(left["keys"], json!([b64("k")]));
    let body = r#"{"ID":17}{"ID":"99"}"#;
    let mut lines = Lines::of(member.open("lease/keepalive", Body::from(body)).await);
    assert_eq!(lines.result().await["TTL"], "60");
    // A lease that is gone is told as a time to live of zero, which JSON leaves out.
    let gone = lines.result().await;
    assert_eq!((&gone["ID"], &gone["TTL"]), (&json!("99"), &Value::Null));
    assert_eq!(lines.next().await, None);
    member.ok("lease/revoke", json!({ "ID": 17 })).await;
    assert_eq!(member.ok("kv/range", json!({ "key": b64("k") })).await["count"], Value::Null);
    let left = member.ok("kv/lease/timetolive", json!({ "ID": 17 })).await;
    assert_eq!(left["TTL"], "-1");
}

#[tokio::test]
async fn members_and_status_are_told_as_clients_expect() {
    let member = Member::new();
    let members = member.ok("cluster/member/list", json!({})).await;
    assert_eq!(
        members["members"],
        json!([{
            "ID": "1", "name": "a1", "peerURLs": ["https://10.77.0.11:2380"],
            "clientURLs": ["https://10.77.0.11:2379"]
        }])
    );
    let status = member.ok("maintenance/status", json!({})).await;
    assert_eq!((&status["version"], &status["leader"]), (&json!("3.7.0"), &json!("1")));
    let mut snapshot = Lines::of(member.open("maintenance/snapshot", Body::empty()).await);
    assert_eq!(plain(&snapshot.result().await["blob"]), "state");
}

#[tokio::test]
async fn without_a_clients_certificate_nothing_but_health_is_served() {
    let member = Member::new();
    for groups in [&[][..], &["system:nodes"], &["system:nodes", "holdfast:control"]] {
        for path in ["/v3/kv/range", "/metrics", "/etcdserverpb.KV/Range", "/other"] {
            let request = Request::post(path).body(Body::from("{}")).unwrap();
            assert_eq!(
                member.send(request, groups).await.status(),
                StatusCode::FORBIDDEN,
                "{path}"
            );
        }
        let grpc =
            Request::post("/etcdserverpb.KV/Range").header("content-type", "application/grpc");
        let answer = member.send(grpc.body(Body::empty()).unwrap(), groups).await;
        assert_eq!(answer.headers()["grpc-status"], "7");
        for path in ["/health", "/livez", "/readyz", "/version"] {
            let request = Request::get(path).body(Body::empty()).unwrap();
            assert_eq!(member.send(request, groups).await.status(), StatusCode::OK, "{path}");
        }
    }
    let request = Request::post("/v3/kv/range").body(Body::from(r#"{"key":"YQ=="}"#)).unwrap();
    let answer = member.send(request, &["holdfast:etcd-clients"]).await;
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_member_without_a_leader_is_not_healthy_and_says_so() {
    let member = Member::new();
    let health = |query: &'static str| {
        let request = Request::get(format!("/health{query}")).body(Body::empty()).unwrap();
        member.send(request, &[])
    };
    let answer = health("").await.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(&answer[..], br#"{"health":"true","reason":""}"#);
    *member.store.leader.lock().unwrap() = None;
    let answer = health("").await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(&text[..], br#"{"health":"false","reason":"RAFT NO LEADER"}"#);
    assert_eq!(health("?serializable=true").await.status(), StatusCode::OK);
    let request = Request::post("/v3/kv/range").header("grpc-metadata-hasleader", "true");
    let request = request.body(Body::from(r#"{"key":"YQ=="}"#)).unwrap();
    let answer = member.send(request, &["system:masters"]).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn metrics_stand_under_etcds_names() {
    let member = Member::new();
    member.put("a", "1").await;
    let request = Request::get("/metrics").body(Body::empty()).unwrap();
    let answer = member.send(request, &["system:masters"]).await;
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(text.to_vec()).unwrap();
    for line in [
        "etcd_server_has_leader 1.0",
        "etcd_debugging_mvcc_current_revision 2.0",
        r#"grpc_server_started_total{grpc_type="unary",grpc_service="etcdserverpb.KV",grpc_method="Put"} 1"#,
        r#"grpc_server_handled_total{grpc_code="OK",grpc_type="unary",grpc_service="etcdserverpb.KV",grpc_method="Put"} 1"#,
        r#"grpc_server_handling_seconds_count{grpc_type="unary",grpc_service="etcdserverpb.KV",grpc_method="Put"} 1"#,
        "etcd_disk_wal_fsync_duration_seconds_count 0",
        "etcd_server_leader_changes_seen_total 0",
        "etcd_server_proposals_pending 0",
        r#"etcd_server_version{server_version="3.7.0"} 1"#,
    ] {
        assert!(text.lines().any(|own| own == line), "{line} is not in\n{text}");
    }
}
