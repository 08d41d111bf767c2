//! The whole of `init`, `join` and `reset` in a temporary directory, with the real
//! playbooks, and a kill at every step.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::apply::*;
use super::fake::{Alone, FakeKv, FakeMembership};
use super::init::{InitRequest, init, password_path};
use super::join::{JoinCommand, join};
use super::join_service::{JoinService, JoinServiceInput};
use super::node_service::{NodeService, NodeServiceInput};
use super::ports::*;
use super::reset::{ResetTools, reset};
use super::tokens::TokenBook;
use crate::model::cluster_record::ClusterBootstrap;
use crate::model::join::{JoinAnswer, JoinRequest, RenewAnswer, RenewRequest};
use crate::model::node_config::{Paths, Ports, Role};
use crate::model::node_list::Removed;
use crate::pki::{Authority, JoinToken};
use crate::playbook::{BundleFileError, BundleFiles};
use crate::sys::files;
use crate::sys::services::{ServiceError, ServiceManager};
use crate::sys::tls_keys;

const CLUSTER: &str = "\
apiVersion: holdfast.io/v1
kind: Cluster
metadata: {name: lab}
spec:
  sites:
    - name: city
      centers:
        - name: a
          nodes:
            - {name: a1, address: 10.77.0.11, roles: [control, worker]}
            - {name: a2, address: 10.77.0.12, roles: [control, worker]}
";

/// The repository's playbooks, without what would change the machine of the test.
#[derive(Debug, Default)]
pub(super) struct Bundle {
    broken: bool,
    serial: u64,
}

impl BundleFiles for Bundle {
    fn digest(&self) -> String {
        "sha256:abc".into()
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, BundleFileError> {
        let name = name.strip_prefix("playbooks/").expect("only playbooks are read");
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("ansible-free-playbooks");
        let mut text = files::read_text(&dir.join(name)).expect("in the repository");
        if name == "host.yaml" {
            let setting = "sysctl: {name: net.ipv4.ip_forward, value: \"1\"}";
            assert!(text.contains(setting) && text.contains("not lab_host"));
            text = text.replace(setting, "debug: {msg: left out}").replace("not lab_host", "false");
        }
        Ok(text.into_bytes())
    }

    fn extract_tree(&self, _: &str, dest: &Path) -> Result<(), BundleFileError> {
        files::create_dir(&dest.join("bin"), 0o755).expect("creates");
        files::write_atomic(&dest.join("bin/dockerd"), b"elf", 0o755).expect("writes");
        Ok(())
    }
}

impl BundleSource for Bundle {
    fn verify(&self, _: ByteProgress<'_>) -> Result<(), BundleFileError> {
        if self.broken {
            let (name, reason) = ("images/hello".into(), "the digest differs".into());
            return Err(BundleFileError { name, reason });
        }
        Ok(())
    }

    fn space_needed(&self) -> u64 {
        0
    }

    fn write_images(&self, dest: &Path, _: ByteProgress<'_>) -> Result<(), BundleFileError> {
        files::write_atomic(&dest.join("index.json"), b"{}", 0o644).expect("writes");
        Ok(())
    }

    fn release(&self) -> Release {
        Release { version: format!("0.{}", self.serial), serial: self.serial }
    }

    fn pause_image(&self) -> String {
        "holdfast/pause:1".into()
    }
}

/// Services that do nothing but answer on the engine's socket.
#[derive(Debug)]
struct Services {
    socket: PathBuf,
    running: Mutex<Vec<(String, Option<tokio::net::UnixListener>)>>,
    /// Has died and will be started again, unless it is stopped.
    waiting: Mutex<Option<String>>,
}

#[async_trait]
impl ServiceManager for Services {
    fn name(&self) -> &'static str {
        "holdfast-init"
    }
    async fn start(&self, name: &str) -> Result<(), ServiceError> {
        if self.is_running(name).await? {
            return Ok(());
        }
        let listener = (name == ENGINE_SERVICE).then(|| {
            let _ = files::remove_file(&self.socket);
            tokio::net::UnixListener::bind(&self.socket).expect("binds")
        });
        self.running.lock().expect("lock").push((name.to_owned(), listener));
        Ok(())
    }
    async fn stop(&self, name: &str) -> Result<(), ServiceError> {
        self.running.lock().expect("lock").retain(|(other, _)| other != name);
        self.waiting.lock().expect("lock").take_if(|other| other == name);
        Ok(())
    }
    async fn restart(&self, name: &str) -> Result<(), ServiceError> {
        self.start(name).await
    }
    async fn is_running(&self, name: &str) -> Result<bool, ServiceError> {
        Ok(self.running.lock().expect("lock").iter().any(|(other, _)| other == name))
    }
}

