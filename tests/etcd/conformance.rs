//! The same calls to a real etcd and to ours: the answers must be the same.
//!
//! Compared are status and whole documents, without what names a cluster (its id, its
//! members' ids, its term). Where a later release than these two answers otherwise and we
//! follow the later one, the call is not in the list but in a test of its own.

use std::path::Path;

use http::StatusCode;
use serde_json::{Value, json};

use crate::b64;
use crate::beside::RELEASES;
use crate::real::Etcd;
use crate::served::{Served, program_in};

fn put(key: &str, value: &str) -> (&'static str, Value) {
    ("kv/put", json!({ "key": b64(key), "value": b64(value) }))
}

fn txn(compare: Value, success: Value, failure: Value) -> (&'static str, Value) {
    ("kv/txn", json!({ "compare": compare, "success": success, "failure": failure }))
}

fn request_put(key: &str) -> Value {
    json!({ "request_put": { "key": b64(key), "value": b64("t") } })
}

fn reads() -> Vec<(&'static str, Value)> {
    let range = |more: Value| {
        let mut body = json!({ "key": b64("a"), "range_end": b64("z") });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ("kv/range", body)
    };
    vec![
        range(json!({})),
        range(json!({ "limit": 2 })),
        range(json!({ "limit": 2, "sort_order": "DESCEND" })),
        range(json!({ "sort_order": "DESCEND", "sort_target": "MOD" })),
        range(json!({ "sort_target": "VALUE" })),
        range(json!({ "sort_order": "ASCEND", "sort_target": "VERSION", "limit": 3 })),
        range(json!({ "sort_order": "DESCEND", "sort_target": "CREATE" })),
        range(json!({ "keys_only": true })),
        range(json!({ "count_only": true })),
        range(json!({ "revision": 3 })),
        range(json!({ "revision": 3, "serializable": true })),
        range(json!({ "revision": 1_000 })),
        range(json!({ "revision": -5 })),
        range(json!({ "min_mod_revision": 4 })),
        range(json!({ "max_mod_revision": 4, "limit": 1 })),
        range(json!({ "min_create_revision": 3, "max_create_revision": 4 })),
        ("kv/range", json!({ "key": b64("\0"), "range_end": b64("\0") })),
        ("kv/range", json!({ "key": b64("b"), "range_end": b64("\0") })),
        ("kv/range", json!({ "key": b64("z"), "range_end": b64("a") })),
        ("kv/range", json!({ "key": b64("absent") })),
        ("kv/range", json!({})),
    ]
}

fn writes() -> Vec<(&'static str, Value)> {
    let mut calls = vec![put("a", "1"), put("b", "3"), put("c", "2"), put("a", "4"), put("d", "")];
    calls.extend([
        ("kv/put", json!({ "key": b64("a"), "value": b64("5"), "prev_kv": true })),
        ("kv/put", json!({ "key": b64("new"), "value": b64("5"), "prev_kv": true })),
        ("kv/put", json!({ "key": b64("a"), "ignore_value": true, "prev_kv": true })),
        ("kv/put", json!({ "key": b64("absent"), "ignore_value": true })),
        ("kv/put", json!({ "key": b64("absent"), "ignore_lease": true, "value": b64("x") })),
        ("kv/put", json!({ "key": b64("a"), "ignore_value": true, "value": b64("x") })),
        ("kv/put", json!({ "key": b64("a"), "ignore_lease": true, "lease": 5 })),
        ("kv/put", json!({ "key": b64("a"), "lease": 5 })),
        ("kv/put", json!({ "value": b64("x") })),
        ("kv/put", json!({ "key": b64("large"), "value": b64(&"x".repeat(1_600_000)) })),
        ("kv/deleterange", json!({ "key": b64("absent") })),
        ("kv/deleterange", json!({ "key": b64("new"), "prev_kv": true })),
        ("kv/deleterange", json!({})),
    ]);
    calls
}

