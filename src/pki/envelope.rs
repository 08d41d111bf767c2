//! Values that are encrypted before they reach the store: the bytes of an envelope.
//!
//! ```text
//!  0  "HFS"  3 version 1 │ 4 id of the key, 8 bytes │ 12 nonce, 12 │ 24 data key, 32 + 16
//! 72  nonce, 12          │ 84 the value, n + 16
//! ```
//! Why two layers: a key of the ring encrypts nothing but data keys of 32 random bytes, each
//! of which encrypts one value once. So a ring's key sees few and short texts, and a value's
//! length or number does not wear it out. Both layers are AES-256-GCM (ring), with random
//! nonces; the tag is the last 16 bytes of each.
//!
//! Invariants: both layers have the first 12 bytes and the value's address as associated
//! data, so a value opens under its own name only; a data key is never used twice.
//! Not here: which key is used (`key_ring`, `secret_keys`), what is encrypted (`objects`).

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::model::secret_keys::KeyId;
use crate::sys::fresh;

const MAGIC: [u8; 4] = *b"HFS\x01";
pub(super) const KEY_BYTES: usize = 32;
const TAG_BYTES: usize = 16;
const ID_AT: usize = MAGIC.len();
const HEAD_BYTES: usize = ID_AT + KeyId::BYTES;
const WRAPPED_BYTES: usize = NONCE_LEN + KEY_BYTES + TAG_BYTES;
/// What an envelope is longer than its value, bytes.
pub const OVERHEAD_BYTES: usize = HEAD_BYTES + WRAPPED_BYTES + NONCE_LEN + TAG_BYTES;

/// Why an envelope does not open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("it is encrypted with key {id}, which this node does not have")]
    UnknownKey { id: KeyId },
    #[error("it was changed, cut short or moved from another name")]
    Damaged,
}

/// Whether these bytes are an envelope.
pub fn is_sealed(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// The key that an envelope names; `None` for other bytes.
pub fn key_of(bytes: &[u8]) -> Option<KeyId> {
    let id = bytes.strip_prefix(&MAGIC)?.get(..KeyId::BYTES)?;
    id.try_into().ok().map(KeyId::new)
}

fn cipher(key: &[u8; KEY_BYTES]) -> LessSafeKey {
    let key = UnboundKey::new(&AES_256_GCM, key).expect("the key has the cipher's length");
    LessSafeKey::new(key)
}

/// nonce ‖ text ‖ tag.
fn encrypt(key: &[u8; KEY_BYTES], bound_to: &[u8], plain: &[u8], into: &mut Vec<u8>) {
    let nonce: [u8; NONCE_LEN] = fresh::random_bytes();
    let mut text = plain.to_vec();
    cipher(key)
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(bound_to),
            &mut text,
        )
        .expect("values are shorter than the cipher's bound of 64 GiB");
    into.extend_from_slice(&nonce);
    into.append(&mut text);
}

fn decrypt(key: &[u8; KEY_BYTES], bound_to: &[u8], sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
    let (nonce, text) = sealed.split_at_checked(NONCE_LEN).ok_or(OpenError::Damaged)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| OpenError::Damaged)?;
    let mut text = text.to_vec();
    let length = cipher(key)
        .open_in_place(nonce, Aad::from(bound_to), &mut text)
        .map_err(|_| OpenError::Damaged)?
        .len();
    text.truncate(length);
    Ok(text)
}

/// Encrypts a value that will stand at `address`.
pub(super) fn seal(id: KeyId, key: &[u8; KEY_BYTES], address: &[u8], plain: &[u8]) -> Vec<u8> {
    let data_key: [u8; KEY_BYTES] = fresh::random_bytes();
    let mut envelope = Vec::with_capacity(plain.len() + OVERHEAD_BYTES);
    envelope.extend_from_slice(&MAGIC);
    envelope.extend_from_slice(id.as_bytes());
    let bound_to = [&envelope[..], address].concat();
    encrypt(key, &bound_to, &data_key, &mut envelope);
    encrypt(&data_key, &bound_to, plain, &mut envelope);
    envelope
}

/// Decrypts what stands at `address`.
pub(super) fn open(
    key: &[u8; KEY_BYTES],
    address: &[u8],
    envelope: &[u8],
) -> Result<Vec<u8>, OpenError> {
    let (head, rest) = envelope.split_at_checked(HEAD_BYTES).ok_or(OpenError::Damaged)?;
    let (wrapped, value) = rest.split_at_checked(WRAPPED_BYTES).ok_or(OpenError::Damaged)?;
    let bound_to = [head, address].concat();
    let data_key = decrypt(key, &bound_to, wrapped)?;
    let data_key: [u8; KEY_BYTES] = data_key.try_into().map_err(|_| OpenError::Damaged)?;
    decrypt(&data_key, &bound_to, value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: [u8; KEY_BYTES] = [7; KEY_BYTES];

    fn id() -> KeyId {
        KeyId::new([1, 2, 3, 4, 5, 6, 7, 8])
    }

    #[test]
    fn the_bytes_are_as_drawn() {
        let envelope = seal(id(), &KEY, b"/a", b"value");
        assert_eq!(&envelope[..4], b"HFS\x01");
        assert_eq!(key_of(&envelope), Some(id()));
        assert_eq!(envelope.len(), 5 + OVERHEAD_BYTES);
        assert_eq!(OVERHEAD_BYTES, 100);
        assert!(is_sealed(&envelope) && !is_sealed(b"{}"));
        assert_eq!(key_of(b"HFS\x01short"), None);
        assert_ne!(envelope, seal(id(), &KEY, b"/a", b"value"), "nonces and data keys are new");
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens_under_its_own_name_and_key_only(
            plain in proptest::collection::vec(any::<u8>(), 0..300),
            address in "[a-z/]{1,40}",
            other in "[a-z/]{1,40}",
        ) {
            let envelope = seal(id(), &KEY, address.as_bytes(), &plain);
            prop_assert_eq!(open(&KEY, address.as_bytes(), &envelope).unwrap(), plain);
            prop_assert!(open(&[8; KEY_BYTES], address.as_bytes(), &envelope).is_err());
            if other != address {
                prop_assert!(open(&KEY, other.as_bytes(), &envelope).is_err());
            }
        }

        #[test]
        fn a_changed_bit_or_a_missing_end_is_noticed(
            plain in proptest::collection::vec(any::<u8>(), 0..60),
            at in any::<proptest::sample::Index>(),
            bit in 0u8..8,
        ) {
            let envelope = seal(id(), &KEY, b"/a", &plain);
            let at = at.index(envelope.len());
            let mut changed = envelope.clone();
            changed[at] ^= 1 << bit;
            prop_assert!(open(&KEY, b"/a", &changed).is_err());
            prop_assert!(open(&KEY, b"/a", &envelope[..at]).is_err());
        }
    }
}
