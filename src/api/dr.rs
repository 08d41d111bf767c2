//! `/holdfast/v1/dr/…`: the state of disaster recovery, and the commit mode.
//!
//! | route | who may | needs a majority |
//! |---|---|---|
//! | `GET dr/status` | the administrator | no |
//! | `POST dr/mode` | the administrator | yes |
//!
//! Not here: gathering the state (`app/dr`), what a mode does (`store/modes`).

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};

use super::join::{Answer, Known, Refusal};
use crate::install::refused::JoinRefused;
use crate::model::dr_status::{DrStatus, ModeRequest};
use crate::store::StoreError;

/// Where the status is read.
pub const STATUS_PATH: &str = "/holdfast/v1/dr/status";
/// Where the mode is set.
pub const MODE_PATH: &str = "/holdfast/v1/dr/mode";

/// What this node knows and can have changed; wired to `store`.
#[async_trait]
pub trait DrBackend: Send + Sync + Debug + 'static {
    async fn status(&self) -> DrStatus;

    async fn set_mode(&self, request: ModeRequest, by: &str) -> Result<(), StoreError>;
}

type Backend = Arc<dyn DrBackend>;

/// All routes of this file.
pub fn router(backend: Backend) -> Router {
    Router::new()
        .route(STATUS_PATH, get(status))
        .route(MODE_PATH, post(set_mode))
        .with_state(backend)
}

async fn status(caller: Known, State(backend): State<Backend>) -> Answer {
    caller.demand_admin().map_err(Refusal)?;
    Ok(Json(backend.status().await).into_response())
}

async fn set_mode(
    caller: Known,
    State(backend): State<Backend>,
    Json(request): Json<ModeRequest>,
) -> Answer {
    caller.demand_admin().map_err(Refusal)?;
    let by = caller.0.as_ref().map(|caller| caller.user.clone()).unwrap_or_default();
    tracing::warn!(mode = request.mode.name(), by, "an operator sets the commit mode");
    backend.set_mode(request, &by).await.map_err(|error| match error {
        StoreError::BadRequest { reason } => Refusal(JoinRefused::BadRequest { reason }),
        error => Refusal(JoinRefused::Store(error)),
    })?;
    Ok(Json(backend.status().await).into_response())
}
