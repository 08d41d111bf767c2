//! What a manifest says: which content it needs and whom it refers to.
//!
//! Accepts OCI image manifests and indexes and Docker's schema 2 and manifest lists,
//! byte for byte as they were pushed: a digest covers the exact bytes.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::registry::RegistryError;
use crate::registry::name::Digest;

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// Content that a manifest needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Need {
    pub(crate) digest: Digest,
    /// Bytes.
    pub(crate) size: u64,
}

/// What of a manifest is kept in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ManifestRecord {
    pub(crate) media_type: String,
    /// Bytes of the manifest itself.
    pub(crate) size: u64,
    /// Configuration and layers, or the manifests of an index.
    pub(crate) needs: Vec<Need>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(crate) annotations: Map<String, Value>,
}

impl ManifestRecord {
    pub(crate) fn is_index(&self) -> bool {
        self.media_type == OCI_INDEX || self.media_type == DOCKER_LIST
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: Digest,
    size: u64,
    /// Content that lies elsewhere and is not distributed.
    #[serde(default)]
    urls: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    #[serde(default)]
    annotations: Map<String, Value>,
}

/// Reads a manifest; `content_type` is what the client said it is.
pub(crate) fn parse(
    content: &[u8],
    content_type: Option<&str>,
) -> Result<ManifestRecord, RegistryError> {
    let invalid = |reason: String| RegistryError::ManifestInvalid { reason };
    let manifest: Manifest =
        serde_json::from_slice(content).map_err(|error| invalid(error.to_string()))?;
    if manifest.schema_version != 2 {
        return Err(invalid(format!("schema version {} is not served", manifest.schema_version)));
    }
    let told = content_type.map(|text| text.split(';').next().unwrap_or_default().trim());
    let told = told.filter(|text| text.contains("vnd."));
    if let (Some(inside), Some(told)) = (&manifest.media_type, told)
        && inside != told
    {
        return Err(invalid(format!("its media type is {inside}, it was sent as {told}")));
    }
    let default = if manifest.manifests.is_some() { OCI_INDEX } else { OCI_MANIFEST };
    let media_type = manifest.media_type.as_deref().or(told).unwrap_or(default).to_owned();
    let parts: Vec<Descriptor> = match media_type.as_str() {
        OCI_INDEX | DOCKER_LIST => {
            manifest.manifests.ok_or_else(|| invalid("it lists no manifests".into()))?
        }
        OCI_MANIFEST | DOCKER_MANIFEST => {
            let config = manifest.config.ok_or_else(|| invalid("it has no config".into()))?;
            let artifact = (config.media_type != "application/vnd.oci.empty.v1+json"
                && !config.media_type.is_empty())
            .then(|| config.media_type.clone());
            let mut record_parts = vec![config];
            record_parts.extend(manifest.layers.unwrap_or_default());
            return Ok(record(
                media_type,
                content,
                record_parts,
                manifest.subject,
                manifest.artifact_type.or(artifact),
                manifest.annotations,
            ));
        }
        other => return Err(invalid(format!("media type {other} is not served"))),
    };
    Ok(record(
        media_type,
        content,
        parts,
        manifest.subject,
        manifest.artifact_type,
        manifest.annotations,
    ))
}

fn record(
    media_type: String,
    content: &[u8],
    parts: Vec<Descriptor>,
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    annotations: Map<String, Value>,
) -> ManifestRecord {
    let needs = parts
        .into_iter()
        .filter(|part| part.urls.is_empty())
        .map(|part| Need { digest: part.digest, size: part.size })
        .collect();
    ManifestRecord {
        media_type,
        size: content.len() as u64,
        needs,
        subject: subject.map(|subject| subject.digest),
        artifact_type,
        annotations,
    }
}
