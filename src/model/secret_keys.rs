//! Which keys encrypt secrets: what the store and the API say of them, and a key as it
//! travels from one control node to another. The store never learns a key itself.
//!
//! ```text
//!  /holdfast/secret-keys/state            Rotation
//!  /holdfast/secret-keys/holders/<node>   Holder
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub const SECRET_KEYS_PREFIX: &str = "/holdfast/secret-keys/";
pub const ROTATION_KEY: &str = "/holdfast/secret-keys/state";
pub const HOLDERS_PREFIX: &str = "/holdfast/secret-keys/holders/";

/// Names a key; random, and no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId([u8; KeyId::BYTES]);

impl KeyId {
    pub const BYTES: usize = 8;

    pub fn new(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for KeyId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut bytes = [0; Self::BYTES];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|_| format!("{text:?} is no key's id: 16 hexadecimal digits"))?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for KeyId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.to_string()
    }
}

/// A key as it stands in a control node's file, and as one hands it to another.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretKey {
    pub id: KeyId,
    pub created_at: Timestamp,
    /// Base64 of 32 bytes.
    pub key: String,
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// How far the cluster is with its keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rotation {
    /// What new values are encrypted with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<KeyId>,
    /// What becomes active once every control node holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<KeyId>,
    /// The key that every value is known to be encrypted with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swept: Option<KeyId>,
}

/// What one control node has on its disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    pub keys: Vec<KeyId>,
    /// What it encrypts with now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<KeyId>,
}

/// What `holdfast secrets status` shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeysStatus {
    pub answered_by: String,
    #[serde(flatten)]
    pub rotation: Rotation,
    /// By name, those that belong to the cluster now.
    pub control_nodes: BTreeMap<String, Holder>,
    /// Control nodes that the next step waits for.
    pub waiting_for: Vec<String>,
    /// Values in the store by the key that they are encrypted with.
    pub values: BTreeMap<KeyId, u64>,
    /// Values in the store that are not encrypted.
    pub plain: u64,
    /// Keys that values are encrypted with and that the answering node does not have.
    pub missing: Vec<KeyId>,
}

impl SecretKeysStatus {
    /// One active key, and every value encrypted with it.
    pub fn is_settled(&self) -> bool {
        let Some(active) = self.rotation.active else { return false };
        self.rotation.pending.is_none()
            && self.rotation.swept == Some(active)
            && self.plain == 0
            && self.missing.is_empty()
            && self.values.keys().all(|id| *id == active)
    }
}
