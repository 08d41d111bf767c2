//! Whether this server lives, and whether it can serve.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::KubeState;
use crate::model::kinds;
use crate::objects::Address;

/// The process answers.
pub(super) async fn alive() -> &'static str {
    "ok"
}

/// The store answers a linearizable read.
pub(super) async fn ready(State(state): State<KubeState>) -> Response {
    let Some(kind) = kinds::by_path("", "v1", "namespaces") else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    match state.objects.get(&Address::new(kind, None, "default"), None).await {
        Ok(_) => "ok".into_response(),
        Err(status) => {
            let text = format!("[-]store failed: {status}\nreadyz check failed\n");
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
    }
}
