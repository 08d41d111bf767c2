//! ConfigMaps that pods refer to, with the last known copy while the API is away.

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::Value;

use super::AgentError;
use super::checkpoint::Checkpoint;
use crate::client::api::SharedApi;
use crate::client::{ApiError, ResourceRef};

const CONFIG_MAPS: ResourceRef = ResourceRef::of::<ConfigMap>(true);

#[derive(Debug)]
pub(crate) struct ConfigMaps {
    api: SharedApi,
    checkpoint: Checkpoint,
}

impl ConfigMaps {
    pub(crate) fn new(api: SharedApi, checkpoint: Checkpoint) -> Self {
        Self { api, checkpoint }
    }

    /// The newest content, or the last known when the API does not answer; `None` when
    /// there is no such ConfigMap.
    pub(crate) async fn get(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<ConfigMap>, AgentError> {
        let key = format!("{namespace}/{name}");
        let raw = match self.api.get(&CONFIG_MAPS, Some(namespace), name).await {
            Ok(raw) => {
                if self.checkpoint.get(&key).as_ref() != Some(&raw) {
                    self.checkpoint.keep(&key, &raw);
                }
                raw
            }
            Err(error) if error.is_not_found() => {
                self.checkpoint.forget(&key);
                return Ok(None);
            }
            Err(error @ (ApiError::Unreachable { .. } | ApiError::Refused(_))) => {
                match self.checkpoint.get(&key) {
                    Some(kept) => kept,
                    None => return Err(error.into()),
                }
            }
            Err(error) => return Err(error.into()),
        };
        parse(raw, &key).map(Some)
    }
}

fn parse(raw: Value, key: &str) -> Result<ConfigMap, AgentError> {
    serde_json::from_value(raw)
        .map_err(|error| AgentError::config(format!("configmap {key} cannot be read: {error}")))
}
