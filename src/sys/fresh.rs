//! What is new at every call: identities, name suffixes, random bytes.
//!
//! Why apart: pure code takes these as arguments; this is where they come from.

use rand::RngExt;

/// Letters that cannot form words or be misread; Kubernetes' own set for suffixes.
const SUFFIX_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;

/// Random bytes from the kernel, good for secrets.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the kernel's random source exists since Linux 3.17");
    bytes
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
