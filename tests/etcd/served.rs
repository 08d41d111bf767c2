//! A member that really listens: TLS, certificates and a store on disk, for clients that
//! we did not write.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{PATIENCE, certificates};
use holdfast::api::etcd::{EtcdApi, EtcdStore};
use holdfast::base::ids::{ClusterId, Generation, MemberId};
use holdfast::pki::Authority;
use holdfast::store::{
    PeerError, PeerNetwork, PeerTarget, Store, StoreConfig, StoreDeps, StoreTuning,
};
use holdfast::sys::clock;
use holdfast::sys::tls::{self, TlsIdentity};

/// The one member has nobody to talk to.
#[derive(Debug)]
struct NoPeers;

#[async_trait]
impl PeerNetwork for NoPeers {
    async fn call(
        &self,
        target: &PeerTarget,
        _message: Bytes,
        _deadline: Duration,
    ) -> Result<Bytes, PeerError> {
        let (member, address) = (target.member, target.address.clone());
        Err(PeerError::Unreachable { member, address, reason: "there are no peers".into() })
    }
}

/// The listener, its store and its certificates; ends when dropped.
pub(crate) struct Served {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) port: u16,
    authority: Authority,
    _tasks: JoinSet<std::io::Result<()>>,
}

async fn open(dir: &Path, cluster_id: ClusterId, member_id: MemberId) -> Arc<Store> {
    let config = StoreConfig {
        cluster_id,
        generation: Generation(1),
        member_id,
        tuning: StoreTuning::default(),
    };
    let deps = StoreDeps::on_host(dir, Arc::new(NoPeers)).unwrap();
    Arc::new(Store::open(config, deps).await.unwrap())
}

/// The store of a directory that was made from a snapshot.
pub(crate) async fn restored_store(dir: &Path, cluster: ClusterId, member: MemberId) -> Arc<Store> {
    let store = open(dir, cluster, member).await;
    let mut leader = store.leader();
    let led = leader.wait_for(|leader| *leader == Some(member));
    tokio::time::timeout(PATIENCE, led).await.unwrap().unwrap();
    store
}

async fn store_in(dir: &Path) -> Arc<Store> {
    let store = open(dir, ClusterId(uuid::Uuid::new_v4()), MemberId(1)).await;
    store.initialize_single("a1", "127.0.0.1:2380").await.unwrap();
    store
}

impl Served {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = store_in(&dir.path().join("store")).await;
        Self::listen(dir, store).await
    }

    /// Over a store that is open already, whose files the caller keeps.
    pub(crate) async fn start_on(store: Arc<Store>) -> Self {
        Self::listen(tempfile::tempdir().unwrap(), store).await
    }

    async fn listen(dir: tempfile::TempDir, store: Arc<Store>) -> Self {
        tls::install_crypto();
        let authority = certificates::make(dir.path(), "a1").unwrap();
        let identity = TlsIdentity::load(certificates::files(dir.path(), "node"));
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let api = EtcdApi::new(EtcdStore::of(store), port);
        let mut tasks = JoinSet::new();
        let server = identity.unwrap().server().unwrap();
        tasks.spawn(api.run(socket, server, CancellationToken::new()));
        Self { dir, port, authority, _tasks: tasks }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// A client certificate beside the administrator's.
    pub(crate) fn issue(&self, name: &str) {
        let issued = self.authority.issue_etcd_client(name, clock::now()).unwrap();
        certificates::save(self.dir.path(), name, issued).unwrap();
    }

    /// `etcdctl` with the certificate of that name.
    pub(crate) fn etcdctl(&self, program: &Path, identity: &str, arguments: &[&str]) -> Command {
        let at = |name: String| self.dir.path().join(name);
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("ETCDCTL_API", "3")
            .env("ETCDCTL_ENDPOINTS", self.url())
            .env("ETCDCTL_CACERT", at("ca.crt".into()))
            .env("ETCDCTL_CERT", at(format!("{identity}.crt")))
            .env("ETCDCTL_KEY", at(format!("{identity}.key")));
        command
    }

    /// An HTTP client with the administrator's certificate.
    pub(crate) fn http(&self) -> reqwest::Client {
        let read = |name: &str| std::fs::read_to_string(self.dir.path().join(name)).unwrap();
        let identity = TlsIdentity::load(certificates::files(self.dir.path(), "admin"));
        assert!(read("admin.crt").contains("CERTIFICATE"));
        let tls = identity.unwrap().client().unwrap();
        reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build().unwrap()
    }
}

/// Where a program of Debian's etcd packages is, if it is anywhere.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join(".build/etcd/usr/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::iter::once(unpacked)
        .chain(std::env::split_paths(&path))
        .map(|folder| folder.join(name))
        .find(|program| program.is_file());
    if found.is_none() {
        println!("SKIPPED {name} is not here; .ci/install-test unpacks it");
    }
    found
}

/// Runs off the runtime's threads, which the server needs.
pub(crate) async fn output(mut command: Command) -> Output {
    let running = tokio::task::spawn_blocking(move || command.output().unwrap());
    tokio::time::timeout(PATIENCE * 3, running).await.unwrap().unwrap()
}

/// A real etcd of one member, without TLS; killed when dropped.
pub(crate) struct Etcd {
    child: Child,
    pub(crate) url: String,
    data: Option<tempfile::TempDir>,
}

impl Etcd {
    pub(crate) async fn start(program: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut etcd = Self::start_in(program, &dir.path().join("data")).await;
        etcd.data = Some(dir);
        etcd
    }

    /// On a directory of the caller's, which may hold a restored member.
    pub(crate) async fn start_in(program: &Path, data: &Path) -> Self {
        let port =
            || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (client, peer) = (port(), port());
        let url = format!("http://127.0.0.1:{client}");
        let peers = format!("http://127.0.0.1:{peer}");
        let child = Command::new(program)
            .arg("--name=a1")
            .arg(format!("--data-dir={}", data.display()))
            .arg(format!("--listen-client-urls={url}"))
            .arg(format!("--advertise-client-urls={url}"))
            .arg(format!("--listen-peer-urls={peers}"))
            .arg(format!("--initial-advertise-peer-urls={peers}"))
            .arg(format!("--initial-cluster=a1={peers}"))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let etcd = Self { child, url, data: None };
        let started = Instant::now();
        loop {
            if let Ok(answer) = reqwest::get(format!("{}/health", etcd.url)).await
                && answer.status().is_success()
            {
                return etcd;
            }
            assert!(started.elapsed() < PATIENCE, "etcd does not come up");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
