//! ConfigMaps and secrets that pods refer to.
//!
//! A configMap is kept on disk for the time without an API; a secret is kept in memory only,
//! for a node's disk must not hold one. So a container that needs a secret in its environment
//! cannot be made between a restart of the agent and the API's return.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

use super::AgentError;
use super::checkpoint::Checkpoint;
use crate::client::api::SharedApi;
use crate::client::{ApiError, ResourceRef};
use crate::logic::pod_account::ROOT_CA;
use crate::logic::pod_references::{Referred, names};

const CONFIG_MAPS: ResourceRef = ResourceRef::of::<ConfigMap>(true);
const SECRETS: ResourceRef = ResourceRef::of::<Secret>(true);

/// How long the cluster's authority is not asked for again.
const AUTHORITY_AGE: Duration = Duration::from_secs(60);

/// What is referred to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Referent {
    ConfigMap,
    Secret,
}

impl Referent {
    /// As messages have it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Referent::ConfigMap => "configmap",
            Referent::Secret => "secret",
        }
    }

    /// The same, as messages about keys have it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Referent::ConfigMap => "ConfigMap",
            Referent::Secret => "Secret",
        }
    }
}

/// The content by key.
pub(crate) type Content = BTreeMap<String, Vec<u8>>;

#[derive(Debug)]
pub(crate) struct References {
    api: SharedApi,
    checkpoint: Checkpoint,
    secrets: Mutex<BTreeMap<String, Value>>,
    /// By namespace: the cluster's authority, and until when nobody asks for it again.
    authorities: Mutex<BTreeMap<String, (Content, Instant)>>,
}

impl References {
    pub(crate) fn new(api: SharedApi, checkpoint: Checkpoint) -> Self {
        Self { api, checkpoint, secrets: Mutex::default(), authorities: Mutex::default() }
    }

