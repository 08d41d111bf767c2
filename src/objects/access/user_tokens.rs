//! Tokens that an operator gives to a named user: stored as hashes, revocable.
//!
//! ```text
//! hfu_<id>_<secret>          shown once
//! /holdfast/access/user-tokens/<id>   {user, groups, hash of the secret, created, expires}
//! ```
//! Why a plain hash: the secret is 256 random bits, so that there is nothing to guess.
//! Invariants: the secret is not stored; names that the cluster gives itself (`system:`)
//! cannot be had this way, but for the administrators' group.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Identity, MASTERS, Request};
use crate::model::kv::{Compare, Op, RangeRequest, TxnRequest};
use crate::model::status::Status;
use crate::objects::{Objects, refusal};
use crate::sys::{clock, fresh};

const PREFIX: &str = "/holdfast/access/user-tokens/";
const MARK: &str = "hfu";
const SYSTEM: &str = "system:";

/// What a user token stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserTokenInfo {
    pub id: String,
    pub user: String,
    #[serde(default)]
    pub groups: Vec<String>,
    pub created: Timestamp,
    pub expires: Option<Timestamp>,
    /// Who made it.
    #[serde(default)]
    pub issuer: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    /// SHA-256 of the secret, hexadecimal.
    hash: String,
    #[serde(flatten)]
    info: UserTokenInfo,
}

/// Whom to give a token.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewUserToken {
    pub user: String,
    #[serde(default)]
    pub groups: Vec<String>,
    /// `None` never ends.
    #[serde(default)]
    pub ttl_seconds: Option<i64>,
}

fn key(id: &str) -> String {
    format!("{PREFIX}{id}")
}

fn hash(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}

/// Compares without telling by time how much agrees.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |acc, (x, y)| acc | (x ^ y)) == 0
}

fn read(bytes: &[u8]) -> Result<Stored, Status> {
    serde_json::from_slice(bytes)
        .map_err(|error| Status::internal(format!("a user's token cannot be read: {error}")))
}

fn check(wish: &NewUserToken) -> Result<(), Status> {
    if wish.user.is_empty() || wish.user.starts_with(SYSTEM) {
        return Err(Status::bad_request(format!(
            "user {:?}: a name is needed that does not begin with {SYSTEM}",
            wish.user
        )));
    }
    let reserved =
        |group: &&String| group.is_empty() || (group.starts_with(SYSTEM) && *group != MASTERS);
    if let Some(group) = wish.groups.iter().find(reserved) {
        return Err(Status::bad_request(format!(
            "group {group:?}: of the groups of the cluster itself only {MASTERS} can be given"
        )));
    }
    if wish.ttl_seconds.is_some_and(|seconds| !(1..=i64::from(u32::MAX)).contains(&seconds)) {
        return Err(Status::bad_request("ttlSeconds must be between 1 and 2^32"));
    }
    Ok(())
}

impl Objects {
    /// Nobody gives what he could not take: who is no administrator needs the right to act
    /// as the user and as each group.
    async fn may_stand_for(&self, issuer: &Identity, wish: &NewUserToken) -> Result<(), Status> {
        if issuer.is_master() {
            return Ok(());
        }
        let groups = wish.groups.iter().map(|group| ("groups", group));
        for (resource, name) in [("users", &wish.user)].into_iter().chain(groups) {
            let request = Request {
                verb: "impersonate",
                group: "",
                resource,
                subresource: None,
                namespace: "",
                name,
            };
            self.authorize(issuer, &request).await?;
        }
        Ok(())
    }

    /// Makes a token for a user; the text is shown this once.
    pub async fn create_user_token(
        &self,
        wish: &NewUserToken,
        issuer: &Identity,
    ) -> Result<(String, UserTokenInfo), Status> {
        check(wish)?;
        self.may_stand_for(issuer, wish).await?;
        let id = hex::encode(fresh::random_bytes::<6>());
        let secret = hex::encode(fresh::random_bytes::<32>());
        let created = Timestamp::from_second(clock::now().as_second()).unwrap_or_default();
        let expires = wish.ttl_seconds.map(|seconds| created + SignedDuration::from_secs(seconds));
        let info = UserTokenInfo {
            id: id.clone(),
            user: wish.user.clone(),
            groups: wish.groups.clone(),
            created,
            expires,
            issuer: issuer.user.clone(),
        };
        let stored = Stored { hash: hash(&secret), info: info.clone() };
        let bytes = serde_json::to_vec(&stored).map_err(Status::internal)?;
        let request = TxnRequest {
            compare: vec![Compare::mod_revision(key(&id), 0)],
            success: vec![Op::put(key(&id), bytes)],
            failure: Vec::new(),
        };
        if !self.kv.txn(request).await.map_err(refusal::of)?.succeeded {
            return Err(Status::timeout("the token's id is taken; try again").retry_after(1));
        }
        Ok((format!("{MARK}_{id}_{secret}"), info))
    }

    /// All tokens of users, without their secrets.
    pub async fn user_tokens(&self) -> Result<Vec<UserTokenInfo>, Status> {
        let answer = self.kv.range(RangeRequest::prefix(PREFIX)).await.map_err(refusal::of)?;
        answer.kvs.iter().map(|kv| Ok(read(&kv.value)?.info)).collect()
    }

    /// Makes a token worthless.
    pub async fn revoke_user_token(&self, id: &str) -> Result<(), Status> {
        let none = || Status::not_found("user-tokens", "", id);
        let answer = self.kv.range(RangeRequest::key(key(id))).await.map_err(refusal::of)?;
        let found = answer.kvs.first().ok_or_else(none)?;
        let request = TxnRequest {
            compare: vec![Compare::mod_revision(key(id), found.mod_revision)],
            success: vec![Op::delete(key(id))],
            failure: Vec::new(),
        };
        match self.kv.txn(request).await.map_err(refusal::of)?.succeeded {
            true => Ok(()),
            false => Err(none()),
        }
    }

    /// Whose token it is, if it is good.
    pub(super) async fn user_of_token(&self, token: &str) -> Result<Option<Identity>, Status> {
        let mut parts = token.splitn(3, '_');
        let (Some(MARK), Some(id), Some(secret)) = (parts.next(), parts.next(), parts.next())
        else {
            return Ok(None);
        };
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(None);
        }
        // The local replica first: a new token may not have come here yet.
        for serializable in [true, false] {
            let request = RangeRequest { serializable, ..RangeRequest::key(key(id)) };
            let answer = self.kv.range(request).await.map_err(refusal::of)?;
            let Some(kv) = answer.kvs.first() else { continue };
            let Stored { hash: wanted, info } = read(&kv.value)?;
            let ended = info.expires.is_some_and(|end| end <= clock::now());
            if ended || !same(&wanted, &hash(secret)) {
                return Ok(None);
            }
            let extra = [(
                "authentication.kubernetes.io/credential-id".to_owned(),
                vec![format!("HFU={}", info.id)],
            )];
            let identity = Identity {
                user: info.user,
                uid: String::new(),
                groups: info.groups,
                extra: extra.into(),
            };
            return Ok(Some(identity.authenticated()));
        }
        Ok(None)
    }
}
