//! Who shows a token: a service account by a signed one, a user by one that is stored.
//!
//! Invariants: a service account's token counts only while its account and the pod, node
//! or secret that it is bound to are there, by uid; what the local replica does not have
//! is asked of the majority before it counts as gone; the audience must be ours or what
//! the asker names.
//! Not here: making them (`token_request`, `user_tokens`), signatures (`pki/jws`).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::{ACCOUNT_PREFIX, Identity};
use crate::base::limits::{ACCOUNT_TOKEN_AFTER_POD_S, ACCOUNT_TOKEN_LEEWAY_S};
use crate::model::kinds;
use crate::model::status::Status;
use crate::objects::{Address, Objects, str_at};
use crate::pki::{JwsError, is_token, verify_token};
use crate::sys::clock;

/// Who issues the tokens, and whom a token is for where it does not say.
pub const API_AUDIENCE: &str = "https://kubernetes.default.svc.cluster.local";

/// Where a token came from and whom it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticated {
    pub identity: Identity,
    /// Those of the asked audiences that the token is for.
    pub audiences: Vec<String>,
}

/// What a token may be bound to: the claim, and the plural of its kind.
const BOUND: &[(&str, &str)] = &[("pod", "pods"), ("secret", "secrets"), ("node", "nodes")];

impl Objects {
    /// Whose token it is; `None` if it is worthless. No audience means the API's own.
    pub async fn authenticate(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<Authenticated>, Status> {
        let own = [API_AUDIENCE.to_owned()];
        let audiences = if audiences.is_empty() { &own[..] } else { audiences };
        if !is_token(token) {
            let ours = audiences.iter().any(|audience| audience == API_AUDIENCE);
            let found = if ours { self.user_of_token(token).await? } else { None };
            let audiences = own.to_vec();
            return Ok(found.map(|identity| Authenticated { identity, audiences }));
        }
        let Some(claims) = self.verified_claims(token).await? else { return Ok(None) };
        let named = audiences_of(&claims);
        let met: Vec<String> =
            audiences.iter().filter(|wanted| named.contains(&wanted.as_str())).cloned().collect();
        if met.is_empty() || !is_in_time(&claims, clock::now()) {
            return Ok(None);
        }
        let identity = self.account_of(&claims).await?;
        Ok(identity.map(|identity| Authenticated { identity, audiences: met }))
    }

    async fn verified_claims(&self, token: &str) -> Result<Option<Value>, Status> {
        let (keys, _) = self.read_keys(true).await?;
        let mut verified = verify_token(token, &keys.public()?);
        if matches!(verified, Err(JwsError::UnknownKey)) {
            // A new key may not have come to this replica yet.
            let (keys, _) = self.read_keys(false).await?;
            verified = verify_token(token, &keys.public()?);
        }
        match verified {
            Ok(claims) if claims["iss"] == API_AUDIENCE => Ok(Some(claims)),
            Ok(_) => Ok(None),
            Err(error) => {
                tracing::debug!(%error, "a token was refused");
                Ok(None)
            }
        }
    }

    /// The account that the claims are about, if all that they are bound to is there.
    async fn account_of(&self, claims: &Value) -> Result<Option<Identity>, Status> {
        let about = &claims["kubernetes.io"];
        let namespace = str_at(about, "/namespace");
        let (name, uid) =
            (str_at(about, "/serviceaccount/name"), str_at(about, "/serviceaccount/uid"));
        let user = format!("{ACCOUNT_PREFIX}{namespace}:{name}");
        if name.is_empty() || uid.is_empty() || claims["sub"] != user.as_str() {
            return Ok(None);
        }
        if self.living("serviceaccounts", namespace, name, uid).await?.is_none() {
            return Ok(None);
        }
        let mut extra = BTreeMap::new();
        let mut say = |key: &str, value: &str| {
            extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
        };
        say("credential-id", &format!("JTI={}", str_at(claims, "/jti")));
        for (claim, plural) in BOUND {
            let Some(bound) = about.get(claim) else { continue };
            let (name, uid) = (str_at(bound, "/name"), str_at(bound, "/uid"));
            // A pod's token also says where the pod is; it is not bound to that node.
            let only_said = *claim == "node" && about.get("pod").is_some();
            if !only_said {
                let found = self.living(plural, namespace, name, uid).await?;
                if found.is_none_or(|object| is_long_gone(&object, clock::now())) {
                    return Ok(None);
                }
            }
            say(&format!("{claim}-name"), name);
            say(&format!("{claim}-uid"), uid);
        }
        let groups =
            ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
        let identity = Identity { user, uid: uid.to_owned(), groups: groups.to_vec(), extra };
        Ok(Some(identity.authenticated()))
    }

    /// An object that must still have this uid.
    async fn living(
        &self,
        plural: &str,
        namespace: &str,
        name: &str,
        uid: &str,
    ) -> Result<Option<Value>, Status> {
        let Some(kind) = kinds::by_path("", "v1", plural) else { return Ok(None) };
        let address = Address::new(kind, Some(namespace), name);
        for stale in [true, false] {
            let found = self.fetch_as(&address, stale).await?;
            if let Some(found) = found.filter(|found| str_at(&found.object, "/metadata/uid") == uid)
            {
                return Ok(Some(found.object));
            }
        }
        Ok(None)
    }
}

fn audiences_of(claims: &Value) -> Vec<&str> {
    match &claims["aud"] {
        Value::String(one) => vec![one.as_str()],
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn is_in_time(claims: &Value, now: Timestamp) -> bool {
    let at = |claim: &str| claims[claim].as_i64();
    let now = now.as_second();
    at("exp").is_some_and(|end| now < end)
        && at("nbf").is_none_or(|begin| begin <= now + ACCOUNT_TOKEN_LEEWAY_S)
}

/// Being deleted, and its grace over for some time.
fn is_long_gone(object: &Value, now: Timestamp) -> bool {
    let end = str_at(object, "/metadata/deletionTimestamp").parse::<Timestamp>();
    end.is_ok_and(|end| end.as_second() + ACCOUNT_TOKEN_AFTER_POD_S < now.as_second())
}
