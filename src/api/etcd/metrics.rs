//! `/metrics` under etcd's names, where ours mean the same.
//!
//! Why so few: a dashboard made for etcd must not draw what is not measured. What has
//! another meaning here has no place under etcd's name.
//! Not here: the text format (the `prometheus-client` crate), measurements of the program
//! as a whole.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::backend::{Backend, VERSION};
use crate::base::ids::MemberId;
use crate::store::Measured;

/// Where gRPC says how a call ended.
const STATUS: &str = "grpc-status";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    grpc_type: &'static str,
    grpc_service: String,
    grpc_method: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Handled {
    grpc_code: &'static str,
    grpc_type: &'static str,
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
#[derive(Clone, Debug)]
pub(super) struct CallCounts {
    started: Family<Call, Counter>,
    handled: Family<Handled, Counter>,
    handling: Family<Call, Histogram>,
}

impl Default for CallCounts {
    fn default() -> Self {
        // The buckets of the gRPC library's own metrics.
        let buckets =
            || Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]);
        Self {
            started: Family::default(),
            handled: Family::default(),
            handling: Family::new_with_constructor(buckets),
        }
    }
}

impl CallCounts {
    /// Counts a call that has ended with this status.
    fn ended(&self, call: &Call, code: &HeaderValue, since: Instant) {
        let Call { grpc_type, grpc_service, grpc_method } = call.clone();
        let grpc_code = CODES
            .iter()
            .zip(0_u8..)
            .find_map(|(name, number)| (code == number.to_string().as_str()).then_some(*name))
            .unwrap_or("Unknown");
        let handled = Handled { grpc_code, grpc_type, grpc_service, grpc_method };
        self.handled.get_or_create(&handled).inc();
        self.handling.get_or_create(call).observe(since.elapsed().as_secs_f64());
    }
}

/// gRPC's names of its codes, by number.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// Which sides of a method send more than one message.
fn type_of(method: &str) -> &'static str {
    match method {
        "Watch" | "LeaseKeepAlive" => "bidi_stream",
        "Snapshot" | "Observe" | "RangeStream" => "server_stream",
        _ => "unary",
    }
}

/// Counts gRPC calls by service and method, and how they end. One whose caller went away
/// before its end is counted as started only.
pub(super) async fn count_calls(
    State(counts): State<CallCounts>,
    request: Request,
    next: Next,
) -> Response {
    let (path, since) = (request.uri().path().trim_start_matches('/').to_owned(), Instant::now());
    let response = next.run(request).await;
    let at_once = response.headers().get(STATUS).cloned();
    // A method that is not there must not make a time series of its name.
    let unknown = at_once.as_ref().is_some_and(|code| code == "12");
    let Some((service, method)) = path.split_once('/').filter(|_| !unknown) else {
        return response;
    };
    let call = Call {
        grpc_type: type_of(method),
        grpc_service: service.into(),
        grpc_method: method.into(),
    };
    counts.started.get_or_create(&call).inc();
    if let Some(code) = at_once {
        counts.ended(&call, &code, since);
        return response;
    }
    // The status comes behind the answer.
    response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            if let Some(code) = frame.trailers_ref().and_then(|trailers| trailers.get(STATUS)) {
                counts.ended(&call, code, since);
            }
            frame
        }))
    })
}

/// Shows what the store has measured.
fn register_measured(registry: &mut Registry, measured: &Measured) {
    registry.register(
        "etcd_disk_wal_fsync_duration_seconds",
        "Time of a commit of the log, a write and its sync",
        measured.log_sync.clone(),
    );
    registry.register(
        "etcd_disk_backend_commit_duration_seconds",
        "Time of a flush of the state's file",
        measured.state_commit.clone(),
    );
    registry.register(
        "etcd_network_peer_round_trip_time_seconds",
        "Time from a leader's heartbeat to its answer",
        measured.round_trip.clone(),
    );
    // The format adds `_total`.
    registry.register(
        "etcd_server_leader_changes_seen",
        "How often another leader was seen than before",
        measured.leader_changes.clone(),
    );
    registry.register(
        "etcd_server_proposals_failed",
        "Proposals of this member that ended without an answer",
        measured.proposals_failed.clone(),
    );
    registry.register(
        "holdfast_remote_synchronous",
        "1 while answers wait for the remote center",
        measured.remote_synchronous.clone(),
    );
    registry.register(
        "holdfast_footing_changes",
        "How often answers began or ceased to wait for the remote center",
        measured.footing_changes.clone(),
    );
    registry.register(
        "etcd_server_proposals_pending",
        "Proposals of this member that wait for an answer",
        measured.proposals_pending.clone(),
    );
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
    register_measured(&mut registry, &backend.store.maintenance.measured());
    registry.register("grpc_server_started", "Calls by method", counts.started.clone());
    registry.register("grpc_server_handled", "Ended calls by their status", counts.handled.clone());
    registry.register(
        "grpc_server_handling_seconds",
        "Time from a call to its end",
        counts.handling.clone(),
    );
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
