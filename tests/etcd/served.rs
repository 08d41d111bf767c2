//! Our members and a real etcd's beside each other, with the same certificates.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use holdfast::base::ids::{ClusterId, MemberId};
use holdfast::pki::Authority;
use holdfast::store::Store;
use holdfast::sys::clock;
use holdfast::sys::tls::{self, TlsIdentity};

use crate::group::{self, Member, Ports, address, port_for};
use crate::{PATIENCE, certificates};

/// A group of members with their certificates; ends when dropped.
pub(crate) struct Served {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) port: u16,
    pub(crate) peer_port: u16,
    authority: Authority,
    pub(crate) members: Vec<Member>,
}

/// The store of a directory that was made from a snapshot.
pub(crate) async fn restored_store(dir: &Path, cluster: ClusterId, member: MemberId) -> Arc<Store> {
    tls::install_crypto();
    let certificates = tempfile::tempdir().unwrap();
    group::certify(certificates.path(), 1);
    let cut = Arc::new(AtomicBool::new(false));
    let store = group::open(certificates.path(), dir, (cluster, member), cut).await;
    let mut leader = store.leader();
    let led = leader.wait_for(|leader| *leader == Some(member));
    tokio::time::timeout(PATIENCE, led).await.unwrap().unwrap();
    store
}

impl Served {
    /// One member.
    pub(crate) async fn start() -> Self {
        Self::group(1).await
    }

    /// So many voters.
    pub(crate) async fn group(members: usize) -> Self {
        tls::install_crypto();
        let dir = tempfile::tempdir().unwrap();
        let authority = group::certify(dir.path(), members);
        let ports = Ports { client: port_for(members), peer: port_for(members) };
        let members = group::start(dir.path(), members, ports).await;
        Self { dir, port: ports.client, peer_port: ports.peer, authority, members }
    }

    /// Over a store that is open already, whose files the caller keeps.
    pub(crate) async fn start_on(store: Arc<Store>) -> Self {
        tls::install_crypto();
        let dir = tempfile::tempdir().unwrap();
        let authority = group::certify(dir.path(), 1);
        let ports = Ports { client: port_for(1), peer: port_for(1) };
        let cut = Arc::new(AtomicBool::new(false));
        let member = group::listen(dir.path(), 0, ports, store, cut).await;
        Self { dir, port: ports.client, peer_port: ports.peer, authority, members: vec![member] }
    }

    pub(crate) fn url(&self) -> String {
        self.url_of(0)
    }

    pub(crate) fn url_of(&self, index: usize) -> String {
        format!("https://{}:{}", address(index), self.port)
    }

    /// A client certificate beside the administrator's.
    pub(crate) fn issue(&self, name: &str) {
        let issued = self.authority.issue_etcd_client(name, clock::now()).unwrap();
        certificates::save(self.dir.path(), name, issued).unwrap();
    }

    /// `etcdctl` with the certificate of that name.
    pub(crate) fn etcdctl(&self, program: &Path, identity: &str, arguments: &[&str]) -> Command {
        etcdctl(program, self.dir.path(), &self.url(), identity, arguments)
    }

    /// An HTTP client with the administrator's certificate.
    pub(crate) fn http(&self) -> reqwest::Client {
        http(self.dir.path(), "admin")
    }
}

/// `etcdctl` against an endpoint, with the certificate of that name.
pub(crate) fn etcdctl(
    program: &Path,
    certificates: &Path,
    url: &str,
    identity: &str,
    arguments: &[&str],
) -> Command {
    let at = |name: String| certificates.join(name);
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("ETCDCTL_API", "3")
        .env("ETCDCTL_ENDPOINTS", url)
        .env("ETCDCTL_CACERT", at("ca.crt".into()))
        .env("ETCDCTL_CERT", at(format!("{identity}.crt")))
        .env("ETCDCTL_KEY", at(format!("{identity}.key")));
    command
}

/// An HTTP client with the certificate of that name.
pub(crate) fn http(certificates: &Path, name: &str) -> reqwest::Client {
    let identity = TlsIdentity::load(certificates::files(certificates, name));
    let tls = identity.unwrap().client().unwrap();
    reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build().unwrap()
}

/// The same, which speaks HTTP/1.1 only.
pub(crate) fn http1(certificates: &Path, name: &str) -> reqwest::Client {
    let identity = TlsIdentity::load(certificates::files(certificates, name));
    let tls = identity.unwrap().client().unwrap();
    let builder = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy();
    builder.http1_only().build().unwrap()
}

/// Where a program of an etcd release is, if it is anywhere.
pub(crate) fn program_in(folder: &str, name: &str) -> Option<PathBuf> {
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join(".build").join(folder).join(name);
    if !found.is_file() {
        println!("SKIPPED {name} is not here; .ci/install-test unpacks it");
        return None;
    }
    Some(found)
}

/// Where a program of Debian's etcd packages is, if it is anywhere.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    program_in("etcd/usr/bin", name)
}

/// Runs off the runtime's threads, which the server needs.
pub(crate) async fn output(mut command: Command) -> Output {
    let running = tokio::task::spawn_blocking(move || command.output().unwrap());
    tokio::time::timeout(PATIENCE * 3, running).await.unwrap().unwrap()
}
