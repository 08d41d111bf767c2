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
/// Largest bundle manifest that is read, bytes; a real one is under 100 kB.
pub const BUNDLE_MANIFEST_MAX_BYTES: u64 = 16 * 1024 * 1024;
