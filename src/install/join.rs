//! `join`: makes this host another node of a cluster, with a token.
//!
//! The server is proven by the authority's fingerprint inside the token before the
//! secret is said. The node's key is made first and kept, because the token is bound to
//! it: a killed join comes back with the same key and gets the same answer.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::base::chain::chain;
use crate::model::join::{JoinAnswer, JoinRequest};
use crate::model::node_config::{NodeConfig, Paths, Ports, Role};
use crate::model::threshold::EvictionThresholds;
use crate::pki::{Authority, JoinToken, KeyRing, NodeKey, SECRET_KEYS_FILE};
use crate::sys::{files, tls_keys};

use super::apply::{InstallError, Sequence, Tools, node_credentials, read_config, write_chain};
use super::init::{InstallReport, lock, lock_path, report, same_purpose, write_admin};
use super::phases::{PhaseLog, Purpose};
use super::ports::RemoteError;
use super::preflight::PreflightInput;
use super::release;
use super::removal_note::RemovalNote;

/// What the operator asks for.
#[derive(Clone, Debug)]
pub struct JoinCommand {
    pub token: JoinToken,
    /// API address of any control node.
    pub server: SocketAddr,
    pub node_name: String,
    pub address: IpAddr,
    /// Empty takes what the cluster file says.
    pub roles: Vec<Role>,
    pub paths: Paths,
    pub ports: Ports,
}

fn answer_path(paths: &Paths) -> PathBuf {
    paths.config.join("join.json")
}

/// Runs the whole sequence, or what an earlier run left of it.
pub async fn join(command: &JoinCommand, tools: &Tools) -> Result<InstallReport, InstallError> {
    let paths = &command.paths;
    let purpose = Purpose {
        command: "join".into(),
        node_name: command.node_name.clone(),
        identity: command.token.authority.clone(),
    };
    if RemovalNote::find(paths)?.is_some() {
        return Err(InstallError::WasRemoved);
    }
    let found = PhaseLog::find(&paths.config)?;
    if let Some(log) = &found {
        same_purpose(log, &purpose)?;
        release::check(paths, &tools.bundle.release())?;
        if log.is_complete() {
            files::remove_file(&answer_path(paths))?;
            let config = read_config(&paths.node_config())?;
            return Ok(report(&config, true, Vec::new(), Vec::new()));
        }
    }
    // Asked before anything is written: a wrong server or clock is the commonest mistake.
    let asked = found.as_ref().is_some_and(|log| log.is_done("request"));
    let pin = &command.token.authority;
    let cluster_time =
        if asked { None } else { Some(tools.remote.server_time(command.server, pin).await?) };
    let findings = tools.check(&PreflightInput {
        node_name: command.node_name.clone(),
        address: command.address,
        paths: paths.clone(),
        ports: command.ports,
        engine: tools.places.engine.clone(),
        space_bytes: tools.bundle.space_needed(),
        // The cluster's own are in its answer, which comes later; so are its ranges.
        eviction: EvictionThresholds::default(),
        resuming: found.is_some(),
        ranges: Vec::new(),
        cluster_time,
    })?;
    let fresh = found.is_none();
    let log = match found {
        Some(log) => log,
        None => PhaseLog::begin(&paths.config, purpose)?,
    };
    let _lock = lock(paths)?;
    release::record(paths, &tools.bundle.release())?;
    let mut sequence = Sequence { tools, log };
    let requested = sequence.phase("request", ask(command, tools)).await;
    if fresh
        && let Err(InstallError::Remote(error)) = &requested
        && is_final(error)
    {
        // A refusal leaves the host as it was, ready for a better token.
        forget(paths)?;
    }
    requested?;
    let answer = read_answer(paths)?;
    let config = node_config(command, &answer);
    sequence.phase("pki", async { write_pki(&config, &answer) }).await?;
    sequence.make_node(&config).await?;
    sequence.phase("joined", joined(command, &config, tools)).await?;
    sequence.ready(&config).await?;
    sequence.complete().await?;
    // It holds the authority's key on control nodes; the files in pki/ are enough.
    files::remove_file(&answer_path(paths))?;
    Ok(report(&config, false, Vec::new(), findings))
}

/// Whether the cluster has certainly not admitted this node. After any other failure it
/// may have, under a key that only this host has; so that key must stay.
fn is_final(error: &RemoteError) -> bool {
    match error {
        RemoteError::Refused { reason, .. } => {
            !matches!(reason.as_str(), "ServiceUnavailable" | "InternalError" | "Timeout")
        }
        RemoteError::Foreign { .. } => true,
        RemoteError::Unreachable { .. }
        | RemoteError::Garbled { .. }
        | RemoteError::Keys { .. } => false,
    }
}

