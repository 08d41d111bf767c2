//! What the agent asks of a container engine, in terms of neither Docker nor Kubernetes.
//!
//! Invariants: every call may be repeated; starting what runs, stopping what stopped and
//! removing what is gone succeed. An engine that is silent answers `Silent` within a
//! bounded time, except for streams, which last as long as they are read.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;

use super::EngineError;
use super::session::{Session, SessionStreams};

/// Which engine answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineVersion {
    /// The engine's own version, `20.10.24+dfsg1`.
    pub engine: String,
    /// The protocol version in use, `1.41`.
    pub api: String,
}

/// An image that the engine holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineImage {
    /// `sha256:…` of the image's configuration.
    pub id: String,
    /// The user the image runs as unless told otherwise; empty is root.
    pub user: String,
}

/// Whose namespace (network or IPC) a container lives in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Namespace {
    /// Its own, without any link: somebody else connects it.
    #[default]
    Own,
    /// The host's.
    Host,
    /// That of another container, by id.
    Container(String),
}

/// A host directory or file that the container sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    pub source: PathBuf,
    pub target: String,
    pub read_only: bool,
    /// Mounts made on the host later appear in the container (`HostToContainer`).
    pub follows_host: bool,
}

/// What a container may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Hard limit in thousandths of a CPU.
    pub cpu_limit_milli: Option<i64>,
    /// Weight relative to others, 1024 for a whole CPU.
    pub cpu_shares: Option<i64>,
    /// Hard limit; swap is not allowed beyond it.
    pub memory_limit_bytes: Option<i64>,
    /// The higher, the sooner the kernel kills it when memory runs out.
    pub oom_score_adj: Option<i64>,
}

/// A container to create. The engine never restarts it by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerSpec {
    pub name: String,
    pub image: String,
    pub labels: BTreeMap<String, String>,
    /// Replaces the image's entrypoint.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's arguments.
    pub arguments: Option<Vec<String>>,
    /// `NAME=value`.
    pub env: Vec<String>,
    pub working_dir: Option<String>,
    /// `uid`, `uid:gid` or a name.
    pub user: Option<String>,
    pub extra_groups: Vec<String>,
    pub hostname: Option<String>,
    pub binds: Vec<Bind>,
    pub network: Namespace,
    pub ipc: Namespace,
    /// Only `Own` and `Host` and `Container` of the same pod make sense.
    pub pid: Namespace,
    pub resources: Resources,
    /// Absolute cgroup path (or slice) that holds the container.
    pub cgroup_parent: Option<String>,
    pub privileged: bool,
    pub read_only_root: bool,
    pub no_new_privileges: bool,
    pub seccomp_unconfined: bool,
    pub capabilities_add: Vec<String>,
    pub capabilities_drop: Vec<String>,
    pub sysctls: BTreeMap<String, String>,
    pub tty: bool,
    pub stdin: bool,
    pub stdin_once: bool,
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// Created, never started (or its start was refused).
    Created,
    Running,
    Exited,
    /// Being removed; it cannot be started again.
    Removing,
}

/// A line of the engine's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerSummary {
    pub id: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub state: RunState,
}

/// All about one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    pub id: String,
    /// Without the leading slash.
    pub name: String,
    pub labels: BTreeMap<String, String>,
    /// `sha256:…` of the image it was made from.
    pub image_id: String,
    pub state: RunState,
    /// Of the first process, on the host; 0 when not running.
    pub pid: i32,
    pub exit_code: i32,
    pub oom_killed: bool,
    /// Its own process has a terminal.
    pub tty: bool,
    /// Its own process has an open standard input.
    pub stdin: bool,
    /// Its input ends with that of the first who attaches.
    pub stdin_once: bool,
    /// Why the last start was refused; empty otherwise.
    pub start_error: String,
    pub created_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

/// What of a container's output to deliver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Go on as new output comes, until the container ends.
    pub follow: bool,
    /// Only the last so many lines.
    pub tail_lines: Option<u64>,
    /// Each line is preceded by its RFC 3339 time.
    pub timestamps: bool,
    pub since: Option<Timestamp>,
}

/// A command to run inside a container, without a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecSpec {
    pub command: Vec<String>,
    pub timeout: Duration,
    /// Output beyond this is read and dropped.
    pub output_max_bytes: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecOutput {
    pub exit_code: i64,
    /// stdout and stderr, interleaved.
    pub output: Vec<u8>,
}

/// A container changed; which pod it belongs to is in its labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineEvent {
    pub container: String,
    /// `start`, `die`, `destroy`, `oom` …
    pub action: String,
    pub labels: BTreeMap<String, String>,
}

/// What a running container uses now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContainerUsage {
    /// CPU time since the start, nanoseconds.
    pub cpu_total_ns: u64,
    /// Memory in use without reclaimable page cache.
    pub memory_working_set_bytes: u64,
}

/// Raw pieces of output, both streams interleaved.
pub type LogStream = BoxStream<'static, Result<Bytes, EngineError>>;

/// The calls.
#[async_trait]
pub trait Engine: Send + Sync + std::fmt::Debug + 'static {
    /// Whether it answers, and what it is.
    async fn version(&self) -> Result<EngineVersion, EngineError>;

    /// `None` when the engine does not hold it.
    async fn image(&self, reference: &str) -> Result<Option<EngineImage>, EngineError>;

    async fn pull(&self, reference: &str) -> Result<(), EngineError>;

    /// Removes the images of which there is no container; answers the bytes that this gave
    /// back.
    async fn remove_unused_images(&self) -> Result<u64, EngineError>;

    /// All containers, running or not, that carry every one of these labels.
    async fn list(&self, labels: &[(String, String)])
    -> Result<Vec<ContainerSummary>, EngineError>;

    /// By id or name; `None` when there is none.
    async fn inspect(&self, id: &str) -> Result<Option<Container>, EngineError>;

    /// Returns the id; `NameTaken` when the name exists, whoever made it.
    async fn create(&self, spec: &ContainerSpec) -> Result<String, EngineError>;

    async fn start(&self, id: &str) -> Result<(), EngineError>;

    /// Sends the container's stop signal, waits up to `grace`, then kills it.
    async fn stop(&self, id: &str, grace: Duration) -> Result<(), EngineError>;

    /// Kills it if it runs and removes it with its anonymous volumes.
    async fn remove(&self, id: &str) -> Result<(), EngineError>;

    async fn logs(&self, id: &str, query: &LogQuery) -> Result<LogStream, EngineError>;

    async fn exec(&self, id: &str, spec: &ExecSpec) -> Result<ExecOutput, EngineError>;

    /// Runs a command inside a container and connects to it, for as long as it is read.
    async fn open_exec(
        &self,
        id: &str,
        command: &[String],
        streams: SessionStreams,
    ) -> Result<Session, EngineError>;

    /// Connects to a container's own process; `streams.tty` says what it was made with,
    /// `ends_stdin` whether the end of this input is the end of the process's.
    async fn open_attach(
        &self,
        id: &str,
        streams: SessionStreams,
        ends_stdin: bool,
    ) -> Result<Session, EngineError>;

    /// Container events from now on, for containers with this label. Ends when the engine
    /// goes away.
    async fn events(
        &self,
        label: (String, String),
    ) -> Result<BoxStream<'static, Result<EngineEvent, EngineError>>, EngineError>;

    async fn usage(&self, id: &str) -> Result<ContainerUsage, EngineError>;
}