/// The cluster, answered in process.
#[derive(Debug)]
pub(super) struct Cluster {
    service: Mutex<Option<Arc<JoinService>>>,
    pub(super) kv: Arc<FakeKv>,
    pub(super) membership: Arc<FakeMembership>,
    recorded: Mutex<Vec<ClusterBootstrap>>,
    /// Whether a node that wants to leave reaches anybody.
    pub(super) reachable: AtomicBool,
}

impl Cluster {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            service: Mutex::new(None),
            kv: Arc::new(FakeKv::default()),
            membership: Arc::new(FakeMembership::default()),
            recorded: Mutex::new(Vec::new()),
            reachable: AtomicBool::new(true),
        })
    }

    /// What `serve` does on a control node: answers with the authority on its disk.
    fn serve(&self, paths: &Paths) -> Arc<Authority> {
        let authority = Arc::new(Authority::load(&paths.pki()).expect("authority"));
        *self.service.lock().expect("lock") = Some(Arc::new(JoinService::new(JoinServiceInput {
            kv: Arc::clone(&self.kv) as _,
            authority: Arc::clone(&authority),
            admin: Some(("ADMIN CERT".into(), "ADMIN KEY".into())),
            membership: Arc::clone(&self.membership) as _,
            secrets: crate::install::fake::secrets(),
            ports: Ports::default(),
            clock: Arc::new(crate::sys::clock::now),
        })));
        authority
    }

    fn service(&self) -> Arc<JoinService> {
        Arc::clone(self.service.lock().expect("lock").as_ref().expect("is served"))
    }
}

fn refused(error: super::tokens::JoinRefused) -> RemoteError {
    let status = error.status();
    let (reason, message) = (status.reason, status.message);
    RemoteError::Refused { server: "test".into(), reason, message }
}

#[async_trait]
impl Remote for Cluster {
    async fn is_alive(&self, server: SocketAddr, own: &Credentials) -> Result<bool, RemoteError> {
        self.is_ready(server, own).await
    }

    async fn is_ready(&self, _: SocketAddr, own: &Credentials) -> Result<bool, RemoteError> {
        Ok(own.certificate.contains("BEGIN CERTIFICATE"))
    }
    async fn record_cluster(
        &self,
        _: SocketAddr,
        _: &Credentials,
        bootstrap: &ClusterBootstrap,
    ) -> Result<(), RemoteError> {
        self.recorded.lock().expect("lock").push(bootstrap.clone());
        Ok(())
    }
    async fn server_time(&self, _: SocketAddr, _: &str) -> Result<Timestamp, RemoteError> {
        Ok(crate::sys::clock::now())
    }
    async fn request_join(
        &self,
        _: SocketAddr,
        _: &str,
        request: &JoinRequest,
    ) -> Result<JoinAnswer, RemoteError> {
        self.service().handle(request).await.map_err(refused)
    }
    async fn renew(
        &self,
        _: SocketAddr,
        _: &str,
        request: &RenewRequest,
    ) -> Result<RenewAnswer, RemoteError> {
        self.service().renew(request).await.map_err(refused)
    }
    async fn joined(&self, _: SocketAddr, _: &Credentials, name: &str) -> Result<(), RemoteError> {
        self.service().joined(name).await.map_err(refused)
    }
    async fn leave(
        &self,
        server: SocketAddr,
        own: &Credentials,
        name: &str,
    ) -> Result<Removed, RemoteError> {
        if !self.reachable.load(Ordering::SeqCst) {
            let (server, reason) = (server.to_string(), "unplugged".into());
            return Err(RemoteError::Unreachable { server, reason });
        }
        let nodes = NodeService::new(NodeServiceInput {
            kv: Arc::clone(&self.kv) as _,
            api: crate::client::fake::FakeApi::new().shared(),
            membership: Arc::clone(&self.membership) as _,
            own_name: "a1".into(),
            others: Arc::new(Alone),
            clock: Arc::new(crate::sys::clock::now),
        });
        let certificate = &tls_keys::certificates(&own.certificate).expect("a certificate")[0];
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).expect("parses");
        let key = tls_keys::fingerprint(parsed.public_key().raw);
        nodes.leave(name, &key).await.map_err(refused)
    }
}

