//! What is new at every call: the time of day, identities, name suffixes.
//!
//! Why apart: pure code takes these as arguments; this is where they come from.

use jiff::Timestamp;
use rand::RngExt;

/// Letters that cannot form words or be misread; Kubernetes' own set for suffixes.
const SUFFIX_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;

/// The time of day.
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// A random (version 4) UUID.
pub fn uid() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// What `generateName` appends.
pub fn name_suffix() -> String {
    let mut random = rand::rng();
    let letter = |_| char::from(SUFFIX_ALPHABET[random.random_range(0..SUFFIX_ALPHABET.len())]);
    (0..SUFFIX_LENGTH).map(letter).collect()
}

/// A number below `bound`, for spreading choices; 0 if `bound` is 0.
pub fn below(bound: usize) -> usize {
    if bound == 0 { 0 } else { rand::rng().random_range(0..bound) }
}
