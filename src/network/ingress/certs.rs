//! The certificates of hosts, from Secrets, chosen by the name that a client asks for.
//!
//! Why asked again and again: nodes may not watch Secrets, only get those that concern
//! them. Invariant: a certificate that cannot be read leaves the one before in use; a host
//! without one gets no handshake, as there is nothing true to show.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde_json::Value;

use crate::base::chain::chain;
use crate::client::api::{ResourceRef, SharedApi};
use crate::logic::ingress::host_candidates;
use crate::sys::tls::{TlsError, certified_key, server_by_name};

const SECRETS: ResourceRef = ResourceRef::of::<Secret>(true);

/// `host, namespace, secret`.
pub(super) type Wanted = BTreeSet<(String, String, String)>;

type ByHost = BTreeMap<String, Arc<CertifiedKey>>;

/// The certificates in use.
#[derive(Debug, Default)]
pub(super) struct Certificates {
    by_host: ArcSwap<ByHost>,
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let held = self.by_host.load();
        let name = hello.server_name().unwrap_or_default();
        let any = std::iter::once(String::new());
        host_candidates(name).chain(any).find_map(|name| held.get(&name).cloned())
    }
}

/// Why a Secret gives no certificate.
#[derive(Debug, thiserror::Error)]
enum CertificateError {
    #[error("cannot read the secret")]
    Read(#[from] crate::client::api::ApiError),
    #[error("its {field} is missing or no base64")]
    Field { field: &'static str },
    #[error("cannot use it")]
    Use(#[from] TlsError),
}

impl Certificates {
    /// For handshakes by these certificates.
    pub(super) fn server(self: &Arc<Self>) -> Result<Arc<ServerConfig>, TlsError> {
        server_by_name(self.clone())
    }

    /// Reads what is wanted; what cannot be read stays as it was.
    pub(super) async fn refresh(&self, api: &SharedApi, wanted: &Wanted) {
        let before = self.by_host.load_full();
        let mut read: BTreeMap<(&str, &str), Option<Arc<CertifiedKey>>> = BTreeMap::new();
        let mut next = ByHost::new();
        for (host, namespace, name) in wanted {
            let known = read.get(&(namespace.as_str(), name.as_str())).cloned();
            let key = match known {
                Some(known) => known,
                None => {
                    let found = fetch(api, namespace, name).await;
                    if let Err(error) = &found {
                        let error = chain(error);
                        tracing::warn!(namespace, secret = name, error, "no certificate");
                    }
                    let found = found.ok();
                    read.insert((namespace, name), found.clone());
                    found
                }
            };
            if let Some(key) = key.or_else(|| before.get(host).cloned()) {
                next.entry(host.clone()).or_insert(key);
            }
        }
        self.by_host.store(Arc::new(next));
    }
}

async fn fetch(
    api: &SharedApi,
    namespace: &str,
    name: &str,
) -> Result<Arc<CertifiedKey>, CertificateError> {
    let secret = api.get(&SECRETS, Some(namespace), name).await?;
    let certificate = pem(&secret, "/data/tls.crt", "tls.crt")?;
    let key = pem(&secret, "/data/tls.key", "tls.key")?;
    Ok(Arc::new(certified_key(&certificate, &key)?))
}

fn pem(secret: &Value, place: &str, field: &'static str) -> Result<Vec<u8>, CertificateError> {
    let text = secret.pointer(place).and_then(Value::as_str);
    let bytes = text.and_then(|text| STANDARD.decode(text).ok());
    bytes.ok_or(CertificateError::Field { field })
}
