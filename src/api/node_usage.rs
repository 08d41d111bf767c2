//! `GET /holdfast/v1/usage`: what a node's containers use, for control nodes.
//!
//! Not here: `metrics.k8s.io`, which is made of these answers (`api/kube/metrics`).

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use http::StatusCode;

use super::identity::PeerIdentity;
use crate::client::usage::NodeReport;
use crate::model::status::Status;

/// Where a node serves it.
pub const USAGE_PATH: &str = "/holdfast/v1/usage";

/// What the node's agent does for this.
pub trait NodeUsages: Send + Sync + std::fmt::Debug + 'static {
    fn report(&self) -> NodeReport;
}

/// The path, on the API's port of every node that runs pods.
pub fn router(usages: Arc<dyn NodeUsages>) -> Router {
    Router::new().route(USAGE_PATH, get(serve)).with_state(usages)
}

async fn serve(
    State(usages): State<Arc<dyn NodeUsages>>,
    identity: Option<Extension<PeerIdentity>>,
) -> Response {
    match identity {
        Some(Extension(identity)) if identity.is_control_node() => {
            Json(usages.report()).into_response()
        }
        Some(_) => {
            let why = "only control nodes may read what a node uses";
            let status = Status::failure(403, "Forbidden", why);
            (StatusCode::FORBIDDEN, Json(status)).into_response()
        }
        None => (StatusCode::UNAUTHORIZED, Json(Status::unauthorized())).into_response(),
    }
}
