//! Builds a node from its configuration and runs it until it is told to stop.
//!
//! ```text
//!  node.yaml ► TLS ► store ► objects, registry ► listeners ► leadership ► network, agent
//! ```
//! The order is the order of starting; the supervisor stops in reverse, so the agent
//! goes first and the store last.
//!
//! Invariants: the seed makes its store once in its life; a seed whose store is gone is
//! refused, because it has forgotten what it acknowledged.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use ipnet::IpNet;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use super::adapters::{
    AgentNetwork, MemberBlobs, NodePeerServices, RegistryImages, RegistryPasswords, StoreMembership,
};
use super::config::{self, ConfigError};
use super::control_nodes::{
    ApiSetupError, ControlNodes, OtherControlNodes, node_api, note_removal,
};
use super::dr::NodeDr;
use super::image_gc::ImageGc;
use super::image_import;
use super::in_process::InProcessApi;
use super::leadership::Leadership;
use super::pod_logs::RoutedLogs;
use super::pod_streams::{AgentPods, RoutedStreams};
use super::renewal::Renewal;
use super::secret_keys::{Secrets, secrets};
use super::status::NodeStatus;
use super::store_adapters::{AuthorityTrust, MemberUpkeep};
use super::supervise::{SuperviseError, Supervisor};
use super::usage::{AgentUsage, NodesUsage};
use crate::agent::ports::ImageSource;
use crate::agent::{Agent, AgentConfig, AgentError};
use crate::api::admin::{self, AdminBackend, Door, Place};
use crate::api::etcd::{EtcdApi, EtcdStore};
use crate::api::join::{self, JoinRoutes};
use crate::api::kube::{self, KubeState};
use crate::api::peer::{self, PeerClient, PeerClientError};
use crate::api::{dr, listener, node_usage, nodes, oci, pod_streams, secret_keys, store_upkeep};
use crate::base::limits::SHUTDOWN_DEADLINE;
use crate::client::SharedApi;
use crate::client::usage::SharedUsage;
use crate::engine::DockerEngine;
use crate::install::join_service::{JoinService, JoinServiceInput};
use crate::install::node_service::{NodeService, NodeServiceInput};
use crate::install::recover;
use crate::install::remote::HttpsRemote;
use crate::install::tokens::TokenBook;
use crate::model::node_config::{NodeConfig, Role};
use crate::network::{Network, NetworkConfig, NetworkError};
use crate::objects::{Objects, ObjectsOptions};
use crate::pki::{Authority, PkiError};
use crate::registry::{Registry, RegistryConfig, RegistryError};
use crate::store::{Kv, OpenError, Store, StoreConfig, StoreDeps, StoreError, StoreTuning};
use crate::sys::clock;
use crate::sys::files::{self, FileError};
use crate::sys::tls::{TlsError, TlsIdentity};

/// The `nft` of the bundle's engine tree.
pub(super) const NFT: &str = "/opt/holdfast/engine/bin/nft";
/// How long a node may take to accept a connection.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);
/// In the configuration directory once the seed's store was made.
const SEEDED: &str = "store.initialized";