fn transactions() -> Vec<(&'static str, Value)> {
    let version = |key: &str, result: &str, version: i64| json!({ "key": b64(key), "target": "VERSION", "result": result, "version": version });
    let nested = json!({ "request_txn": {
        "compare": [version("a", "GREATER", 0)],
        "success": [request_put("n1"), { "request_range": { "key": b64("n1") } }],
        "failure": [request_put("n2")]
    }});
    let delete = json!({ "request_delete_range": { "key": b64("a"), "range_end": b64("c") } });
    vec![
        txn(json!([version("a", "GREATER", 1)]), json!([request_put("t1")]), json!([])),
        txn(json!([version("a", "LESS", 1)]), json!([]), json!([request_put("t2")])),
        txn(json!([version("absent", "EQUAL", 0)]), json!([nested.clone()]), json!([])),
        txn(json!([]), json!([]), json!([])),
        txn(
            json!([{ "key": b64("c"), "target": "VALUE", "value": b64("2") }]),
            json!([{ "request_range": { "key": b64("a"), "range_end": b64("z"), "limit": 1 } }]),
            json!([]),
        ),
        txn(
            json!([{ "key": b64("absent"), "target": "VALUE", "result": "NOT_EQUAL" }]),
            json!([request_put("t3")]),
            json!([request_put("t4")]),
        ),
        txn(
            json!([{ "key": b64("a"), "range_end": b64("z"), "target": "CREATE",
                     "result": "GREATER", "create_revision": 1 }]),
            json!([request_put("t5")]),
            json!([]),
        ),
        txn(
            json!([{ "key": b64("a"), "target": "MOD", "result": "GREATER", "mod_revision": 1 },
                   { "key": b64("a"), "target": "LEASE" }]),
            json!([delete.clone(), request_put("x")]),
            json!([]),
        ),
        txn(json!([]), json!([request_put("s"), request_put("s")]), json!([])),
        txn(json!([]), json!([delete, request_put("b")]), json!([])),
        txn(json!([]), json!([nested, request_put("n1")]), json!([])),
        txn(json!([]), json!([{}]), json!([])),
        txn(json!([{}]), json!([]), json!([])),
        txn(
            json!([]),
            Value::Array((0..129).map(|n| request_put(&n.to_string())).collect()),
            json!([]),
        ),
    ]
}

fn leases() -> Vec<(&'static str, Value)> {
    vec![
        ("lease/grant", json!({ "TTL": 600, "ID": 17 })),
        ("lease/grant", json!({ "TTL": 600, "ID": "17" })),
        ("lease/grant", json!({ "TTL": "9000000001", "ID": 18 })),
        ("lease/grant", json!({ "TTL": 1_000, "ID": 19 })),
        ("kv/put", json!({ "key": b64("l1"), "lease": 17 })),
        ("kv/put", json!({ "key": b64("l2"), "lease": 17 })),
        ("kv/put", json!({ "key": b64("l2"), "value": b64("v"), "ignore_lease": true })),
        ("kv/put", json!({ "key": b64("l1") })),
        ("lease/timetolive", json!({ "ID": 99, "keys": true })),
        ("lease/revoke", json!({ "ID": 17 })),
        ("lease/revoke", json!({ "ID": 17 })),
        ("kv/range", json!({ "key": b64("l"), "range_end": b64("m") })),
        ("lease/revoke", json!({ "ID": 19 })),
        ("lease/leases", json!({})),
    ]
}

/// Alarm and Defragment are missing on purpose: 3.4 answers them without a header, and
/// later versions, like ours, with one. HashKV has no JSON path in 3.4.
fn upkeep() -> Vec<(&'static str, Value)> {
    vec![
        ("kv/compaction", json!({ "revision": 6, "physical": true })),
        ("kv/compaction", json!({ "revision": 6 })),
        ("kv/compaction", json!({ "revision": 10_000 })),
        ("kv/range", json!({ "key": b64("a"), "revision": 3 })),
        ("kv/range", json!({ "key": b64("a"), "range_end": b64("\0"), "revision": 6 })),
    ]
}

