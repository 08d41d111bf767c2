//! Members that really listen: TLS, certificates and stores on disk, for clients that we
//! did not write.
//!
//! Why an address for each and one port for all: that is how nodes serve, and a client that
//! asks one member for the others is sent to their addresses.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use bytes::Bytes;
use holdfast::api::etcd::{EtcdApi, EtcdStore};
use holdfast::api::listener;
use holdfast::api::peer::{self, PeerClient, PeerServices};
use holdfast::base::ids::{ClusterId, Generation, MemberId};
use holdfast::pki::{Authority, NodeKey, NodeNames};
use holdfast::store::{
    PeerError, PeerNetwork, PeerTarget, Store, StoreConfig, StoreDeps, StoreTuning,
};
use holdfast::sys::clock;
use holdfast::sys::tls::TlsIdentity;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{PATIENCE, certificates};

/// Where the members of a group listen: member 1 at 127.0.0.1 and so on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) client: u16,
    pub(crate) peer: u16,
}

pub(crate) fn address(index: usize) -> String {
    format!("127.0.0.{}", index + 1)
}

/// A port that is free on the addresses of so many members.
pub(crate) fn port_for(members: usize) -> u16 {
    for _ in 0..100 {
        let first = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        let free = |index| std::net::TcpListener::bind((address(index), port));
        if (1..members).map(free).all(|bound| bound.is_ok()) {
            return port;
        }
    }
    panic!("no port is free on {members} addresses");
}

/// The way to the others, which can be cut.
#[derive(Debug)]
struct Link {
    peers: PeerClient,
    cut: Arc<AtomicBool>,
}

#[async_trait]
impl PeerNetwork for Link {
    async fn call(
        &self,
        target: &PeerTarget,
        message: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, PeerError> {
        if self.cut.load(Ordering::SeqCst) {
            let (member, address) = (target.member, target.address.clone());
            return Err(PeerError::Unreachable { member, address, reason: "cut off".into() });
        }
        self.peers.call(target, message, deadline).await
    }
}

/// The way from the others.
#[derive(Debug)]
struct Incoming {
    store: Arc<Store>,
    cut: Arc<AtomicBool>,
}

#[async_trait]
impl PeerServices for Incoming {
    async fn receive(&self, message: Bytes) -> Result<Bytes, String> {
        if self.cut.load(Ordering::SeqCst) {
            return Err("cut off".into());
        }
        Ok(self.store.receive(message).await)
    }

    async fn blob(&self, _digest: &str) -> Result<Option<Body>, String> {
        Ok(None)
    }
}

/// One member; ends when dropped.
pub(crate) struct Member {
    pub(crate) store: Arc<Store>,
    cut: Arc<AtomicBool>,
    tasks: JoinSet<std::io::Result<()>>,
}

impl Member {
    /// Cuts it off from the other members, not from clients; or heals that.
    pub(crate) fn cut(&self, off: bool) {
        self.cut.store(off, Ordering::SeqCst);
    }
}

/// A member's certificate, under the name `node` and its number.
fn issue(dir: &Path, authority: &Authority, index: usize) {
    let names = NodeNames {
        node_name: format!("a{}", index + 1),
        address: address(index).parse().unwrap(),
        api_address: "10.96.0.1".parse().unwrap(),
        cluster_domain: "cluster.local".into(),
        control: true,
    };
    let name = format!("node{}", index + 1);
    let key = NodeKey::load_or_create(&dir.join(format!("{name}.key"))).unwrap();
    let signed = authority.sign_node(&key.request().unwrap(), &names, clock::now()).unwrap();
    let chain = format!("{signed}{}", authority.certificate_pem());
    std::fs::write(dir.join(format!("{name}.crt")), chain).unwrap();
}

/// Certificates for the members; the client's are `admin`.
pub(crate) fn certify(dir: &Path, members: usize) -> Authority {
    let authority = certificates::make(dir, "a1").unwrap();
    // One more than there are at first.
    (0..=members).for_each(|index| issue(dir, &authority, index));
    authority
}

fn identity(dir: &Path, index: usize) -> TlsIdentity {
    TlsIdentity::load(certificates::files(dir, &format!("node{}", index + 1))).unwrap()
}

/// Opens a store whose way to the others can be cut.
pub(crate) async fn open(
    certificates: &Path,
    dir: &Path,
    (cluster_id, member_id): (ClusterId, MemberId),
    cut: Arc<AtomicBool>,
) -> Arc<Store> {
    let config = StoreConfig {
        cluster_id,
        generation: Generation(1),
        member_id,
        tuning: StoreTuning::default(),
    };
    let peers = PeerClient::new(identity(certificates, 0).client().unwrap()).unwrap();
    let deps = StoreDeps::on_host(dir, Arc::new(Link { peers, cut })).unwrap();
    Arc::new(Store::open(config, deps).await.unwrap())
}

async fn bind(index: usize, port: u16) -> TcpListener {
    let at: SocketAddr = format!("{}:{port}", address(index)).parse().unwrap();
    TcpListener::bind(at).await.unwrap()
}

/// Lets a store be reached by its peers and by clients.
pub(crate) async fn listen(
    certificates: &Path,
    index: usize,
    ports: Ports,
    store: Arc<Store>,
    cut: Arc<AtomicBool>,
) -> Member {
    let tls = identity(certificates, index);
    let (peers, clients) = (bind(index, ports.peer).await, bind(index, ports.client).await);
    let cancel = CancellationToken::new();
    let routes = peer::router(Arc::new(Incoming { store: store.clone(), cut: cut.clone() }));
    let mut tasks = JoinSet::new();
    tasks.spawn(listener::serve(peers, tls.server().unwrap(), routes, cancel.clone()));
    let api = EtcdApi::new(EtcdStore::of(store.clone()), ports.client);
    tasks.spawn(api.run(clients, tls.server().unwrap(), cancel));
    Member { store, cut, tasks }
}

/// A group of so many voters, all up.
pub(crate) async fn start(dir: &Path, members: usize, ports: Ports) -> Vec<Member> {
    let cluster = ClusterId(uuid::Uuid::new_v4());
    let mut group: Vec<Member> = Vec::new();
    for index in 0..members {
        let cut = Arc::new(AtomicBool::new(false));
        // Large ones, as etcd's are: they stand for themselves in a client's output.
        let id = MemberId(0x7_7000_0001 + u64::try_from(index).unwrap());
        let files = dir.join(format!("store{}", index + 1));
        let store = open(dir, &files, (cluster, id), cut.clone()).await;
        let (name, peer) =
            (format!("a{}", index + 1), format!("{}:{}", address(index), ports.peer));
        if index == 0 {
            store.initialize_single(&name, &peer).await.unwrap();
        }
        group.push(listen(dir, index, ports, store, cut).await);
        if index > 0 {
            let added = group[0].store.add_member(id, &name, &peer, true);
            tokio::time::timeout(PATIENCE, added).await.unwrap().unwrap();
        }
    }
    group
}

impl Drop for Member {
    fn drop(&mut self) {
        self.tasks.abort_all();
    }
}