    /// As [`References::ask`]. Every pod has a file of the cluster's authority, which
    /// changes hardly ever: it is asked for once a while for all pods of a namespace.
    pub(crate) async fn get(
        &self,
        what: Referent,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Content>, AgentError> {
        if what != Referent::ConfigMap || name != ROOT_CA {
            return self.ask(what, namespace, name).await;
        }
        let lock = || self.authorities.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((content, until)) = lock().get(namespace)
            && Instant::now() < *until
        {
            return Ok(Some(content.clone()));
        }
        let found = self.ask(what, namespace, name).await?;
        let mut known = lock();
        known.retain(|_, (_, until)| Instant::now() < *until);
        if let Some(content) = &found {
            known.insert(namespace.to_owned(), (content.clone(), Instant::now() + AUTHORITY_AGE));
        }
        Ok(found)
    }

    /// The newest content, or the last known when the API does not answer; `None` when
    /// there is no such object.
    async fn ask(
        &self,
        what: Referent,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Content>, AgentError> {
        let resource = match what {
            Referent::ConfigMap => &CONFIG_MAPS,
            Referent::Secret => &SECRETS,
        };
        let key = format!("{namespace}/{name}");
        let raw = match self.api.get(resource, Some(namespace), name).await {
            Ok(raw) => {
                self.keep(what, &key, &raw);
                raw
            }
            Err(error) if error.is_not_found() => {
                self.forget(what, &key);
                return Ok(None);
            }
            Err(error @ (ApiError::Unreachable { .. } | ApiError::Refused(_))) => {
                match self.kept(what, &key) {
                    Some(kept) => kept,
                    None => return Err(error.into()),
                }
            }
            Err(error) => return Err(error.into()),
        };
        content(what, &raw)
            .map(Some)
            .ok_or_else(|| AgentError::config(format!("{} {key} cannot be read", what.word())))
    }

    /// Content that must be there unless it is optional; then absence is empty.
    pub(crate) async fn demand(
        &self,
        what: Referent,
        namespace: &str,
        name: &str,
        optional: bool,
    ) -> Result<Option<Content>, AgentError> {
        match self.get(what, namespace, name).await? {
            None if !optional => {
                Err(AgentError::config(format!("{} \"{name}\" not found", what.word())))
            }
            found => Ok(found),
        }
    }

    /// An object that may be kept on disk, with the last known copy while the API is away.
    pub(crate) async fn object<K: DeserializeOwned>(
        &self,
        resource: &ResourceRef,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<K>, AgentError> {
        // No namespace begins like this, so the copies of configMaps are never met.
        let key = format!("@{}/{}/{name}", resource.plural, namespace.unwrap_or_default());
        let raw = match self.api.get(resource, namespace, name).await {
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
            Err(error) => match self.checkpoint.get(&key) {
                Some(kept) => kept,
                None => return Err(error.into()),
            },
        };
        serde_json::from_value(raw)
            .map(Some)
            .map_err(|error| AgentError::config(format!("{key} cannot be read: {error}")))
    }

    /// Forgets what none of the node's pods names any more.
    pub(crate) fn keep_for<'p>(&self, pods: impl Iterator<Item = (&'p str, &'p Value)>) {
        let (mut on_disk, mut secret) = (BTreeSet::new(), BTreeSet::new());
        for (namespace, pod) in pods {
            let named = |what| names(pod, what).map(move |name| format!("{namespace}/{name}"));
            on_disk.extend(named(Referred::ConfigMap));
            secret.extend(named(Referred::Secret));
            on_disk.extend(names(pod, Referred::Claim).flat_map(|name| {
                let claim = format!("@persistentvolumeclaims/{namespace}/{name}");
                let bound = self.checkpoint.get(&claim);
                let volume = bound.as_ref().and_then(|claim| claim.pointer("/spec/volumeName"));
                let volume = volume.and_then(Value::as_str);
                let volume = volume.map(|name| format!("@persistentvolumes//{name}"));
                [Some(claim), volume].into_iter().flatten()
            }));
        }
        self.checkpoint.keep_only(&on_disk);
        let mut secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        secrets.retain(|key, _| secret.contains(key));
    }

    fn keep(&self, what: Referent, key: &str, raw: &Value) {
        match what {
            Referent::ConfigMap => {
                if self.checkpoint.get(key).as_ref() != Some(raw) {
                    self.checkpoint.keep(key, raw);
                }
            }
            Referent::Secret => {
                let mut secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
                secrets.insert(key.to_owned(), raw.clone());
            }
        }
    }

    fn kept(&self, what: Referent, key: &str) -> Option<Value> {
        match what {
            Referent::ConfigMap => self.checkpoint.get(key),
            Referent::Secret => {
                self.secrets.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
            }
        }
    }

    fn forget(&self, what: Referent, key: &str) {
        match what {
            Referent::ConfigMap => self.checkpoint.forget(key),
            Referent::Secret => {
                self.secrets.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
            }
        }
    }
}

/// A configMap's texts and bytes, or a secret's bytes.
fn content(what: Referent, raw: &Value) -> Option<Content> {
    let part = |field: &str| raw.get(field).and_then(Value::as_object).into_iter().flatten();
    let mut content = Content::new();
    for (key, value) in part("data") {
        let text = value.as_str()?;
        let bytes =
            if what == Referent::Secret { STANDARD.decode(text).ok()? } else { text.into() };
        content.insert(key.clone(), bytes);
    }
    for (key, value) in part("binaryData") {
        content.insert(key.clone(), STANDARD.decode(value.as_str()?).ok()?);
    }
    Some(content)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_bytes_and_secrets_become_content() {
        let map = json!({"data": {"a": "1"}, "binaryData": {"c": "AAE="}});
        let map = content(Referent::ConfigMap, &map).unwrap();
        assert_eq!((&map["a"][..], &map["c"][..]), (&b"1"[..], &[0, 1][..]));
        let secret = |text: &str| content(Referent::Secret, &json!({"data": {"a": text}}));
        assert_eq!(secret("AAE=").unwrap()["a"], [0, 1]);
        assert!(secret("?").is_none());
        assert!(content(Referent::Secret, &json!({})).unwrap().is_empty());
    }
}