/// One host in a temporary directory.
pub(super) struct Host {
    dir: tempfile::TempDir,
    services: Arc<Services>,
    remote: Arc<Cluster>,
}

impl Host {
    pub(super) fn new(remote: &Arc<Cluster>) -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let program = dir.path().join("running");
        files::write_atomic(&program, b"program", 0o755).expect("writes");
        files::create_dir(&dir.path().join("etc"), 0o755).expect("creates");
        let socket = dir.path().join("run/engine.sock");
        let services =
            Arc::new(Services { socket, running: Mutex::default(), waiting: Mutex::default() });
        Self { dir, services, remote: Arc::clone(remote) }
    }

    /// Has the service die as one does that its supervisor starts again in a moment.
    pub(super) fn service_dies(&self, name: &str) {
        self.services.running.lock().expect("lock").retain(|(other, _)| other != name);
        *self.services.waiting.lock().expect("lock") = Some(name.to_owned());
    }

    pub(super) fn service_comes_back(&self) -> bool {
        self.services.waiting.lock().expect("lock").is_some()
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn paths(&self) -> Paths {
        Paths { config: self.at("etc/holdfast"), data: self.at("data"), run: self.at("run") }
    }

    /// Tools that are interrupted at the `stop_at`th event.
    pub(super) fn tools(&self, bundle: Bundle, stop_at: usize) -> Tools {
        let cancel = CancellationToken::new();
        let (count, token) = (AtomicUsize::new(0), cancel.clone());
        Tools {
            bundle: Arc::new(bundle),
            services: Arc::clone(&self.services) as _,
            remote: Arc::clone(&self.remote) as _,
            clock: Arc::new(crate::sys::clock::now),
            places: Places {
                engine: self.at("opt/engine"),
                program: self.at("opt/bin/holdfast"),
                engine_certificates: self.at("etc/docker/certs.d"),
                systemd_units: self.at("systemd"),
                services: self.at("services"),
                modules_load: self.at("modules"),
                sysctl: self.at("sysctl"),
                running_program: self.at("running"),
            },
            progress: Arc::new(move |_| {
                if count.fetch_add(1, Ordering::SeqCst) + 1 == stop_at {
                    token.cancel();
                }
            }),
            cancel,
            check_host: false,
        }
    }

    fn init_request(&self) -> InitRequest {
        InitRequest {
            cluster_text: CLUSTER.into(),
            node_name: "a1".into(),
            paths: self.paths(),
            ports: Ports::default(),
        }
    }

    async fn init(&self, stop_at: usize) -> Result<super::init::InstallReport, InstallError> {
        init(&self.init_request(), &self.tools(Bundle::default(), stop_at)).await
    }

    pub(super) fn assert_node(&self, name: &str) {
        let config = read_config(&self.paths().node_config()).expect("node.yaml");
        assert_eq!(config.node_name, name);
        assert!(self.at("opt/engine/bin/dockerd").exists());
        assert_eq!(files::read_text(&self.at("opt/bin/holdfast")).expect("program"), "program");
        assert!(self.at("data/registry/import/sha256-abc/index.json").exists());
        let address = config.address;
        let client = self.at(&format!("etc/docker/certs.d/{address}:5000/client.key"));
        assert_eq!(files::inspect(&client).expect("looks").expect("exists").mode, 0o600);
        let text = files::read_text(&self.at("services/holdfast-engine.yaml")).expect("service");
        let file: crate::sys::services::ServiceFile =
            serde_saphyr::from_str(&text).expect("a service file");
        assert!(file.command.contains(&format!("--cgroup-parent=/holdfast-{name}")));
        assert!(self.paths().admin_kubeconfig().exists());
        let running = self.services.running.lock().expect("lock");
        let names: Vec<&str> = running.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, [ENGINE_SERVICE, NODE_SERVICE]);
    }

    pub(super) fn reset_tools(&self, force: bool) -> ResetTools {
        ResetTools {
            services: Arc::clone(&self.services) as _,
            containers: Arc::new(Nothing),
            network: Arc::new(Nothing),
            remote: Arc::clone(&self.remote) as _,
            others: vec!["10.77.0.11:6443".parse().expect("address")],
            force,
        }
    }

    async fn reset(&self) {
        let tools = self.reset_tools(true);
        let report = reset(&self.paths(), &tools).await.expect("resets");
        assert_eq!(report.failed, Vec::<String>::new());
        let left = files::list_dir(self.dir.path()).expect("lists");
        assert_eq!(left, [self.at("etc"), self.at("running")], "only what was there is left");
        assert_eq!(files::list_dir(&self.at("etc")).expect("lists"), Vec::<PathBuf>::new());
        let again = reset(&self.paths(), &tools).await.expect("resets");
        assert!(!again.was_installed);
    }
}

