//! Versioned records: one leading byte says how the rest is encoded.
//!
//! Version 3 is postcard. Versions 1 and 2 were postcard too; 1 had fewer fields in the
//! requests, 2 kept every key's newest record in the history as well. A reader that meets
//! another version refuses it, because a misread record is worse than a member that does
//! not start.

use serde::{Deserialize, Serialize};

/// The version this program writes.
pub(crate) const RECORD_VERSION: u8 = 3;

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    #[error("the record is empty")]
    Empty,
    #[error("the record has version {found}; this program reads version {RECORD_VERSION}")]
    Version { found: u8 },
    #[error("the record is damaged")]
    Damaged(#[source] postcard::Error),
}

impl From<CodecError> for std::io::Error {
    fn from(error: CodecError) -> Self {
        std::io::Error::new(std::io::ErrorKind::InvalidData, error)
    }
}

/// Encodes a record in the newest version.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    encode_into(value, Vec::new())
}

/// Encodes a record in the newest version behind what `out` holds.
pub(crate) fn encode_into<T: Serialize>(value: &T, mut out: Vec<u8>) -> Vec<u8> {
    out.push(RECORD_VERSION);
    postcard::to_extend(value, out)
        .expect("a vector grows and the store's types have no unserializable part")
}

/// How long `value` is when it is encoded, bytes.
pub(crate) fn encoded_len<T: Serialize>(value: &T) -> usize {
    1 + postcard::experimental::serialized_size(value)
        .expect("the store's types have no unserializable part")
}

/// Decodes a record of any version known; what stands behind the value is not looked at.
pub(crate) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, CodecError> {
    let (version, body) = bytes.split_first().ok_or(CodecError::Empty)?;
    if *version != RECORD_VERSION {
        return Err(CodecError::Version { found: *version });
    }
    postcard::from_bytes(body).map_err(CodecError::Damaged)
}

#[cfg(test)]
mod tests {
    use super::{CodecError, decode, encode};

    #[test]
    fn an_unknown_version_is_refused() {
        let mut record = encode(&7_u64);
        assert_eq!(decode::<u64>(&record).unwrap(), 7);
        record[0] = 9;
        assert!(matches!(decode::<u64>(&record), Err(CodecError::Version { found: 9 })));
        assert!(matches!(decode::<u64>(&[]), Err(CodecError::Empty)));
    }
}
