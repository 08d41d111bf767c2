//! Removes images that nothing needs from this node's registry, now and then.
//!
//! What is kept: all that a recorded manifest needs, which all tagged ones are; all that
//! pods, ReplicaSets and Deployments name, also where its manifest was deleted; the pause
//! image; and everything that is young. Invariant: the lists of objects are read
//! linearizably and whole; any failure ends the round before anything is removed, so
//! without a majority nothing is collected.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::base::chain::chain;
use crate::client::{ApiError, ListOptions, ResourceRef, SharedApi};
use crate::registry::{CollectReport, Registry, RegistryError};

/// How often a node looks.
const INTERVAL: Duration = Duration::from_secs(1_800);
/// Content that was touched later than this stays: an import, a push or a rollout that
/// is under way must not lose what it brought.
const SAFE_AGE: Duration = Duration::from_secs(24 * 3_600);
/// Objects asked for in one page.
const PAGE: u32 = 500;

#[derive(Debug, thiserror::Error)]
enum ImageGcError {
    #[error("cannot list {kind} objects")]
    List {
        kind: &'static str,
        #[source]
        source: ApiError,
    },
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// Collection on one node.
#[derive(Clone, Debug)]
pub(super) struct ImageGc {
    pub registry: Arc<Registry>,
    pub api: SharedApi,
    /// Always needed on every node that runs pods.
    pub pause_image: String,
}

/// Every image that an object names: in containers of every sort at any depth, and in
/// the status of containers that run.
fn images_of(object: &Value, found: &mut BTreeSet<String>) {
    match object {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "image" || name == "imageID" => {
                        let plain = text.split_once("://").map_or(text.as_str(), |(_, rest)| rest);
                        found.insert(plain.to_owned());
                    }
                    other => images_of(other, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| images_of(item, found)),
        _ => {}
    }
}

impl ImageGc {
    /// Collects every [`INTERVAL`] until cancelled.
    pub(super) async fn run(self, cancel: CancellationToken) -> Result<(), Infallible> {
        loop {
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                () = tokio::time::sleep(INTERVAL) => {}
            }
            // A round that has begun is finished: it holds up pushes only while it runs.
            match self.round().await {
                Ok(report) => tracing::info!(
                    removed = report.blobs_removed,
                    bytes = report.bytes_removed,
                    kept = report.blobs_kept,
                    "unneeded images collected"
                ),
                Err(error) => tracing::warn!(error = chain(&error), "no images collected"),
            }
        }
    }

    async fn round(&self) -> Result<CollectReport, ImageGcError> {
        let mut images = BTreeSet::from([self.pause_image.clone()]);
        for resource in [
            ResourceRef::of::<Pod>(true),
            ResourceRef::of::<ReplicaSet>(true),
            ResourceRef::of::<Deployment>(true),
        ] {
            let listed = self.list(&resource, &mut images).await;
            listed.map_err(|source| ImageGcError::List { kind: resource.kind, source })?;
        }
        let pinned = self.registry.pins(&images).await?;
        Ok(self.registry.collect(&pinned, SAFE_AGE).await?)
    }

    async fn list(
        &self,
        resource: &ResourceRef,
        images: &mut BTreeSet<String>,
    ) -> Result<(), ApiError> {
        let mut options = ListOptions { limit: Some(PAGE), ..ListOptions::default() };
        loop {
            let page = self.api.list(resource, None, &options).await?;
            page.items.iter().for_each(|object| images_of(object, images));
            match page.continue_token.filter(|token| !token.is_empty()) {
                Some(token) => options.continue_token = Some(token),
                None => return Ok(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn images_of_templates_and_of_running_containers_are_found() {
        let deployment = json!({"spec": {"template": {"spec": {
            "initContainers": [{"name": "i", "image": "init:1"}],
            "containers": [{"name": "c", "image": "hello:1"}]}}}});
        let pod = json!({"status": {"containerStatuses": [
            {"image": "hello:1", "imageID": "docker-pullable://10.0.0.1:5000/hello@sha256:ab"}]}});
        let mut found = BTreeSet::new();
        images_of(&deployment, &mut found);
        images_of(&pod, &mut found);
        let expected = ["10.0.0.1:5000/hello@sha256:ab", "hello:1", "init:1"];
        assert_eq!(found.into_iter().collect::<Vec<_>>(), expected);
    }
}
