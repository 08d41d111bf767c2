//! Takes images from a bundle.
//!
//! Invariants: content first, records last, each step repeatable; so an import that was
//! killed at any point is finished by running it again, and one that finished moves
//! nothing when run again.

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::registry::manifest::{Need, parse};
use crate::registry::name::{Digest, Repository, Tag};
use crate::registry::{Registry, RegistryError};

/// An image to import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportImage {
    pub repository: String,
    pub tag: String,
    /// Of its manifest or index.
    pub manifest: String,
}

/// Content to import: layers, configurations and manifests alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportBlob {
    pub digest: String,
    /// Bytes.
    pub size: u64,
}

/// Where images come from, such as an open bundle.
#[async_trait]
pub trait ImportSource: Send + Sync {
    fn images(&self) -> Vec<ImportImage>;
    /// In the order in which they are best read.
    fn blobs(&self) -> Vec<ImportBlob>;
    /// Opens one of the blobs; read once and to its end.
    async fn open(&self, digest: &str) -> std::io::Result<Box<dyn AsyncRead + Send + Unpin>>;
}

/// How far an import is, for a progress bar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportProgress {
    pub blobs_done: usize,
    pub blobs_total: usize,
    pub bytes_done: u64,
    pub bytes_total: u64,
}

/// What an import did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportReport {
    pub blobs_moved: usize,
    pub blobs_skipped: usize,
    pub bytes_moved: u64,
    pub images_changed: usize,
    pub images_unchanged: usize,
}

impl Registry {
    /// Imports all images of the source; `progress` hears after each blob.
    pub async fn import(
        &self,
        source: &dyn ImportSource,
        progress: &(dyn Fn(ImportProgress) + Send + Sync),
    ) -> Result<ImportReport, RegistryError> {
        let mut report = ImportReport::default();
        let blobs = source.blobs();
        let mut state = ImportProgress {
            blobs_total: blobs.len(),
            bytes_total: blobs.iter().map(|blob| blob.size).sum(),
            ..ImportProgress::default()
        };
        for blob in blobs {
            if self.import_blob(source, &blob).await? {
                report.blobs_moved += 1;
                report.bytes_moved += blob.size;
            } else {
                report.blobs_skipped += 1;
            }
            state.blobs_done += 1;
            state.bytes_done += blob.size;
            progress(state);
        }
        for image in source.images() {
            if self.import_image(&image).await? {
                report.images_changed += 1;
            } else {
                report.images_unchanged += 1;
            }
        }
        Ok(report)
    }

    async fn import_blob(
        &self,
        source: &dyn ImportSource,
        blob: &ImportBlob,
    ) -> Result<bool, RegistryError> {
        let digest: Digest = blob.digest.parse()?;
        let _alone = self.blobs.fetch_lock(&digest).await;
        if self.blobs.length(&digest).await? == Some(blob.size) {
            self.blobs.touch(&digest).await?;
            return Ok(false);
        }
        let failed = |error: std::io::Error| RegistryError::ImportSource {
            reason: format!("{digest}: {error}"),
        };
        let mut reader = source.open(&blob.digest).await.map_err(failed)?;
        let mut writer = self.blobs.writer().await?;
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let count = reader.read(&mut buffer).await.map_err(failed)?;
            if count == 0 {
                break;
            }
            writer.write(&buffer[..count]).await?;
        }
        self.blobs.finish(writer, &digest).await?;
        Ok(true)
    }

    /// Records an image whose content is here: the manifests of an index first, then
    /// the index, then the tag.
    async fn import_image(&self, image: &ImportImage) -> Result<bool, RegistryError> {
        let repository: Repository = image.repository.parse()?;
        let tag: Tag = image.tag.parse()?;
        let digest: Digest = image.manifest.parse()?;
        let content = self.local_content(&digest).await?;
        let record = parse(&content, None)?;
        let mut changed = false;
        if record.is_index() {
            for Need { digest, .. } in &record.needs {
                let content = self.local_content(digest).await?;
                let child = parse(&content, None)?;
                changed |= self.commit(&repository, digest, &child, &content, None).await?;
            }
        }
        changed |= self.commit(&repository, &digest, &record, &content, Some(&tag)).await?;
        Ok(changed)
    }

    async fn local_content(&self, digest: &Digest) -> Result<Vec<u8>, RegistryError> {
        let reader = self.local_blob(digest).await?;
        let path = self.blobs.path(digest);
        reader.read_all().await.map_err(|source| RegistryError::Disk {
            action: "read",
            path,
            source,
        })
    }
}
