//! Every bound of the system in one place, with its unit and its reason.

use std::time::Duration;

/// Largest value or request the store accepts, bytes (etcd's default request limit).
pub const STORE_REQUEST_MAX_BYTES: usize = 1_572_864;
/// Most operations in one transaction (etcd's default).
pub const STORE_TXN_MAX_OPS: usize = 128;
/// Free space below which the store refuses writes: 2 % of the file system, at least and
/// at most this much, bytes. It holds what is applied and not flushed, and its log.
pub const STORE_DISK_RESERVE_MIN_BYTES: u64 = 64 * 1024 * 1024;
pub const STORE_DISK_RESERVE_MAX_BYTES: u64 = 512 * 1024 * 1024;
/// Events a watcher may hold in memory before it is fed from disk instead.
pub const WATCH_BUFFER_EVENTS: usize = 1_024;
/// Shortest time to live of a lease, seconds: longer than an election takes, so that a
/// holder can renew with the next leader (etcd's is 2 s for the same reason).
pub const LEASE_TTL_MIN_S: i64 = 2;
/// How often the leader looks for leases whose time is over.
pub const LEASE_TICK: Duration = Duration::from_millis(500);
/// Leases that one tick may end or mark: 1,000 a second, as in etcd.
pub const LEASE_EXPIRED_PER_TICK: usize = 500;
/// How often the remainder of a longer lease is noted in the log, seconds (etcd's default).
pub const LEASE_MARK_EVERY_S: u64 = 300;
/// After how long the end of a lease is proposed again if nothing came of it.
pub const LEASE_RETRY_MS: u64 = 3_000;
/// How long a token lives without being used (etcd's default).
pub const AUTH_TOKEN_IDLE: Duration = Duration::from_secs(300);
/// Largest API object body, bytes (the API server's limit).
pub const API_BODY_MAX_BYTES: usize = 3 * 1024 * 1024;
/// Largest OCI manifest, bytes (distribution spec's recommended limit).
pub const OCI_MANIFEST_MAX_BYTES: usize = 4 * 1024 * 1024;
/// How long a join token is valid.
pub const JOIN_TOKEN_TTL: Duration = Duration::from_secs(3_600);
/// How long a graceful stop of the whole program may take before it is forced.
pub const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(20);
/// How often a node of a small cluster says that it lives, by its Lease.
pub const NODE_HEARTBEAT: Duration = Duration::from_secs(2);
/// The same of the largest (the kubelet's).
pub const NODE_HEARTBEAT_MAX: Duration = Duration::from_secs(10);
/// Heartbeats a second of all nodes together, which the clusters in between keep to.
pub const NODE_HEARTBEATS_PER_SECOND: u32 = 200;
/// A Lease holds for so many heartbeats.
pub const NODE_LEASE_BEATS: u32 = 5;
/// Silence after which a node is taken for dead and its pods are replaced, unless its Lease
/// holds for longer.
pub const NODE_DEAD_AFTER: Duration = Duration::from_secs(10);
/// The longest that a Lease can ask for.
pub const NODE_DEAD_AFTER_MAX: Duration = Duration::from_secs(60);
/// How often a node writes its status when nothing has changed (the kubelet's).
pub const NODE_STATUS_REPORT: Duration = Duration::from_secs(5 * 60);
/// How long a client waits for a connection to one API server before it tries the next.
pub const CLIENT_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a client waits for the answer to one request that is not a stream.
pub const CLIENT_REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// How often a client pings an open connection, and how long it waits for the echo;
/// this is how a watch notices that its server died without a word.
pub const CLIENT_PING: Duration = Duration::from_secs(3);
/// Objects asked for in one page of a list.
pub const CLIENT_LIST_PAGE: u32 = 2_000;
/// Longest line of a watch stream, bytes: one object and its envelope.
pub const CLIENT_WATCH_LINE_MAX_BYTES: usize = 8 * 1024 * 1024;
/// Bounds of a client's pause between two attempts to watch or list.
pub const CLIENT_BACKOFF_MIN: Duration = Duration::from_millis(50);
pub const CLIENT_BACKOFF_MAX: Duration = Duration::from_secs(2);
/// Events that may wait to be written, and distinct ones whose repetition is counted.
pub const EVENT_QUEUE: usize = 1_024;
/// How long an event is kept after it last happened.
pub const EVENT_TTL: Duration = Duration::from_secs(3_600);
/// Bounds of a controller's pause before it tries a failed key again.
pub const CONTROLLER_BACKOFF_MIN: Duration = Duration::from_millis(20);
pub const CONTROLLER_BACKOFF_MAX: Duration = Duration::from_secs(30);
/// How long a ReplicaSet waits for its own writes to show in its cache before it asks
/// the API itself.
pub const CONTROLLER_EXPECTATION_WAIT: Duration = Duration::from_secs(5);
/// How often a Deployment or ReplicaSet whose pods change all the time is looked at: so
/// many times at once, and then once in so long.
pub const CONTROLLER_PACE_BURST: u32 = 20;
pub const CONTROLLER_PACE: Duration = Duration::from_millis(200);
/// Writes of all controllers of a node together that are on their way to the store; they
/// fill its batches, and nobody else waits behind more.
pub const CONTROLLER_WRITES_AT_ONCE: usize = 64;
/// Pods one ReplicaSet creates or deletes in one step (Kubernetes' burst).
pub const REPLICASET_BURST: usize = 500;
/// Bounds of the pause before a daemon's pod that has ended is made again (Kubernetes').
pub const DAEMON_BACKOFF_MIN: Duration = Duration::from_secs(1);
pub const DAEMON_BACKOFF_MAX: Duration = Duration::from_secs(15 * 60);
/// Bounds of the pause before a job's failed pod is replaced (Kubernetes').
pub const JOB_BACKOFF_MIN: Duration = Duration::from_secs(10);
pub const JOB_BACKOFF_MAX: Duration = Duration::from_secs(10 * 60);
/// Ended pods that a job's status names while they are being counted (Kubernetes').
pub const JOB_UNCOUNTED_MAX: usize = 500;
/// Due times that a cron job may have missed before it says that there are too many.
pub const CRON_MISSED_MAX: usize = 100;
/// Pods bound in one pass of the scheduler.
pub const SCHEDULER_BATCH: usize = 500;
/// Endpoints in one EndpointSlice (Kubernetes' default).
pub const ENDPOINTS_PER_SLICE: usize = 100;
/// Ended pods that are kept for people to look at; the oldest go first.
pub const ENDED_PODS_KEPT: usize = 500;
/// How long pods stay on a dead node before they are replaced.
pub const DEAD_NODE_GRACE: Duration = Duration::from_secs(1);
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
/// How often a node looks for released volumes whose directories it has.
pub const VOLUME_RECLAIM_INTERVAL: Duration = Duration::from_secs(5);
/// How soon a claim or volume is looked at again when a cache may be behind.
pub const VOLUME_RECHECK: Duration = Duration::from_secs(1);
/// Longest grace that a pod without an API object gets before it is killed.
pub const ORPHAN_GRACE_MAX: Duration = Duration::from_secs(30);
/// Connections that the ingress of one node serves at a time.
pub const INGRESS_CONNECTIONS: usize = 16_384;
/// Most pods on one node (the kubelet's default).
pub const NODE_MAX_PODS: u32 = 110;
/// Longest termination message kept, bytes (the kubelet's).
pub const TERMINATION_MESSAGE_MAX_BYTES: usize = 4_096;
/// Events that may wait to be written; more are dropped, with a trace.
pub const AGENT_EVENT_QUEUE: usize = 256;
/// Largest bundle manifest that is read, bytes; a real one is under 100 kB.
pub const BUNDLE_MANIFEST_MAX_BYTES: u64 = 16 * 1024 * 1024;

