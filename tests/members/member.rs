//! One member of our store as a process of its own: peers, log, state and etcd's protocol.
//!
//! Why not the whole node: etcd is a store too, and has no registry, no Kubernetes API and
//! no agent beside it. What runs here is the same code with the same settings as in a node.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use bytes::Bytes;
use holdfast::api::etcd::{EtcdApi, EtcdStore};
use holdfast::api::listener;
use holdfast::api::peer::{self, PeerClient, PeerServices};
use holdfast::base::ids::{ClusterId, Generation, MemberId};
use holdfast::store::{Store, StoreConfig, StoreDeps, StoreTuning};
use holdfast::sys::tls::{self, TlsIdentity};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::certificates;

/// What the process is told, as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct MemberFile {
    pub(crate) cluster: uuid::Uuid,
    pub(crate) member: u64,
    /// Of each member, in order of their ids.
    pub(crate) peer_ports: Vec<u16>,
    pub(crate) client_ports: Vec<u16>,
}

impl MemberFile {
    fn port(&self, ports: &[u16]) -> u16 {
        ports[usize::try_from(self.member - 1).expect("ids are small")]
    }
}

#[derive(Debug)]
struct StoreOnly(Arc<Store>);

#[async_trait]
impl PeerServices for StoreOnly {
    async fn receive(&self, message: Bytes) -> Result<Bytes, String> {
        Ok(self.0.receive(message).await)
    }

    async fn blob(&self, _digest: &str) -> Result<Option<Body>, String> {
        Ok(None)
    }
}

/// Serves until it is killed, or until whoever started it is gone.
pub(crate) fn run(dir: &Path) -> Result<(), anyhow::Error> {
    std::thread::spawn(|| {
        let _until_it_closes = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0)
    });
    tls::install_crypto();
    let file: MemberFile = serde_json::from_slice(&std::fs::read(dir.join("member.json"))?)?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(dir, file))
}

async fn serve(dir: &Path, file: MemberFile) -> Result<(), anyhow::Error> {
    let certificates = certificates::files(dir.parent().expect("a cluster's folder"), "node");
    let identity = TlsIdentity::load(certificates)?;
    let network = Arc::new(PeerClient::new(identity.client()?)?);
    let config = StoreConfig {
        cluster_id: ClusterId(file.cluster),
        generation: Generation(1),
        member_id: MemberId(file.member),
        tuning: StoreTuning::default(),
    };
    let deps = StoreDeps::on_host(&dir.join("store"), network)?;
    let store = Arc::new(Store::open(config, deps).await?);
    let bind = async |port| TcpListener::bind(("127.0.0.1", port)).await;
    let peers = bind(file.port(&file.peer_ports)).await?;
    let clients = bind(file.port(&file.client_ports)).await?;
    let cancel = CancellationToken::new();
    let routes = peer::router(Arc::new(StoreOnly(store.clone())));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(listener::serve(peers, identity.server()?, routes, cancel.clone()));
    if file.member == 1 && !store.is_initialized().await? {
        found(&store, &file).await?;
    }
    let api = EtcdApi::new(EtcdStore::of(store.clone()), file.port(&file.client_ports));
    // As in a node: a member that cannot serve ends, and is started again.
    tokio::select! {
        served = api.run(clients, identity.server()?, cancel) => Ok(served?),
        failed = store.failed() => Err(failed.into()),
    }
}

/// The first member makes the cluster and takes the others in as they come up.
async fn found(store: &Store, file: &MemberFile) -> Result<(), anyhow::Error> {
    let at = |index: usize| format!("127.0.0.1:{}", file.peer_ports[index]);
    store.initialize_single("m1", &at(0)).await?;
    for index in 1..file.peer_ports.len() {
        let member = MemberId(u64::try_from(index)? + 1);
        store.add_member(member, &format!("m{}", index + 1), &at(index), true).await?;
    }
    Ok(())
}
