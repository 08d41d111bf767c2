//! The certificate authority: creates itself, signs nodes, issues the administrator.
//!
//! Invariants: a node certificate carries only names that the server chose, whatever
//! the request asked for; the authority's key is written 0600 before its certificate,
//! so a certificate on disk always has its key.
//! Not here: when a certificate is renewed, which requests are admitted (`install`).

use std::net::IpAddr;
use std::path::Path;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use time::OffsetDateTime;

use crate::base::chain::chain;
use crate::model::node_config::{NodeConfig, Role};
use crate::pki::error::{PkiError, crypto};
use crate::pki::node_key::read_request;
use crate::sys::files;
use crate::sys::fresh;
use crate::sys::tls_keys;

/// Common name of the administrator's certificate.
pub const ADMIN_NAME: &str = "admin";
/// Organization that Kubernetes' rules treat as all-powerful.
pub const ADMIN_GROUP: &str = "system:masters";
/// Organization of clients that may use the store through etcd's protocol.
pub const ETCD_GROUP: &str = "holdfast:etcd-clients";
/// Organization of nodes.
pub const NODE_GROUP: &str = "system:nodes";
/// Organizational unit of the control nodes' certificates: they alone speak for the store.
pub const CONTROL_UNIT: &str = "holdfast:control";

const AUTHORITY_DAYS: i64 = 3_650;
const NODE_DAYS: i64 = 365;
const ADMIN_DAYS: i64 = 365;
const CLIENT_DAYS: i64 = 365;
/// Certificates start a little in the past, so that clocks may differ by this much.
const CLOCK_SLACK: time::Duration = time::Duration::minutes(5);

/// Refuses names that are no safe file name, or that the cluster itself uses.
pub fn check_client_name(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.chars().all(plain) {
        return Err(format!(
            "{name:?} is no name for a client: letters, digits, '-', '_' and '.', at most 64"
        ));
    }
    if name == ADMIN_NAME || name == "ca" {
        return Err(format!("the name {name:?} is taken by the cluster itself"));
    }
    Ok(())
}

/// The names a node's certificate is valid for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeNames {
    pub node_name: String,
    pub address: IpAddr,
    /// Virtual address of Service `kubernetes`.
    pub api_address: IpAddr,
    pub cluster_domain: String,
    /// Whether the node carries a member of the store.
    pub control: bool,
}

impl NodeNames {
    /// Those of the node whose configuration this is.
    pub fn of(config: &NodeConfig) -> Self {
        Self {
            node_name: config.node_name.clone(),
            address: config.address,
            api_address: config.network.api_address(),
            cluster_domain: config.network.cluster_domain.clone(),
            control: config.has_role(Role::Control),
        }
    }

    fn alternative_names(&self) -> Result<Vec<SanType>, rcgen::Error> {
        let mut names = Vec::new();
        let domain = &self.cluster_domain;
        for name in [
            self.node_name.clone(),
            "localhost".into(),
            "kubernetes".into(),
            "kubernetes.default".into(),
            "kubernetes.default.svc".into(),
            format!("kubernetes.default.svc.{domain}"),
        ] {
            names.push(SanType::DnsName(name.try_into()?));
        }
        let loopbacks = ["127.0.0.1", "::1"].map(|ip| ip.parse().expect("a literal address"));
        for address in [self.address, loopbacks[0], loopbacks[1], self.api_address] {
            let san = SanType::IpAddress(address);
            if !names.contains(&san) {
                names.push(san);
            }
        }
        Ok(names)
    }
}

/// The cluster's authority with its key.
pub struct Authority {
    certificate: String,
    key: KeyPair,
    fingerprint: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

fn moment(now: Timestamp) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(now.as_second()).expect("a year before 9999")
}

fn params(common: &str, group: Option<&str>, now: Timestamp, days: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(group) = group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params.distinguished_name.push(DnType::CommonName, common);
    params.not_before = moment(now) - CLOCK_SLACK;
    params.not_after = moment(now) + time::Duration::days(days);
    let mut serial: [u8; 16] = fresh::random_bytes();
    // Positive and of full length, as RFC 5280 asks.
    serial[0] = (serial[0] & 0x7f) | 0x40;
    params.serial_number = Some(rcgen::SerialNumber::from_slice(&serial));
    params
}

impl Authority {
    /// Makes a new authority, valid for ten years.
    pub fn create(cluster_name: &str, now: Timestamp) -> Result<Self, PkiError> {
        let key = KeyPair::generate().map_err(crypto("make the authority's key"))?;
        let mut params = params(&format!("holdfast {cluster_name}"), None, now, AUTHORITY_DAYS);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate =
            params.self_signed(&key).map_err(crypto("sign the authority's certificate"))?;
        let fingerprint = tls_keys::fingerprint(certificate.der());
        Ok(Self { certificate: certificate.pem(), key, fingerprint })
    }