#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{node} has the role control, but node.yaml names no member id")]
    NoMember { node: String },
    #[error("the Service range {range} is not an IPv4 range")]
    NotIpv4 { range: IpNet },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Peers(#[from] PeerClientError),
    #[error("cannot set up the client for other nodes")]
    Http(#[source] reqwest::Error),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("cannot make the first member")]
    Seed(#[source] StoreError),
    #[error(
        "the store in {path} is empty although it was made before: this member has forgotten \
         what it acknowledged and must not vote again; the others go on without it. Run `holdfast \
         node remove` with this node's name on another control node, `holdfast reset` here, then \
         `holdfast join` with a new token"
    )]
    Forgotten { path: PathBuf },
    #[error(
        "a recovery of the store was begun on this host and not ended; run `holdfast store \
         recover --apply` again"
    )]
    Recovering,
    #[error(transparent)]
    Recover(#[from] recover::RecoverError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Api(#[from] ApiSetupError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Agent(#[from] AgentError),
    #[error("cannot listen on {address} for {what}")]
    Listen {
        what: &'static str,
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Supervise(#[from] SuperviseError),
}

/// What the parts of a control node share.
struct Parts {
    config: Arc<NodeConfig>,
    identity: TlsIdentity,
    http: reqwest::Client,
    store: Arc<Store>,
    objects: Arc<Objects>,
    registry: Arc<Registry>,
    door: Arc<Door>,
    nodes: Arc<NodeService>,
    secrets: Secrets,
    usage: SharedUsage,
}

/// Runs a control node until `stop` resolves.
pub(super) async fn run(
    config: Arc<NodeConfig>,
    stop: impl Future<Output = ()>,
) -> Result<(), NodeError> {
    let mut supervisor = Supervisor::default();
    let parts = build(config, &mut supervisor).await?;
    listen(&parts, &mut supervisor).await?;
    Ok(supervisor.run(stop, SHUTDOWN_DEADLINE).await?)
}

async fn build(config: Arc<NodeConfig>, supervisor: &mut Supervisor) -> Result<Parts, NodeError> {
    let Some(member_id) = config.member_id else {
        return Err(NodeError::NoMember { node: config.node_name.clone() });
    };
    let IpNet::V4(service_range) = config.network.service_range else {
        return Err(NodeError::NotIpv4 { range: config.network.service_range });
    };
    if recover::open_order(&config.paths)?.is_some() {
        return Err(NodeError::Recovering);
    }
    let own_record = recover::own_record(&config.paths)?;
    let identity = TlsIdentity::load(config::tls_files(&config))?;
    let peers = PeerClient::new(identity.client()?)?;
    let http = http_client(&identity)?;
    let store = Store::open(
        StoreConfig {
            cluster_id: config.cluster_id,
            generation: config.generation,
            member_id,
            tuning: StoreTuning::default(),
        },
        StoreDeps::on_host(&config.paths.store(), Arc::new(peers.clone()))?,
    )
    .await?;
    let store = Arc::new(store);
    let authority = files::read_text(&config.paths.pki().join("ca.crt"))?;
    store.know_time(clock::now_ms);
    store.know_generations(Arc::new(AuthorityTrust { authority }), own_record);
    let (kept, own) = (store.clone(), config.clone());
    supervisor.start("store", move |cancel| async move {
        let ended = tokio::select! {
            () = cancel.cancelled() => Ok(()),
            error = kept.failed() => Err(error),
        };
        if matches!(ended, Err(StoreError::Removed)) {
            note_removal(&own, "the store's group has no such member any more");
        }
        kept.shutdown().await;
        ended
    });
    let kv: Arc<dyn Kv> = store.clone();
    let blobs = MemberBlobs { store: store.clone(), peers };
    let registry = Registry::new(
        RegistryConfig { directory: config.paths.registry(), node_name: config.node_name.clone() },
        kv.clone(),
        Arc::new(blobs),
    )?;
    let secrets = secrets(&config, &store)?;
    let followed = secrets.service.clone();
    supervisor.start("keys of secrets", move |cancel| async move {
        followed.run(cancel).await;
        Ok::<(), Infallible>(())
    });
    let objects = Arc::new(Objects::new(secrets.kv.clone(), ObjectsOptions { service_range }));
    let follower = objects.clone();
    supervisor.start("definitions", move |cancel| async move {
        follower.follow_definitions(cancel).await;
        Ok::<(), Infallible>(())
    });
    let nodes = Arc::new(NodeService::new(NodeServiceInput {
        kv,
        api: Arc::new(InProcessApi::new(objects.clone())),
        membership: Arc::new(StoreMembership(store.clone())),
        own_name: config.node_name.clone(),
        others: Arc::new(OtherControlNodes { config: config.clone(), remote: HttpsRemote }),
        clock: Arc::new(clock::now),
    }));
    let door = door(&config, &store, &objects);
    let registry = Arc::new(registry);
    let usage = Arc::new(NodesUsage::new(config.clone(), objects.clone(), http.clone()));
    Ok(Parts { config, identity, http, store, objects, registry, door, nodes, secrets, usage })
}

/// A client for other nodes that shows this node's certificate.
pub(super) fn http_client(identity: &TlsIdentity) -> Result<reqwest::Client, NodeError> {
    reqwest::Client::builder()
        .tls_backend_preconfigured(identity.client()?)
        .no_proxy()
        .connect_timeout(CONNECT_DEADLINE)
        .build()
        .map_err(NodeError::Http)
}

/// The same for conversations with pods: HTTP/1.1, which alone can switch protocols.
fn stream_client(identity: &TlsIdentity) -> Result<reqwest::Client, NodeError> {
    reqwest::Client::builder()
        .tls_backend_preconfigured(identity.client()?)
        .no_proxy()
        .http1_only()
        .connect_timeout(CONNECT_DEADLINE)
        .build()
        .map_err(NodeError::Http)
}

/// Makes the store of a cluster's first member, once.
async fn seed(parts: &Parts) -> Result<(), NodeError> {
    let config = &parts.config;
    let mark = config.paths.config.join(SEEDED);
    if parts.store.member_id().0 != 1 {
        return Ok(());
    }
    let empty = !parts.store.is_initialized().await.map_err(NodeError::Seed)?;
    if files::inspect(&mark)?.is_some() {
        let path = config.paths.store();
        return if empty { Err(NodeError::Forgotten { path }) } else { Ok(()) };
    }
    if empty {
        let address = SocketAddr::new(config.address, config.ports.peer).to_string();
        let made = parts.store.initialize_single(&config.node_name, &address).await;
        made.map_err(NodeError::Seed)?;
    }
    Ok(files::write_atomic(&mark, b"The store of this member was made; do not remove.\n", 0o644)?)
}

pub(super) async fn bind(
    what: &'static str,
    address: SocketAddr,
) -> Result<TcpListener, NodeError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| NodeError::Listen { what, address, source })
}

