//! The routes of the peer listener.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use axum::extract::{Extension, Path, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use http::StatusCode;
use tokio_util::task::TaskTracker;

use super::session;
use crate::api::identity::PeerIdentity;
use crate::model::status::Status;

/// What a node offers to its peers; `app/wire` implements it over store and registry.
#[async_trait]
pub trait PeerServices: Send + Sync + Debug + 'static {
    /// Hands a message to the store and brings its answer back.
    async fn receive(&self, message: Bytes) -> Result<Bytes, String>;

    /// Opens a blob of the registry; `None` if it is not here.
    async fn blob(&self, digest: &str) -> Result<Option<Body>, String>;
}

/// The services, and what carries on after the request that asked for it.
#[derive(Clone)]
struct Serving {
    services: Arc<dyn PeerServices>,
    sessions: TaskTracker,
}

/// Serves peers; everyone without a control node's certificate is refused: a worker
/// must not be able to write to the store behind the API's back.
pub fn router(services: Arc<dyn PeerServices>) -> Router {
    Router::new()
        .route(super::MESSAGE_PATH, get(messages))
        .route(&format!("{}{{digest}}", super::BLOB_PATH), get(blob))
        .layer(middleware::from_fn(control_nodes_only))
        .with_state(Serving { services, sessions: TaskTracker::new() })
}

async fn control_nodes_only(
    identity: Option<Extension<PeerIdentity>>,
    request: Request,
    next: Next,
) -> Response {
    match identity {
        Some(Extension(identity)) if identity.is_control_node() => next.run(request).await,
        _ => (StatusCode::FORBIDDEN, Json(Status::unauthorized())).into_response(),
    }
}

async fn messages(State(serving): State<Serving>, request: Request) -> Response {
    session::upgrade(serving.services, &serving.sessions, request)
}

async fn blob(State(serving): State<Serving>, Path(digest): Path<String>) -> Response {
    match serving.services.blob(&digest).await {
        Ok(Some(body)) => body.into_response(),
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(reason) => (StatusCode::INTERNAL_SERVER_ERROR, reason).into_response(),
    }
}
