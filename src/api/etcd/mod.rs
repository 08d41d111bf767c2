//! etcd's protocol, version 3: gRPC and its JSON side on one port, over mTLS.
//!
//! ```text
//!  TLS listener ─► access ─┬─ /etcdserverpb.KV/… ──► a service each ──► the store
//!                          ├─ /v3/kv/range … JSON ─► gateway ─► the same services
//!                          ├─ /metrics
//!                          └─ /health /livez /readyz /version (no certificate needed)
//! ```
//! Why the JSON side calls the gRPC services inside the process: what one can do the
//! other can, with the same checks and the same errors.
//!
//! Invariants: nothing but the open paths is served without a certificate that `access`
//! lets in; a stop waits for what locks and elections have to tidy up.
//! Not here: meaning of keys, leases and users (`store/`), TLS (`api/listener`).

mod access;
mod auth;
mod backend;
mod cluster;
mod election;
mod errors;
mod fragment;
mod gateway;
mod gateway_answer;
mod grpc_health;
mod health;
mod json;
mod kv;
mod lease;
mod lock;
mod maintenance;
mod messages;
mod metrics;
mod paths;
mod snapshot;
mod turns;
mod unattended;
mod watch;
mod wire;

use std::sync::Arc;

use axum::Router;
use axum::middleware;
use axum::routing::get;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use backend::EtcdStore;

use crate::api::listener;
use backend::{Backend, MESSAGE_MAX_BYTES};
use messages::etcdserverpb::{
    auth_server, cluster_server, kv_server, lease_server, maintenance_server, watch_server,
};
use messages::{health::health_server, v3electionpb::election_server, v3lockpb::lock_server};

/// The services with their paths.
macro_rules! services {
    ($backend:expr; $($path:literal => $server:path, $service:expr;)*) => {{
        let router = Router::new();
        $(let router = router.route_service(
            $path,
            <$server>::new($service($backend.clone()))
                .max_decoding_message_size(MESSAGE_MAX_BYTES),
        );)*
        router
    }};
}

fn grpc(backend: &Arc<Backend>) -> Router {
    services! {
        backend;
        "/etcdserverpb.KV/{method}" => kv_server::KvServer<_>, kv::KvService;
        "/etcdserverpb.Watch/{method}" => watch_server::WatchServer<_>, watch::WatchService;
        "/etcdserverpb.Lease/{method}" => lease_server::LeaseServer<_>, lease::LeaseService;
        "/etcdserverpb.Cluster/{method}" => cluster_server::ClusterServer<_>,
            cluster::ClusterService;
        "/etcdserverpb.Maintenance/{method}" => maintenance_server::MaintenanceServer<_>,
            maintenance::MaintenanceService;
        "/etcdserverpb.Auth/{method}" => auth_server::AuthServer<_>, auth::AuthService;
        "/v3lockpb.Lock/{method}" => lock_server::LockServer<_>, lock::LockService;
        "/v3electionpb.Election/{method}" => election_server::ElectionServer<_>,
            election::ElectionService;
        "/grpc.health.v1.Health/{method}" => health_server::HealthServer<_>,
            grpc_health::HealthService;
    }
}

fn router(backend: &Arc<Backend>) -> Router {
    let counts = metrics::CallCounts::default();
    let grpc =
        grpc(backend).layer(middleware::from_fn_with_state(counts.clone(), metrics::count_calls));
    let page = get(metrics::metrics).with_state((backend.clone(), counts));
    let open = Router::new()
        .route("/health", get(health::health))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/version", get(health::version))
        .with_state(backend.clone());
    gateway::router(grpc.clone())
        .merge(grpc)
        .route("/metrics", page)
        .fallback(access::unknown)
        .layer(middleware::from_fn(access::only_clients))
        .merge(open)
}

/// The listener's service, with what has to be waited for when it stops.
#[derive(Debug)]
pub struct EtcdApi {
    backend: Arc<Backend>,
}

impl EtcdApi {
    /// `client_port` is the port on which every member serves clients.
    pub fn new(store: EtcdStore, client_port: u16) -> Self {
        let (waits, cancel) = (TaskTracker::new(), CancellationToken::new());
        Self { backend: Arc::new(Backend { store, client_port, waits, cancel }) }
    }

    /// All routes; tests call them without a socket.
    pub fn router(&self) -> Router {
        router(&self.backend)
    }

    /// Serves until `cancel`, then lets waiting calls end and tidy up.
    pub async fn run(
        self,
        socket: TcpListener,
        tls: Arc<ServerConfig>,
        cancel: CancellationToken,
    ) -> std::io::Result<()> {
        let backend = self.backend.clone();
        let ending = cancel.clone();
        let streams = async move {
            ending.cancelled().await;
            backend.cancel.cancel();
        };
        let serving = listener::serve_many(socket, tls, self.router(), cancel);
        let (served, ()) = tokio::join!(serving, streams);
        self.backend.waits.close();
        self.backend.waits.wait().await;
        served
    }
}

#[cfg(test)]
mod tests;
