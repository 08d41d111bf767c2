//! The JSON side of both over HTTP/1.1 and HTTP/2: streams, tokens, fragments, and the
//! pages beside the protocol.

use std::collections::BTreeSet;

use http::StatusCode;
use serde_json::{Value, json};

use crate::real::Etcd;
use crate::served::{Served, http, http1, program_in};
use crate::{PATIENCE, b64};

struct Asked {
    http: reqwest::Client,
    url: String,
}

/// The lines of a streaming answer.
struct Lines {
    answer: reqwest::Response,
    text: Vec<u8>,
}

impl Lines {
    async fn next(&mut self) -> Value {
        loop {
            if let Some(end) = self.text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.text.drain(..=end).collect();
                return serde_json::from_slice(&line).unwrap();
            }
            let piece = tokio::time::timeout(PATIENCE, self.answer.chunk()).await;
            self.text.extend(piece.expect("a line comes").unwrap().expect("it goes on"));
        }
    }
}

impl Asked {
    async fn call(&self, path: &str, body: Value) -> (StatusCode, Value) {
        let url = format!("{}/v3/{path}", self.url);
        let answer = self.http.post(url).body(body.to_string()).send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    async fn put(&self, key: &str, value: &str) {
        let body = json!({ "key": b64(key), "value": b64(value) });
        assert_eq!(self.call("kv/put", body).await.0, StatusCode::OK);
    }

    async fn watch(&self, create: Value) -> Lines {
        let body = json!({ "create_request": create }).to_string();
        let request = self.http.post(format!("{}/v3/watch", self.url)).body(body);
        Lines { answer: request.send().await.unwrap(), text: Vec::new() }
    }
}

/// Ours over each version of HTTP, and a real etcd, each with a store of its own.
async fn sides() -> (Vec<Served>, Option<Etcd>, Vec<Asked>) {
    let served = vec![Served::start().await, Served::start().await];
    let dir = served[0].dir.path();
    let first = Asked { http: served[0].http(), url: served[0].url() };
    let second = Asked { http: http1(served[1].dir.path(), "admin"), url: served[1].url() };
    let mut asked = vec![first, second];
    let etcd = match program_in("etcd/3.5", "etcd") {
        Some(program) => Some(Etcd::group(&program, dir, 1).await),
        None => None,
    };
    asked.extend(etcd.iter().map(|etcd| Asked { http: http(dir, "admin"), url: etcd.url.clone() }));
    (served, etcd, asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_streams_lines_over_both_versions_of_http() {
    let (_served, _etcd, sides) = sides().await;
    for side in sides {
        side.put("w/1", "a").await;
        let create = json!({ "key": b64("w/"), "rangeEnd": b64("w0"), "startRevision": "2", "prevKv": true });
        let mut lines = side.watch(create).await;
        assert_eq!(lines.next().await["result"]["created"], true);
        let first = lines.next().await;
        assert_eq!(first["result"]["events"][0]["kv"]["value"], b64("a"), "{first}");
        // The kind PUT is the zero of its enumeration and left out.
        assert!(first["result"]["events"][0]["type"].is_null());
        side.put("w/1", "b").await;
        let second = lines.next().await;
        assert_eq!(second["result"]["events"][0]["prev_kv"]["value"], b64("a"), "{second}");
        let body = json!({ "key": b64("w/1") });
        side.call("kv/deleterange", body).await;
        assert_eq!(lines.next().await["result"]["events"][0]["type"], "DELETE");
    }
}

/// A transaction of two megabytes and a half, in pieces for a watch that asked for them and
/// whole for one that did not.
#[tokio::test(flavor = "multi_thread")]
async fn large_answers_come_in_fragments_where_asked_for() {
    let (_served, _etcd, sides) = sides().await;
    for side in sides {
        let large = "x".repeat(300_000);
        let puts: Vec<Value> = (0..4)
            .map(|n| json!({ "request_put": { "key": b64(&format!("f/{n}")), "value": b64(&large) } }))
            .collect();
        let create = |fragment: bool| json!({ "key": b64("f/"), "range_end": b64("f0"), "fragment": fragment, "prev_kv": true });
        let (mut pieces, mut whole) =
            (side.watch(create(true)).await, side.watch(create(false)).await);
        assert_eq!(pieces.next().await["result"]["created"], true);
        assert_eq!(whole.next().await["result"]["created"], true);
        // Twice, so that each event carries its old value too.
        for _ in 0..2 {
            let (status, told) = side.call("kv/txn", json!({ "success": puts })).await;
            assert_eq!(status, StatusCode::OK, "{told}");
        }
        for (lines, cut) in [(&mut pieces, true), (&mut whole, false)] {
            let (mut events, mut answers, mut last) = (0, 0, Value::Null);
            while events < 8 {
                last = lines.next().await["result"].clone();
                events += last["events"].as_array().unwrap().len();
                answers += usize::from(!last["fragment"].is_null());
            }
            assert_eq!(events, 8);
            assert_eq!(answers > 0, cut, "fragments");
            assert!(last["fragment"].is_null(), "the last one is not followed by more");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_goes_into_the_header() {
    // A real etcd's gateway refuses every certificate with a name once there are users.
    let (served, _etcd, sides) = sides().await;
    for side in sides.into_iter().take(served.len()) {
        for (path, body) in [
            ("auth/user/add", json!({ "name": "root", "password": "secret" })),
            ("auth/role/add", json!({ "name": "root" })),
            ("auth/user/grant", json!({ "user": "root", "role": "root" })),
            ("auth/enable", json!({})),
        ] {
            assert_eq!(side.call(path, body).await.0, StatusCode::OK, "{path}");
        }
        let credentials = json!({ "name": "root", "password": "secret" });
        let (_, answer) = side.call("auth/authenticate", credentials).await;
        let token = answer["token"].as_str().unwrap().to_owned();
        let range = |token: String| {
            let request = side.http.post(format!("{}/v3/kv/range", side.url));
            request.header("Authorization", token).body(json!({ "key": b64("a") }).to_string())
        };
        let answer = range(token).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let answer = range("nonsense".into()).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        let told: Value = answer.json().await.unwrap();
        assert_eq!(told["error"], "etcdserver: invalid auth token");
        let wrong = json!({ "name": "root", "password": "x" });
        let (status, told) = side.call("auth/authenticate", wrong).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{told}");
    }
}

/// What is wrong is told with the same status and code as by etcd; its texts about JSON
/// are its library's.
#[tokio::test(flavor = "multi_thread")]
async fn bad_documents_get_the_same_status_and_code() {
    let (_served, _etcd, sides) = sides().await;
    let mut told = Vec::new();
    for side in &sides {
        let mut answers = Vec::new();
        for body in [
            "{",
            "nonsense",
            "[]",
            "7",
            "\"text\"",
            "{\"key\":5}",
            "{\"key\":\"*\"}",
            "{\"key\":\"YQ==\",\"limit\":\"many\"}",
            "{\"key\":\"YQ==\",\"limit\":{}}",
            "{\"key\":\"YQ==\",\"sort_order\":\"NONE\"}",
            "{\"key\":\"YQ==\",\"sort_order\":2}",
            "{\"key\":\"YQ==\",\"sort_order\":\"SIDEWAYS\"}",
            "{\"key\":\"YQ==\",\"unknown\":1}",
            "{\"key\":\"YQ==\",\"limit\":\"99999999999999999999\"}",
            "{\"key\":\"YQ==\",\"limit\":null}",
            "",
        ] {
            let request = side.http.post(format!("{}/v3/kv/range", side.url)).body(body);
            let answer = request.send().await.unwrap();
            let status = answer.status();
            let text = answer.text().await.unwrap();
            let document: Value = serde_json::from_str(&text).unwrap_or_default();
            answers.push((body, status, document["code"].clone()));
        }
        for path in ["kv/nothing", "nothing"] {
            let url = format!("{}/v3/{path}", side.url);
            let answer = side.http.post(url).body("{}").send().await.unwrap();
            answers.push((path, answer.status(), Value::Null));
        }
        told.push(answers);
    }
    for other in &told[1..] {
        assert_eq!(&told[0], other);
    }
}

/// Names of a page of metrics, with their kinds.
async fn metrics(side: &Asked) -> BTreeSet<String> {
    let answer = side.http.get(format!("{}/metrics", side.url)).send().await.unwrap();
    let text = answer.text().await.unwrap();
    let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    // A counter's name ends with `_total` in one format and not in the other.
    kinds.map(|line| line.replace("_total ", " ")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_beside_the_protocol_answer_as_etcds_do() {
    let (_served, etcd, sides) = sides().await;
    let get = async |side: &Asked, path: &str| -> (StatusCode, Value) {
        let answer = side.http.get(format!("{}{path}", side.url)).send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    };
    for side in &sides {
        let healthy = (StatusCode::OK, json!({ "health": "true", "reason": "" }));
        assert_eq!(get(side, "/health").await, healthy);
        assert_eq!(get(side, "/health?serializable=true").await, healthy);
        let version = get(side, "/version").await.1;
        assert!(version["etcdserver"].is_string() && version["etcdcluster"].is_string());
        side.call("maintenance/alarm", json!({ "action": "ACTIVATE", "alarm": "CORRUPT" })).await;
        let (status, told) = get(side, "/health").await;
        assert_eq!(
            (status, &told["reason"]),
            (StatusCode::SERVICE_UNAVAILABLE, &json!("ALARM CORRUPT"))
        );
        assert_eq!(get(side, "/health?exclude=CORRUPT").await, healthy);
        side.call("maintenance/alarm", json!({ "action": "DEACTIVATE", "alarm": "CORRUPT" })).await;
        assert_eq!(get(side, "/health").await, healthy);
    }
    if etcd.is_some() {
        let (own, their) = (metrics(&sides[0]).await, metrics(&sides[2]).await);
        assert!(own.len() > 5 && their.len() > 50, "{own:?} {their:?}");
        // Under etcd's names stands only what etcd has, and is of the same kind.
        let unknown: Vec<_> =
            own.iter().filter(|name| name.starts_with("etcd_") && !their.contains(*name)).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
}
