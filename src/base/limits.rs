//! Every bound of the system in one place, with its unit and its reason.

use std::time::Duration;

/// Largest value or request the store accepts, bytes (etcd's default request limit).
pub const STORE_REQUEST_MAX_BYTES: usize = 1_572_864;
/// Most operations in one transaction (etcd's default).
pub const STORE_TXN_MAX_OPS: usize = 128;
/// Events a watcher may hold in memory before it is fed from disk instead.
pub const WATCH_BUFFER_EVENTS: usize = 1_024;
/// Largest API object body, bytes (the API server's limit).
pub const API_BODY_MAX_BYTES: usize = 3 * 1024 * 1024;
/// Largest OCI manifest, bytes (distribution spec's recommended limit).
pub const OCI_MANIFEST_MAX_BYTES: usize = 4 * 1024 * 1024;
/// How long a join token is valid.
pub const JOIN_TOKEN_TTL: Duration = Duration::from_secs(3_600);
/// How long a graceful stop of the whole program may take before it is forced.
pub const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(20);
/// How often a node says that it lives.
pub const NODE_HEARTBEAT: Duration = Duration::from_secs(2);
/// Silence after which a node is taken for dead and its pods are replaced.
pub const NODE_DEAD_AFTER: Duration = Duration::from_secs(10);
/// How long the container engine may take to answer before it counts as silent.
pub const ENGINE_CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an image pull may show no progress before it counts as silent.
pub const IMAGE_PULL_SILENCE: Duration = Duration::from_secs(120);
/// Size at which a container's log file is rotated (Docker's notation).
pub const CONTAINER_LOG_MAX_SIZE: &str = "10m";
/// Log files kept for one container, the current one included.
pub const CONTAINER_LOG_FILES: u32 = 3;
/// How often the agent compares all containers with all pods, events or not.
pub const AGENT_RELIST: Duration = Duration::from_secs(5);
/// How often a pod is looked at when nothing seems to happen to it.
pub const POD_RESYNC: Duration = Duration::from_secs(15);
/// Longest grace that a pod without an API object gets before it is killed.
pub const ORPHAN_GRACE_MAX: Duration = Duration::from_secs(30);
/// Most pods on one node (the kubelet's default).
pub const NODE_MAX_PODS: u32 = 110;
/// Longest termination message kept, bytes (the kubelet's).
pub const TERMINATION_MESSAGE_MAX_BYTES: usize = 4_096;
/// Events that may wait to be written; more are dropped, with a trace.
pub const AGENT_EVENT_QUEUE: usize = 256;
