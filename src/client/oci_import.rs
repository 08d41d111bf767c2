//! Brings the images of a bundle into a cluster's registry.
//!
//! Invariants: content first, manifests after it, tags last, and only what the registry
//! does not have; so a killed import is finished by running it again, and one that
//! finished moves nothing. Every byte is checked as it is read from the bundle.
//! Not here: the import on a node without network (registry/import.rs).

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use reqwest::Body;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;

use crate::bundle::{Bundle, BundleError, ImageRef, Progress};
use crate::client::oci::{OciClient, OciError};

/// Bytes read from the bundle at once.
const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks that wait for the network.
const CHUNKS_AHEAD: usize = 4;

#[derive(Debug, thiserror::Error)]
pub enum OciImportError {
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Registry(#[from] OciError),
    #[error("manifest {digest} in the bundle cannot be understood")]
    Manifest {
        digest: String,
        #[source]
        source: serde_json::Error,
    },
}

/// What an import did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OciImportReport {
    /// Layers and configurations that were sent.
    pub blobs_moved: usize,
    /// Those that were there.
    pub blobs_present: usize,
    pub bytes_moved: u64,
    /// Images whose tag was new or pointed to something else.
    pub images_changed: usize,
    pub images_unchanged: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    digest: String,
    #[serde(default)]
    media_type: String,
}

/// As much of a manifest or index as pushing needs.
#[derive(Deserialize)]
struct Manifest {
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

/// One import under way.
struct Import<'a> {
    bundle: &'a Arc<Bundle>,
    registry: &'a OciClient,
    progress: &'a (dyn Progress + Sync),
    /// Content is shared between the repositories of a registry.
    seen: BTreeSet<String>,
    report: OciImportReport,
}

/// Imports all images of a bundle, whose contents should have been verified before.
pub async fn import(
    bundle: &Arc<Bundle>,
    registry: &OciClient,
    progress: &(dyn Progress + Sync),
) -> Result<OciImportReport, OciImportError> {
    let images = bundle.images()?;
    progress.begin("import", images.blobs().map(|blob| blob.size).sum());
    let list: Vec<ImageRef> = images.list().to_vec();
    let report = OciImportReport::default();
    let mut import = Import { bundle, registry, progress, seen: BTreeSet::new(), report };
    for image in &list {
        progress.item(&format!("{}:{}", image.name, image.tag));
        import.image(image).await?;
    }
    progress.end();
    Ok(import.report)
}

impl Import<'_> {
    async fn image(&mut self, image: &ImageRef) -> Result<(), OciImportError> {
        let known = self.registry.manifest_digest(&image.name, &image.tag).await?;
        let content = self.read(&image.digest)?;
        self.needs(&image.name, &image.digest, &content).await?;
        if known.as_ref() == Some(&image.digest) {
            self.report.images_unchanged += 1;
            return Ok(());
        }
        let (name, kind) = (&image.name, &image.media_type);
        self.registry.push_manifest(name, &image.tag, kind, content).await?;
        self.report.images_changed += 1;
        Ok(())
    }

    /// Sends what a manifest needs; for an index its manifests with all that they need.
    async fn needs(
        &mut self,
        repository: &str,
        digest: &str,
        content: &[u8],
    ) -> Result<(), OciImportError> {
        let index = parse(digest, content)?;
        for child in &index.manifests {
            let content = self.read(&child.digest)?;
            let manifest = parse(&child.digest, &content)?;
            self.blobs(repository, &manifest).await?;
            if self.registry.manifest_digest(repository, &child.digest).await?.is_none() {
                let kind = child.media_type.as_str();
                self.registry.push_manifest(repository, &child.digest, kind, content).await?;
            }
        }
        self.blobs(repository, &index).await
    }

    async fn blobs(&mut self, repository: &str, manifest: &Manifest) -> Result<(), OciImportError> {
        for need in manifest.config.iter().chain(&manifest.layers) {
            if self.seen.insert(need.digest.clone()) {
                self.blob(repository, &need.digest).await?;
            }
        }
        Ok(())
    }

    async fn blob(&mut self, repository: &str, digest: &str) -> Result<(), OciImportError> {
        let reader = self.bundle.images()?.open_blob(digest)?;
        let size = reader.size();
        if self.registry.has_blob(repository, digest).await? {
            self.report.blobs_present += 1;
        } else {
            let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
            let mut reading = JoinSet::new();
            reading.spawn_blocking(move || read_into(reader, &sender));
            let chunks = ReceiverStream::new(receiver)
                .map(|chunk: Result<Bytes, BundleRead>| chunk.map_err(std::io::Error::other));
            let pushed =
                self.registry.push_blob(repository, digest, size, Body::wrap_stream(chunks));
            pushed.await?;
            self.report.blobs_moved += 1;
            self.report.bytes_moved += size;
        }
        self.progress.advance(size);
        Ok(())
    }

    fn read(&self, digest: &str) -> Result<Vec<u8>, BundleError> {
        self.bundle.images()?.open_blob(digest)?.read_all()
    }
}

fn parse(digest: &str, content: &[u8]) -> Result<Manifest, OciImportError> {
    serde_json::from_slice(content)
        .map_err(|source| OciImportError::Manifest { digest: digest.to_owned(), source })
}

/// The bundle failed while it was being sent.
#[derive(Debug, thiserror::Error)]
#[error("cannot read from the bundle: {0}")]
struct BundleRead(String);

/// Reads to the end, or until nobody listens any more. An error goes down the stream: the
/// request then fails instead of ending early.
fn read_into(mut reader: impl Read, sender: &mpsc::Sender<Result<Bytes, BundleRead>>) {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let chunk = match reader.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => Ok(Bytes::copy_from_slice(&buffer[..count])),
            Err(error) => Err(BundleRead(error.to_string())),
        };
        let last = chunk.is_err();
        if sender.blocking_send(chunk).is_err() || last {
            return;
        }
    }
}
