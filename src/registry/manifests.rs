//! Pushing, reading, deleting and resolving manifests.
//!
//! Invariant: when a push is answered, this node holds everything that the manifest
//! needs, fetched from a peer where the client had pushed it there.

use crate::registry::manifest::{ManifestRecord, parse};
use crate::registry::name::{Digest, ImageName, Repository, Tag};
use crate::registry::{Registry, RegistryError};

/// How a client names a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    Tag(Tag),
    Digest(Digest),
}

impl std::str::FromStr for Reference {
    type Err = RegistryError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains(':') {
            text.parse().map(Reference::Digest)
        } else {
            text.parse().map(Reference::Tag)
        }
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Reference::Tag(tag) => tag.fmt(f),
            Reference::Digest(digest) => digest.fmt(f),
        }
    }
}

/// A manifest as it was pushed.
#[derive(Clone, Debug)]
pub struct StoredManifest {
    pub digest: Digest,
    pub media_type: String,
    pub content: Vec<u8>,
}

/// Where a pod's image lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedName {
    pub repository: Repository,
    pub digest: Digest,
}

impl Registry {
    fn unknown(repository: &Repository, reference: &Reference) -> RegistryError {
        RegistryError::ManifestUnknown {
            repository: repository.to_string(),
            reference: reference.to_string(),
        }
    }

    async fn digest_of(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Digest, RegistryError> {
        match reference {
            Reference::Digest(digest) => Ok(digest.clone()),
            Reference::Tag(tag) => match self.records.tagged(repository, tag).await? {
                Some(digest) => Ok(digest),
                None => Err(Self::unknown(repository, reference)),
            },
        }
    }

    /// Reads a manifest.
    pub async fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<StoredManifest, RegistryError> {
        let digest = self.digest_of(repository, reference).await?;
        let Some(record) = self.records.manifest(repository, &digest).await? else {
            return Err(Self::unknown(repository, reference));
        };
        let reader = self.blob(&digest).await?;
        let path = self.blobs.path(&digest);
        let content = reader.read_all().await.map_err(|source| RegistryError::Disk {
            action: "read",
            path,
            source,
        })?;
        Ok(StoredManifest { digest, media_type: record.media_type, content })
    }

    /// Takes a manifest; its content must be here or with a peer already. Returns the
    /// digest and the manifest's subject.
    pub async fn put_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        content_type: Option<&str>,
        content: &[u8],
    ) -> Result<(Digest, Option<Digest>), RegistryError> {
        let record = parse(content, content_type)?;
        let digest = Digest::of(content);
        if let Reference::Digest(expected) = reference
            && *expected != digest
        {
            let found = digest.to_string();
            return Err(RegistryError::DigestMismatch { expected: expected.clone(), found });
        }
        let tag = match reference {
            Reference::Tag(tag) => Some(tag),
            Reference::Digest(_) => None,
        };
        self.commit(repository, &digest, &record, content, tag).await?;
        Ok((digest, record.subject))
    }

    /// Stores and records a parsed manifest; returns whether the records changed.
    pub(super) async fn commit(
        &self,
        repository: &Repository,
        digest: &Digest,
        record: &ManifestRecord,
        content: &[u8],
        tag: Option<&Tag>,
    ) -> Result<bool, RegistryError> {
        let _shared = self.writing.read().await;
        for need in &record.needs {
            if record.is_index() && self.records.manifest(repository, &need.digest).await?.is_none()
            {
                return Err(RegistryError::ManifestBlobUnknown { digest: need.digest.clone() });
            }
            if !self.mount_blob(&need.digest).await? {
                return Err(RegistryError::ManifestBlobUnknown { digest: need.digest.clone() });
            }
        }
        self.blobs.put(content).await?;
        self.records.put_manifest(repository, digest, record, tag).await
    }

    /// Removes a tag, or a manifest with all its tags.
    pub async fn delete_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<(), RegistryError> {
        let there = match reference {
            Reference::Tag(tag) => self.records.delete_tag(repository, tag).await?,
            Reference::Digest(digest) => self.records.delete_manifest(repository, digest).await?,
        };
        if there { Ok(()) } else { Err(Self::unknown(repository, reference)) }
    }

    /// The image index of a manifest's referrers, as the distribution spec shapes it.
    pub async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<serde_json::Value, RegistryError> {
        let mut descriptors = Vec::new();
        for (digest, record) in self.records.referrers(repository, subject).await? {
            if artifact_type.is_some() && record.artifact_type.as_deref() != artifact_type {
                continue;
            }
            let mut descriptor = serde_json::json!({
                "mediaType": record.media_type, "digest": digest, "size": record.size,
            });
            if let Some(kind) = record.artifact_type {
                descriptor["artifactType"] = kind.into();
            }
            if !record.annotations.is_empty() {
                descriptor["annotations"] = record.annotations.into();
            }
            descriptors.push(descriptor);
        }
        Ok(serde_json::json!({
            "schemaVersion": 2,
            "mediaType": crate::registry::manifest::OCI_INDEX,
            "manifests": descriptors,
        }))
    }

    /// Finds the image that a pod names: `hello`, `hello:1`, `localhost:5000/hello:1`,
    /// `docker.io/library/nginx:1.2`, `name@sha256:…`. The host part is ignored: images
    /// come from this cluster only.
    pub async fn resolve(&self, image: &str) -> Result<ResolvedName, RegistryError> {
        let name: ImageName = image.parse()?;
        for repository in name.repositories {
            let digest = match &name.digest {
                Some(digest) => {
                    let known = self.records.manifest(&repository, digest).await?;
                    known.map(|_| digest.clone())
                }
                None => self.records.tagged(&repository, &name.tag).await?,
            };
            if let Some(digest) = digest {
                return Ok(ResolvedName { repository, digest });
            }
        }
        Err(RegistryError::ImageUnknown { image: image.to_owned() })
    }
}
