//! A node's own key pair and the request it has signed.
//!
//! The key is made on the node and never leaves it. Its fingerprint is what a token
//! binds to, so a killed join must find the same key again: [`NodeKey::load_or_create`].

use std::path::Path;

use rcgen::{CertificateParams, KeyPair, PublicKeyData};
use x509_parser::prelude::FromDer;

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
    /// Reads the key file, or makes a key and writes it there with mode 0600.
    pub fn load_or_create(path: &Path) -> Result<Self, PkiError> {
        if let Some(pem) = files::read_if_present(path)? {
            let text = String::from_utf8_lossy(&pem);
            let pair = KeyPair::from_pem(&text).map_err(crypto("read the node's key"))?;
            return Ok(Self { pair });
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

/// The same fingerprint, of the key inside a PEM request whose signature is checked.
pub fn key_fingerprint(request_pem: &str) -> Result<String, PkiError> {
    let refused = |reason: String| PkiError::Request { reason };
    let (_, pem) = x509_parser::pem::parse_x509_pem(request_pem.as_bytes())
        .map_err(|error| refused(error.to_string()))?;
    let (_, request) =
        x509_parser::certification_request::X509CertificationRequest::from_der(&pem.contents)
            .map_err(|error| refused(error.to_string()))?;
    // The signature itself is checked by rcgen's reader, which needs no second library
    // of cryptography.
    rcgen::CertificateSigningRequestParams::from_pem(request_pem)
        .map_err(|error| refused(error.to_string()))?;
    Ok(tls_keys::fingerprint(request.certification_request_info.subject_pki.raw))
}
