//! Join tokens in the store: created, listed, revoked, and judged when one is shown.
//!
//! A token admits one node once. "Once" is the pair (node name, key): the same pair may
//! come again, because a join that was killed after the answer must be able to finish.
//! Invariants: the store holds a hash, never the secret; a used token is refused to
//! every other pair, also after it expired.
//! Not here: the text form (`pki`), the transaction that redeems (`join_service`).

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::base::limits::JOIN_TOKEN_TTL;
use crate::model::cluster_record::{
    CLUSTER_KEY, ClusterRecord, Redemption, TOKENS_PREFIX, TokenRecord,
};
use crate::model::join::{TokenAnswer, TokenInfo};
use crate::model::kv::{Compare, Op, RangeRequest, Revision, TxnRequest};
use crate::model::node_config::Role;
use crate::pki::JoinToken;
use crate::store::Kv;

pub use super::refused::JoinRefused;

/// The wall clock, injected so that expiry can be tested.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// A record with the revision it was read at (0: absent).
pub(crate) struct Read<T> {
    pub(crate) value: Option<T>,
    pub(crate) revision: Revision,
}

/// Reads one JSON record, linearizably.
pub(crate) async fn read_record<T: serde::de::DeserializeOwned>(
    kv: &dyn Kv,
    key: &str,
) -> Result<Read<T>, JoinRefused> {
    let answer = kv.range(RangeRequest::key(key.as_bytes().to_vec())).await?;
    let Some(found) = answer.kvs.into_iter().next() else {
        return Ok(Read { value: None, revision: 0 });
    };
    let value = serde_json::from_slice(&found.value)
        .map_err(|error| JoinRefused::Damaged { key: key.to_owned(), reason: error.to_string() })?;
    Ok(Read { value: Some(value), revision: found.mod_revision })
}

pub(crate) fn put_record<T: serde::Serialize>(key: &str, value: &T) -> Op {
    let json = serde_json::to_vec(value).expect("records serialize");
    Op::put(key.as_bytes().to_vec(), json)
}

pub(crate) fn unchanged(key: &str, revision: Revision) -> Compare {
    Compare::mod_revision(key.as_bytes().to_vec(), revision)
}

pub(crate) fn token_key(id: &str) -> String {
    format!("{TOKENS_PREFIX}{id}")
}

/// Judges a shown token. `Ok` carries the record as it must be stored to redeem it.
pub(crate) fn judge(
    record: Option<TokenRecord>,
    secret_hash: &str,
    roles: &[Role],
    node_name: &str,
    key_fingerprint: &str,
    now: Timestamp,
) -> Result<TokenRecord, JoinRefused> {
    let Some(mut record) = record.filter(|record| same(&record.secret_hash, secret_hash)) else {
        return Err(JoinRefused::TokenUnknown);
    };
    if let Some(used) = &record.redeemed {
        if used.node_name == node_name && used.key_fingerprint == key_fingerprint {
            return Ok(record);
        }
        return Err(JoinRefused::TokenUsed { node_name: used.node_name.clone() });
    }
    if now >= record.expires_at {
        return Err(JoinRefused::TokenExpired { expired_at: record.expires_at });
    }
    let asked = if roles.contains(&Role::Control) { Role::Control } else { Role::Worker };
    if asked != record.role {
        return Err(JoinRefused::TokenRole { allowed: name(record.role), asked: name(asked) });
    }
    record.redeemed = Some(Redemption {
        node_name: node_name.to_owned(),
        key_fingerprint: key_fingerprint.to_owned(),
        at: now,
    });
    Ok(record)
}

/// Compares hashes without telling by time how much of them agrees.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |acc, (x, y)| acc | (x ^ y)) == 0
}

fn name(role: Role) -> &'static str {
    match role {
        Role::Control => "control",
        Role::Worker => "worker",
    }
}

/// The tokens of one cluster.
pub struct TokenBook {
    kv: Arc<dyn Kv>,
    /// Fingerprint of the authority, part of every token.
    authority: String,
    clock: Clock,
}

