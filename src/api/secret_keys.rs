//! `/holdfast/v1/secret-keys…`: the keys that secrets are encrypted with.
//!
//! | route | who may |
//! |---|---|
//! | `GET secret-keys` | the administrator: which key encrypts how much, who holds what |
//! | `POST secret-keys/rotate`, `POST secret-keys/import` | the administrator |
//! | `GET secret-keys/all` | control nodes, by their certificates: the keys themselves |
//!
//! Not here: what a rotation does (`install/secret_keys`).

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};

use super::join::{Answer, Known};
use crate::api::identity::PeerIdentity;
use crate::install::refused::JoinRefused;
use crate::install::secret_keys::SecretKeyService;

/// Largest file of keys, bytes; a thousand keys fit.
const BODY_MAX_BYTES: usize = 256 * 1024;

/// All routes of this file.
pub fn router(service: Arc<SecretKeyService>) -> Router {
    Router::new()
        .route("/holdfast/v1/secret-keys", get(status))
        .route("/holdfast/v1/secret-keys/rotate", post(rotate))
        .route("/holdfast/v1/secret-keys/import", post(import))
        .route("/holdfast/v1/secret-keys/all", get(all))
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .with_state(service)
}

async fn status(State(service): State<Arc<SecretKeyService>>, who: Known) -> Answer {
    who.demand_admin()?;
    Ok(Json(service.status().await?).into_response())
}

async fn rotate(State(service): State<Arc<SecretKeyService>>, who: Known) -> Answer {
    who.demand_admin()?;
    let id = service.rotate().await?;
    tracing::info!(key = %id, "the administrator rotates the key of secrets");
    Ok(Json(serde_json::json!({"key": id})).into_response())
}

async fn import(State(service): State<Arc<SecretKeyService>>, who: Known, file: Bytes) -> Answer {
    who.demand_admin()?;
    let added = service.import(&file).await?;
    tracing::info!(added, "the administrator imports keys of secrets");
    Ok(Json(serde_json::json!({"added": added})).into_response())
}

async fn all(State(service): State<Arc<SecretKeyService>>, who: Known) -> Answer {
    let Some(caller) = who.0.filter(PeerIdentity::is_control_node) else {
        let reason = "only a control node may ask for the keys of secrets".to_owned();
        return Err(JoinRefused::Forbidden { reason }.into());
    };
    tracing::info!(node = caller.user, "a control node fetches the keys of secrets");
    Ok(Json(service.all()).into_response())
}
