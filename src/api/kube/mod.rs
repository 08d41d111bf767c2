//! The Kubernetes API over HTTP: paths, media types, discovery, Tables, watches, logs.
//!
//! ```text
//! request → identity (or whom it stands for) → path → access → body → objects → Table? → response
//! ```
//! Invariants: every refusal is a `Status`; nothing is answered without an identity but
//! health and version. Not here: what objects are and may become (`objects/`,
//! `model/kinds/`), TLS (the listener inserts [`super::identity::PeerIdentity`]).

mod accept;
mod authentication;
mod body;
mod call;
mod discovery;
mod dispatch;
mod health;
mod impersonation;
mod json_fields;
mod locate;
mod logs;
mod metrics;
mod openapi;
mod operator;
mod options;
mod path;
mod protobuf;
mod respond;
mod reviews;
mod streams;
mod table;
mod watch;
mod worker;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{any, get};

pub use logs::{LogOptions, LogStream, PodLogs};
pub use streams::{OpenedStream, PodStreams, StreamIo};
pub use worker::{WorkerServices, worker_router};

use tokio_util::task::TaskTracker;

use crate::client::usage::SharedUsage;
use crate::objects::Objects;

/// What the handlers work with.
#[derive(Clone, Debug)]
pub struct KubeState {
    pub objects: Arc<Objects>,
    pub logs: Arc<dyn PodLogs>,
    pub streams: Arc<dyn PodStreams>,
    pub usage: SharedUsage,
    /// Outlive the requests that began them.
    pub conversations: TaskTracker,
}

/// All paths of the Kubernetes API; may be merged with other routers.
pub fn router(state: KubeState) -> Router {
    let described = Router::new()
        .route("/openapi/v2", get(openapi::v2))
        .route("/openapi/v3", get(openapi::v3_index))
        .route("/openapi/v3/{*rest}", get(openapi::v3))
        .layer(from_fn_with_state(state.clone(), authentication::guard_url));
    Router::new()
        .route("/version", get(discovery::version))
        .route("/healthz", get(health::alive))
        .route("/livez", get(health::alive))
        .route("/readyz", get(health::ready))
        .merge(described)
        .merge(operator::router(&state))
        .route("/api", any(dispatch::handle))
        .route("/api/{*rest}", any(dispatch::handle))
        .route("/apis", any(dispatch::handle))
        .route("/apis/{*rest}", any(dispatch::handle))
        .with_state(state)
}

#[cfg(test)]
mod access_tests;
#[cfg(test)]
mod apply_tests;
#[cfg(test)]
mod kubectl_apply_tests;
#[cfg(test)]
mod kubectl_custom_tests;
#[cfg(test)]
mod kubectl_scaling_tests;
#[cfg(test)]
mod kubectl_tests;
#[cfg(test)]
mod kubectl_workload_tests;
#[cfg(test)]
mod review_tests;
#[cfg(test)]
mod stream_tests;
#[cfg(test)]
mod tests;
