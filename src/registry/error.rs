//! What the registry refuses or fails at.

use std::path::PathBuf;

use crate::registry::name::Digest;
use crate::registry::peers::PeerFetchError;
use crate::store::StoreError;

/// Why the registry did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("{value:?} is not a repository name")]
    NameInvalid { value: String },
    #[error("{value:?} is not a tag")]
    TagInvalid { value: String },
    #[error("{value:?} is not a sha256 digest")]
    DigestInvalid { value: String },
    #[error("{value:?} is not an image name: {reason}")]
    ImageInvalid { value: String, reason: &'static str },
    #[error("repository {repository} is not known")]
    NameUnknown { repository: String },
    #[error("image {image} is not in the registry")]
    ImageUnknown { image: String },
    #[error("manifest {reference} is not known in repository {repository}")]
    ManifestUnknown { repository: String, reference: String },
    #[error("the manifest is not valid: {reason}")]
    ManifestInvalid { reason: String },
    #[error("the manifest references {digest}, which is not here")]
    ManifestBlobUnknown { digest: Digest },
    #[error("blob {digest} is not known")]
    BlobUnknown { digest: Digest },
    #[error("blob {digest} is in use by a manifest")]
    BlobInUse { digest: Digest },
    #[error("upload {id} is not known")]
    UploadUnknown { id: String },
    #[error("upload {id} is at byte {at}, the chunk starts at {start}")]
    OutOfOrder { id: String, at: u64, start: u64 },
    #[error("the chunk's length does not match its Content-Range")]
    ChunkLength,
    #[error("the content has digest {found}, not {expected}")]
    DigestMismatch { expected: Digest, found: String },
    #[error("receiving content failed: {reason}")]
    Receive { reason: String },
    #[error("cannot {action} {path}")]
    Disk {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot reach the store for the registry's records")]
    Store(#[from] StoreError),
    #[error("the record {key} in the store is damaged")]
    DamagedRecord {
        key: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("the records of {what} changed at every try")]
    Contended { what: String },
    #[error("cannot fetch blob {digest} from a peer")]
    Fetch {
        digest: Digest,
        #[source]
        source: PeerFetchError,
    },
    #[error("the import source failed: {reason}")]
    ImportSource { reason: String },
}
