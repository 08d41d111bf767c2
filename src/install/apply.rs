//! What `init` and `join` have in common: phases, errors, and making the host a node.
//!
//! ```text
//!  config ► host ► engine ► images ► node ► alive        (each journalled)
//! ```
//! Invariants: a phase is noted only after all its effects are durable; a phase that is
//! noted is never run again; a phase may run any number of times before that.
//! Not here: what differs (`init`, `join`), what happens to the host (playbooks).

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use crate::logic::preflight::{Finding, Severity, passes};
use crate::model::cluster::ClusterProblems;
use crate::model::node_config::{NodeConfig, Paths, Ports, Role};
use crate::pki::PkiError;
use crate::playbook::{
    BundleFileError, Event, PlaybookError, Runner, RunnerInput, UndoError, UndoLog, gather,
};
use crate::sys::files::{self, FileError};
use crate::sys::services::{ServiceError, ServiceManager};

use super::phases::{COMPLETE, PhaseLog};
use super::ports::{BundleSource, Credentials, Release, Remote, RemoteError, as_files};
use super::preflight::{PreflightInput, preflight};
use super::removal_note::REMOVED_TEXT;
use super::tokens::Clock;

/// The service that runs our container engine.
pub const ENGINE_SERVICE: &str = "holdfast-engine";
/// The engine's own bridge, which nothing is plugged into; see `run-engine`.
pub const ENGINE_BRIDGE: &str = "hf-engine";
/// Of the range for links that lead nowhere (RFC 3927), where no route can be in the way.
const ENGINE_BRIDGE_ADDRESS: &str = "169.254.254.1/30";
/// The service that runs `holdfast serve`.
pub const NODE_SERVICE: &str = "holdfast";
/// How long a started node may take until it says that it is ready.
const READY_DEADLINE: Duration = Duration::from_secs(300);

/// Places outside our own directories; movable so that tests and images can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// The engine's tree; the programs inside find their loader by this path, so moving
    /// it is for tests only.
    pub engine: PathBuf,
    /// Our own program.
    pub program: PathBuf,
    /// Where the engine looks for registries' certificates; compiled into it.
    pub engine_certificates: PathBuf,
    pub systemd_units: PathBuf,
    /// Service files of our own PID 1.
    pub services: PathBuf,
    pub modules_load: PathBuf,
    pub sysctl: PathBuf,
    /// The program that is running now, copied to `program`.
    pub running_program: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            engine: "/opt/holdfast/engine".into(),
            program: "/opt/holdfast/bin/holdfast".into(),
            engine_certificates: "/etc/docker/certs.d".into(),
            systemd_units: "/etc/systemd/system".into(),
            services: crate::sys::services::SERVICE_DIR.into(),
            modules_load: "/etc/modules-load.d/holdfast.conf".into(),
            sysctl: "/etc/sysctl.d/90-holdfast.conf".into(),
            running_program: "/proc/self/exe".into(),
        }
    }
}

