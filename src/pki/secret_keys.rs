//! The keys of secrets as the running program uses them: the ring, and which key is next.
//!
//! One is shared by all parts of a control node and is replaced whole, so that nobody ever
//! sees a key named that is not there.

use arc_swap::ArcSwap;

use super::envelope::{self, OpenError};
use super::key_ring::KeyRing;
use crate::model::secret_keys::KeyId;

#[derive(Debug, Default)]
struct InUse {
    ring: KeyRing,
    active: Option<KeyId>,
}

/// Encrypts and decrypts values.
#[derive(Debug, Default)]
pub struct SecretKeys {
    in_use: ArcSwap<InUse>,
}

impl SecretKeys {
    /// With the keys of this node; nothing is encrypted until [`SecretKeys::set`] names one.
    pub fn new(ring: KeyRing) -> Self {
        Self { in_use: ArcSwap::from_pointee(InUse { ring, active: None }) }
    }

    /// Goes by these from now on; a key that the ring does not hold is not used.
    pub fn set(&self, ring: KeyRing, active: Option<KeyId>) {
        let active = active.filter(|id| ring.contains(*id));
        self.in_use.store(std::sync::Arc::new(InUse { ring, active }));
    }

    /// Encrypts with this key of the ring from now on, whatever the ring gains meanwhile.
    pub fn set_active(&self, active: Option<KeyId>) {
        self.in_use.rcu(|now| {
            let active = active.filter(|id| now.ring.contains(*id));
            InUse { ring: now.ring.clone(), active }
        });
    }

    pub fn ring(&self) -> KeyRing {
        self.in_use.load().ring.clone()
    }

    /// The key that new values are encrypted with.
    pub fn active(&self) -> Option<KeyId> {
        self.in_use.load().active
    }

    /// An envelope for what will stand at `address`; `None` while no key is named.
    pub fn seal(&self, address: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
        let in_use = self.in_use.load();
        let id = in_use.active?;
        let key = in_use.ring.bytes_of(id)?;
        Some(envelope::seal(id, key, address, plain))
    }

    /// What an envelope at `address` holds.
    pub fn open(&self, address: &[u8], sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        let id = envelope::key_of(sealed).ok_or(OpenError::Damaged)?;
        let in_use = self.in_use.load();
        let key = in_use.ring.bytes_of(id).ok_or(OpenError::UnknownKey { id })?;
        envelope::open(key, address, sealed)
    }
}
