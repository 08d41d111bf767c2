//! Statements that the cluster's authority signs: records that must outlive connections.
//!
//! Why by the authority: every control node holds its key already, and every node its
//! certificate, so no further key must survive what the record is for.
//! Invariant: a statement is signed together with its purpose, so that a signature for one
//! purpose is never taken for another's.

use rcgen::SigningKey;
use rustls_pki_types::alg_id;

use crate::pki::authority::Authority;
use crate::pki::error::{PkiError, crypto};
use crate::sys::tls_keys;

fn message(purpose: &str, statement: &str) -> Vec<u8> {
    format!("holdfast/{purpose}\n{statement}").into_bytes()
}

impl Authority {
    /// Signs a statement for a purpose; hexadecimal.
    pub fn sign(&self, purpose: &str, statement: &str) -> Result<String, PkiError> {
        let signature = self.signing_key().sign(&message(purpose, statement));
        signature.map(hex::encode).map_err(crypto("sign a statement"))
    }
}

/// Whether the authority with this certificate (PEM) signed the statement for the purpose.
pub fn is_signed(authority: &str, purpose: &str, statement: &str, signature: &str) -> bool {
    let Ok(signature) = hex::decode(signature) else { return false };
    let Ok(ders) = tls_keys::certificates(authority) else { return false };
    let Some(der) = ders.first() else { return false };
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(der) else { return false };
    let key = &certificate.public_key().subject_public_key.data;
    let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
    algorithms.all.iter().any(|algorithm| {
        algorithm.signature_alg_id() == alg_id::ECDSA_SHA256
            && algorithm.public_key_alg_id() == alg_id::ECDSA_P256
            && algorithm.verify_signature(key, &message(purpose, statement), &signature).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_signed_only_as_it_is_for_its_purpose_and_by_its_authority() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let ours = Authority::create("lab", now).unwrap();
        let other = Authority::create("lab", now).unwrap();
        let signature = ours.sign("generation", "2").unwrap();
        let certificate = ours.certificate_pem();
        assert!(is_signed(certificate, "generation", "2", &signature));
        assert!(!is_signed(certificate, "generation", "3", &signature));
        assert!(!is_signed(certificate, "survivor", "2", &signature));
        assert!(!is_signed(other.certificate_pem(), "generation", "2", &signature));
        assert!(!is_signed(certificate, "generation", "2", "00"));
        assert!(!is_signed("", "generation", "2", &signature));
    }
}
