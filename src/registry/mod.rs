//! The OCI registry that every control node carries.
//!
//! ```text
//!  api/oci ─┐                    ┌─► blobs     files by digest on this node
//!  import  ─┼─► Registry ────────┤
//!  agent   ─┘      ▲             └─► records   repositories, tags, presence in the store
//!                  └─ replicate: fetches from peers what the records reference
//! ```
//! Why metadata in the store and content in files: a tag must mean the same on every
//! node at once, while gigabytes must not pass through consensus.
//!
//! Invariants: a blob file is complete and matches its name; a manifest is recorded only
//! when this node holds everything it references; nothing is ever fetched from outside
//! the cluster.
//! Not here: HTTP (api/oci), reaching peers (wired in app).

mod blobs;
mod collect;
mod error;
mod import;
mod inventory;
mod manifest;
mod manifests;
mod name;
mod peers;
mod pins;
mod records;
mod replicate;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod uploads;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::RwLock;

pub use blobs::BlobReader;
pub use collect::CollectReport;
pub use error::RegistryError;
pub use import::{ImportBlob, ImportImage, ImportProgress, ImportReport, ImportSource};
pub use inventory::ImageEntry;
pub use manifests::{Reference, ResolvedName, StoredManifest};
pub use name::{Digest, ImageName, Repository, Tag};
pub use peers::{BlobPeers, BlobStream, PeerFetchError};
pub use records::forget_node;
pub use uploads::UploadStatus;

use crate::store::Kv;
use blobs::Blobs;
use records::Records;
use uploads::Uploads;

/// Where the registry lives.
#[derive(Clone, Debug)]
pub struct RegistryConfig {
    /// `<data>/registry`.
    pub directory: PathBuf,
    /// Under which presence of content is recorded.
    pub node_name: String,
}

/// One node's registry.
#[derive(Debug)]
pub struct Registry {
    node_name: String,
    blobs: Blobs,
    uploads: Uploads,
    records: Records,
    peers: Arc<dyn BlobPeers>,
    /// Held shared while a manifest is recorded, exclusively while content is collected,
    /// so that nothing is deleted that a manifest is just about to reference.
    writing: RwLock<()>,
}

impl Registry {
    /// Opens or creates the directory; removes what a killed process left half written.
    pub fn new(
        config: RegistryConfig,
        kv: Arc<dyn Kv>,
        peers: Arc<dyn BlobPeers>,
    ) -> Result<Self, RegistryError> {
        Ok(Self {
            node_name: config.node_name,
            blobs: Blobs::open(&config.directory)?,
            uploads: Uploads::open(&config.directory)?,
            records: Records::new(kv),
            peers,
            writing: RwLock::new(()),
        })
    }

    /// Opens content that this node has or can get from a peer.
    pub async fn blob(&self, digest: &Digest) -> Result<BlobReader, RegistryError> {
        if let Some(reader) = self.blobs.open_blob(digest).await? {
            return Ok(reader);
        }
        self.fetch(digest).await?;
        self.local_blob(digest).await
    }

    /// Opens content that this node has; never asks a peer, so that peers that ask each
    /// other do not go round in a circle.
    pub async fn local_blob(&self, digest: &Digest) -> Result<BlobReader, RegistryError> {
        match self.blobs.open_blob(digest).await? {
            Some(reader) => Ok(reader),
            None => Err(RegistryError::BlobUnknown { digest: digest.clone() }),
        }
    }

    /// Removes content that no manifest references. What is referenced stays.
    pub async fn delete_blob(&self, digest: &Digest) -> Result<(), RegistryError> {
        let _exclusive = self.writing.write().await;
        if self.records.snapshot().await?.referenced.contains_key(digest) {
            return Err(RegistryError::BlobInUse { digest: digest.clone() });
        }
        if self.blobs.remove(digest).await? {
            Ok(())
        } else {
            Err(RegistryError::BlobUnknown { digest: digest.clone() })
        }
    }

    /// All repositories that have a manifest, in order.
    pub async fn catalog(&self) -> Result<Vec<String>, RegistryError> {
        self.records.repositories().await
    }

    /// All tags of a repository, in order.
    pub async fn tags(&self, repository: &Repository) -> Result<Vec<String>, RegistryError> {
        let tags = self.records.tags(repository).await?;
        if tags.is_empty() && !self.records.repository_exists(repository).await? {
            return Err(RegistryError::NameUnknown { repository: repository.to_string() });
        }
        Ok(tags)
    }

    /// Upload sessions of this node.
    pub fn uploads(&self) -> &Uploads {
        &self.uploads
    }
}
