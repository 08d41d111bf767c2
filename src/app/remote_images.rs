//! Images for a node that carries no registry: the control nodes' registries.
//!
//! Why one after the other, in a fixed order: every registry answers the same, so the
//! first that answers decides, and the engine is sent to that one because it is known to
//! answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use reqwest::StatusCode;
use reqwest::header::ACCEPT;

use crate::agent::ports::{ImageError, ImageSource, ResolvedImage};
use crate::base::chain::chain;
use crate::registry::{Digest, ImageName, Repository};

/// How long one registry may take; then the next is asked.
const ASK_DEADLINE: Duration = Duration::from_secs(5);
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, \
     application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.list.v2+json";
const DIGEST_HEADER: &str = "docker-content-digest";

/// The agent's image port over HTTPS.
#[derive(Debug)]
pub(super) struct RemoteImages {
    /// Shows this node's certificate.
    pub http: reqwest::Client,
    /// In the order in which they are asked.
    pub registries: Arc<ArcSwap<Vec<SocketAddr>>>,
}

impl RemoteImages {
    /// The digest behind a name at one registry; `None` when it has no such image.
    async fn ask(
        &self,
        registry: SocketAddr,
        repository: &Repository,
        reference: &str,
    ) -> Result<Option<Digest>, String> {
        let url = format!("https://{registry}/v2/{repository}/manifests/{reference}");
        let request = self.http.head(url).header(ACCEPT, MANIFESTS).timeout(ASK_DEADLINE);
        let answer = request.send().await.map_err(|error| chain(&error))?;
        match answer.status() {
            StatusCode::NOT_FOUND => return Ok(None),
            code if !code.is_success() => return Err(format!("status {code}")),
            _ => {}
        }
        let digest = answer.headers().get(DIGEST_HEADER).and_then(|value| value.to_str().ok());
        let digest = digest.ok_or_else(|| format!("the answer lacks {DIGEST_HEADER}"))?;
        digest.parse().map(Some).map_err(|error| chain(&error))
    }

    /// The image at one registry, under the first repository that has it.
    async fn find(
        &self,
        registry: SocketAddr,
        name: &ImageName,
    ) -> Result<Option<ResolvedImage>, String> {
        let reference = match &name.digest {
            Some(digest) => digest.as_str(),
            None => name.tag.as_str(),
        };
        for repository in &name.repositories {
            if let Some(digest) = self.ask(registry, repository, reference).await? {
                let pull = format!("{registry}/{repository}@{digest}");
                return Ok(Some(ResolvedImage { pull, digest: digest.to_string() }));
            }
        }
        Ok(None)
    }
}

#[async_trait]
impl ImageSource for RemoteImages {
    async fn resolve(&self, image: &str) -> Result<ResolvedImage, ImageError> {
        let name: ImageName = image
            .parse()
            .map_err(|error| ImageError::Invalid { image: image.into(), reason: chain(&error) })?;
        let mut silent = Vec::new();
        for registry in self.registries.load_full().iter() {
            match self.find(*registry, &name).await {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => return Err(ImageError::Absent { image: image.into() }),
                Err(reason) => silent.push(format!("{registry}: {reason}")),
            }
        }
        Err(ImageError::Lookup { image: image.into(), reason: silent.join("; ") })
    }
}
