//! How content comes from another node of the cluster; implemented over HTTPS in app.

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;

use crate::registry::name::Digest;
use crate::registry::{Registry, RegistryError};

/// Content as it arrives.
pub type BlobStream = BoxStream<'static, std::io::Result<Bytes>>;

/// No peer gave the content.
#[derive(Debug, thiserror::Error)]
pub enum PeerFetchError {
    /// Every reachable peer says that it does not have it.
    #[error("no peer has it")]
    Nowhere,
    /// Some peer could not be asked; it may have it.
    #[error("not all peers answered: {reason}")]
    Unreachable { reason: String },
}

/// The other control nodes' registries.
#[async_trait]
pub trait BlobPeers: Send + Sync + std::fmt::Debug + 'static {
    /// Content from any peer that has it. The receiver verifies the digest. The peer
    /// must be asked for what it holds itself (`Registry::local_blob`).
    async fn fetch(&self, digest: &Digest) -> Result<BlobStream, PeerFetchError>;
}

impl Registry {
    /// Gets content from a peer unless it is here; verified before it is visible.
    pub(super) async fn fetch(&self, digest: &Digest) -> Result<(), RegistryError> {
        let _alone = self.blobs.fetch_lock(digest).await;
        if self.blobs.length(digest).await?.is_some() {
            return Ok(());
        }
        let mut stream = match self.peers.fetch(digest).await {
            Ok(stream) => stream,
            Err(PeerFetchError::Nowhere) => {
                return Err(RegistryError::BlobUnknown { digest: digest.clone() });
            }
            Err(source) => return Err(RegistryError::Fetch { digest: digest.clone(), source }),
        };
        let mut writer = self.blobs.writer().await?;
        while let Some(chunk) = stream.next().await {
            let chunk =
                chunk.map_err(|error| RegistryError::Receive { reason: error.to_string() })?;
            writer.write(&chunk).await?;
        }
        self.blobs.finish(writer, digest).await?;
        tracing::debug!(%digest, "blob fetched from a peer");
        Ok(())
    }
}
