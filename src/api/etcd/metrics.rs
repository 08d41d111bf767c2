//! `/metrics` under etcd's names, where ours mean the same.
//!
//! Why so few: a dashboard made for etcd must not draw what is not measured. What has
//! another meaning here has no place under etcd's name.
//! Not here: the text format (the `prometheus-client` crate), measurements of the program
//! as a whole.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::backend::{Backend, VERSION};
use crate::base::ids::MemberId;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    grpc_service: String,
    grpc_method: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServerVersion {
    server_version: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServerId {
    server_id: String,
}

type Float = Gauge<f64, AtomicU64>;

/// What is counted as it happens.
#[derive(Clone, Debug, Default)]
pub(super) struct CallCounts(Family<Call, Counter>);

/// Counts gRPC calls by service and method.
pub(super) async fn count_calls(
    State(counts): State<CallCounts>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path().trim_start_matches('/').to_owned();
    let response = next.run(request).await;
    // A method that is not there must not make a time series of its name.
    let unknown = response.headers().get("grpc-status").is_some_and(|code| code == "12");
    if let Some((service, method)) = path.split_once('/').filter(|_| !unknown) {
        let call = Call { grpc_service: service.into(), grpc_method: method.into() };
        counts.0.get_or_create(&call).inc();
    }
    response
}

fn registry(backend: &Backend, counts: &CallCounts) -> Registry {
    let mut registry = <Registry>::default();
    let header = backend.store.kv.header();
    let status = backend.store.maintenance.member_status();
    let flag = |value: bool| if value { 1.0 } else { 0.0 };
    let own = Some(MemberId(header.member_id));
    let gauges: [(&str, &str, f64); 8] = [
        ("etcd_server_has_leader", "Whether a leader is known", flag(status.leader.is_some())),
        ("etcd_server_is_leader", "Whether this member leads", flag(status.leader == own)),
        ("etcd_server_is_learner", "Whether this member is a learner", flag(status.is_learner)),
        (
            "etcd_server_proposals_committed_total",
            "Log index of the last committed entry",
            status.raft_index as f64,
        ),
        (
            "etcd_server_proposals_applied_total",
            "Log index of the last applied entry",
            status.raft_applied_index as f64,
        ),
        (
            "etcd_mvcc_db_total_size_in_bytes",
            "Size of the state's file in bytes",
            status.db_size_bytes as f64,
        ),
        (
            "etcd_mvcc_db_total_size_in_use_in_bytes",
            "Bytes in use of the state's file",
            status.db_size_in_use_bytes as f64,
        ),
        (
            "etcd_debugging_mvcc_current_revision",
            "The store's newest revision at this member",
            header.revision as f64,
        ),
    ];
    for (name, help, value) in gauges {
        let gauge = Float::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    }
    let version = Family::<ServerVersion, Gauge>::default();
    version.get_or_create(&ServerVersion { server_version: VERSION }).set(1);
    registry.register("etcd_server_version", "The version of the protocol", version);
    let id = Family::<ServerId, Gauge>::default();
    id.get_or_create(&ServerId { server_id: format!("{:x}", header.member_id) }).set(1);
    registry.register("etcd_server_id", "This member's id, hexadecimal", id);
    // The format adds `_total`.
    registry.register("grpc_server_started", "Calls by method", counts.0.clone());
    registry
}

/// The page.
pub(super) async fn metrics(
    State((backend, counts)): State<(Arc<Backend>, CallCounts)>,
) -> Response {
    let mut text = String::new();
    encode(&mut text, &registry(&backend, &counts)).expect("a string takes any text");
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
        .into_response()
}
