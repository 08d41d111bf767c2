//! Certificates and keys from PEM into TLS configurations.
//!
//! The joining side knows only the hash of the cluster's authority (from its token), so
//! [`pinned_client`] accepts exactly the chain whose last certificate has that hash and
//! that really signed the server's; [`client`] trusts a known authority the usual way.
//! Invariant: no configuration made here skips verification.

use std::sync::{Arc, Mutex};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};

/// Why key material is not usable.
#[derive(Debug, thiserror::Error)]
pub enum TlsKeyError {
    #[error("no certificate can be read from the PEM text: {reason}")]
    Certificate { reason: String },
    #[error("no private key can be read from the PEM text: {reason}")]
    Key { reason: String },
    #[error("the TLS library does not accept the keys")]
    Config(#[from] rustls::Error),
}

/// The cryptography every connection uses.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// All certificates of a PEM text, in order.
pub fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsKeyError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match found {
        Ok(list) if !list.is_empty() => Ok(list),
        Ok(_) => Err(TlsKeyError::Certificate { reason: "there is none".into() }),
        Err(error) => Err(TlsKeyError::Certificate { reason: format!("{error:?}") }),
    }
}

/// The first private key of a PEM text.
pub fn private_key(pem: &str) -> Result<PrivateKeyDer<'static>, TlsKeyError> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| TlsKeyError::Key { reason: format!("{error:?}") })
}

/// SHA-256 of a certificate's DER form, the form in which tokens pin an authority.
pub fn fingerprint(der: &[u8]) -> String {
    hex::encode(Sha256::digest(der))
}

/// A client that trusts one authority and shows `(certificate, key)` PEM when asked.
pub fn client(ca_pem: &str, own: Option<(&str, &str)>) -> Result<ClientConfig, TlsKeyError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca_pem)? {
        roots.add(certificate)?;
    }
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    Ok(match own {
        Some((cert, key)) => {
            builder.with_client_auth_cert(certificates(cert)?, private_key(key)?)?
        }
        None => builder.with_no_client_auth(),
    })
}

/// A client that knows only the authority's fingerprint. The verifier keeps the
/// authority that it saw, so that the caller can go on with the whole certificate.
pub fn pinned_client(pin: &str) -> Result<(ClientConfig, Arc<PinnedAuthority>), TlsKeyError> {
    let verifier = Arc::new(PinnedAuthority {
        pin: pin.to_owned(),
        provider: provider(),
        seen: Mutex::new(None),
    });
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&verifier) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    Ok((config, verifier))
}

/// What [`PinnedAuthority`] saw that it did not expect.
pub const FOREIGN_AUTHORITY: &str = "the server's authority is not the one the token names";

/// Accepts a chain that ends in the pinned authority. The server must send the
/// authority's certificate, for the client does not have it yet.
#[derive(Debug)]
pub struct PinnedAuthority {
    pin: String,
    provider: Arc<CryptoProvider>,
    seen: Mutex<Option<CertificateDer<'static>>>,
}

impl PinnedAuthority {
    /// DER of the authority, after a handshake succeeded.
    pub fn authority(&self) -> Option<CertificateDer<'static>> {
        self.seen.lock().expect("no holder of the lock panics").clone()
    }
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let authority = intermediates
            .iter()
            .find(|certificate| fingerprint(certificate) == self.pin)
            .ok_or_else(|| rustls::Error::General(FOREIGN_AUTHORITY.to_owned()))?
            .clone()
            .into_owned();
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone())?;
        let usual = WebPkiServerVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::clone(&self.provider),
        )
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
        let verified =
            usual.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        *self.seen.lock().expect("no holder of the lock panics") = Some(authority);
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