/// Removes what a join has written before it was admitted, and nothing else.
fn forget(paths: &Paths) -> Result<(), InstallError> {
    files::remove_tree(&paths.pki())?;
    release::forget(paths)?;
    files::remove_file(&PhaseLog::path(&paths.config))?;
    files::remove_file(&lock_path(paths))?;
    files::remove_dir_if_empty(&paths.config)?;
    Ok(())
}

async fn ask(command: &JoinCommand, tools: &Tools) -> Result<(), InstallError> {
    let pki = command.paths.pki();
    files::create_dir(&pki, 0o700)?;
    let key = NodeKey::load_or_create(&pki.join("node.key"))?;
    let request = JoinRequest {
        token: command.token.credential(),
        node_name: command.node_name.clone(),
        address: command.address,
        roles: command.roles.clone(),
        certificate_request: key.request()?,
    };
    let pin = &command.token.authority;
    let answer = tools.remote.request_join(command.server, pin, &request).await?;
    check_answer(command, &answer)?;
    let json = serde_json::to_vec(&answer).expect("an answer serializes");
    Ok(files::write_atomic(&answer_path(&command.paths), &json, 0o600)?)
}

/// The authority in the answer must be the one that proved the server.
fn check_answer(command: &JoinCommand, answer: &JoinAnswer) -> Result<(), InstallError> {
    let server = command.server.to_string();
    let garbled =
        |reason: String| RemoteError::Garbled { server: command.server.to_string(), reason };
    let chain_of =
        tls_keys::certificates(&answer.ca_certificate).map_err(|error| garbled(chain(&error)))?;
    if tls_keys::fingerprint(&chain_of[0]) != command.token.authority {
        return Err(RemoteError::Foreign { server }.into());
    }
    if answer.node_name != command.node_name {
        let reason = format!("the answer is for node {}", answer.node_name);
        return Err(garbled(reason).into());
    }
    Ok(())
}

fn read_answer(paths: &Paths) -> Result<JoinAnswer, InstallError> {
    let path = answer_path(paths);
    serde_json::from_slice(&files::read(&path)?)
        .map_err(|error| InstallError::Damaged { path, reason: error.to_string() })
}

fn node_config(command: &JoinCommand, answer: &JoinAnswer) -> NodeConfig {
    NodeConfig {
        cluster_name: answer.cluster_name.clone(),
        cluster_id: answer.cluster_id,
        generation: answer.generation,
        node_name: answer.node_name.clone(),
        address: command.address,
        site: answer.site.clone(),
        center: answer.center.clone(),
        roles: answer.roles.clone(),
        member_id: answer.member_id,
        pod_range: answer.pod_range,
        network: answer.network.clone(),
        servers: answer.servers.clone(),
        paths: command.paths.clone(),
        ports: command.ports,
        pause_image: answer.pause_image.clone(),
        eviction: answer.eviction,
    }
}

fn write_pki(config: &NodeConfig, answer: &JoinAnswer) -> Result<(), InstallError> {
    let pki = config.paths.pki();
    let authority = &answer.ca_certificate;
    match &answer.ca_key {
        // Control nodes admit others, so they hold the authority; it is checked first.
        Some(key) => Authority::from_pem(authority, key)?.save(&pki)?,
        None => files::write_atomic(&pki.join("ca.crt"), authority.as_bytes(), 0o644)?,
    }
    if let Some(keys) = &answer.secret_keys {
        let mut ring = KeyRing::default();
        let path = pki.join(SECRET_KEYS_FILE);
        ring.add(keys.iter().cloned())
            .map_err(|reason| InstallError::Damaged { path: path.clone(), reason })?;
        ring.save(&path)?;
    }
    write_chain(&pki.join("node.crt"), &answer.certificate, authority)?;
    if let (Some(certificate), Some(key)) = (&answer.admin_certificate, &answer.admin_key) {
        write_admin(&config.paths, config, authority, certificate, key)?;
    }
    Ok(())
}

/// Told to the server that admitted us, which has a leader behind it for sure.
async fn joined(
    command: &JoinCommand,
    config: &NodeConfig,
    tools: &Tools,
) -> Result<(), InstallError> {
    let own = node_credentials(&config.paths)?;
    Ok(tools.remote.joined(command.server, &own, &config.node_name).await?)
}
