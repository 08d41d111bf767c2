//! `/holdfast/v1/store/…`: the store's snapshot and what this member has.
//!
//! | route | who may | needs a majority |
//! |---|---|---|
//! | `GET store/summary` | the administrator | no |
//! | `GET store/snapshot?format=etcd` | the administrator | yes |
//!
//! A snapshot that fails half-way ends the connection without its end, so that the file
//! lacks its SHA-256 and is refused wherever it is used.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use futures::StreamExt;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::join::{Answer, Known, Refusal};
use crate::install::refused::JoinRefused;
use crate::model::recovery::MemberSummary;
use crate::store::{SnapshotFormat, StoreError};

/// Where the snapshot is read.
pub const SNAPSHOT_PATH: &str = "/holdfast/v1/store/snapshot";
/// Where the summary is read.
pub const SUMMARY_PATH: &str = "/holdfast/v1/store/summary";

/// This node's member of the store; wired to `store`.
#[async_trait]
pub trait StoreUpkeep: Send + Sync + Debug + 'static {
    fn summary(&self) -> MemberSummary;

    /// The pieces of a snapshot file.
    async fn snapshot(
        &self,
        format: SnapshotFormat,
    ) -> Result<mpsc::Receiver<Result<Bytes, StoreError>>, StoreError>;
}

type Upkeep = Arc<dyn StoreUpkeep>;

/// All routes of this file.
pub fn router(upkeep: Upkeep) -> Router {
    Router::new()
        .route(SUMMARY_PATH, get(summary))
        .route(SNAPSHOT_PATH, get(snapshot))
        .with_state(upkeep)
}

async fn summary(caller: Known, State(upkeep): State<Upkeep>) -> Answer {
    caller.demand_admin().map_err(Refusal)?;
    Ok(Json(upkeep.summary()).into_response())
}

#[derive(Debug, Deserialize)]
struct Wanted {
    #[serde(default)]
    format: String,
}

async fn snapshot(
    caller: Known,
    State(upkeep): State<Upkeep>,
    Query(wanted): Query<Wanted>,
) -> Answer {
    caller.demand_admin().map_err(Refusal)?;
    let format = match &*wanted.format {
        "etcd" => SnapshotFormat::Etcd,
        _ => SnapshotFormat::Holdfast,
    };
    let pieces =
        upkeep.snapshot(format).await.map_err(|error| Refusal(JoinRefused::from(error)))?;
    let body = Body::from_stream(ReceiverStream::new(pieces).map(|piece| {
        if let Err(error) = &piece {
            tracing::error!(%error, "a snapshot ends before its end");
        }
        piece
    }));
    Ok(Response::builder()
        .header(CONTENT_TYPE, "application/octet-stream")
        .body(body)
        .expect("a literal header is valid"))
}
