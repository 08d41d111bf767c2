//! Certificates for both clusters, so that both encrypt and check the same.

use std::fs;
use std::path::Path;

use holdfast::pki::{Authority, NodeKey, NodeNames};
use holdfast::sys::clock;
use holdfast::sys::tls::TlsFiles;

/// Where `make` put the certificate of that name.
pub(crate) fn files(dir: &Path, name: &str) -> TlsFiles {
    TlsFiles {
        authority: dir.join("ca.crt"),
        certificate: dir.join(format!("{name}.crt")),
        key: dir.join(format!("{name}.key")),
    }
}

/// One authority, one certificate for all members on loopback, one for clients.
pub(crate) fn make(dir: &Path) -> Result<(), anyhow::Error> {
    let authority = Authority::create("bench", clock::now())?;
    fs::write(dir.join("ca.crt"), authority.certificate_pem())?;
    let names = NodeNames {
        node_name: "localhost".into(),
        address: "127.0.0.1".parse()?,
        api_address: "10.96.0.1".parse()?,
        cluster_domain: "cluster.local".into(),
        control: true,
    };
    let key = NodeKey::load_or_create(&dir.join("node.key"))?;
    let signed = authority.sign_node(&key.request()?, &names, clock::now())?;
    fs::write(dir.join("node.crt"), format!("{signed}{}", authority.certificate_pem()))?;
    let (certificate, key) = authority.issue_admin(clock::now())?;
    fs::write(dir.join("client.crt"), certificate)?;
    fs::write(dir.join("client.key"), key)?;
    Ok(())
}
