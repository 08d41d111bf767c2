//! Whether this server lives, and whether it can serve.

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri};

use super::KubeState;
use crate::model::kinds;
use crate::objects::Address;

/// The process answers.
pub(super) async fn alive(uri: Uri, RawQuery(query): RawQuery) -> String {
    well(uri.path(), query.as_deref(), &["ping"])
}

/// `ok`, or what was looked at where somebody asks for it.
fn well(path: &str, query: Option<&str>, looked_at: &[&str]) -> String {
    let asked = query.unwrap_or_default().split('&');
    if !asked.filter_map(|one| one.split('=').next()).any(|name| name == "verbose") {
        return "ok".into();
    }
    let checks: String = looked_at.iter().map(|check| format!("[+]{check} ok\n")).collect();
    format!("{checks}{} check passed\n", path.trim_start_matches('/'))
}

/// The store answers a linearizable read.
pub(super) async fn ready(
    State(state): State<KubeState>,
    uri: Uri,
    RawQuery(query): RawQuery,
) -> Response {
    let Some(kind) = kinds::by_path("", "v1", "namespaces") else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    match state.objects.get(&Address::new(kind, None, "default"), None).await {
        Ok(_) => well(uri.path(), query.as_deref(), &["ping", "store"]).into_response(),
        Err(status) => {
            let text = format!("[-]store failed: {status}\nreadyz check failed\n");
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
    }
}
