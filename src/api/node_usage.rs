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

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Request;
    use tower::ServiceExt;

    use super::*;
    use crate::pki::CONTROL_UNIT;

    #[derive(Debug)]
    struct Nothing;

    impl NodeUsages for Nothing {
        fn report(&self) -> NodeReport {
            NodeReport::default()
        }
    }

    #[tokio::test]
    async fn control_nodes_alone_are_told() {
        for (groups, code) in [
            (None, 401),
            (Some(vec!["system:masters"]), 403),
            (Some(vec!["system:nodes"]), 403),
            (Some(vec!["system:nodes", CONTROL_UNIT]), 200),
        ] {
            let mut request = Request::get(USAGE_PATH).body(Body::empty()).unwrap();
            if let Some(groups) = groups {
                request.extensions_mut().insert(PeerIdentity {
                    user: "somebody".into(),
                    groups: groups.into_iter().map(str::to_owned).collect(),
                    key_fingerprint: String::new(),
                });
            }
            let answer = router(Arc::new(Nothing)).oneshot(request).await.unwrap();
            assert_eq!(answer.status().as_u16(), code);
        }
    }
}
