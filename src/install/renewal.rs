//! Renews the certificates that a node holds, before they end.
//!
//! ```text
//! control node  signs with the authority that it holds: its own, and the administrator's
//! worker        POST renew to any control node; its key proves who it is
//! ```
//! Why no certificate is shown for it: a node that was off until its own had ended must come
//! back by itself, and what it is given is of use only with its key.
//! Invariants: the node's key stays; a certificate on disk is replaced whole, by one that fits
//! the key and is good for longer; the administrator's old one is good until its own end.
//! Not here: taking a renewed one into use (`app/renewal`), the cluster's side (`join_service`).

use std::net::SocketAddr;
use std::path::PathBuf;

use jiff::Timestamp;

use super::apply::{InstallError, write_chain};
use super::init::{lock_path, write_admin};
use super::ports::{Remote, RemoteError};
use super::refused::NODE_REMOVED;
use crate::base::chain::chain;
use crate::model::join::RenewRequest;
use crate::model::node_config::{NodeConfig, Role};
use crate::pki::{self, Authority, CertificateInfo, NodeKey, NodeNames, PkiError};
use crate::sys::files::{self, LockFile};

#[derive(Debug, thiserror::Error)]
pub enum RenewalError {
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error(transparent)]
    Install(#[from] InstallError),
    #[error("no control node renews the certificate: {reason}")]
    Refused { reason: String },
    #[error("this node was removed from the cluster")]
    Removed,
}

/// What to renew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Of whose time two thirds are over.
    Due,
    All,
}

/// Renews them; answers the names of those that were. `servers` are control nodes, for a node
/// that is none. Of several that fail the first is told, after all were tried.
pub async fn renew(
    config: &NodeConfig,
    which: Which,
    servers: &[SocketAddr],
    remote: &dyn Remote,
    now: Timestamp,
) -> Result<Vec<String>, RenewalError> {
    // The administrator's is on control nodes; the authority's own lasts ten years.
    let held = if config.has_role(Role::Control) { &["node", "admin"][..] } else { &["node"] };
    let is_wanted = |name: &&str| {
        let is_there = path_of(config, name).exists();
        is_there && (which == Which::All || is_due(config, name, now))
    };
    let due: Vec<&str> = held.iter().copied().filter(is_wanted).collect();
    if due.is_empty() {
        return Ok(Vec::new());
    }
    // Beside a rotation by hand the key of one and the certificate of the other would stay.
    let lock = LockFile::take(&lock_path(&config.paths)).map_err(InstallError::from)?;
    let _alone = lock.ok_or(InstallError::Busy)?;
    let (mut renewed, mut failed) = (Vec::new(), None);
    for name in due {
        let done = match name {
            "node" => renew_node(config, servers, remote, now).await,
            _ => renew_admin(config, now),
        };
        match done {
            Ok(()) => renewed.push(name.to_owned()),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(renewed), Err)
}

fn path_of(config: &NodeConfig, name: &str) -> PathBuf {
    config.paths.pki().join(format!("{name}.crt"))
}

fn described(config: &NodeConfig, name: &str) -> Option<CertificateInfo> {
    let text = files::read_text(&path_of(config, name)).ok()?;
    pki::describe(&text, name).ok()
}

/// One that cannot be read is due as well.
fn is_due(config: &NodeConfig, name: &str, now: Timestamp) -> bool {
    described(config, name).is_none_or(|held| held.is_due(now))
}

async fn renew_node(
    config: &NodeConfig,
    servers: &[SocketAddr],
    remote: &dyn Remote,
    now: Timestamp,
) -> Result<(), RenewalError> {
    let pki = config.paths.pki();
    let key = NodeKey::load(&pki.join("node.key"))?;
    if config.has_role(Role::Control) {
        let authority = Authority::load(&pki)?;
        let certificate = authority.sign_node(&key.request()?, &NodeNames::of(config), now)?;
        let path = path_of(config, "node");
        return Ok(write_chain(&path, &certificate, authority.certificate_pem())?);
    }
    let authority = files::read_text(&pki.join("ca.crt")).map_err(InstallError::from)?;
    let request =
        RenewRequest { node_name: config.node_name.clone(), certificate_request: key.request()? };
    let mut reasons = Vec::new();
    for server in servers {
        match remote.renew(*server, &authority, &request).await {
            Ok(answer) => match unfit(config, &key, &answer.certificate, now) {
                None => {
                    let path = path_of(config, "node");
                    return Ok(write_chain(&path, &answer.certificate, &authority)?);
                }
                Some(why) => reasons.push(format!("what {server} signed {why}")),
            },
            Err(RemoteError::Refused { reason, .. }) if reason == NODE_REMOVED => {
                return Err(RenewalError::Removed);
            }
            Err(error) => reasons.push(chain(&error)),
        }
    }
    if reasons.is_empty() {
        reasons.push("none is known".to_owned());
    }
    Err(RenewalError::Refused { reason: reasons.join("; ") })
}

/// Why the certificate is no better than the one that is held; a server's clock may be wrong.
fn unfit(
    config: &NodeConfig,
    key: &NodeKey,
    certificate: &str,
    now: Timestamp,
) -> Option<&'static str> {
    let Ok(new) = pki::describe(certificate, "node") else { return Some("cannot be read") };
    if new.key_fingerprint != key.fingerprint() {
        return Some("is for another key");
    }
    if now < new.not_before || new.not_after <= now {
        return Some("is not valid now; compare the clocks");
    }
    let held = described(config, "node").filter(|held| held.not_before <= now);
    held.is_some_and(|held| held.not_after > new.not_after)
        .then_some("ends before the one that is held; compare the clocks")
}

fn renew_admin(config: &NodeConfig, now: Timestamp) -> Result<(), RenewalError> {
    let authority = Authority::load(&config.paths.pki())?;
    let (certificate, key) = authority.issue_admin(now)?;
    let pem = authority.certificate_pem();
    Ok(write_admin(&config.paths, config, pem, &certificate, &key)?)
}