    /// From PEM, as another control node hands it over.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, PkiError> {
        let key = KeyPair::from_pem(key).map_err(crypto("read the authority's key"))?;
        let unreadable = |reason: String| PkiError::Crypto {
            action: "read the authority's certificate",
            reason,
        };
        let ders =
            tls_keys::certificates(certificate).map_err(|error| unreadable(chain(&error)))?;
        let described = super::inspect::describe(certificate, "ca")
            .map_err(|error| unreadable(chain(&error)))?;
        if described.key_fingerprint != super::node_key::fingerprint_of_pair(&key) {
            return Err(unreadable("its key is another one than the key file's".into()));
        }
        let fingerprint = tls_keys::fingerprint(&ders[0]);
        Ok(Self { certificate: certificate.to_owned(), key, fingerprint })
    }

    pub(super) fn signing_key(&self) -> &KeyPair {
        &self.key
    }

    /// Reads `ca.crt` and `ca.key`.
    pub fn load(dir: &Path) -> Result<Self, PkiError> {
        let certificate = files::read_text(&dir.join("ca.crt"))?;
        let key = files::read_text(&dir.join("ca.key"))?;
        Self::from_pem(&certificate, &key)
    }

    /// Writes `ca.key` (0600) and then `ca.crt`.
    pub fn save(&self, dir: &Path) -> Result<(), PkiError> {
        files::create_dir(dir, 0o700)?;
        files::write_atomic(&dir.join("ca.key"), self.key_pem().as_bytes(), 0o600)?;
        files::write_atomic(&dir.join("ca.crt"), self.certificate.as_bytes(), 0o644)?;
        Ok(())
    }

    /// Loads the authority of `dir`, or makes it there; what a killed run left half
    /// done (a key without certificate) is made anew, for nothing was signed with it.
    pub fn load_or_create(
        dir: &Path,
        cluster_name: &str,
        now: Timestamp,
    ) -> Result<Self, PkiError> {
        if files::inspect(&dir.join("ca.crt"))?.is_some() {
            return Self::load(dir);
        }
        let authority = Self::create(cluster_name, now)?;
        authority.save(dir)?;
        Ok(authority)
    }

    pub fn certificate_pem(&self) -> &str {
        &self.certificate
    }

    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// SHA-256 of the certificate's DER form, hexadecimal: the pin inside tokens.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn issuer(&self) -> Result<Issuer<'_, &KeyPair>, PkiError> {
        Issuer::from_ca_cert_pem(&self.certificate, &self.key)
            .map_err(crypto("use the authority's certificate"))
    }

    /// Signs the key of a request for a node; the request's own subject, names and
    /// usages are ignored.
    pub fn sign_node(
        &self,
        request_pem: &str,
        names: &NodeNames,
        now: Timestamp,
    ) -> Result<String, PkiError> {
        let mut request = read_request(request_pem)?;
        let common = format!("system:node:{}", names.node_name);
        let mut wanted = params(&common, Some(NODE_GROUP), now, NODE_DAYS);
        if names.control {
            wanted.distinguished_name.push(DnType::OrganizationalUnitName, CONTROL_UNIT);
        }
        wanted.subject_alt_names =
            names.alternative_names().map_err(crypto("name the node in a certificate"))?;
        wanted.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        wanted.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        wanted.use_authority_key_identifier_extension = true;
        request.params = wanted;
        let issuer = self.issuer()?;
        let signed = request.signed_by(&issuer).map_err(crypto("sign a node's certificate"))?;
        Ok(signed.pem())
    }

    /// Issues the administrator's certificate: `(certificate, key)` in PEM.
    pub fn issue_admin(&self, now: Timestamp) -> Result<(String, String), PkiError> {
        self.issue_client(ADMIN_NAME, ADMIN_GROUP, ADMIN_DAYS, now)
    }

    /// Issues a certificate for a client of the etcd port: `(certificate, key)` in PEM.
    /// The name is its user where authentication is enabled in the store.
    pub fn issue_etcd_client(
        &self,
        name: &str,
        now: Timestamp,
    ) -> Result<(String, String), PkiError> {
        self.issue_client(name, ETCD_GROUP, CLIENT_DAYS, now)
    }

    fn issue_client(
        &self,
        name: &str,
        group: &str,
        days: i64,
        now: Timestamp,
    ) -> Result<(String, String), PkiError> {
        let key = KeyPair::generate().map_err(crypto("make a client's key"))?;
        let mut wanted = params(name, Some(group), now, days);
        wanted.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        wanted.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        wanted.use_authority_key_identifier_extension = true;
        let issuer = self.issuer()?;
        let signed =
            wanted.signed_by(&key, &issuer).map_err(crypto("sign a client's certificate"))?;
        Ok((signed.pem(), key.serialize_pem()))
    }
}