/// What is going on, for progress bars and logs.
#[derive(Clone, Copy, Debug)]
pub enum Progress<'a> {
    PhaseStarted(&'a str),
    PhaseDone(&'a str),
    /// Done by an earlier run.
    PhaseSkipped(&'a str),
    Bytes {
        phase: &'a str,
        done: u64,
        total: u64,
    },
    Task(&'a Event<'a>),
}

/// Shown all progress.
pub type ProgressSink = Arc<dyn Fn(Progress<'_>) + Send + Sync>;

/// What an installation works with.
#[derive(Clone)]
pub struct Tools {
    pub bundle: Arc<dyn BundleSource>,
    pub services: Arc<dyn ServiceManager>,
    pub remote: Arc<dyn Remote>,
    pub clock: Clock,
    pub places: Places,
    pub progress: ProgressSink,
    pub cancel: CancellationToken,
    /// False leaves the host's suitability to the caller; tests only.
    pub check_host: bool,
}

impl std::fmt::Debug for Tools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tools").field("places", &self.places).finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error(transparent)]
    Cluster(#[from] ClusterProblems),
    #[error("the cluster file has no node named {name}; it lists {known}")]
    NoSuchNode { name: String, known: String },
    #[error("the first node must have the role control, {name} has not")]
    NotControl { name: String },
    #[error("the bundle is not usable; nothing was written")]
    Bundle(#[source] BundleFileError),
    #[error(
        "the bundle is release {offered}, this host has the newer {installed}; nothing was written. Use a bundle that is not older"
    )]
    OlderBundle { installed: Release, offered: Release },
    #[error("the host is not ready; nothing was written:\n{}", lines(.0))]
    Preflight(Vec<Finding>),
    #[error(
        "this host is being made node {found} by `{command}` from other inputs; give the same ones again, or run `holdfast reset`"
    )]
    OtherInstallation { found: String, command: String },
    #[error("{REMOVED_TEXT}")]
    WasRemoved,
    #[error(
        "node {name} cannot leave the cluster: {reason}. Nothing was changed here. To wipe this \
         host all the same give --force, and then run `holdfast node remove {name}` on a control \
         node that is left"
    )]
    MustStay { name: String, reason: String },
    #[error(
        "no control node could take {name} out of the cluster ({reason}). Nothing was changed \
         here. To wipe this host all the same give --force, and then run `holdfast node remove \
         {name}` on a control node that is left"
    )]
    NobodyToAsk { name: String, reason: String },
    #[error(
        "{name} is the last control node: with it all that the cluster knows is lost. Nothing was \
         changed here. To wipe this host all the same give --force"
    )]
    LastNode { name: String },
    #[error("another holdfast command is installing on this host")]
    Busy,
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error(transparent)]
    Playbook(#[from] PlaybookError),
    #[error(transparent)]
    Undo(#[from] UndoError),
    #[error("cannot put the images in place")]
    Images(#[source] BundleFileError),
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error(
        "the node's services did not become ready within {seconds} s; see the service {NODE_SERVICE}, then give the same command again"
    )]
    NotReady { seconds: u64 },
    #[error("interrupted; the same command goes on from here")]
    Interrupted,
    #[error("cannot read {}: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("cannot hash the administrator's password: {reason}")]
    Password { reason: String },
}

fn lines(findings: &[Finding]) -> String {
    findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .map(|finding| {
            format!("  {} ({}): {}; {}", finding.code, finding.place, finding.what, finding.fix)
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// The journal and what runs under it.
#[derive(Debug)]
pub(crate) struct Sequence<'a> {
    pub(crate) tools: &'a Tools,
    pub(crate) log: PhaseLog,
}

impl Tools {
    fn tell(&self, progress: Progress<'_>) -> Result<(), InstallError> {
        (self.progress)(progress);
        if self.cancel.is_cancelled() { Err(InstallError::Interrupted) } else { Ok(()) }
    }

    /// Checks bundle and host; nothing is written before both are good.
    pub(crate) fn check(&self, input: &PreflightInput) -> Result<Vec<Finding>, InstallError> {
        self.tell(Progress::PhaseStarted("verify"))?;
        let show = |done, total| (self.progress)(Progress::Bytes { phase: "verify", done, total });
        self.bundle.verify(&show).map_err(InstallError::Bundle)?;
        self.tell(Progress::PhaseDone("verify"))?;
        if !self.check_host {
            return Ok(Vec::new());
        }
        self.tell(Progress::PhaseStarted("preflight"))?;
        let findings = preflight(input);
        if !passes(&findings) {
            return Err(InstallError::Preflight(findings));
        }
        self.tell(Progress::PhaseDone("preflight"))?;
        Ok(findings)
    }
}

impl Sequence<'_> {
    /// Runs one phase unless the journal says that it is done.
    pub(crate) async fn phase(
        &mut self,
        name: &str,
        work: impl Future<Output = Result<(), InstallError>>,
    ) -> Result<(), InstallError> {
        if self.log.is_done(name) {
            return self.tools.tell(Progress::PhaseSkipped(name));
        }
        self.tools.tell(Progress::PhaseStarted(name))?;
        work.await?;
        self.log.finish(name)?;
        self.tools.tell(Progress::PhaseDone(name))
    }

    /// Everything from the written identity to a node that answers.
    pub(crate) async fn make_node(&mut self, config: &NodeConfig) -> Result<(), InstallError> {
        let tools = self.tools;
        self.phase("config", async { write_config(config) }).await?;
        self.phase("host", play(tools, config, "host")).await?;
        self.phase("engine", play(tools, config, "engine")).await?;
        self.phase("images", place_images(tools, config)).await?;
        self.phase("node", play(tools, config, "node")).await?;
        self.phase("alive", wait_for(tools, config, Wanted::Alive)).await
    }

    /// Waits until the node serves; a joining one does only after it was added.
    pub(crate) async fn ready(&mut self, config: &NodeConfig) -> Result<(), InstallError> {
        let tools = self.tools;
        self.phase("ready", wait_for(tools, config, Wanted::Ready)).await
    }

    pub(crate) async fn complete(&mut self) -> Result<(), InstallError> {
        self.phase(COMPLETE, async { Ok(()) }).await
    }
}

/// Writes the node's configuration.
pub(crate) fn write_config(config: &NodeConfig) -> Result<(), InstallError> {
    files::create_dir(&config.paths.data, 0o711)?;
    let text = serde_saphyr::to_string(config).map_err(|error| InstallError::Damaged {
        path: config.paths.node_config(),
        reason: error.to_string(),
    })?;
    let header = "# Written by holdfast; what changes while the cluster lives is in the store.\n";
    let text = format!("{header}{text}");
    Ok(files::write_atomic(&config.paths.node_config(), text.as_bytes(), 0o600)?)
}

/// Reads a `node.yaml`.
pub fn read_config(path: &Path) -> Result<NodeConfig, InstallError> {
    let text = files::read_text(path)?;
    serde_saphyr::from_str(&text).map_err(|error| InstallError::Damaged {
        path: path.to_owned(),
        reason: error.without_snippet().to_string(),
    })
}

/// The undo log of this installation.
pub(crate) fn undo_path(paths: &Paths) -> PathBuf {
    paths.config.join("undo.journal")
}

async fn play(tools: &Tools, config: &NodeConfig, name: &str) -> Result<(), InstallError> {
    let undo = Arc::new(UndoLog::open(&undo_path(&config.paths))?);
    let progress = Arc::clone(&tools.progress);
    let mut vars = gather(tools.services.as_ref());
    vars.extend(variables(tools, config));
    let runner = Runner::new(RunnerInput {
        files: as_files(&tools.bundle),
        services: Arc::clone(&tools.services),
        undo,
        vars,
        journal_dir: config.paths.config.clone(),
        check: false,
        tags: Vec::new(),
        reporter: Arc::new(move |event| progress(Progress::Task(&event))),
        cancel: tools.cancel.clone(),
    });
    match runner.run(name).await {
        Ok(_) => Ok(()),
        Err(PlaybookError::Interrupted { .. }) => Err(InstallError::Interrupted),
        Err(error) => Err(error.into()),
    }
}

/// What the playbooks may use besides facts.
fn variables(tools: &Tools, config: &NodeConfig) -> Map<String, Value> {
    let (paths, places) = (&config.paths, &tools.places);
    let vars = json!({
        "node_name": config.node_name,
        "cluster_name": config.cluster_name,
        "node_address": config.address,
        "control": config.has_role(Role::Control),
        "worker": config.has_role(Role::Worker),
        "config_dir": paths.config,
        "data_dir": paths.data,
        "run_dir": paths.run,
        "log_dir": paths.data.join("log"),
        "pki_dir": paths.pki(),
        "node_config": paths.node_config(),
        "engine_data": paths.engine_data(),
        "engine_socket": paths.engine_socket(),
        "engine_dir": places.engine,
        "engine_config": paths.config.join("engine.json"),
        "engine_service": ENGINE_SERVICE,
        "engine_bridge": ENGINE_BRIDGE,
        "engine_bridge_address": ENGINE_BRIDGE_ADDRESS,
        "node_service": NODE_SERVICE,
        "cgroup_parent": cgroup_parent(&config.node_name),
        "registries": registries(config),
        "certificates_dir": places.engine_certificates,
        "engine_key": places.engine_certificates.with_file_name("key.json"),
        "systemd_dir": places.systemd_units,
        "services_dir": places.services,
        "modules_file": places.modules_load,
        "sysctl_file": places.sysctl,
        "program": places.program,
        "running_program": places.running_program,
    });
    match vars {
        Value::Object(map) => map,
        _ => unreachable!("the literal above is an object"),
    }
}

/// The registries that the engine may be sent to: the node's own; on a node without one,
/// those of the control nodes it knows.
fn registries(config: &NodeConfig) -> Vec<String> {
    config.registries().iter().map(ToString::to_string).collect()
}

/// The cgroup under which the engine puts containers; the node's name keeps several lab
/// hosts on one kernel apart.
pub fn cgroup_parent(node_name: &str) -> String {
    format!("/holdfast-{node_name}")
}

/// Puts the bundle's images where `serve` finds and imports them at its next start.
/// The directory appears under its final name only when it is whole.
async fn place_images(tools: &Tools, config: &NodeConfig) -> Result<(), InstallError> {
    if !config.has_role(Role::Control) {
        return Ok(());
    }
    let import = config.paths.registry().join("import");
    let dest = import.join(tools.bundle.digest().replace(':', "-"));
    if files::inspect(&dest)?.is_some() {
        return Ok(());
    }
    let fresh = import.join(".new");
    files::remove_tree(&fresh)?;
    files::create_dir(&fresh, 0o700)?;
    let show = |done, total| (tools.progress)(Progress::Bytes { phase: "images", done, total });
    tools.bundle.write_images(&fresh, &show).map_err(InstallError::Images)?;
    files::sync_tree(&fresh)?;
    Ok(files::rename(&fresh, &dest)?)
}

/// The node's own keys, for talking to its own API.
pub(crate) fn node_credentials(paths: &Paths) -> Result<Credentials, InstallError> {
    credentials(paths, "node")
}

/// The administrator's keys on a control node.
pub fn admin_credentials(paths: &Paths) -> Result<Credentials, InstallError> {
    credentials(paths, "admin")
}

fn credentials(paths: &Paths, name: &str) -> Result<Credentials, InstallError> {
    let pki = paths.pki();
    Ok(Credentials {
        authority: files::read_text(&pki.join("ca.crt"))?,
        certificate: files::read_text(&pki.join(format!("{name}.crt")))?,
        key: files::read_text(&pki.join(format!("{name}.key")))?,
    })
}

/// What is waited for: that the program answers, or that the node serves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Alive,
    Ready,
}

async fn wait_for(tools: &Tools, config: &NodeConfig, wanted: Wanted) -> Result<(), InstallError> {
    let own = node_credentials(&config.paths)?;
    let server = SocketAddr::new(config.address, config.ports.api);
    let wait = async {
        let mut tick = tokio::time::interval(Duration::from_millis(250));
        loop {
            tick.tick().await;
            let running = tools.services.is_running(NODE_SERVICE).await?;
            let answers = match wanted {
                _ if !running => false,
                Wanted::Alive => tools.remote.is_alive(server, &own).await?,
                Wanted::Ready => tools.remote.is_ready(server, &own).await?,
            };
            if answers {
                return Ok(());
            }
        }
    };
    tokio::select! {
        done = tokio::time::timeout(READY_DEADLINE, wait) => done.unwrap_or(
            Err(InstallError::NotReady { seconds: READY_DEADLINE.as_secs() }),
        ),
        () = tools.cancel.cancelled() => Err(InstallError::Interrupted),
    }
}

/// Writes a certificate with the authority's behind it: a joining node, which knows only
/// the authority's hash, needs the whole chain from the server.
pub(crate) fn write_chain(path: &Path, leaf: &str, authority: &str) -> Result<(), InstallError> {
    let separator = if leaf.ends_with('\n') { "" } else { "\n" };
    let chain = format!("{leaf}{separator}{authority}");
    Ok(files::write_atomic(path, chain.as_bytes(), 0o644)?)
}

/// The ports of a node whose configuration exists, else the defaults.
pub fn known_ports(paths: &Paths) -> Ports {
    read_config(&paths.node_config()).map_or_else(|_| Ports::default(), |config| config.ports)
}
