//! The keys that secrets are encrypted with: a file of mode 0600 on every control node.
//!
//! It lies beside the authority's key (`<config>/pki/secret-keys.json`) and not in the data
//! directory, so that a copy of the store, of its snapshots or of the data disk is no use
//! without it. A rotation adds a key; old ones stay, because backups are encrypted with them.
//!
//! Invariants: a key never changes under its id; the file is written whole and durably
//! before anything is encrypted with a key of it. Not here: which key is used for new values
//! (`secret_keys`), how control nodes come to the same keys (`install/secret_keys`).

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::envelope::KEY_BYTES;
use super::error::PkiError;
use crate::model::secret_keys::{KeyId, SecretKey};
use crate::sys::{files, fresh};

/// Its name in the directory of keys.
pub const SECRET_KEYS_FILE: &str = "secret-keys.json";

/// A new key.
pub fn new_secret_key(now: Timestamp) -> SecretKey {
    let key = STANDARD.encode(fresh::random_bytes::<KEY_BYTES>());
    SecretKey { id: KeyId::new(fresh::random_bytes()), created_at: now, key }
}

fn bytes(key: &SecretKey) -> Option<[u8; KEY_BYTES]> {
    STANDARD.decode(&key.key).ok()?.try_into().ok()
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    version: u32,
    keys: Vec<SecretKey>,
}

const VERSION: u32 = 1;

/// All keys of this node.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KeyRing {
    keys: BTreeMap<KeyId, (SecretKey, [u8; KEY_BYTES])>,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.keys.keys()).finish()
    }
}

impl KeyRing {
    /// Reads a file of keys; a missing one holds none.
    pub fn load(path: &Path) -> Result<Self, PkiError> {
        let Some(bytes) = files::read_if_present(path)? else { return Ok(Self::default()) };
        Self::parse(&bytes).map_err(|reason| PkiError::Crypto {
            action: "read the keys of secrets",
            reason: format!("{}: {reason}", path.display()),
        })
    }

    /// The content of such a file.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let document: Document =
            serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if document.version != VERSION {
            return Err(format!("version {} is not known", document.version));
        }
        let mut ring = Self::default();
        ring.add(document.keys)?;
        Ok(ring)
    }

    /// Writes it whole, durably, for root alone.
    pub fn save(&self, path: &Path) -> Result<(), PkiError> {
        let document = Document { version: VERSION, keys: self.to_vec() };
        let json = serde_json::to_vec_pretty(&document).expect("keys serialize");
        Ok(files::write_atomic(path, &json, 0o600)?)
    }

    /// Reads the file, or makes it with one key.
    pub fn load_or_create(path: &Path, now: Timestamp) -> Result<Self, PkiError> {
        let mut ring = Self::load(path)?;
        if ring.keys.is_empty() {
            ring.add([new_secret_key(now)]).expect("a new key is well formed");
            ring.save(path)?;
        }
        Ok(ring)
    }

    /// Takes keys that are not known yet; tells how many. One that is known under the same
    /// id with other bytes is refused.
    pub fn add(&mut self, keys: impl IntoIterator<Item = SecretKey>) -> Result<usize, String> {
        let mut fresh = Vec::new();
        for key in keys {
            let bytes = bytes(&key).ok_or_else(|| format!("key {} is not 32 bytes", key.id))?;
            match self.keys.get(&key.id) {
                Some((_, known)) if *known != bytes => {
                    return Err(format!("key {} is another one than the one known", key.id));
                }
                Some(_) => {}
                None => fresh.push((key.id, (key, bytes))),
            }
        }
        let count = fresh.len();
        self.keys.extend(fresh);
        Ok(count)
    }

    /// In order of their ids.
    pub fn to_vec(&self) -> Vec<SecretKey> {
        self.keys.values().map(|(key, _)| key.clone()).collect()
    }

    pub fn ids(&self) -> Vec<KeyId> {
        self.keys.keys().copied().collect()
    }

    pub fn contains(&self, id: KeyId) -> bool {
        self.keys.contains_key(&id)
    }

    pub(super) fn bytes_of(&self, id: KeyId) -> Option<&[u8; KEY_BYTES]> {
        self.keys.get(&id).map(|(_, bytes)| bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_ring_is_made_once_and_for_root_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SECRET_KEYS_FILE);
        assert!(KeyRing::load(&path).unwrap().ids().is_empty());
        let made = KeyRing::load_or_create(&path, now()).unwrap();
        assert_eq!(made.ids().len(), 1);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        assert_eq!(KeyRing::load_or_create(&path, now()).unwrap(), made);
        assert!(!format!("{made:?} {:?}", made.to_vec()).contains(&made.to_vec()[0].key));
    }

    #[test]
    fn a_key_never_changes_under_its_id() {
        let key = new_secret_key(now());
        let mut ring = KeyRing::default();
        assert_eq!(ring.add([key.clone()]), Ok(1));
        assert_eq!(ring.add([key.clone()]), Ok(0));
        let other = SecretKey { id: key.id, ..new_secret_key(now()) };
        assert!(ring.add([new_secret_key(now()), other]).is_err());
        assert_eq!(ring.ids(), [key.id], "nothing is taken of what is refused");
        let short = SecretKey { key: "AAAA".into(), ..new_secret_key(now()) };
        assert!(ring.add([short]).is_err());
        assert!(KeyRing::parse(br#"{"version": 2, "keys": []}"#).is_err());
    }
}