/// Users and roles, before authentication is switched on.
fn users() -> Vec<(&'static str, Value)> {
    let permission = json!({ "permType": "READWRITE", "key": b64("a"), "range_end": b64("b") });
    vec![
        ("auth/authenticate", json!({ "name": "root", "password": "x" })),
        ("auth/enable", json!({})),
        ("auth/user/add", json!({ "name": "root", "password": "secret" })),
        ("auth/user/add", json!({ "name": "root", "password": "secret" })),
        ("auth/user/add", json!({ "name": "", "password": "secret" })),
        ("auth/enable", json!({})),
        ("auth/role/add", json!({ "name": "root" })),
        ("auth/role/add", json!({ "name": "reader" })),
        ("auth/role/add", json!({ "name": "reader" })),
        ("auth/role/add", json!({ "name": "" })),
        ("auth/role/grant", json!({ "name": "reader", "perm": permission })),
        ("auth/role/grant", json!({ "name": "absent", "perm": permission })),
        ("auth/role/get", json!({ "role": "reader" })),
        ("auth/role/get", json!({ "role": "absent" })),
        ("auth/role/list", json!({})),
        ("auth/user/add", json!({ "name": "u", "password": "p" })),
        ("auth/user/grant", json!({ "user": "u", "role": "reader" })),
        ("auth/user/grant", json!({ "user": "u", "role": "absent" })),
        ("auth/user/grant", json!({ "user": "absent", "role": "reader" })),
        ("auth/user/get", json!({ "name": "u" })),
        ("auth/user/get", json!({ "name": "absent" })),
        ("auth/user/list", json!({})),
        ("auth/user/revoke", json!({ "name": "u", "role": "root" })),
        ("auth/user/changepw", json!({ "name": "absent", "password": "x" })),
        ("auth/role/revoke", json!({ "role": "reader", "key": b64("x") })),
        ("auth/user/delete", json!({ "name": "absent" })),
        ("auth/role/delete", json!({ "role": "absent" })),
        ("auth/user/grant", json!({ "user": "root", "role": "root" })),
        ("auth/role/revoke", json!({ "role": "reader", "key": b64("a"), "range_end": b64("b") })),
        ("auth/user/delete", json!({ "name": "u" })),
        ("auth/user/list", json!({})),
    ]
}

/// Without what names the cluster.
fn anonymous(mut answer: Value) -> Value {
    match &mut answer {
        Value::Object(fields) => {
            for name in ["cluster_id", "member_id", "raft_term"] {
                fields.remove(name);
            }
            for value in fields.values_mut() {
                *value = anonymous(value.take());
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| *value = anonymous(value.take())),
        _ => {}
    }
    answer
}

struct Asked {
    http: reqwest::Client,
    url: String,
}

impl Asked {
    async fn call(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        let request = self.http.post(format!("{}/v3/{path}", self.url)).body(body.to_string());
        let answer = request.send().await.unwrap();
        let status = match answer.status() {
            // Later gateways than 3.4's answer a failed precondition with 400.
            StatusCode::PRECONDITION_FAILED => StatusCode::BAD_REQUEST,
            status => status,
        };
        let text = answer.text().await.unwrap();
        let document = serde_json::from_str(&text);
        (status, anonymous(document.unwrap_or(Value::String(text))))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_calls_get_the_same_answers_as_from_etcd() {
    for release in RELEASES {
        let Some(program) = program_in(release, "etcd") else { continue };
        answers_are_those_of(&program).await;
    }
}

async fn answers_are_those_of(program: &Path) {
    let (served, etcd) = (Served::start().await, Etcd::start(program).await);
    let ours = Asked { http: served.http(), url: served.url() };
    let theirs = Asked { http: reqwest::Client::new(), url: etcd.url.clone() };
    let calls: Vec<_> = [writes(), reads(), transactions(), reads(), leases(), upkeep(), users()]
        .into_iter()
        .flatten()
        .collect();
    let mut differences = Vec::new();
    for (path, body) in &calls {
        let (own, their) = (ours.call(path, body).await, theirs.call(path, body).await);
        if own != their {
            differences.push(format!("{path} {body}\n  etcd: {their:?}\n  ours: {own:?}"));
        }
    }
    let (many, all) = (differences.len(), calls.len());
    assert!(many == 0, "{many} of {all} answers differ:\n{}", differences.join("\n"));
}
