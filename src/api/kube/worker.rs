//! What a node without the API serves on the API's port: health, and its own pods' logs.
//!
//! Why these: the installer asks for health where it asks a control node, and control
//! nodes fetch a log by the same path that their own clients use. Which container is
//! meant, and whether the caller may see it, the control node has decided already; here
//! only the cluster's own nodes and its administrator are let in.
//! Not here: every other path of the API, which answers 404.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use http::{HeaderValue, StatusCode, header::CONTENT_TYPE};

use super::health;
use super::logs::{LogOptions, LogStream, wanted};
use super::options::Options;
use super::respond::Refusal;
use crate::api::identity::PeerIdentity;
use crate::model::status::Status;

/// What the node offers.
#[async_trait]
pub trait WorkerServices: Send + Sync + std::fmt::Debug + 'static {
    /// Why the node cannot do its work, if so.
    async fn ready(&self) -> Result<(), String>;
    /// The log of a container that runs here.
    async fn log(
        &self,
        namespace: &str,
        pod: &str,
        options: LogOptions,
    ) -> Result<LogStream, Status>;
}

type Services = Arc<dyn WorkerServices>;

/// All paths of such a node.
pub fn worker_router(services: Services) -> Router {
    Router::new()
        .route("/healthz", get(health::alive))
        .route("/livez", get(health::alive))
        .route("/readyz", get(ready))
        .route("/api/v1/namespaces/{namespace}/pods/{pod}/log", get(log))
        .with_state(services)
}

async fn ready(State(services): State<Services>) -> Response {
    match services.ready().await {
        Ok(()) => "ok".into_response(),
        Err(reason) => {
            let text = format!("[-]node failed: {reason}\nreadyz check failed\n");
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
    }
}

async fn log(
    State(services): State<Services>,
    identity: Option<Extension<PeerIdentity>>,
    Path((namespace, pod)): Path<(String, String)>,
    Query(query): Query<HashMap<String, String>>,
) -> Result<Response, Refusal> {
    let Some(Extension(identity)) = identity else {
        return Err(Status::unauthorized().into());
    };
    if !identity.is_node() && !identity.is_admin() {
        let why = format!("user {:?} may not read logs on a node", identity.user);
        return Err(Status::forbidden("pods/log", "", &pod, &why).into());
    }
    let options = Options(query);
    let container = options.get("container").unwrap_or_default().to_owned();
    if container.is_empty() {
        return Err(Status::bad_request("container: Required value").into());
    }
    let stream = services.log(&namespace, &pod, wanted(&options, container)?).await?;
    let mut response = Response::new(Body::from_stream(stream));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}
