//! Renews the certificates that a node holds, before they end.
//!
//! ```text
//! control node  signs with the authority that it holds: its own, and the administrator's
//! worker        POST renew to any control node; its key proves who it is
//! ```
//! Why no certificate is shown for it: a node that was off until its own had ended must come
//! back by itself, and what it is given is of use only with its key.
//! Invariants: the node's key stays; a certificate on disk is replaced whole, by one that fits
//! the key; the administrator's old certificate is good until its own end.
//! Not here: taking a renewed one into use (`app/renewal`), the cluster's side (`join_service`).

use std::net::SocketAddr;
use std::path::PathBuf;

use jiff::Timestamp;

use super::apply::{InstallError, write_chain};
use super::init::write_admin;
use super::ports::{Remote, RemoteError};
use crate::model::join::RenewRequest;
use crate::model::node_config::{NodeConfig, Role};
use crate::pki::{self, Authority, NodeKey, NodeNames, PkiError};
use crate::sys::files;

#[derive(Debug, thiserror::Error)]
pub enum RenewalError {
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error(transparent)]
    Install(#[from] InstallError),
    #[error("no control node renews the certificate: {reason}")]
    Refused { reason: String },
    #[error("the certificate that {server} signed is for another key")]
    OtherKey { server: SocketAddr },
}

/// What to renew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Of whose time two thirds are over.
    Due,
    All,
}

/// Renews them; answers the names of those that were. `servers` are control nodes, for a node
/// that is none.
pub async fn renew(
    config: &NodeConfig,
    which: Which,
    servers: &[SocketAddr],
    remote: &dyn Remote,
    now: Timestamp,
) -> Result<Vec<String>, RenewalError> {
    let mut renewed = Vec::new();
    for held in pki::certificates(&config.paths.pki())? {
        if which == Which::Due && !held.is_due(now) {
            continue;
        }
        match held.name.as_str() {
            "node" => renew_node(config, servers, remote, now).await?,
            "admin" => renew_admin(config, now)?,
            // The authority's own lasts ten years, and others hold copies of it.
            _ => continue,
        }
        renewed.push(held.name);
    }
    Ok(renewed)
}

fn node_certificate(config: &NodeConfig) -> PathBuf {
    config.paths.pki().join("node.crt")
}

async fn renew_node(
    config: &NodeConfig,
    servers: &[SocketAddr],
    remote: &dyn Remote,
    now: Timestamp,
) -> Result<(), RenewalError> {
    let pki = config.paths.pki();
    let key = NodeKey::load_or_create(&pki.join("node.key"))?;
    if config.has_role(Role::Control) {
        let authority = Authority::load(&pki)?;
        let certificate = authority.sign_node(&key.request()?, &NodeNames::of(config), now)?;
        let path = node_certificate(config);
        return Ok(write_chain(&path, &certificate, authority.certificate_pem())?);
    }
    let authority = files::read_text(&pki.join("ca.crt")).map_err(InstallError::from)?;
    let request =
        RenewRequest { node_name: config.node_name.clone(), certificate_request: key.request()? };
    let mut reasons = Vec::new();
    for server in servers {
        match remote.renew(*server, &authority, &request).await {
            Ok(answer) => {
                let described = pki::describe(&answer.certificate, "node")?;
                if described.key_fingerprint != key.fingerprint() {
                    return Err(RenewalError::OtherKey { server: *server });
                }
                return Ok(write_chain(
                    &node_certificate(config),
                    &answer.certificate,
                    &authority,
                )?);
            }
            Err(error) => reasons.push(refusal(&error)),
        }
    }
    if reasons.is_empty() {
        reasons.push("none is known".to_owned());
    }
    Err(RenewalError::Refused { reason: reasons.join("; ") })
}

fn refusal(error: &RemoteError) -> String {
    crate::base::chain::chain(error)
}

fn renew_admin(config: &NodeConfig, now: Timestamp) -> Result<(), RenewalError> {
    let authority = Authority::load(&config.paths.pki())?;
    let (certificate, key) = authority.issue_admin(now)?;
    let pem = authority.certificate_pem();
    Ok(write_admin(&config.paths, config, pem, &certificate, &key)?)
}
