//! `init`: makes the first node of a new cluster.
//!
//! What must be the same when a killed run is repeated (cluster id, authority, keys,
//! password) is made once, in the phases `identity` and `pki`, and read from disk from
//! then on.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use argon2::Argon2;
use argon2::password_hash::PasswordHasher;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::base::ids::{ClusterId, Generation, MemberId};
use crate::logic::preflight::Finding;
use crate::model::cluster::{Cluster, ParsedCluster, Problem};
use crate::model::cluster_record::{ClusterBootstrap, ClusterRecord, NodeRecord};
use crate::model::node_config::{NodeConfig, Paths, Ports, Role};
use crate::pki::{
    Authority, KeyRing, KubeconfigInput, NodeKey, NodeNames, SECRET_KEYS_FILE, kubeconfig,
};
use crate::sys::files::{self, LockFile};
use crate::sys::fresh;

use super::apply::{InstallError, Sequence, Tools, admin_credentials, read_config, write_chain};
use super::phases::{PhaseLog, Purpose};
use super::preflight::PreflightInput;
use super::release;
use super::removal_note::RemovalNote;

/// What the operator asks for.
#[derive(Clone, Debug)]
pub struct InitRequest {
    /// Text of `cluster.yaml`.
    pub cluster_text: String,
    pub node_name: String,
    pub paths: Paths,
    pub ports: Ports,
}

/// What was made; also what is shown when it was made before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstallReport {
    pub cluster_name: String,
    pub cluster_id: ClusterId,
    pub node_name: String,
    pub server: String,
    /// An earlier run had done everything.
    pub already_done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin_password_file: Option<PathBuf>,
    pub warnings: Vec<Problem>,
    pub findings: Vec<Finding>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Identity {
    cluster_id: ClusterId,
}

fn identity_path(paths: &Paths) -> PathBuf {
    paths.config.join("identity.json")
}

/// Where the administrator's password lies in plain, mode 0600.
pub fn password_path(paths: &Paths) -> PathBuf {
    paths.config.join("admin.password")
}

/// Runs the whole sequence, or what an earlier run left of it.
pub async fn init(request: &InitRequest, tools: &Tools) -> Result<InstallReport, InstallError> {
    let ParsedCluster { cluster, warnings } = Cluster::parse(&request.cluster_text)?;
    let purpose = purpose(request, &cluster)?;
    let placed = cluster.node(&request.node_name).expect("`purpose` found it");
    let address = placed.node.address;
    if RemovalNote::find(&request.paths)?.is_some() {
        return Err(InstallError::WasRemoved);
    }
    let found = PhaseLog::find(&request.paths.config)?;
    if let Some(log) = &found {
        same_purpose(log, &purpose)?;
        release::check(&request.paths, &tools.bundle.release())?;
        if log.is_complete() {
            let config = read_config(&request.paths.node_config())?;
            return Ok(report(&config, true, warnings, Vec::new()));
        }
    }
    let findings = tools.check(&PreflightInput {
        node_name: request.node_name.clone(),
        address,
        paths: request.paths.clone(),
        ports: request.ports,
        engine: tools.places.engine.clone(),
        space_bytes: tools.bundle.space_needed(),
        eviction: cluster.eviction,
        resuming: found.is_some(),
        ranges: ranges(&cluster),
        cluster_time: None,
    })?;
    let log = match found {
        Some(log) => log,
        None => PhaseLog::begin(&request.paths.config, purpose)?,
    };
    let _lock = lock(&request.paths)?;
    release::record(&request.paths, &tools.bundle.release())?;
    let mut sequence = Sequence { tools, log };
    let paths = &request.paths;
    sequence.phase("identity", async { make_identity(paths) }).await?;
    let config = node_config(request, &cluster, tools)?;
    sequence.phase("pki", async { make_pki(&config, &cluster, request, tools) }).await?;
    sequence.make_node(&config).await?;
    sequence.ready(&config).await?;
    sequence.phase("record", record(&config, &cluster, tools)).await?;
    sequence.complete().await?;
    Ok(report(&config, false, warnings, findings))
}