impl std::fmt::Debug for TokenBook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenBook").field("authority", &self.authority).finish_non_exhaustive()
    }
}

impl TokenBook {
    pub fn new(kv: Arc<dyn Kv>, authority: &str, clock: Clock) -> Self {
        Self { kv, authority: authority.to_owned(), clock }
    }

    /// Makes a token; the answer is the only place where its secret ever appears. With a
    /// center it also admits a node that the cluster file does not list.
    pub async fn create(
        &self,
        role: Role,
        center: Option<&str>,
        ttl: Option<Duration>,
    ) -> Result<TokenAnswer, JoinRefused> {
        if let Some(center) = center {
            self.check_center(center).await?;
        }
        let bad = |reason: &str| JoinRefused::BadRequest { reason: reason.to_owned() };
        let ttl = ttl.unwrap_or(JOIN_TOKEN_TTL);
        if ttl.is_zero() || ttl > Duration::from_secs(7 * 86_400) {
            return Err(bad("a token lives between one second and seven days"));
        }
        let ttl = SignedDuration::try_from(ttl).map_err(|_| bad("the time to live is too long"))?;
        let token = JoinToken::generate(&self.authority);
        let now = (self.clock)();
        let record = TokenRecord {
            id: token.id.clone(),
            secret_hash: token.secret_hash(),
            role,
            center: center.map(str::to_owned),
            created_at: now,
            expires_at: now + ttl,
            redeemed: None,
        };
        let key = token_key(&record.id);
        let txn = TxnRequest {
            compare: vec![unchanged(&key, 0)],
            success: vec![put_record(&key, &record)],
            failure: Vec::new(),
        };
        if !self.kv.txn(txn).await?.succeeded {
            return Err(JoinRefused::Contended);
        }
        Ok(TokenAnswer { token: token.to_string(), info: self.info(&record) })
    }

    /// Said when the token is made and not only when a host shows it.
    async fn check_center(&self, center: &str) -> Result<(), JoinRefused> {
        let found = read_record::<ClusterRecord>(self.kv.as_ref(), CLUSTER_KEY).await?;
        let cluster = found.value.ok_or(JoinRefused::NotReady)?.cluster;
        cluster.center(center).map(drop).ok_or_else(|| JoinRefused::CenterUnknown {
            center: center.to_owned(),
            known: cluster.center_names(),
        })
    }

    /// All tokens, oldest first.
    pub async fn list(&self) -> Result<Vec<TokenInfo>, JoinRefused> {
        let answer = self.kv.range(RangeRequest::prefix(TOKENS_PREFIX.as_bytes())).await?;
        let mut infos = Vec::new();
        for found in answer.kvs {
            let record: TokenRecord =
                serde_json::from_slice(&found.value).map_err(|error| JoinRefused::Damaged {
                    key: String::from_utf8_lossy(&found.key).into_owned(),
                    reason: error.to_string(),
                })?;
            infos.push(self.info(&record));
        }
        infos.sort_by_key(|info| info.created_at);
        Ok(infos)
    }

    /// Forgets a token; false when there was none.
    pub async fn revoke(&self, id: &str) -> Result<bool, JoinRefused> {
        let key = token_key(id);
        let found = read_record::<TokenRecord>(self.kv.as_ref(), &key).await?;
        if found.value.is_none() {
            return Ok(false);
        }
        let txn = TxnRequest {
            compare: Vec::new(),
            success: vec![Op::delete(key.into_bytes())],
            failure: Vec::new(),
        };
        self.kv.txn(txn).await?;
        Ok(true)
    }

    fn info(&self, record: &TokenRecord) -> TokenInfo {
        let state = match &record.redeemed {
            Some(used) => format!("used by {}", used.node_name),
            None if (self.clock)() >= record.expires_at => "expired".to_owned(),
            None => "open".to_owned(),
        };
        TokenInfo {
            id: record.id.clone(),
            role: record.role,
            center: record.center.clone(),
            created_at: record.created_at,
            expires_at: record.expires_at,
            state,
        }
    }
}
