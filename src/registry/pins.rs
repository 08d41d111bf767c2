//! Which content named images need, for collection to leave it alone.
//!
//! Why beside the records: a manifest may have been deleted while pods still run from
//! it; a pod that moves to another node must find its image there.

use std::collections::BTreeSet;

use crate::registry::manifest::parse;
use crate::registry::name::{Digest, ImageName};
use crate::registry::{Registry, RegistryError};

impl Registry {
    /// The digests of these images, as pods name them, and of all they need that is on
    /// this node. A name that is no image name needs nothing; any other doubt is an error.
    pub async fn pins(&self, images: &BTreeSet<String>) -> Result<BTreeSet<Digest>, RegistryError> {
        let mut pinned = BTreeSet::new();
        for image in images {
            let Ok(name) = image.parse::<ImageName>() else { continue };
            let digest = match name.digest {
                Some(digest) => digest,
                None => match self.resolve(image).await {
                    Ok(found) => found.digest,
                    Err(RegistryError::ImageUnknown { .. }) => continue,
                    Err(error) => return Err(error),
                },
            };
            self.pin(digest, &mut pinned).await?;
        }
        Ok(pinned)
    }

    /// Pins content and, where it is a manifest on this node, what that needs.
    async fn pin(
        &self,
        digest: Digest,
        pinned: &mut BTreeSet<Digest>,
    ) -> Result<(), RegistryError> {
        let mut waiting = vec![digest];
        while let Some(digest) = waiting.pop() {
            if !pinned.insert(digest.clone()) {
                continue;
            }
            let content = match self.manifest_content(&digest).await {
                Ok(content) => content,
                Err(RegistryError::BlobUnknown { .. }) => continue,
                Err(error) => return Err(error),
            };
            // A layer or configuration is no manifest and needs nothing more.
            let Some(content) = content else { continue };
            if let Ok(record) = parse(&content, None) {
                let is_index = record.is_index();
                for need in record.needs {
                    if is_index {
                        waiting.push(need.digest);
                    } else {
                        pinned.insert(need.digest);
                    }
                }
            }
        }
        Ok(())
    }

    /// Content on this node that is small enough to be a manifest.
    async fn manifest_content(&self, digest: &Digest) -> Result<Option<Vec<u8>>, RegistryError> {
        let reader = self.local_blob(digest).await?;
        if reader.length > crate::base::limits::OCI_MANIFEST_MAX_BYTES as u64 {
            return Ok(None);
        }
        let path = self.blobs.path(digest);
        let content = reader.read_all().await;
        content.map(Some).map_err(|source| RegistryError::Disk { action: "read", path, source })
    }
}
