//! `/holdfast/v1/…`: joining, tokens and the cluster record over HTTPS.
//!
//! | route | who may |
//! |---|---|
//! | `POST join` | whoever has a token |
//! | `POST renew` | whoever has the key of a node: a certificate for it is of no other use |
//! | `POST joined` | the node itself, by its certificate |
//! | `GET, POST tokens`, `DELETE tokens/{id}` | the administrator |
//! | `GET, PUT cluster` | the administrator (`GET` also nodes) |
//!
//! Refusals are Kubernetes' `Status`, as everywhere on this port.
//! Not here: TLS and who the caller is (the listener, which
//! puts a [`PeerIdentity`] into each request).

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use http::StatusCode;
use http::request::Parts;

use crate::api::identity::PeerIdentity;
use crate::install::join_service::JoinService;
use crate::install::tokens::{JoinRefused, TokenBook};
use crate::model::cluster_record::ClusterBootstrap;
use crate::model::join::{JoinRequest, JoinedRequest, RenewRequest, TokenRequest};

/// Largest body of these routes, bytes: a cluster file of a thousand nodes fits.
const BODY_MAX_BYTES: usize = 1024 * 1024;

/// What the routes need.
#[derive(Clone)]
pub struct JoinRoutes {
    pub service: Arc<JoinService>,
    pub tokens: Arc<TokenBook>,
}

impl std::fmt::Debug for JoinRoutes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinRoutes").finish_non_exhaustive()
    }
}

pub(super) struct Refusal(pub(super) JoinRefused);

impl From<JoinRefused> for Refusal {
    fn from(refused: JoinRefused) -> Self {
        Self(refused)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = self.0.status();
        let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (code, Json(status)).into_response()
    }
}

/// The caller, if there is a certificate.
pub(super) struct Known(pub(super) Option<PeerIdentity>);

impl<S: Send + Sync> FromRequestParts<S> for Known {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(parts.extensions.get::<PeerIdentity>().cloned()))
    }
}

impl Known {
    pub(super) fn is_node(&self) -> bool {
        self.0.as_ref().is_some_and(PeerIdentity::is_node)
    }

    pub(super) fn demand_admin(&self) -> Result<(), JoinRefused> {
        if self.0.as_ref().is_some_and(PeerIdentity::is_admin) {
            return Ok(());
        }
        let reason = "only the administrator's certificate may do this".to_owned();
        Err(JoinRefused::Forbidden { reason })
    }
}

pub(super) type Answer = Result<Response, Refusal>;

/// All routes of this file.
pub fn router(routes: JoinRoutes) -> Router {
    Router::new()
        .route("/holdfast/v1/join", post(join))
        .route("/holdfast/v1/renew", post(renew))
        .route("/holdfast/v1/joined", post(joined))
        .route("/holdfast/v1/tokens", get(list_tokens).post(create_token))
        .route("/holdfast/v1/tokens/{id}", delete(revoke_token))
        .route("/holdfast/v1/cluster", get(read_cluster).put(record_cluster))
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .with_state(routes)
}

async fn join(State(routes): State<JoinRoutes>, Json(request): Json<JoinRequest>) -> Answer {
    let node_name = request.node_name.clone();
    match routes.service.handle(&request).await {
        Ok(answer) => {
            tracing::info!(node = node_name, member = ?answer.member_id, "node admitted");
            Ok(Json(answer).into_response())
        }
        Err(refused) => {
            tracing::warn!(node = node_name, reason = %refused, "node refused");
            Err(refused.into())
        }
    }
}

async fn renew(State(routes): State<JoinRoutes>, Json(request): Json<RenewRequest>) -> Answer {
    let node = &request.node_name;
    match routes.service.renew(&request).await {
        Ok(answer) => {
            tracing::info!(node, "certificate renewed");
            Ok(Json(answer).into_response())
        }
        Err(refused) => {
            tracing::warn!(node, reason = %refused, "no certificate for whoever asked");
            Err(refused.into())
        }
    }
}

async fn joined(
    State(routes): State<JoinRoutes>,
    who: Known,
    Json(request): Json<JoinedRequest>,
) -> Answer {
    let own = format!("system:node:{}", request.node_name);
    let is_self = who.is_node() && who.0.as_ref().is_some_and(|caller| caller.user == own);
    if !is_self {
        let reason = "a node may say this only of itself, by its certificate".to_owned();
        return Err(JoinRefused::Forbidden { reason }.into());
    }
    routes.service.joined(&request.node_name).await?;
    Ok(Json(serde_json::json!({})).into_response())
}

async fn list_tokens(State(routes): State<JoinRoutes>, who: Known) -> Answer {
    who.demand_admin()?;
    Ok(Json(routes.tokens.list().await?).into_response())
}

async fn create_token(
    State(routes): State<JoinRoutes>,
    who: Known,
    Json(request): Json<TokenRequest>,
) -> Answer {
    who.demand_admin()?;
    let ttl = request.ttl_seconds.map(Duration::from_secs);
    let answer = routes.tokens.create(request.role, request.center.as_deref(), ttl).await?;
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

async fn revoke_token(
    State(routes): State<JoinRoutes>,
    who: Known,
    Path(id): Path<String>,
) -> Answer {
    who.demand_admin()?;
    if !routes.tokens.revoke(&id).await? {
        return Err(JoinRefused::TokenUnknown.into());
    }
    Ok(Json(serde_json::json!({})).into_response())
}

async fn read_cluster(State(routes): State<JoinRoutes>, who: Known) -> Answer {
    if !who.is_node() {
        who.demand_admin()?;
    }
    Ok(Json(routes.service.cluster().await?).into_response())
}

async fn record_cluster(
    State(routes): State<JoinRoutes>,
    who: Known,
    Json(request): Json<ClusterBootstrap>,
) -> Answer {
    who.demand_admin()?;
    routes.service.bootstrap(&request).await?;
    Ok(Json(serde_json::json!({})).into_response())
}

#[cfg(test)]
#[path = "join_tests.rs"]
mod tests;
