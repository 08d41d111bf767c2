//! A node's own key pair and the request it has signed.
//!
//! The key is made on the node and never leaves it. Its fingerprint is what a token
//! binds to, so a killed join must find the same key again: [`NodeKey::load_or_create`].

use std::path::Path;

use rcgen::{CertificateParams, CertificateSigningRequestParams, KeyPair, PublicKeyData};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;

use crate::pki::error::{PkiError, crypto};
use crate::sys::files;
use crate::sys::tls_keys;

/// The node's key pair.
pub struct NodeKey {
    pair: KeyPair,
}

impl std::fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeKey").field("fingerprint", &self.fingerprint()).finish()
    }
}

pub(crate) fn fingerprint_of_pair(pair: &KeyPair) -> String {
    tls_keys::fingerprint(&pair.subject_public_key_info())
}

impl NodeKey {
    /// Reads the key file.
    pub fn load(path: &Path) -> Result<Self, PkiError> {
        let text = files::read_text(path)?;
        let pair = KeyPair::from_pem(&text).map_err(crypto("read the node's key"))?;
        Ok(Self { pair })
    }

    /// Reads the key file, or makes a key and writes it there with mode 0600.
    pub fn load_or_create(path: &Path) -> Result<Self, PkiError> {
        if files::inspect(path)?.is_some() {
            return Self::load(path);
        }
        let pair = KeyPair::generate().map_err(crypto("make the node's key"))?;
        files::write_atomic(path, pair.serialize_pem().as_bytes(), 0o600)?;
        Ok(Self { pair })
    }

    /// A PEM request that proves possession of the key; the authority sets the names.
    pub fn request(&self) -> Result<String, PkiError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .serialize_request(&self.pair)
            .and_then(|request| request.pem())
            .map_err(crypto("sign the certificate request"))
    }

    /// SHA-256 of the public key (SPKI DER), hexadecimal.
    pub fn fingerprint(&self) -> String {
        fingerprint_of_pair(&self.pair)
    }
}

/// The request in a PEM text, its signature checked. There is one reader of the text, and
/// everybody goes on with the same bytes: two that differ in what they take for the beginning
/// would read two requests, one of whose key nobody has proven.
pub(super) fn read_request(request_pem: &str) -> Result<CertificateSigningRequestParams, PkiError> {
    let der = CertificateSigningRequestDer::from_pem_slice(request_pem.as_bytes())
        .map_err(|error| PkiError::Request { reason: error.to_string() })?;
    CertificateSigningRequestParams::from_der(&der)
        .map_err(|error| PkiError::Request { reason: error.to_string() })
}

/// The same fingerprint, of the key inside a PEM request whose signature is checked.
pub fn key_fingerprint(request_pem: &str) -> Result<String, PkiError> {
    let request = read_request(request_pem)?;
    Ok(tls_keys::fingerprint(&request.public_key.subject_public_key_info()))
}
