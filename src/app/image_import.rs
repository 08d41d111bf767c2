//! Imports the image layouts that the installation put down, at every start.
//!
//! Why here: the installation runs before there is a store to record images in. A layout
//! stays until its import is done, so a killed import is finished by the next start.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use oci_spec::image::ImageIndex;
use tokio::io::AsyncRead;
use tokio_util::sync::CancellationToken;

use crate::base::chain::chain;
use crate::registry::{ImportBlob, ImportImage, ImportSource, Registry, RegistryError};
use crate::sys::files::{self, FileError};

/// How soon a failed import is tried again; there may be no leader yet.
const RETRY: Duration = Duration::from_secs(1);
/// The annotation that carries `repository:tag` in a layout's index.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

#[derive(Debug, thiserror::Error)]
pub(super) enum ImageImportError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{path} is not an image layout: {reason}")]
    Layout { path: PathBuf, reason: String },
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// An OCI image layout in a directory.
#[derive(Debug)]
struct Layout {
    dir: PathBuf,
    images: Vec<ImportImage>,
    blobs: Vec<ImportBlob>,
}

impl Layout {
    fn open(dir: &Path) -> Result<Self, ImageImportError> {
        let wrong = |reason: String| ImageImportError::Layout { path: dir.into(), reason };
        let text = files::read_text(&dir.join("index.json"))?;
        let index: ImageIndex =
            serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let mut images = Vec::new();
        for manifest in index.manifests() {
            let annotations = manifest.annotations().as_ref();
            let name = annotations
                .and_then(|all| all.get(REF_NAME))
                .ok_or_else(|| wrong(format!("{} has no {REF_NAME}", manifest.digest())))?;
            let (repository, tag) =
                name.rsplit_once(':').ok_or_else(|| wrong(format!("{name} has no tag")))?;
            images.push(ImportImage {
                repository: repository.into(),
                tag: tag.into(),
                manifest: manifest.digest().to_string(),
            });
        }
        let mut blobs = Vec::new();
        for path in files::list_dir(&dir.join("blobs/sha256"))? {
            let hex = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let size = files::inspect(&path)?.map(|found| found.size_bytes).unwrap_or_default();
            blobs.push(ImportBlob { digest: format!("sha256:{hex}"), size });
        }
        Ok(Self { dir: dir.into(), images, blobs })
    }
}

#[async_trait]
impl ImportSource for Layout {
    fn images(&self) -> Vec<ImportImage> {
        self.images.clone()
    }

    fn blobs(&self) -> Vec<ImportBlob> {
        self.blobs.clone()
    }

    async fn open(&self, digest: &str) -> io::Result<Box<dyn AsyncRead + Send + Unpin>> {
        let path = self.dir.join("blobs").join(digest.replacen(':', "/", 1));
        Ok(Box::new(files::open_async(&path).await?))
    }
}

async fn import_all(registry: &Registry, dir: &Path) -> Result<(), ImageImportError> {
    if files::inspect(dir)?.is_none() {
        return Ok(());
    }
    for path in files::list_dir(dir)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // The installation renames a layout into place when it is whole.
        if name.starts_with('.') {
            continue;
        }
        let layout = Layout::open(&path)?;
        let report = registry.import(&layout, &|_| {}).await?;
        tracing::info!(
            moved = report.blobs_moved,
            present = report.blobs_skipped,
            images = layout.images.len(),
            "images imported"
        );
        files::remove_tree(&path)?;
    }
    Ok(())
}

/// Imports what lies in `<registry>/import`, trying until it is done or cancelled; then
/// waits, because what runs under the supervisor runs until it is told to stop.
pub(super) async fn run(
    registry: Arc<Registry>,
    dir: PathBuf,
    cancel: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    let work = async {
        while let Err(error) = import_all(&registry, &dir).await {
            tracing::warn!(error = chain(&error), "cannot import images yet");
            tokio::time::sleep(RETRY).await;
        }
    };
    tokio::select! {
        () = cancel.cancelled() => return Ok(()),
        () = work => {}
    }
    cancel.cancelled().await;
    Ok(())
}
