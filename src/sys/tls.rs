//! TLS for every port and every call: one certificate per node, one authority per cluster.
//!
//! Server and client sides read the certificate through a shared slot, so that a renewed
//! one is used by the next handshake without a restart. A client certificate is asked
//! for and verified where given; who may do what without one is decided above.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} holds no usable PEM: {reason}")]
    Pem { path: PathBuf, reason: String },
    #[error("cannot use the certificate in {path}")]
    Certificate {
        path: PathBuf,
        #[source]
        source: rustls::Error,
    },
    #[error("cannot set up TLS: {reason}")]
    Setup { reason: String },
}

/// Where a node's certificate, its key and the cluster's authority lie (PEM).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub authority: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// The node's identity in memory, reloadable; clones share it.
#[derive(Clone, Debug)]
pub struct TlsIdentity {
    files: TlsFiles,
    roots: Arc<RootCertStore>,
    current: Arc<ArcSwap<CertifiedKey>>,
}

#[derive(Debug)]
struct Slot(Arc<ArcSwap<CertifiedKey>>);

impl ResolvesServerCert for Slot {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl ResolvesClientCert for Slot {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Makes ring the process's cryptography; repeating it is harmless.
pub fn install_crypto() {
    let _already_installed = rustls::crypto::ring::default_provider().install_default();
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn open(path: &Path) -> Result<BufReader<File>, TlsError> {
    let opened = File::open(path);
    opened.map(BufReader::new).map_err(|source| TlsError::Read { path: path.into(), source })
}

/// A certificate with its chain, and its key, from PEM that stands in no file.
pub(crate) fn certified_key(chain: &[u8], key: &[u8]) -> Result<CertifiedKey, TlsError> {
    let bad = |part: &str, reason: String| TlsError::Pem { path: part.into(), reason };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .map_err(|error| bad("tls.crt", error.to_string()))?;
    let key =
        PrivateKeyDer::from_pem_slice(key).map_err(|error| bad("tls.key", error.to_string()))?;
    CertifiedKey::from_der(chain, key, &provider())
        .map_err(|source| TlsError::Certificate { path: "tls.crt".into(), source })
}

/// For listeners whose certificate depends on the name that a client asks for.
pub(crate) fn server_by_name(
    resolver: Arc<dyn ResolvesServerCert>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Setup { reason: error.to_string() })?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// All certificates of a PEM file, in order.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bad = |reason: String| TlsError::Pem { path: path.into(), reason };
    let list: Vec<_> = CertificateDer::pem_reader_iter(open(path)?)
        .collect::<Result<_, _>>()
        .map_err(|error| bad(error.to_string()))?;
    if list.is_empty() {
        return Err(bad("no certificate in it".into()));
    }
    Ok(list)
}

fn load(files: &TlsFiles) -> Result<CertifiedKey, TlsError> {
    let chain = read_certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_reader(open(&files.key)?)
        .map_err(|error| TlsError::Pem { path: files.key.clone(), reason: error.to_string() })?;
    CertifiedKey::from_der(chain, key, &provider())
        .map_err(|source| TlsError::Certificate { path: files.certificate.clone(), source })
}

impl TlsIdentity {
    /// Reads all three files and checks that key and certificate belong together.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in read_certificates(&files.authority)? {
            roots.add(certificate).map_err(|source| TlsError::Certificate {
                path: files.authority.clone(),
                source,
            })?;
        }
        let current = Arc::new(ArcSwap::from_pointee(load(&files)?));
        Ok(Self { files, roots: Arc::new(roots), current })
    }

    /// Takes a renewed certificate into use for all handshakes from now on.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.current.store(Arc::new(load(&self.files)?));
        Ok(())
    }

    /// For listeners: HTTP/2 and HTTP/1.1, client certificates verified where given.
    pub fn server(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let setup = |reason: String| TlsError::Setup { reason };
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots.clone(), provider())
            .allow_unauthenticated()
            .build()
            .map_err(|error| setup(error.to_string()))?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| setup(error.to_string()))?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(Slot(self.current.clone())));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// For calls to other nodes: trusts the cluster's authority only, shows our certificate.
    pub fn client(&self) -> Result<ClientConfig, TlsError> {
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Setup { reason: error.to_string() })?
            .with_root_certificates(self.roots.clone())
            .with_client_cert_resolver(Arc::new(Slot(self.current.clone())));
        Ok(config)
    }
}
