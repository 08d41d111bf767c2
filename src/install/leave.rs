//! A node goes: it asks the others to take it out before its host is undone.
//!
//! Why first: a host that is merely wiped stays a voter that never answers again, and its
//! name cannot be used. Invariants: nothing on the host is changed before the others have
//! agreed, or `--force` was given; once they have, a note says so, and a repeated reset
//! does not ask again.
//! Not here: what taking out means (`node_service`), undoing the host (`reset`).

use std::net::SocketAddr;
use std::time::Duration;

use crate::base::chain::chain;
use crate::model::node_config::{NodeConfig, Paths, Role};
use crate::sys::{clock, files};

use super::apply::{InstallError, node_credentials, read_config};
use super::phases::PhaseLog;
use super::ports::{Remote, RemoteError};
use super::refused::{NODE_REMOVED, UNFINISHED};
use super::removal_note::RemovalNote;

/// How often one server is asked to go on with what it began.
const ROUNDS: usize = 10;
const ROUND_PAUSE: Duration = Duration::from_millis(500);

/// What there was to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// The cluster has taken the node out, now or before.
    Out,
    /// The host never became a node of a cluster.
    NeverIn,
    /// It may have been admitted, but holds nothing to prove that it is the one.
    Unknown { node_name: String },
}

/// Asks `others`, then the own server, which knows whether this is the last one.
pub(crate) async fn leave(
    paths: &Paths,
    remote: &dyn Remote,
    others: &[SocketAddr],
) -> Result<Left, InstallError> {
    let Some(log) = PhaseLog::find(&paths.config)? else { return Ok(Left::NeverIn) };
    if RemovalNote::find(paths)?.is_some() {
        return Ok(Left::Out);
    }
    let is_join = log.purpose().command == "join";
    if !log.is_done(if is_join { "request" } else { "record" }) {
        return Ok(Left::NeverIn);
    }
    let proven = files::inspect(&paths.pki().join("node.crt"))?.is_some()
        && files::inspect(&paths.node_config())?.is_some();
    if !proven {
        return Ok(Left::Unknown { node_name: log.purpose().node_name.clone() });
    }
    let config = read_config(&paths.node_config())?;
    ask(paths, &config, remote, others).await?;
    let note = RemovalNote {
        node_name: config.node_name.clone(),
        learned_at: clock::now(),
        learned_from: "it left by `holdfast reset`".to_owned(),
    };
    note.write(paths)?;
    Ok(Left::Out)
}

async fn ask(
    paths: &Paths,
    config: &NodeConfig,
    remote: &dyn Remote,
    others: &[SocketAddr],
) -> Result<(), InstallError> {
    let own = node_credentials(paths)?;
    let name = &config.node_name;
    let own_server = SocketAddr::new(config.address, config.ports.api);
    let own_server = config.has_role(Role::Control).then_some(own_server);
    let mut silent = Vec::new();
    for server in others.iter().copied().chain(own_server) {
        for _ in 0..ROUNDS {
            match remote.leave(server, &own, name).await {
                Ok(_) => return Ok(()),
                Err(RemoteError::Refused { reason, message, .. }) => match reason.as_str() {
                    NODE_REMOVED | "NodeAbsent" => return Ok(()),
                    "LosesMajority" | "Forbidden" => {
                        return Err(InstallError::MustStay { name: name.clone(), reason: message });
                    }
                    "LastControlNode" => {
                        return Err(InstallError::LastNode { name: name.clone() });
                    }
                    UNFINISHED => tokio::time::sleep(ROUND_PAUSE).await,
                    _ => {
                        silent.push(format!("{server}: {message}"));
                        break;
                    }
                },
                Err(error) => {
                    silent.push(chain(&error));
                    break;
                }
            }
        }
    }
    if silent.is_empty() {
        silent.push("no control node has finished it, or none is known".to_owned());
    }
    Err(InstallError::NobodyToAsk { name: name.clone(), reason: silent.join("; ") })
}