#[derive(Debug)]
struct Nothing;

#[async_trait]
impl CleanUp for Nothing {
    fn name(&self) -> &'static str {
        "nothing"
    }
    async fn clean_up(&self) -> Result<(), String> {
        Ok(())
    }
}

#[tokio::test]
async fn init_makes_a_node_and_a_second_init_does_nothing() {
    let host = Host::new(&Cluster::new());
    let first = host.init(0).await.expect("installs");
    host.assert_node("a1");
    assert!(!first.already_done && first.warnings.len() == 1, "{first:?}");
    let second = host.init(0).await.expect("is done");
    assert!(second.already_done);
    assert_eq!(first.cluster_id, second.cluster_id);
    let mut other = host.init_request();
    other.cluster_text = CLUSTER.replace("name: lab", "name: other");
    let error = init(&other, &host.tools(Bundle::default(), 0)).await.expect_err("other");
    assert!(matches!(error, InstallError::OtherInstallation { .. }), "{error}");
    host.reset().await;
}

#[tokio::test]
async fn a_bundle_older_than_what_was_begun_is_refused_before_and_after_the_end() {
    let host = Host::new(&Cluster::new());
    let with = |serial, stop_at| {
        let tools = host.tools(Bundle { broken: false, serial }, stop_at);
        let request = host.init_request();
        async move { init(&request, &tools).await }
    };
    // Killed before the last phase.
    let killed = with(5, 30).await.expect_err("was stopped");
    assert!(matches!(killed, InstallError::Interrupted), "{killed}");
    let refused = with(4, 0).await.expect_err("older").to_string();
    assert!(refused.contains("0.4 (serial 4)") && refused.contains("0.5 (serial 5)"), "{refused}");
    with(6, 0).await.expect("a newer one finishes it");
    let refused = with(5, 0).await.expect_err("older than the one that finished it");
    assert!(matches!(refused, InstallError::OlderBundle { .. }), "{refused}");
    assert!(with(6, 0).await.expect("the same").already_done);
    host.reset().await;
}

#[tokio::test]
async fn init_killed_at_any_step_is_finished_by_the_same_command() {
    let mut stop_at = 1;
    loop {
        let cluster = Cluster::new();
        let host = Host::new(&cluster);
        match host.init(stop_at).await {
            Ok(_) => break,
            Err(InstallError::Interrupted) => {}
            Err(error) => panic!("stopped at {stop_at}: {}", crate::base::chain::chain(&error)),
        }
        let report = host.init(0).await.expect("finishes");
        host.assert_node("a1");
        let recorded = cluster.recorded.lock().expect("lock").clone();
        assert!(!recorded.is_empty() || report.already_done, "stopped at {stop_at}");
        for bootstrap in recorded {
            assert_eq!(bootstrap.record.cluster_id, report.cluster_id, "stopped at {stop_at}");
        }
        let password = files::read_text(&password_path(&host.paths())).expect("password");
        assert_eq!(password.trim().len(), 24);
        host.reset().await;
        stop_at += 1;
    }
    assert!(stop_at > 50, "every step was a place to stop, not only {stop_at}");
}

