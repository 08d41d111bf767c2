//! Watches over one stream: ids, order, progress, cancellation.

use axum::body::Body;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::{Lines, Member, b64, plain};

/// A watch stream: documents in, lines out.
struct Stream {
    requests: Option<mpsc::UnboundedSender<Result<Bytes, std::io::Error>>>,
    lines: Lines,
}

impl Stream {
    async fn open(member: &Member, first: Value) -> Self {
        let (requests, received) = mpsc::unbounded_channel();
        requests.send(Ok(first.to_string().into())).unwrap();
        let body = Body::from_stream(UnboundedReceiverStream::new(received));
        let lines = Lines::of(member.open("watch", body).await);
        Self { requests: Some(requests), lines }
    }

    fn send(&self, request: Value) {
        self.requests.as_ref().unwrap().send(Ok(request.to_string().into())).unwrap();
    }

    async fn next(&mut self) -> Value {
        self.lines.result().await
    }

    /// The next answer with events, past notes of progress.
    async fn events(&mut self) -> Value {
        loop {
            let answer = self.next().await;
            if answer["events"].is_array() {
                return answer;
            }
        }
    }
}

fn create(key: &str, more: Value) -> Value {
    let mut request = json!({ "key": b64(key) });
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "create_request": request })
}

fn all(key: &str) -> Value {
    create(key, json!({ "rangeEnd": b64("\0") }))
}

#[tokio::test]
async fn several_watches_share_a_stream_and_a_closed_request_side_ends_none() {
    let member = Member::new();
    member.put("a", "0").await;
    let mut stream = Stream::open(&member, all("a")).await;
    let made = stream.next().await;
    assert_eq!((&made["created"], &made["watch_id"]), (&json!(true), &Value::Null));
    assert_eq!(made["header"]["revision"], "2");
    stream.send(create("b", json!({ "watch_id": "7" })));
    let made = stream.next().await;
    assert_eq!(made["watch_id"], "7");
    stream.requests = None;
    member.put("b", "1").await;
    let mut seen = vec![stream.events().await, stream.events().await];
    seen.sort_by_key(|answer| answer["watch_id"].to_string());
    assert_eq!(seen[0]["watch_id"], "7");
    assert_eq!(seen[1]["watch_id"], Value::Null);
    for answer in seen {
        assert_eq!(answer["header"]["revision"], "3");
        let event = &answer["events"][0];
        assert_eq!((plain(&event["kv"]["key"]), event["type"].is_null()), ("b".into(), true));
    }
}

#[tokio::test]
async fn the_past_is_delivered_in_order_and_once() {
    let member = Member::new();
    for value in 0..20 {
        member.put("a", &value.to_string()).await;
    }
    let mut stream = Stream::open(&member, create("a", json!({ "start_revision": 5 }))).await;
    assert_eq!(stream.next().await["created"], json!(true));
    member.put("a", "last").await;
    let mut next = 5;
    while next <= 22 {
        let answer = stream.events().await;
        for event in answer["events"].as_array().unwrap() {
            assert_eq!(event["kv"]["mod_revision"], next.to_string());
            next += 1;
        }
    }
}

#[tokio::test]
async fn what_cannot_be_watched_is_created_and_canceled_with_etcds_reason() {
    let member = Member::new();
    let mut stream = Stream::open(&member, create("a", json!({ "watch_id": 3 }))).await;
    stream.next().await;
    for (request, reason) in [
        (
            create("a", json!({ "watch_id": 3 })),
            "mvcc: duplicate watch ID provided on the WatchStream",
        ),
        (create("b", json!({ "range_end": b64("a") })), "mvcc: watcher range is empty"),
        (
            create("a", json!({ "start_revision": -1 })),
            "etcdserver: mvcc: required revision has been compacted",
        ),
        (
            create("forbidden", json!({})),
            "rpc error: code = PermissionDenied desc = etcdserver: permission denied",
        ),
    ] {
        stream.send(request);
        let answer = stream.next().await;
        assert_eq!(answer["watch_id"], "-1");
        assert_eq!((&answer["created"], &answer["canceled"]), (&json!(true), &json!(true)));
        assert_eq!(answer["cancel_reason"], reason);
    }
    stream.send(json!({ "cancel_request": { "watch_id": 3 } }));
    let answer = stream.next().await;
    assert_eq!((&answer["watch_id"], &answer["canceled"]), (&json!("3"), &json!(true)));
    stream.send(all("a"));
    stream.next().await;
    member.put("a", "1").await;
    assert_eq!(stream.events().await["watch_id"], Value::Null, "the canceled one is silent");
}

#[tokio::test]
async fn a_watch_from_before_a_compaction_is_canceled_with_its_revision() {
    let member = Member::new();
    for value in 0..5 {
        member.put("a", &value.to_string()).await;
    }
    member.ok("kv/compaction", json!({ "revision": 4 })).await;
    let mut stream = Stream::open(&member, create("a", json!({ "start_revision": 2 }))).await;
    assert_eq!(stream.next().await["created"], json!(true));
    let answer = stream.next().await;
    assert_eq!((&answer["canceled"], &answer["compact_revision"]), (&json!(true), &json!("4")));
}

#[tokio::test]
async fn progress_that_was_asked_for_is_about_the_whole_stream() {
    let member = Member::new();
    let mut stream = Stream::open(&member, all("a")).await;
    stream.next().await;
    let newest = member.put("a", "1").await;
    assert_eq!(stream.events().await["header"]["revision"], newest.to_string());
    stream.send(json!({ "progress_request": {} }));
    loop {
        let answer = stream.next().await;
        if answer["watch_id"] == "-1" {
            assert_eq!(answer["header"]["revision"], newest.to_string());
            return;
        }
    }
}

#[tokio::test]
async fn a_stream_that_needs_a_leader_ends_when_there_is_none() {
    let member = Member::new();
    let (requests, received) = mpsc::unbounded_channel();
    requests.send(Ok::<_, std::io::Error>(Bytes::from(all("a").to_string()))).unwrap();
    let mut request = axum::extract::Request::post("/v3/watch")
        .header("grpc-metadata-hasleader", "true")
        .body(Body::from_stream(UnboundedReceiverStream::new(received)))
        .unwrap();
    request.extensions_mut().insert(crate::api::identity::PeerIdentity {
        user: "admin".into(),
        groups: vec!["system:masters".into()],
        key_fingerprint: String::new(),
    });
    let mut lines = Lines::of(member.send(request, &[]).await);
    lines.result().await;
    *member.store.leader.lock().unwrap() = None;
    let told = loop {
        let line = lines.next().await.expect("the error comes before the end");
        if line["error"].is_object() {
            break line;
        }
    };
    assert_eq!(told["error"]["message"], "etcdserver: no leader");
    assert_eq!(
        (&told["error"]["grpc_code"], &told["error"]["http_code"]),
        (&json!(14), &json!(503))
    );
    assert_eq!(lines.next().await, None);
}