pub(super) fn start_listener(
    supervisor: &mut Supervisor,
    name: &'static str,
    socket: TcpListener,
    tls: Arc<ServerConfig>,
    router: Router,
) {
    supervisor.start(name, move |cancel| listener::serve(socket, tls, router, cancel));
}

async fn listen(parts: &Parts, supervisor: &mut Supervisor) -> Result<(), NodeError> {
    let config = &parts.config;
    let any = |port| SocketAddr::new(std::net::Ipv4Addr::UNSPECIFIED.into(), port);
    let peer_socket = bind("peers", any(config.ports.peer)).await?;
    let registry_socket = bind("the registry", any(config.ports.registry)).await?;
    let etcd_socket = bind("etcd's protocol", any(config.ports.etcd)).await?;
    let api_socket = bind("the API", any(config.ports.api)).await?;
    let tls = parts.identity.server()?;
    let services =
        NodePeerServices { store: parts.store.clone(), registry: parts.registry.clone() };
    start_listener(supervisor, "peers", peer_socket, tls.clone(), peer::router(Arc::new(services)));
    seed(parts).await?;
    let etcd = EtcdApi::new(EtcdStore::of(parts.store.clone()), config.ports.etcd);
    let etcd_tls = tls.clone();
    supervisor.start("etcd", move |cancel| etcd.run(etcd_socket, etcd_tls, cancel));
    let passwords = Arc::new(RegistryPasswords(parts.door.clone()));
    let registry = oci::router(parts.registry.clone(), passwords);
    let registry = nodes::guard(registry, parts.nodes.clone());
    start_listener(supervisor, "registry", registry_socket, tls.clone(), registry);
    let replicated = parts.registry.clone();
    supervisor.start("registry replication", move |cancel| async move {
        replicated.run(cancel).await;
        Ok::<(), Infallible>(())
    });
    let (imported, import_dir) = (parts.registry.clone(), config.paths.registry().join("import"));
    supervisor.start("image import", move |cancel| image_import::run(imported, import_dir, cancel));
    let collection = ImageGc {
        registry: parts.registry.clone(),
        api: Arc::new(InProcessApi::new(parts.objects.clone())),
        pause_image: config.pause_image.clone(),
    };
    supervisor.start("image collection", move |cancel| collection.run(cancel));
    let leadership = Leadership {
        node_name: config.node_name.clone(),
        authority: files::read_text(&config.paths.pki().join("ca.crt"))?,
        store: parts.store.clone(),
        objects: parts.objects.clone(),
        api: Arc::new(InProcessApi::new(parts.objects.clone())),
        usage: parts.usage.clone(),
    };
    supervisor.start("leadership", move |cancel| leadership.run(cancel));
    let renewal = Renewal {
        config: config.clone(),
        identity: parts.identity.clone(),
        remote: Arc::new(HttpsRemote),
    };
    supervisor.start("certificates", move |cancel| renewal.run(cancel));
    let node_api = node_api(config, &parts.identity)?;
    let others =
        ControlNodes { config: config.clone(), api: node_api.clone(), registries: Arc::default() };
    supervisor.start("control nodes", move |cancel| others.run(cancel));
    let pods = if config.has_role(Role::Worker) {
        let registry = parts.registry.clone();
        let images = RegistryImages { registry, endpoint: config.registry_endpoint() };
        Some(pods(config, Arc::new(node_api), Arc::new(images))?)
    } else {
        None
    };
    let api = api_routes(parts, pods.as_ref().map(|pods| pods.agent.clone()))?;
    start_listener(supervisor, "api", api_socket, tls, api);
    if let Some(pods) = pods {
        pods.start(supervisor);
    }
    Ok(())
}