/// How long the kernel may take to end all processes of a lab's killed host.
pub const LAB_KILL: Duration = Duration::from_secs(30);
/// Records of the audit log that are kept, and how many more there must be before the
/// oldest are dropped: about 50 MB of the store, and some weeks of a busy cluster.
pub const AUDIT_KEEP_RECORDS: u64 = 50_000;
pub const AUDIT_TRIM_RECORDS: u64 = 1_000;
/// Records in one page of the audit log.
pub const AUDIT_PAGE_MAX: usize = 1_000;
/// How long records wait for more before the leader chains them.
pub const AUDIT_CHAIN_DELAY: Duration = Duration::from_millis(500);
/// Shortest and longest life of a service account's token, seconds (Kubernetes').
pub const ACCOUNT_TOKEN_MIN_S: i64 = 600;
pub const ACCOUNT_TOKEN_MAX_S: i64 = 1 << 32;
/// Its life where the request says nothing, seconds (Kubernetes').
pub const ACCOUNT_TOKEN_DEFAULT_S: i64 = 3_600;
/// How long a token outlives the grace of the pod it is bound to (Kubernetes').
pub const ACCOUNT_TOKEN_AFTER_POD_S: i64 = 60;
/// How far the clocks of two control nodes may be apart before a new token is refused.
pub const ACCOUNT_TOKEN_LEEWAY_S: i64 = 60;
/// Commands, attachments and tunnels that a node carries at a time.
pub const POD_STREAMS_MAX: usize = 512;
/// Longest message or frame of such a stream, bytes (clients send 32 KiB at most at a time).
pub const POD_STREAM_MESSAGE_MAX_BYTES: usize = 1024 * 1024;
/// How often an autoscaler is looked at (Kubernetes').
pub const AUTOSCALER_PERIOD: Duration = Duration::from_secs(15);
/// How often a node looks which containers run, to measure what they use.
pub const USAGE_TICK: Duration = Duration::from_secs(4);
/// How often a container that is known is measured.
pub const USAGE_INTERVAL: Duration = Duration::from_secs(12);
/// After how long without a new measurement the last one is not told any more.
pub const USAGE_STALE_AFTER: Duration = Duration::from_secs(60);
/// How long a node may take to tell what it uses, how many nodes are asked at once, and how
/// long the answer serves others.
pub const USAGE_ASK_DEADLINE: Duration = Duration::from_secs(3);
pub const USAGE_ASKED_AT_ONCE: usize = 32;
pub const USAGE_KEPT: Duration = Duration::from_secs(3);
/// Longest answer of a node, bytes.
pub const USAGE_MAX_BYTES: usize = 4 * 1024 * 1024;
/// How often a node looks what is left of memory, disk and process ids (the kubelet's).
pub const PRESSURE_PERIOD: Duration = Duration::from_secs(10);
/// How long an evicted pod's processes get.
pub const EVICTION_GRACE_S: i64 = 1;
/// A session of the admin page ends after so long without its user, and at the latest.
pub const PAGE_SESSION_IDLE: Duration = Duration::from_secs(30 * 60);
pub const PAGE_SESSION_ABSOLUTE: Duration = Duration::from_secs(12 * 3_600);
/// Sessions of one user at one node; the oldest ends when there is one more.
pub const PAGE_SESSIONS_PER_USER: usize = 20;
/// Failed sign-ins, one after another, that lock an address and an account.
pub const SIGN_IN_FAILURES_PER_SOURCE: u32 = 5;
pub const SIGN_IN_FAILURES_PER_ACCOUNT: u32 = 20;
