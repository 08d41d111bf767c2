//! The keys that sign service accounts' tokens: in the store, the same on every control
//! node.
//!
//! ```text
//! /holdfast/access/signing-keys   {"keys":[{private, public, created}, …]}, newest first
//! ```
//! The newest signs, all verify. Rotation puts a new one in front; an old one is removed
//! when the tokens that it signed are over, or at once if it is known to others.
//! Invariants: the list is never empty once made; every change is guarded by the list's
//! revision; it is encrypted before it reaches the store, as Secrets are ([`super::super::SealedKv`]
//! knows the key), and one that is plain still is encrypted by the next sweep.
//! Not here: signatures (`pki/jws`).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::model::kv::{Compare, Op, RangeRequest, Revision, TxnRequest};
use crate::model::status::Status;
use crate::objects::{Objects, refusal, stored};
use crate::pki::{self, PublicKey, SigningKey};

/// Where they stand.
pub(in crate::objects) const KEY: &str = "/holdfast/access/signing-keys";
/// Attempts before a contended change gives up.
const ATTEMPTS: usize = 10;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Keys {
    keys: Vec<StoredKey>,
}

#[derive(Clone, Serialize, Deserialize)]
struct StoredKey {
    /// PKCS #8, Base64.
    private: String,
    /// The point, Base64.
    public: String,
    created: String,
}

impl std::fmt::Debug for StoredKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredKey").field("public", &self.public).finish_non_exhaustive()
    }
}

impl StoredKey {
    fn new() -> Result<Self, Status> {
        let pkcs8 = SigningKey::generate().map_err(Status::internal)?;
        let pair = SigningKey::read(&pkcs8).map_err(Status::internal)?;
        Ok(Self {
            private: STANDARD.encode(&pkcs8),
            public: STANDARD.encode(pair.public().point()),
            created: stored::timestamp(),
        })
    }

    fn public(&self) -> Result<PublicKey, Status> {
        let point = STANDARD.decode(&self.public).map_err(Status::internal)?;
        PublicKey::from_point(point).map_err(Status::internal)
    }
}

/// A key as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInfo {
    pub id: String,
    pub created: String,
    /// Whether new tokens are signed with it.
    pub signs: bool,
}

impl Keys {
    /// What signatures are checked with.
    pub(super) fn public(&self) -> Result<Vec<PublicKey>, Status> {
        self.keys.iter().map(StoredKey::public).collect()
    }

    /// What new tokens are signed with.
    pub(super) fn signer(&self) -> Result<SigningKey, Status> {
        let Some(newest) = self.keys.first() else {
            let text = "the cluster has no key for signing tokens yet";
            return Err(Status::unavailable(text).retry_after(1));
        };
        let pkcs8 = STANDARD.decode(&newest.private).map_err(Status::internal)?;
        SigningKey::read(&pkcs8).map_err(Status::internal)
    }

    fn info(&self) -> Result<Vec<KeyInfo>, Status> {
        let keys = self.keys.iter().enumerate();
        keys.map(|(index, key)| {
            let id = key.public()?.id();
            Ok(KeyInfo { id, created: key.created.clone(), signs: index == 0 })
        })
        .collect()
    }
}

impl Objects {
    /// The keys; `stale` takes the local replica's.
    pub(super) async fn read_keys(&self, stale: bool) -> Result<(Keys, Revision), Status> {
        let (keys, revision) = self.fetch_keys(stale).await?;
        Ok((keys?, revision))
    }

    /// The same, and what is wrong with what stands there.
    async fn fetch_keys(&self, stale: bool) -> Result<(Result<Keys, Status>, Revision), Status> {
        let request = RangeRequest { serializable: stale, ..RangeRequest::key(KEY) };
        let answer = self.kv.range(request).await.map_err(refusal::of)?;
        let Some(kv) = answer.kvs.first() else { return Ok((Ok(Keys::default()), 0)) };
        let keys = match pki::key_of(&kv.value) {
            Some(id) => Err(Status::internal(format!(
                "the keys that sign tokens cannot be decrypted: this node lacks key {id} \
                 (`holdfast secrets status` names what is missing); `holdfast access signing-key \
                 rotate` begins anew, and what was signed before is worthless then"
            ))),
            None => serde_json::from_slice(&kv.value)
                .map_err(|error| Status::internal(format!("{KEY} cannot be read: {error}"))),
        };
        Ok((keys, kv.mod_revision))
    }

    async fn change_keys(
        &self,
        change: impl Fn(Result<Keys, Status>) -> Result<(Keys, bool), Status>,
    ) -> Result<Vec<KeyInfo>, Status> {
        for _ in 0..ATTEMPTS {
            let (found, revision) = self.fetch_keys(false).await?;
            let (keys, changed) = change(found)?;
            if !changed {
                return keys.info();
            }
            let bytes = serde_json::to_vec(&keys).map_err(Status::internal)?;
            let request = TxnRequest {
                compare: vec![Compare::mod_revision(KEY, revision)],
                success: vec![Op::put(KEY, bytes)],
                failure: Vec::new(),
            };
            if self.kv.txn(request).await.map_err(refusal::of)?.succeeded {
                return keys.info();
            }
        }
        Err(Status::timeout("the keys were changed by others too often; try again").retry_after(1))
    }

    /// Makes the first key if there is none.
    pub async fn ensure_signing_key(&self) -> Result<(), Status> {
        let first = |keys: Result<Keys, Status>| {
            let mut keys = keys?;
            let none = keys.keys.is_empty();
            if none {
                keys.keys.push(StoredKey::new()?);
            }
            Ok((keys, none))
        };
        self.change_keys(first).await.map(drop)
    }

    /// All keys, newest first.
    pub async fn signing_keys(&self) -> Result<Vec<KeyInfo>, Status> {
        self.read_keys(false).await?.0.info()
    }

    /// Signs with a new key from now on; the old ones still verify. Keys that this node
    /// cannot read are thrown away only when that is wished: others may read them.
    pub async fn rotate_signing_key(
        &self,
        forget_unreadable: bool,
    ) -> Result<Vec<KeyInfo>, Status> {
        self.change_keys(|keys| {
            let mut keys = if forget_unreadable { keys.unwrap_or_default() } else { keys? };
            keys.keys.insert(0, StoredKey::new()?);
            Ok((keys, true))
        })
        .await
    }

    /// Makes every token that the key has signed worthless.
    pub async fn remove_signing_key(&self, id: &str) -> Result<Vec<KeyInfo>, Status> {
        self.change_keys(|keys| {
            let mut keys = keys?;
            let place = keys.info()?.iter().position(|key| key.id == id);
            match place {
                Some(0) => Err(Status::bad_request(
                    "this key signs new tokens; rotate first, then remove it",
                )),
                Some(place) => {
                    keys.keys.remove(place);
                    Ok((keys, true))
                }
                None => Err(Status::not_found("signing-keys", "", id)),
            }
        })
        .await
    }

    /// The public keys as a JSON Web Key Set.
    pub async fn key_set(&self) -> Result<serde_json::Value, Status> {
        let keys = self.read_keys(true).await?.0.public()?;
        let keys: Vec<serde_json::Value> = keys.iter().map(PublicKey::jwk).collect();
        Ok(serde_json::json!({"keys": keys}))
    }
}
