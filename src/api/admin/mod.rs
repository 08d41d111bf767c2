//! The status page at `/ui/` and its document at `/holdfast/v1/status`.
//!
//! Served by every node from its own view, so it works without quorum. Signing in is by
//! administrator's client certificate or by password (HTTP Basic over TLS).
//! Not here: gathering the status (`app/status`).

mod page;
mod signin;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};

use crate::model::cluster_status::ClusterStatus;

pub use signin::is_admin;

/// What the page needs of the node behind it.
#[async_trait]
pub trait AdminBackend: Send + Sync + Debug + 'static {
    /// The node's view of the cluster, now.
    async fn status(&self) -> ClusterStatus;

    /// The stored argon2 hash of the administrator's password, from the local replica.
    async fn password_hash(&self) -> Option<String>;
}

type Backend = Arc<dyn AdminBackend>;

/// No script at all, nothing from outside, no framing.
const CONTENT_POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; \
    frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// The admin routes, each behind the sign-in.
pub fn router(backend: Backend) -> Router {
    Router::new()
        .route("/ui", get(|| async { Redirect::permanent("/ui/") }))
        .route("/ui/", get(show))
        .route("/ui/style.css", get(style))
        .route("/ui/icon.svg", get(icon))
        .route("/holdfast/v1/status", get(document))
        .layer(middleware::from_fn_with_state(backend.clone(), signin::require_admin))
        .with_state(backend)
}

async fn document(State(backend): State<Backend>) -> Json<ClusterStatus> {
    Json(backend.status().await)
}

async fn show(State(backend): State<Backend>) -> Response {
    let status = backend.status().await;
    let mut answer = match page::render(&status) {
        Ok(html) => Html(html).into_response(),
        Err(error) => {
            tracing::error!(%error, "cannot render the status page");
            axum::http::StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    };
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_POLICY));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    answer
}

async fn style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], page::STYLE)
}

async fn icon() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "image/svg+xml")], page::ICON)
}
