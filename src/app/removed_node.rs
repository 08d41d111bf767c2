//! A node that was removed from the cluster: it says so, and is nothing else.
//!
//! Why it runs at all: an operator who looks at it must read what happened and what to do,
//! and not a connection that is refused. Its containers are ended, because the cluster has
//! replaced their pods and their addresses may be another node's by now.
//! Invariants: no store, no agent, no network is started; nothing but `reset` makes it a
//! node again.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use tokio_util::sync::CancellationToken;

use super::clean_up::Containers;
use super::config;
use super::node::{NodeError, bind, start_listener};
use super::supervise::Supervisor;
use crate::api::admin::{self, AdminBackend, Door, Place};
use crate::base::ids::BootCount;
use crate::base::limits::SHUTDOWN_DEADLINE;
use crate::install::ports::CleanUp;
use crate::install::removal_note::{REMOVED_TEXT, RemovalNote};
use crate::model::cluster_status::{ClusterStatus, PodCounts, StoreView};
use crate::model::node_config::{NodeConfig, Role};
use crate::model::status::Status;
use crate::sys::services::ServiceManager;
use crate::sys::services::init_client::InitClient;
use crate::sys::systemd::Systemd;
use crate::sys::tls::TlsIdentity;

/// How soon the containers are tried again.
const RETRY: Duration = Duration::from_secs(10);

/// Runs it until `stop` resolves.
pub(super) async fn run(
    config: Arc<NodeConfig>,
    note: RemovalNote,
    stop: impl Future<Output = ()>,
) -> Result<(), NodeError> {
    let NodeConfig { node_name, paths, ports, .. } = config.as_ref();
    tracing::error!(
        node = node_name,
        learned_at = %note.learned_at,
        from = note.learned_from,
        "{REMOVED_TEXT}"
    );
    let mut supervisor = Supervisor::default();
    let identity = TlsIdentity::load(config::tls_files(&config))?;
    let any = std::net::Ipv4Addr::UNSPECIFIED.into();
    let socket = bind("the status", SocketAddr::new(any, ports.api)).await?;
    let backend = Arc::new(RemovedStatus { config: config.clone(), note });
    start_listener(&mut supervisor, "status", socket, identity.server()?, router(backend));
    if config.has_role(Role::Worker) {
        let containers = Containers::new(paths.clone(), services());
        supervisor.start("containers", move |cancel| end_containers(containers, cancel));
    }
    Ok(supervisor.run(stop, SHUTDOWN_DEADLINE).await?)
}

fn services() -> Arc<dyn ServiceManager> {
    if InitClient::is_present() { Arc::new(InitClient::default()) } else { Arc::new(Systemd) }
}

/// Ends what the node still runs, then waits.
async fn end_containers(
    containers: Containers,
    cancel: CancellationToken,
) -> Result<(), Infallible> {
    loop {
        let ended = tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            ended = containers.clean_up() => ended,
        };
        match ended {
            Ok(()) => break,
            Err(error) => tracing::warn!(error, "the containers are not ended yet"),
        }
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            () = tokio::time::sleep(RETRY) => {}
        }
    }
    tracing::info!("the containers of this node's pods are ended");
    cancel.cancelled().await;
    Ok(())
}

/// Status and page for the administrator; everything else is refused in such a way that
/// clients go on to the next server.
fn router(backend: Arc<RemovedStatus>) -> Router {
    let NodeConfig { cluster_name, cluster_id, node_name, .. } = backend.config.as_ref();
    let place = Place::new(cluster_name, &cluster_id.to_string(), node_name);
    let door = Arc::new(Door::new(backend, None, place));
    let router = Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(refuse))
        .merge(admin::router(door.clone()))
        .fallback(refuse);
    admin::guard(router, door)
}

async fn refuse() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, Json(Status::unavailable(REMOVED_TEXT))).into_response()
}

#[derive(Debug)]
struct RemovedStatus {
    config: Arc<NodeConfig>,
    note: RemovalNote,
}

#[async_trait]
impl AdminBackend for RemovedStatus {
    async fn status(&self) -> ClusterStatus {
        let NodeConfig { cluster_name, cluster_id, generation, node_name, member_id, .. } =
            self.config.as_ref();
        ClusterStatus {
            cluster: cluster_name.clone(),
            cluster_id: *cluster_id,
            generation: *generation,
            answered_by: node_name.clone(),
            quorum: false,
            as_of: self.note.learned_at.to_string(),
            quorum_loss: None,
            store: StoreView {
                member: *member_id,
                boot: BootCount(0),
                term: 0,
                revision: 0,
                committed_index: 0,
                applied_index: 0,
                log_bytes: 0,
                state_bytes: 0,
            },
            members: Vec::new(),
            nodes: Vec::new(),
            pods: PodCounts::default(),
            certificates: Vec::new(),
            disks: Vec::new(),
            problems: vec![format!("{REMOVED_TEXT} (noted at {}).", self.note.learned_at)],
        }
    }

    /// The password is in the store, which this node has no part in any more.
    async fn password_hash(&self) -> Option<String> {
        None
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Request;
    use tower::ServiceExt;

    use super::*;

    fn backend() -> Arc<RemovedStatus> {
        let config: NodeConfig = serde_json::from_value(serde_json::json!({
            "clusterName": "lab", "clusterId": "6f3c1f0e-6b8e-4a4e-9c37-0e6d0f1f7c11",
            "generation": 1, "nodeName": "b1", "address": "10.77.0.21", "site": "city",
            "center": "b", "roles": ["control", "worker"], "memberId": 2,
            "podRange": "10.244.64.0/24", "servers": ["10.77.0.11:6443"],
            "network": {"podRange": "10.244.0.0/16", "serviceRange": "10.96.0.0/16",
                        "clusterDomain": "cluster.local"},
            "pauseImage": "holdfast/pause:1",
        }))
        .unwrap();
        let note = RemovalNote {
            node_name: "b1".into(),
            learned_at: jiff::Timestamp::UNIX_EPOCH,
            learned_from: "its store".into(),
        };
        Arc::new(RemovedStatus { config: Arc::new(config), note })
    }

    #[tokio::test]
    async fn it_serves_nothing_of_the_api_and_says_why() {
        let backend = backend();
        let ask = |path: &str| {
            let request = Request::get(path).body(Body::empty()).unwrap();
            router(backend.clone()).oneshot(request)
        };
        for path in ["/api/v1/pods", "/readyz", "/holdfast/v1/nodes", "/apis"] {
            let answer = ask(path).await.unwrap();
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
            let body = axum::body::to_bytes(answer.into_body(), 10_000).await.unwrap();
            assert!(String::from_utf8_lossy(&body).contains("holdfast reset"), "{path}");
        }
        assert_eq!(ask("/livez").await.unwrap().status(), StatusCode::OK);
        let stranger = ask("/holdfast/v1/status").await.unwrap();
        assert_eq!(stranger.status(), StatusCode::UNAUTHORIZED);
        let status = backend.status().await;
        assert!(!status.quorum && status.problems[0].contains("removed from the cluster"));
    }
}
