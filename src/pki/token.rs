//! The text form of a join token: `hf1.<id>.<secret>.<fingerprint of the authority>`.
//!
//! Why the fingerprint is inside: the joining host can then prove the server before it
//! says the secret. The secret has 160 bits; the store keeps only its hash.
//! Not here: whether a token is still good (`install/tokens`).

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::sys::fresh;

const VERSION: &str = "hf1";

/// Why a text is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("this is not a join token; one looks like hf1.<id>.<secret>.<fingerprint>")]
    Form,
    #[error("the token has version {found}, this program knows {VERSION}")]
    Version { found: String },
}

/// A join token as the operator carries it. `Debug` hides the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    pub id: String,
    secret: String,
    /// SHA-256 of the authority's certificate (DER), hexadecimal.
    pub authority: String,
}

impl JoinToken {
    /// A new random token for the authority with this fingerprint.
    pub fn generate(authority: &str) -> Self {
        Self {
            id: hex::encode(fresh::random_bytes::<6>()),
            secret: hex::encode(fresh::random_bytes::<20>()),
            authority: authority.to_owned(),
        }
    }

    /// `<id>.<secret>`: what is sent to the server once it has been proven.
    pub fn credential(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }

    /// What the store keeps.
    pub fn secret_hash(&self) -> String {
        hash_secret(&self.secret)
    }

    /// Splits a credential into id and the secret's hash.
    pub fn split_credential(credential: &str) -> Result<(String, String), TokenError> {
        let (id, secret) = credential.split_once('.').ok_or(TokenError::Form)?;
        if !is_hex(id, 12) || !is_hex(secret, 40) {
            return Err(TokenError::Form);
        }
        Ok((id.to_owned(), hash_secret(secret)))
    }
}

fn hash_secret(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION}.{}.{}.{}", self.id, self.secret, self.authority)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").field("id", &self.id).finish_non_exhaustive()
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let parts: Vec<&str> = text.trim().split('.').collect();
        let [version, id, secret, authority] = parts[..] else { return Err(TokenError::Form) };
        if version != VERSION {
            return Err(if version.starts_with("hf") {
                TokenError::Version { found: version.to_owned() }
            } else {
                TokenError::Form
            });
        }
        if !is_hex(id, 12) || !is_hex(secret, 40) || !is_hex(authority, 64) {
            return Err(TokenError::Form);
        }
        Ok(Self { id: id.into(), secret: secret.into(), authority: authority.into() })
    }
}
