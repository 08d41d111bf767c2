//! The images of a bundle, as an OCI layout below `images/`.
//!
//! Why a layout: it is the format that every tool knows, and the registry can import it
//! blob by blob, skipping what it has.
//! Not here: building images (`build/image.rs`), storing them (`registry/`).

use oci_spec::image::ImageIndex;

use super::entry::EntryReader;
use super::error::BundleError;
use super::open::Bundle;
use crate::model::bundle_manifest::EntryBody;

/// Where the layout's index stands.
pub(super) const INDEX_ENTRY: &str = "images/index.json";
/// Where its blobs stand.
pub(super) const BLOB_FOLDER: &str = "images/blobs/sha256";
/// The annotation that names an image in an index.
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The images of one bundle.
#[derive(Debug)]
pub struct BundleImages<'a> {
    bundle: &'a Bundle,
    images: Vec<ImageRef>,
}

/// One named image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRef {
    /// Repository, `holdfast/pause`.
    pub name: String,
    pub tag: String,
    /// `sha256:…` of the manifest, which is a blob of the bundle.
    pub digest: String,
    pub media_type: String,
    /// Bytes of the manifest.
    pub size: u64,
}

/// One blob: manifest, config or layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobInfo {
    /// `sha256:…`.
    pub digest: String,
    pub size: u64,
}

impl Bundle {
    /// The images, by the layout's index; empty when there is no index.
    pub fn images(&self) -> Result<BundleImages<'_>, BundleError> {
        if self.manifest().entry(INDEX_ENTRY).is_none() {
            return Ok(BundleImages { bundle: self, images: Vec::new() });
        }
        let wrong = |reason: String| BundleError::Entry {
            path: self.path.clone(),
            name: INDEX_ENTRY.into(),
            reason,
        };
        let bytes = self.read_entry(INDEX_ENTRY)?;
        let index: ImageIndex =
            serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        let mut images = Vec::new();
        for descriptor in index.manifests() {
            let annotations = descriptor.annotations().as_ref();
            let reference = annotations.and_then(|map| map.get(REF_NAME));
            let reference = reference.ok_or_else(|| wrong("an image has no name".into()))?;
            let (name, tag) = reference
                .rsplit_once(':')
                .ok_or_else(|| wrong(format!("image name {reference} has no tag")))?;
            images.push(ImageRef {
                name: name.into(),
                tag: tag.into(),
                digest: descriptor.digest().to_string(),
                media_type: descriptor.media_type().to_string(),
                size: descriptor.size(),
            });
        }
        Ok(BundleImages { bundle: self, images })
    }
}

impl BundleImages<'_> {
    /// All images with name and tag.
    pub fn list(&self) -> &[ImageRef] {
        &self.images
    }

    /// All blobs, manifests included, by digest.
    pub fn blobs(&self) -> impl Iterator<Item = BlobInfo> {
        self.bundle.manifest().below(BLOB_FOLDER).filter_map(|(hex, entry)| match &entry.body {
            EntryBody::File { size, .. } => {
                Some(BlobInfo { digest: format!("sha256:{hex}"), size: *size })
            }
            EntryBody::Link { .. } => None,
        })
    }

    /// A checked stream of one blob.
    pub fn open_blob(&self, digest: &str) -> Result<EntryReader, BundleError> {
        let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
        self.bundle.open_entry(&format!("{BLOB_FOLDER}/{hex}"))
    }
}