/// What makes a node run pods.
pub(super) struct Pods {
    network: Network,
    pub(super) agent: Arc<Agent>,
}

impl Pods {
    /// Starts both; the agent stops first.
    pub(super) fn start(self, supervisor: &mut Supervisor) {
        let Pods { network, agent } = self;
        supervisor.start("network", move |cancel| async move {
            network.run(cancel).await;
            Ok::<(), Infallible>(())
        });
        supervisor.start("agent", move |cancel| async move {
            agent.run(cancel).await;
            Ok::<(), Infallible>(())
        });
    }
}

/// Network and agent of a node that runs pods.
pub(super) fn pods(
    config: &NodeConfig,
    api: SharedApi,
    images: Arc<dyn ImageSource>,
) -> Result<Pods, NodeError> {
    let network = Network::new(
        NetworkConfig {
            node_name: config.node_name.clone(),
            node_address: config.address,
            pod_range: config.pod_range,
            cluster: config.network.clone(),
            data_dir: config.paths.data.clone(),
            nft: NFT.into(),
        },
        api.clone(),
    )?;
    let agent = Agent::new(
        AgentConfig::new(config.clone()),
        api,
        Arc::new(DockerEngine::new(config.paths.engine_socket())),
        Arc::new(AgentNetwork(network.pod_net())),
        images,
    )?;
    Ok(Pods { network, agent: Arc::new(agent) })
}

/// What other nodes ask of an agent.
pub(super) fn agent_routes(agent: Arc<Agent>) -> Router {
    pod_streams::router(Arc::new(AgentPods(agent.clone())))
        .merge(node_usage::router(Arc::new(AgentUsage(agent))))
}

/// The way in to the admin page and the registry by password.
fn door(config: &Arc<NodeConfig>, store: &Arc<Store>, objects: &Arc<Objects>) -> Arc<Door> {
    let status: Arc<dyn AdminBackend> =
        Arc::new(NodeStatus { config: config.clone(), store: store.clone() });
    let place = Place::new(&config.cluster_name, &config.cluster_id.to_string(), &config.node_name);
    Arc::new(Door::new(status, Some(objects.clone()), place))
}

fn api_routes(parts: &Parts, agent: Option<Arc<Agent>>) -> Result<Router, NodeError> {
    let config = &parts.config;
    let kv: Arc<dyn Kv> = parts.store.clone();
    let pki = config.paths.pki();
    let authority = Arc::new(Authority::load(&pki)?);
    let admin =
        (files::read_text(&pki.join("admin.crt"))?, files::read_text(&pki.join("admin.key"))?);
    let clock = Arc::new(clock::now);
    let tokens = TokenBook::new(kv.clone(), authority.fingerprint(), clock.clone());
    let service = JoinService::new(JoinServiceInput {
        kv,
        authority,
        admin: Some(admin),
        membership: Arc::new(StoreMembership(parts.store.clone())),
        ports: config.ports,
        secrets: parts.secrets.keys.clone(),
        clock,
    });
    let joining = JoinRoutes { service: Arc::new(service), tokens: Arc::new(tokens) };
    let logs = RoutedLogs {
        node_name: config.node_name.clone(),
        agent: agent.clone(),
        objects: parts.objects.clone(),
        http: parts.http.clone(),
        api_port: config.ports.api,
    };
    let streams = RoutedStreams {
        config: config.clone(),
        objects: parts.objects.clone(),
        http: stream_client(&parts.identity)?,
    };
    let kubernetes = KubeState {
        objects: parts.objects.clone(),
        logs: Arc::new(logs),
        streams: Arc::new(streams),
        usage: parts.usage.clone(),
        conversations: TaskTracker::new(),
    };
    let own_pods = agent.map(agent_routes).unwrap_or_default();
    let router = kube::router(kubernetes)
        .merge(own_pods)
        .merge(join::router(joining))
        .merge(nodes::router(parts.nodes.clone()))
        .merge(secret_keys::router(parts.secrets.service.clone()))
        .merge(store_upkeep::router(Arc::new(MemberUpkeep(parts.store.clone()))))
        .merge(dr::router(Arc::new(NodeDr { config: config.clone(), store: parts.store.clone() })))
        .merge(admin::router(parts.door.clone()));
    let router = nodes::guard(router, parts.nodes.clone());
    Ok(admin::guard(router, parts.door.clone()))
}