/// What the cluster takes for pods and Services.
fn ranges(cluster: &Cluster) -> Vec<IpNet> {
    let centers = cluster.sites.iter().flat_map(|site| &site.centers);
    centers.map(|center| center.pod_range).chain([cluster.network.service_range]).collect()
}

/// One installation at a time on a host.
pub(crate) fn lock(paths: &Paths) -> Result<LockFile, InstallError> {
    let lock = LockFile::take(&lock_path(paths))?.ok_or(InstallError::Busy)?;
    // Nobody else writes here now, so these are of a run that was killed.
    for dir in [paths.config.clone(), paths.pki()] {
        files::remove_leftovers(&dir)?;
    }
    Ok(lock)
}

pub(crate) fn lock_path(paths: &Paths) -> PathBuf {
    paths.config.join("install.lock")
}

fn purpose(request: &InitRequest, cluster: &Cluster) -> Result<Purpose, InstallError> {
    let name = request.node_name.clone();
    let Some(placed) = cluster.node(&name) else {
        let known: Vec<&str> = cluster.nodes().map(|placed| placed.node.name.as_str()).collect();
        return Err(InstallError::NoSuchNode { name, known: known.join(", ") });
    };
    if !placed.node.roles.contains(&Role::Control) {
        return Err(InstallError::NotControl { name });
    }
    let json = serde_json::to_vec(cluster).expect("a cluster serializes");
    let identity = hex::encode(Sha256::digest(json));
    Ok(Purpose { command: "init".into(), node_name: name, identity })
}

pub(crate) fn same_purpose(log: &PhaseLog, purpose: &Purpose) -> Result<(), InstallError> {
    let found = log.purpose();
    if found == purpose {
        return Ok(());
    }
    Err(InstallError::OtherInstallation {
        found: found.node_name.clone(),
        command: found.command.clone(),
    })
}

fn make_identity(paths: &Paths) -> Result<(), InstallError> {
    if files::inspect(&password_path(paths))?.is_none() {
        let password = hex::encode(fresh::random_bytes::<12>());
        files::write_atomic(&password_path(paths), format!("{password}\n").as_bytes(), 0o600)?;
    }
    if files::inspect(&identity_path(paths))?.is_none() {
        let cluster_id = ClusterId(uuid::Uuid::new_v4());
        let json = serde_json::to_vec(&Identity { cluster_id }).expect("an id serializes");
        files::write_atomic(&identity_path(paths), &json, 0o644)?;
    }
    Ok(())
}

fn read_identity(paths: &Paths) -> Result<Identity, InstallError> {
    let path = identity_path(paths);
    serde_json::from_slice(&files::read(&path)?)
        .map_err(|error| InstallError::Damaged { path, reason: error.to_string() })
}

fn node_config(
    request: &InitRequest,
    cluster: &Cluster,
    tools: &Tools,
) -> Result<NodeConfig, InstallError> {
    let placed = cluster.node(&request.node_name).expect("was checked at the start");
    let pod_range =
        cluster.pod_range_for(&placed, &[]).expect("the cluster file's check left room");
    let address = placed.node.address;
    Ok(NodeConfig {
        cluster_name: cluster.name.clone(),
        cluster_id: read_identity(&request.paths)?.cluster_id,
        generation: Generation(1),
        node_name: placed.node.name.clone(),
        address,
        site: placed.site.to_owned(),
        center: placed.center.name.clone(),
        roles: placed.node.roles.clone(),
        member_id: Some(MemberId(1)),
        pod_range,
        network: cluster.network.for_nodes(),
        servers: vec![SocketAddr::new(address, request.ports.api)],
        paths: request.paths.clone(),
        ports: request.ports,
        pause_image: tools.bundle.pause_image(),
        eviction: cluster.eviction,
    })
}

