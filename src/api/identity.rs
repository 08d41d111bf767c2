//! Who is calling, as the TLS client certificate says it.

use crate::pki::{CONTROL_UNIT, ETCD_GROUP};
use crate::sys::tls_keys;

/// User and groups: the certificate's common name, and its organizations and units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    pub user: String,
    pub groups: Vec<String>,
    /// SHA-256 of the certificate's public key (SPKI DER), hexadecimal.
    pub key_fingerprint: String,
}

impl PeerIdentity {
    /// Read from a certificate that the handshake has verified; `None` without a name.
    pub fn from_certificate(der: &[u8]) -> Option<Self> {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
        let subject = certificate.subject();
        let user = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
        let groups = subject
            .iter_organization()
            .chain(subject.iter_organizational_unit())
            .filter_map(|name| name.as_str().ok().map(str::to_owned))
            .collect();
        let key_fingerprint = tls_keys::fingerprint(certificate.public_key().raw);
        Some(Self { user, groups, key_fingerprint })
    }

    /// The certificate of one of the cluster's own nodes.
    pub fn is_node(&self) -> bool {
        self.groups.iter().any(|group| group == "system:nodes")
    }

    /// The certificate of a node that carries a member of the store.
    pub fn is_control_node(&self) -> bool {
        self.is_node() && self.groups.iter().any(|group| group == CONTROL_UNIT)
    }

    /// A client that an administrator let use the store itself.
    pub fn is_etcd_client(&self) -> bool {
        self.groups.iter().any(|group| group == ETCD_GROUP)
    }

    /// A cluster administrator.
    pub fn is_admin(&self) -> bool {
        self.groups.iter().any(|group| group == "system:masters")
    }
}
