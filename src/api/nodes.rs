//! `/holdfast/v1/nodes`: the cluster's nodes, and taking one out.
//!
//! | route | who may |
//! |---|---|
//! | `GET nodes` | the administrator and nodes |
//! | `DELETE nodes/{name}?force=true` | the administrator |
//! | `POST leave` | the node itself, by its certificate |
//!
//! A node that was removed keeps a certificate that is valid for a year; [`guard`] refuses
//! it on every other path, so that it learns what it is and changes nothing.
//! Not here: what removing means (`install/node_service`).

use std::sync::Arc;

use axum::extract::{Path, Query, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;

use super::join::{Answer, Known, Refusal};
use crate::api::identity::PeerIdentity;
use crate::install::node_service::{NodeService, Wish};
use crate::install::refused::JoinRefused;
use crate::model::node_list::LeaveRequest;

/// All routes of this file.
pub fn router(service: Arc<NodeService>) -> Router {
    Router::new()
        .route("/holdfast/v1/nodes", get(list))
        .route("/holdfast/v1/nodes/{name}", delete(remove))
        .route(LEAVE_PATH, post(leave))
        .with_state(service)
}

/// The one path that a node whose removal has begun may still use: to finish it.
const LEAVE_PATH: &str = "/holdfast/v1/leave";

/// The router without callers that were removed from the cluster.
pub fn guard(router: Router, service: Arc<NodeService>) -> Router {
    router.layer(from_fn_with_state(service, refuse_removed))
}

async fn refuse_removed(
    State(service): State<Arc<NodeService>>,
    identity: Option<Extension<PeerIdentity>>,
    request: Request,
    next: Next,
) -> Response {
    if let Some(Extension(identity)) = identity
        && identity.is_node()
        && request.uri().path() != LEAVE_PATH
    {
        match service.removed(&identity.key_fingerprint).await {
            Ok(None) => {}
            Ok(Some(gone)) => {
                return Refusal(JoinRefused::NodeRemoved { at: gone.at }).into_response();
            }
            Err(refused) => return Refusal(refused).into_response(),
        }
    }
    next.run(request).await
}

async fn list(State(service): State<Arc<NodeService>>, who: Known) -> Answer {
    if !who.is_node() {
        who.demand_admin()?;
    }
    Ok(Json(service.list().await?).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RemoveOptions {
    #[serde(default)]
    force: bool,
}

async fn remove(
    State(service): State<Arc<NodeService>>,
    who: Known,
    Path(name): Path<String>,
    Query(options): Query<RemoveOptions>,
) -> Answer {
    who.demand_admin()?;
    let wish = Wish::Operator { force: options.force };
    match service.remove(&name, wish).await {
        Ok(removed) => Ok(Json(removed).into_response()),
        Err(refused) => {
            tracing::warn!(node = name, reason = %refused, "node not removed");
            Err(refused.into())
        }
    }
}

async fn leave(
    State(service): State<Arc<NodeService>>,
    who: Known,
    Json(request): Json<LeaveRequest>,
) -> Answer {
    let own = format!("system:node:{}", request.node_name);
    let Some(caller) = who.0.filter(|caller| caller.is_node() && caller.user == own) else {
        let reason = "a node may say this only of itself, by its certificate".to_owned();
        return Err(JoinRefused::Forbidden { reason }.into());
    };
    let left = service.leave(&request.node_name, &caller.key_fingerprint).await?;
    tracing::info!(node = request.node_name, "node left by its own wish");
    Ok(Json(left).into_response())
}
