//! Signing keys and the keys a host trusts.
//!
//! Why PKCS#8 PEM: openssl makes, reads and stores the same files, so a bank can keep the
//! private key in its own procedures. Invariants: a private key file is created with mode
//! 0600 and never overwritten; a key's identity is the SHA-256 of its 32 public bytes.

use std::path::{Path, PathBuf};

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

use crate::sys::bundle_file;

/// Bytes of a signature.
pub(super) const SIGNATURE_BYTES: usize = 64;

/// A key that cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("cannot {action} key {path}")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} is not an ed25519 {kind} key in PEM: {reason}")]
    Format { path: PathBuf, kind: &'static str, reason: String },
    #[error("the system gives no randomness: {reason}")]
    Randomness { reason: String },
    #[error("cannot encode the key: {reason}")]
    Encode { reason: String },
}

/// A private key that signs bundles.
#[derive(Debug)]
pub struct KeyPair {
    signing: SigningKey,
}

impl KeyPair {
    /// A new key from the system's randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)
            .map_err(|error| KeyError::Randomness { reason: error.to_string() })?;
        Ok(Self::from_seed(seed))
    }

    /// The key of a fixed seed, for tests and for keys derived elsewhere.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self { signing: SigningKey::from_bytes(&seed) }
    }

    /// Reads a PKCS#8 PEM file.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let text = read_pem(path)?;
        let signing = SigningKey::from_pkcs8_pem(&text).map_err(|error| KeyError::Format {
            path: path.into(),
            kind: "private",
            reason: error.to_string(),
        })?;
        Ok(Self { signing })
    }

    /// Writes the private key to `path` (0600) and the public one to `PATH.pub`, neither
    /// of which may exist. Returns the public key's path.
    pub fn save(&self, path: &Path) -> Result<PathBuf, KeyError> {
        let encode = |error: &dyn std::fmt::Display| KeyError::Encode { reason: error.to_string() };
        let private = self.signing.to_pkcs8_pem(LineEnding::LF).map_err(|e| encode(&e))?;
        let public = self.public_pem()?;
        let public_path = PathBuf::from(format!("{}.pub", path.display()));
        let io = |path: &Path| {
            let path = path.to_path_buf();
            move |source| KeyError::Io { action: "create", path, source }
        };
        if public_path.exists() {
            return Err(io(&public_path)(std::io::ErrorKind::AlreadyExists.into()));
        }
        bundle_file::create_new(path, 0o600, private.as_bytes()).map_err(io(path))?;
        bundle_file::create_new(&public_path, 0o644, public.as_bytes())
            .map_err(io(&public_path))?;
        Ok(public_path)
    }

    /// The public key in SPKI PEM.
    pub fn public_pem(&self) -> Result<String, KeyError> {
        let key = self.signing.verifying_key();
        key.to_public_key_pem(LineEnding::LF)
            .map_err(|error| KeyError::Encode { reason: error.to_string() })
    }

    /// Identity of the public key.
    pub fn id(&self) -> String {
        key_id(&self.signing.verifying_key())
    }

    pub(super) fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.signing.sign(message).to_bytes()
    }
}

/// The public keys whose bundles a host accepts.
#[derive(Clone, Debug, Default)]
pub struct TrustedKeys {
    keys: Vec<(String, VerifyingKey)>,
}

impl TrustedKeys {
    /// Reads public keys; a file may hold several.
    pub fn load<P: AsRef<Path>>(paths: &[P]) -> Result<Self, KeyError> {
        let mut trusted = Self::default();
        for path in paths {
            let path = path.as_ref();
            let text = read_pem(path)?;
            trusted.add_pem(&text).map_err(|reason| KeyError::Format {
                path: path.into(),
                kind: "public",
                reason,
            })?;
        }
        Ok(trusted)
    }

    /// Adds every public key of a PEM text.
    pub fn add_pem(&mut self, text: &str) -> Result<(), String> {
        const END: &str = "-----END PUBLIC KEY-----";
        let mut found = false;
        for block in text.split_inclusive(END).filter(|block| block.contains(END)) {
            let start = block.find("-----BEGIN").ok_or("a key has an end but no begin")?;
            let key = VerifyingKey::from_public_key_pem(block[start..].trim())
                .map_err(|error| error.to_string())?;
            self.keys.push((key_id(&key), key));
            found = true;
        }
        if found { Ok(()) } else { Err("there is no PUBLIC KEY block".into()) }
    }

    /// All keys in SPKI PEM, in the order in which they were added.
    pub fn public_pem(&self) -> Result<String, KeyError> {
        let encode = |(_, key): &(String, VerifyingKey)| {
            key.to_public_key_pem(LineEnding::LF)
                .map_err(|error| KeyError::Encode { reason: error.to_string() })
        };
        self.keys.iter().map(encode).collect()
    }

    /// Identities of the keys.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|(id, _)| id.as_str())
    }

    /// The identity of the trusted key that made this signature.
    pub(super) fn signer(&self, message: &[u8], signature: &[u8; 64]) -> Option<&str> {
        let signature = Signature::from_bytes(signature);
        let signed =
            self.keys.iter().find(|(_, key)| key.verify_strict(message, &signature).is_ok());
        signed.map(|(id, _)| id.as_str())
    }
}

fn key_id(key: &VerifyingKey) -> String {
    hex::encode(&Sha256::digest(key.as_bytes())[..8])
}

fn read_pem(path: &Path) -> Result<String, KeyError> {
    let io = |source| KeyError::Io { action: "read", path: path.into(), source };
    let file = bundle_file::SharedFile::open(path).map_err(io)?;
    let mut text = String::new();
    // A key file is under a kilobyte; the bound keeps a wrong path from filling memory.
    let mut section = file.section(0, file.size().min(64 * 1024));
    std::io::Read::read_to_string(&mut section, &mut text).map_err(io)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_key_reads_back_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        let key = KeyPair::generate().unwrap();
        let public = key.save(&path).unwrap();
        assert_eq!(KeyPair::load(&path).unwrap().id(), key.id());
        let trusted = TrustedKeys::load(&[&public]).unwrap();
        assert_eq!(trusted.ids().collect::<Vec<_>>(), [key.id()]);
        let mode = crate::sys::bundle_tree::file_mode(&path);
        assert_eq!(mode, Some(0o600));
        assert!(matches!(key.save(&path), Err(KeyError::Io { action: "create", .. })));
    }

    #[test]
    fn only_the_signer_verifies() {
        let (a, b) = (KeyPair::from_seed([1; 32]), KeyPair::from_seed([2; 32]));
        let mut trusted = TrustedKeys::default();
        trusted
            .add_pem(&format!("{}{}", b.public_pem().unwrap(), a.public_pem().unwrap()))
            .unwrap();
        let signature = a.sign(b"m");
        assert_eq!(trusted.signer(b"m", &signature), Some(a.id().as_str()));
        assert_eq!(trusted.signer(b"n", &signature), None);
        let mut only_b = TrustedKeys::default();
        only_b.add_pem(&b.public_pem().unwrap()).unwrap();
        assert_eq!(only_b.signer(b"m", &signature), None);
    }
}