fn make_pki(
    config: &NodeConfig,
    cluster: &Cluster,
    request: &InitRequest,
    tools: &Tools,
) -> Result<(), InstallError> {
    let pki = config.paths.pki();
    let now = (tools.clock)();
    let authority = Authority::load_or_create(&pki, &cluster.name, now)?;
    let key = NodeKey::load_or_create(&pki.join("node.key"))?;
    KeyRing::load_or_create(&pki.join(SECRET_KEYS_FILE), now)?;
    let certificate = authority.sign_node(&key.request()?, &NodeNames::of(config), now)?;
    write_chain(&pki.join("node.crt"), &certificate, authority.certificate_pem())?;
    let (certificate, key) = authority.issue_admin(now)?;
    write_admin(&config.paths, config, authority.certificate_pem(), &certificate, &key)?;
    let text = request.cluster_text.as_bytes();
    Ok(files::write_atomic(&config.paths.config.join("cluster.yaml"), text, 0o644)?)
}

/// The administrator's key, certificate and kubeconfig.
pub(crate) fn write_admin(
    paths: &Paths,
    config: &NodeConfig,
    authority: &str,
    certificate: &str,
    key: &str,
) -> Result<(), InstallError> {
    let pki = paths.pki();
    let text = kubeconfig(&KubeconfigInput {
        cluster_name: &config.cluster_name,
        server: &format!("https://{}", SocketAddr::new(config.address, config.ports.api)),
        ca_pem: authority,
        user: "admin",
        certificate_pem: certificate,
        key_pem: key,
    });
    files::write_atomic(&paths.admin_kubeconfig(), text.as_bytes(), 0o600)?;
    files::write_atomic(&pki.join("admin.key"), key.as_bytes(), 0o600)?;
    // The last one: by it a renewal tells whether all were written.
    Ok(files::write_atomic(&pki.join("admin.crt"), certificate.as_bytes(), 0o644)?)
}

async fn record(config: &NodeConfig, cluster: &Cluster, tools: &Tools) -> Result<(), InstallError> {
    let key = NodeKey::load_or_create(&config.paths.pki().join("node.key"))?;
    let bootstrap = ClusterBootstrap {
        record: ClusterRecord {
            cluster_id: config.cluster_id,
            generation: config.generation,
            cluster: cluster.clone(),
            pause_image: config.pause_image.clone(),
        },
        node: NodeRecord {
            name: config.node_name.clone(),
            address: config.address,
            site: config.site.clone(),
            center: config.center.clone(),
            roles: config.roles.clone(),
            member_id: config.member_id,
            pod_range: config.pod_range,
            key_fingerprint: key.fingerprint(),
            joined: true,
            leaving: false,
        },
        admin_password_hash: password_hash(&password_path(&config.paths))?,
    };
    let own = admin_credentials(&config.paths)?;
    let server = SocketAddr::new(config.address, config.ports.api);
    Ok(tools.remote.record_cluster(server, &own, &bootstrap).await?)
}

fn password_hash(path: &Path) -> Result<String, InstallError> {
    let password = files::read_text(path)?;
    Argon2::default()
        .hash_password(password.trim().as_bytes())
        .map(|hash| hash.to_string())
        .map_err(|error| InstallError::Password { reason: error.to_string() })
}

pub(crate) fn report(
    config: &NodeConfig,
    already_done: bool,
    warnings: Vec<Problem>,
    findings: Vec<Finding>,
) -> InstallReport {
    let kubeconfig = config.paths.admin_kubeconfig();
    let password = password_path(&config.paths);
    let server = config.servers.first().map(ToString::to_string).unwrap_or_default();
    InstallReport {
        cluster_name: config.cluster_name.clone(),
        cluster_id: config.cluster_id,
        node_name: config.node_name.clone(),
        server: format!("https://{server}"),
        already_done,
        kubeconfig: kubeconfig.exists().then_some(kubeconfig),
        admin_password_file: password.exists().then_some(password),
        warnings,
        findings,
    }
}