#[tokio::test]
async fn a_bad_bundle_or_cluster_file_leaves_no_trace() {
    let host = Host::new(&Cluster::new());
    let error =
        init(&host.init_request(), &host.tools(Bundle { broken: true, serial: 1 }, 0)).await;
    let text = crate::base::chain::chain(&error.expect_err("refused"));
    assert!(text.contains("nothing was written") && text.contains("images/hello"), "{text}");
    let mut request = host.init_request();
    request.cluster_text = CLUSTER.replace("control", "king");
    init(&request, &host.tools(Bundle::default(), 0)).await.expect_err("refused");
    request.cluster_text = CLUSTER.into();
    request.node_name = "z1".into();
    init(&request, &host.tools(Bundle::default(), 0)).await.expect_err("refused");
    assert_eq!(
        files::list_dir(host.dir.path()).expect("lists"),
        [host.at("etc"), host.at("running")]
    );
}

/// A cluster of one node, and a token for a second.
pub(super) async fn cluster_of_one() -> (Arc<Cluster>, Host, String) {
    let cluster = Cluster::new();
    let first = Host::new(&cluster);
    first.init(0).await.expect("installs");
    let authority = cluster.serve(&first.paths());
    let bootstrap = cluster.recorded.lock().expect("lock")[0].clone();
    cluster.service().bootstrap(&bootstrap).await.expect("records");
    let clock: super::tokens::Clock = Arc::new(crate::sys::clock::now);
    let book = TokenBook::new(Arc::clone(&cluster.kv) as _, authority.fingerprint(), clock);
    let token = book.create(Role::Control, None, None).await.expect("token").token;
    (cluster, first, token)
}

pub(super) fn join_command(host: &Host, token: &str) -> JoinCommand {
    JoinCommand {
        token: token.parse::<JoinToken>().expect("a token"),
        server: "10.77.0.11:6443".parse().expect("address"),
        node_name: "a2".into(),
        address: "10.77.0.12".parse().expect("address"),
        roles: Vec::new(),
        paths: host.paths(),
        ports: Ports::default(),
    }
}

#[tokio::test]
async fn join_killed_at_any_step_is_finished_by_the_same_command() {
    let mut stop_at = 1;
    loop {
        let (cluster, _first, token) = cluster_of_one().await;
        let host = Host::new(&cluster);
        let command = join_command(&host, &token);
        match join(&command, &host.tools(Bundle::default(), stop_at)).await {
            Ok(_) => break,
            Err(InstallError::Interrupted) => {}
            Err(error) => panic!("stopped at {stop_at}: {}", crate::base::chain::chain(&error)),
        }
        join(&command, &host.tools(Bundle::default(), 0)).await.expect("finishes");
        host.assert_node("a2");
        let added = cluster.membership.added.lock().expect("lock").clone();
        assert_eq!(added.len(), 1, "stopped at {stop_at}: {added:?}");
        assert_eq!(added[0].0.0, 2);
        assert!(!host.paths().config.join("join.json").exists());
        host.reset().await;
        // Two of three steps are left out: `init` tries every step of what they share.
        stop_at += 3;
    }
    assert!(stop_at > 50, "every step was a place to stop, not only {stop_at}");
}

#[tokio::test]
async fn a_refused_join_leaves_no_trace() {
    let (cluster, _first, token) = cluster_of_one().await;
    let host = Host::new(&cluster);
    let mut command = join_command(&host, &token);
    command.address = "10.77.0.99".parse().expect("address");
    let error = join(&command, &host.tools(Bundle::default(), 0)).await.expect_err("refused");
    let InstallError::Remote(RemoteError::Refused { reason, .. }) = &error else {
        panic!("{error}")
    };
    assert_eq!(reason, "NodeAddress");
    assert!(!host.paths().config.exists());
    assert_eq!(files::list_dir(&host.at("etc")).expect("lists"), Vec::<PathBuf>::new());
}
