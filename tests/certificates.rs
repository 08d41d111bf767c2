//! Certificates of a small cluster on loopback: one authority, one for all members, one
//! for the administrator.

use std::fs;
use std::path::Path;

use holdfast::pki::{Authority, NodeKey, NodeNames};
use holdfast::sys::clock;
use holdfast::sys::tls::TlsFiles;

/// Where the certificate of that name is.
pub(crate) fn files(dir: &Path, name: &str) -> TlsFiles {
    TlsFiles {
        authority: dir.join("ca.crt"),
        certificate: dir.join(format!("{name}.crt")),
        key: dir.join(format!("{name}.key")),
    }
}

/// Writes `ca`, `node` and `admin` into the folder.
pub(crate) fn make(dir: &Path, node_name: &str) -> Result<Authority, anyhow::Error> {
    let authority = Authority::create("test", clock::now())?;
    fs::write(dir.join("ca.crt"), authority.certificate_pem())?;
    let names = NodeNames {
        node_name: node_name.into(),
        address: "127.0.0.1".parse()?,
        api_address: "10.96.0.1".parse()?,
        cluster_domain: "cluster.local".into(),
        control: true,
    };
    let key = NodeKey::load_or_create(&dir.join("node.key"))?;
    let signed = authority.sign_node(&key.request()?, &names, clock::now())?;
    fs::write(dir.join("node.crt"), format!("{signed}{}", authority.certificate_pem()))?;
    save(dir, "admin", authority.issue_admin(clock::now())?)?;
    Ok(authority)
}

/// Writes a certificate and its key under a name.
pub(crate) fn save(
    dir: &Path,
    name: &str,
    (certificate, key): (String, String),
) -> Result<(), std::io::Error> {
    fs::write(dir.join(format!("{name}.crt")), certificate)?;
    fs::write(dir.join(format!("{name}.key")), key)
}
