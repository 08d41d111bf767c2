//! What installing asks of others; wired in `app/`.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::cluster_record::ClusterBootstrap;
use crate::model::join::{JoinAnswer, JoinRequest, RenewAnswer, RenewRequest};
use crate::model::node_list::Removed;
use crate::playbook::{BundleFileError, BundleFiles};

/// A release of the product; a greater serial is newer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Release {
    /// For people.
    pub version: String,
    pub serial: u64,
}

impl std::fmt::Display for Release {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (serial {})", self.version, self.serial)
    }
}

/// Bytes done and bytes in all.
pub type ByteProgress<'a> = &'a (dyn Fn(u64, u64) + Send + Sync);

/// The bundle as the installation uses it.
pub trait BundleSource: BundleFiles {
    /// Checks the signature and every entry; names the first that is wrong.
    fn verify(&self, progress: ByteProgress<'_>) -> Result<(), BundleFileError>;
    /// Bytes that the engine and the images will take when unpacked.
    fn space_needed(&self) -> u64;
    /// Writes all images as one OCI image layout into an existing empty directory.
    fn write_images(&self, dest: &Path, progress: ByteProgress<'_>) -> Result<(), BundleFileError>;
    /// Which release it is; proven by the signature before any other byte is read.
    fn release(&self) -> Release;
    /// The pause image's name in the registry.
    fn pause_image(&self) -> String;
}

/// A bundle seen as the playbooks' files.
pub(crate) fn as_files(bundle: &Arc<dyn BundleSource>) -> Arc<dyn BundleFiles> {
    Arc::clone(bundle) as Arc<dyn BundleFiles>
}

/// Why a server did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    #[error("cannot reach {server}: {reason}")]
    Unreachable { server: String, reason: String },
    #[error("the server at {server} belongs to another cluster than the token")]
    Foreign { server: String },
    /// `reason` is the stable code, such as `TokenUsed`.
    #[error("{server} refused: {message}")]
    Refused { server: String, reason: String, message: String },
    #[error("{server} answered something else than what was asked: {reason}")]
    Garbled { server: String, reason: String },
    #[error("the keys for talking to {server} are not usable: {reason}")]
    Keys { server: String, reason: String },
}

/// A certificate with its key, and the authority to trust; all PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub authority: String,
    pub certificate: String,
    pub key: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// The cluster's HTTPS API as the installation uses it.
#[async_trait]
pub trait Remote: Send + Sync + std::fmt::Debug {
    /// Whether the server says that it is ready.
    async fn is_ready(&self, server: SocketAddr, own: &Credentials) -> Result<bool, RemoteError>;
    /// Whether the server answers at all; a member that nobody has added yet does, but is
    /// not ready.
    async fn is_alive(&self, server: SocketAddr, own: &Credentials) -> Result<bool, RemoteError>;
    /// Records the new cluster.
    async fn record_cluster(
        &self,
        server: SocketAddr,
        own: &Credentials,
        bootstrap: &ClusterBootstrap,
    ) -> Result<(), RemoteError>;
    /// The server's clock, asked over a connection that the pin proves.
    async fn server_time(&self, server: SocketAddr, pin: &str) -> Result<Timestamp, RemoteError>;
    /// Shows a token to the server that the pin proves.
    async fn request_join(
        &self,
        server: SocketAddr,
        pin: &str,
        request: &JoinRequest,
    ) -> Result<JoinAnswer, RemoteError>;
    /// Asks the server, which the authority proves, for a new certificate for a node's key.
    async fn renew(
        &self,
        server: SocketAddr,
        authority: &str,
        request: &RenewRequest,
    ) -> Result<RenewAnswer, RemoteError>;
    /// Says that this node's services answer.
    async fn joined(
        &self,
        server: SocketAddr,
        own: &Credentials,
        node_name: &str,
    ) -> Result<(), RemoteError>;
    /// Asks the server to take this node out of the cluster.
    async fn leave(
        &self,
        server: SocketAddr,
        own: &Credentials,
        node_name: &str,
    ) -> Result<Removed, RemoteError>;
}

/// Undoes something outside files and services: containers, or the pod network.
#[async_trait]
pub trait CleanUp: Send + Sync + std::fmt::Debug {
    /// For people, `containers`.
    fn name(&self) -> &'static str;
    /// Must be repeatable, and must touch nothing foreign.
    async fn clean_up(&self) -> Result<(), String>;
}
