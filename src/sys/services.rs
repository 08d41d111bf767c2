//! Long-running programs of a host and who keeps them running.
//!
//! On a distribution that is systemd; on a host whose PID 1 is ours (the lab's hosts,
//! and the appliance) it is our own supervisor, which reads one YAML file per service
//! from [`SERVICE_DIR`] and takes requests on [`CONTROL_SOCKET`].

pub mod init_client;

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// Where our PID 1 looks for service files, `NAME.yaml`.
pub const SERVICE_DIR: &str = "/etc/holdfast/services";
/// Where our PID 1 listens: one JSON [`ServiceRequest`] a line, one [`ServiceAnswer`] back.
pub const CONTROL_SOCKET: &str = "/run/holdfast-init.sock";

/// One service as our PID 1 runs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceFile {
    pub command: Vec<String>,
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Services that are started before this one.
    #[serde(default)]
    pub after: Vec<String>,
    /// Directories on a file system that does not outlive a boot; made before each start.
    #[serde(default)]
    pub runtime_dirs: Vec<PathBuf>,
    /// Start when PID 1 starts.
    pub enabled: bool,
    /// stdout and stderr are appended here.
    pub log: PathBuf,
    /// `process`: stop signals the main process only (containers go on);
    /// `group`: its whole process group.
    pub kill_mode: KillMode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KillMode {
    Process,
    Group,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "op")]
pub enum ServiceRequest {
    Start { name: String },
    Stop { name: String },
    Restart { name: String },
    Status { name: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAnswer {
    /// Set when the request failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub running: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
}

#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    #[error("cannot {action} service {name}: {reason}")]
    Refused { action: &'static str, name: String, reason: String },
    #[error("cannot reach the service manager to {action} {name}")]
    Unreachable {
        action: &'static str,
        name: String,
        #[source]
        source: std::io::Error,
    },
}

/// Starts and stops services; all calls are idempotent.
#[async_trait]
pub trait ServiceManager: Send + Sync + std::fmt::Debug {
    /// `"systemd"` or `"holdfast-init"`, the value of Ansible's fact `service_mgr`.
    fn name(&self) -> &'static str;
    async fn start(&self, name: &str) -> Result<(), ServiceError>;
    async fn stop(&self, name: &str) -> Result<(), ServiceError>;
    async fn restart(&self, name: &str) -> Result<(), ServiceError>;
    async fn is_running(&self, name: &str) -> Result<bool, ServiceError>;
}
