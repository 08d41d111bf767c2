//! `/health`, `/livez`, `/readyz` and `/version`, in the forms that probes expect.
//!
//! Open to whoever completes the handshake, with a certificate or without: they tell no
//! more than whether the member works.
//!
//! Invariant: `/health` and `/readyz` say yes only after a read that a majority confirmed.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::backend::{Backend, VERSION};
use crate::base::chain::chain;
use crate::model::auth::Caller;
use crate::model::kv::RangeRequest;
use crate::store::admin_api::AlarmKind;

/// How long the read of a probe may take.
const READ_DEADLINE: Duration = Duration::from_secs(3);

#[derive(Debug, Default, Deserialize)]
pub(super) struct HealthQuery {
    /// `true` is content with a read of this member alone.
    serializable: Option<String>,
    /// An alarm that does not count, `NOSPACE` or `CORRUPT`.
    exclude: Option<String>,
    verbose: Option<String>,
}

async fn read(backend: &Backend, serializable: bool) -> Result<(), String> {
    let probe = RangeRequest { serializable, count_only: true, ..RangeRequest::key("\0") };
    let read = backend.store.kv.range_as(&Caller::Internal, probe);
    match tokio::time::timeout(READ_DEADLINE, read).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(chain(&error)),
        Err(_) => Err("the read did not end in time".into()),
    }
}

/// Whether the member itself works.
pub(super) async fn lives(backend: &Backend) -> bool {
    read(backend, true).await.is_ok()
}

async fn unhealthy(backend: &Backend, query: &HealthQuery) -> Option<String> {
    let alarms = match backend.store.maintenance.alarms(&Caller::Internal).await {
        Ok(alarms) => alarms,
        Err(error) => return Some(format!("QGET ERROR:{}", chain(&error))),
    };
    for alarm in alarms {
        let name = match alarm.kind {
            AlarmKind::NoSpace => "NOSPACE",
            AlarmKind::Corrupt => "CORRUPT",
        };
        if query.exclude.as_deref() != Some(name) {
            return Some(format!("ALARM {name}"));
        }
    }
    let serializable = query.serializable.as_deref() == Some("true");
    if !serializable && !backend.has_leader() {
        return Some("RAFT NO LEADER".into());
    }
    read(backend, serializable).await.err().map(|reason| format!("QGET ERROR:{reason}"))
}

/// etcd's old form: a document with `health` as text.
pub(super) async fn health(
    State(backend): State<Arc<Backend>>,
    Query(query): Query<HealthQuery>,
) -> Response {
    match unhealthy(&backend, &query).await {
        None => Json(json!({ "health": "true", "reason": "" })).into_response(),
        Some(reason) => {
            let answer = json!({ "health": "false", "reason": reason });
            (StatusCode::SERVICE_UNAVAILABLE, Json(answer)).into_response()
        }
    }
}

/// The form of Kubernetes' probes: a line for each check where asked for.
fn checks(results: &[(&str, Result<(), String>)], query: &HealthQuery) -> Response {
    let mut text = String::new();
    for (name, result) in results {
        match result {
            Ok(()) => text.push_str(&format!("[+]{name} ok\n")),
            Err(reason) => text.push_str(&format!("[-]{name} failed: {reason}\n")),
        }
    }
    if results.iter().any(|(_, result)| result.is_err()) {
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    }
    let told = if query.verbose.is_some() { text + "ok\n" } else { "ok\n".into() };
    told.into_response()
}

/// Whether the member itself works; says nothing of the cluster.
pub(super) async fn livez(
    State(backend): State<Arc<Backend>>,
    Query(query): Query<HealthQuery>,
) -> Response {
    checks(&[("serializable_read", read(&backend, true).await)], &query)
}

/// Whether the member can serve its clients.
pub(super) async fn readyz(
    State(backend): State<Arc<Backend>>,
    Query(query): Query<HealthQuery>,
) -> Response {
    let alarms = backend.store.maintenance.alarms(&Caller::Internal).await;
    let corrupt = alarms.map_err(|error| chain(&error)).and_then(|alarms| {
        let found = alarms.iter().any(|alarm| alarm.kind == AlarmKind::Corrupt);
        if found { Err("alarm activated: CORRUPT".into()) } else { Ok(()) }
    });
    let results = [
        ("data_corruption", corrupt),
        ("serializable_read", read(&backend, true).await),
        ("linearizable_read", read(&backend, false).await),
    ];
    checks(&results, &query)
}

/// The protocol's version, under both of etcd's names.
pub(super) async fn version() -> Response {
    Json(json!({ "etcdserver": VERSION, "etcdcluster": VERSION })).into_response()
}
