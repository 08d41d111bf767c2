//! Tokens of service accounts for pods, asked of the API by the node's own identity.
//!
//! A token is bound to its pod and kept in memory; it is asked for anew when four fifths of
//! its time are over, or a day, whichever comes first, as the kubelet does.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ServiceAccount;
use serde_json::{Value, json};

use super::AgentError;
use super::labels::PodIdentity;
use crate::client::ResourceRef;
use crate::client::api::SharedApi;

const ACCOUNTS: ResourceRef = ResourceRef::of::<ServiceAccount>(true);
const AGE_MAX: SignedDuration = SignedDuration::from_hours(24);

/// Pod, account, audience, and the time asked for.
type Key = (String, String, String, i64);

#[derive(Clone, Debug)]
struct Held {
    token: String,
    renew_at: Timestamp,
    expires_at: Timestamp,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct AccountTokens {
    api: SharedApi,
    held: Mutex<BTreeMap<Key, Held>>,
}

/// When to ask for the next one.
fn renewal(issued_at: Timestamp, expires_at: Timestamp) -> Timestamp {
    let lifetime = expires_at.duration_since(issued_at);
    issued_at + (lifetime * 4 / 5).min(AGE_MAX)
}

impl AccountTokens {
    pub(crate) fn new(api: SharedApi) -> Self {
        Self { api, held: Mutex::default() }
    }

    /// A token that is good for a while; the one at hand when the API does not answer.
    pub(crate) async fn get(
        &self,
        pod: &PodIdentity,
        account: &str,
        audience: &str,
        seconds: i64,
        now: Timestamp,
    ) -> Result<String, AgentError> {
        let key = (pod.uid.clone(), account.to_owned(), audience.to_owned(), seconds);
        let held = self.lock().get(&key).cloned();
        if let Some(held) = &held
            && now < held.renew_at
        {
            return Ok(held.token.clone());
        }
        match self.ask(pod, account, audience, seconds, now).await {
            Ok(fresh) => {
                let token = fresh.token.clone();
                self.lock().insert(key, fresh);
                Ok(token)
            }
            Err(error) => match held.filter(|held| now < held.expires_at) {
                Some(held) => {
                    tracing::debug!(%error, account, "a token is not renewed yet");
                    Ok(held.token)
                }
                None => Err(error),
            },
        }
    }

    /// Forgets what a pod had.
    pub(crate) fn forget(&self, uid: &str) {
        self.lock().retain(|key, _| key.0 != uid);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Key, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(
        &self,
        pod: &PodIdentity,
        account: &str,
        audience: &str,
        seconds: i64,
        now: Timestamp,
    ) -> Result<Held, AgentError> {
        let audiences: Vec<&str> = if audience.is_empty() { Vec::new() } else { vec![audience] };
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": audiences,
                "expirationSeconds": seconds,
                "boundObjectRef": {
                    "apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid,
                },
            },
        });
        let namespace = Some(pod.namespace.as_str());
        let answer =
            self.api.update(&ACCOUNTS, namespace, account, Some("token"), &request).await?;
        let text = |pointer: &str| answer.pointer(pointer).and_then(Value::as_str);
        let token = text("/status/token").unwrap_or_default().to_owned();
        let expires_at = text("/status/expirationTimestamp").and_then(|time| time.parse().ok());
        match expires_at {
            Some(expires_at) if !token.is_empty() => {
                Ok(Held { token, renew_at: renewal(now, expires_at), expires_at })
            }
            _ => {
                let reason = format!("the API gave no token for service account {account}");
                Err(AgentError::config(reason))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_at_four_fifths_of_its_time_or_after_a_day() {
        let now = Timestamp::UNIX_EPOCH;
        let after = |seconds| now + SignedDuration::from_secs(seconds);
        assert_eq!(renewal(now, after(3_607)), after(2_885) + SignedDuration::from_millis(600));
        assert_eq!(renewal(now, after(1_000_000)), after(86_400));
    }
}
