//! The proxy for Ingress objects on this node.
//!
//! ```text
//! Ingresses, classes, Services, slices ─► Routes (logic/ingress.rs) ─► proxy ─► pool ─► pods
//! Secrets by name ─► certs ─► handshakes on port 443
//! ```
//! Why it listens only while there are Ingresses: ports 80 and 443 may be somebody else's
//! on a host that serves none. Why a new table of routes needs no pause: requests that are
//! under way hold the one that they began with.
//! Invariant: on the way out no new connection is taken and those that are there end their
//! requests, for [`DRAIN_DEADLINE`] at most.
//! Not here: which nodes an Ingress's status names (controllers/ingress_status.rs).

mod certs;
mod pool;
mod proxy;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::certs::{Certificates, Wanted};
use self::pool::Pool;
use self::proxy::{Caller, Proxy};
use crate::base::chain::chain;
use crate::base::limits::INGRESS_CONNECTIONS;
use crate::client::api::SharedApi;
use crate::logic::ingress::{NODE_LABEL, Routes, World, certificates, ours, proxy_nodes};
use crate::network::Plan;
use crate::network::source::View;
use crate::sys::tls::TlsError;

const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;
/// How soon a port that is taken is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How often certificates are read again.
const CERTIFICATES: Duration = Duration::from_secs(5);
/// How long a client may take for its handshake, and for the head of a request.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
const HEAD_DEADLINE: Duration = Duration::from_secs(30);
/// How long requests may take to end when the proxy does.
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);

/// What the routes are made from.
#[derive(Debug)]
pub(super) struct Inputs {
    pub(super) ingresses: View<Value>,
    pub(super) classes: View<Value>,
    pub(super) services: View<Service>,
    pub(super) slices: View<EndpointSlice>,
    pub(super) nodes: View<Node>,
}

/// What the objects ask of this node.
#[derive(Debug)]
struct Asked {
    routes: Routes,
    certificates: Wanted,
    /// Whether to listen at all.
    listens: bool,
}

impl Inputs {
    fn current(&mut self, node: &str) -> Option<Asked> {
        let (ingresses, classes) = (self.ingresses.current()?, self.classes.current()?);
        let (services, slices) = (self.services.current()?, self.slices.current()?);
        let nodes = self.nodes.current()?;
        let labels = nodes.iter().map(|one| {
            let labels = one.metadata.labels.as_ref();
            let label = labels.and_then(|labels| labels.get(NODE_LABEL)).map(String::as_str);
            (one.metadata.name.as_deref().unwrap_or_default(), label)
        });
        let runs = proxy_nodes(labels).contains(&node);
        let mine = ours(&ingresses, &classes);
        Some(Asked {
            certificates: certificates(&mine),
            listens: runs && !mine.is_empty(),
            routes: Routes::build(World {
                ingresses: &ingresses,
                classes: &classes,
                services: &services,
                slices: &slices,
            }),
        })
    }

    async fn changed(&mut self) {
        tokio::select! {
            () = self.ingresses.changed() => {}
            () = self.classes.changed() => {}
            () = self.services.changed() => {}
            () = self.slices.changed() => {}
            () = self.nodes.changed() => {}
        }
    }
}

/// Serves until cancelled.
pub(super) async fn run(
    plan: Arc<Plan>,
    api: SharedApi,
    mut inputs: Inputs,
    cancel: CancellationToken,
) {
    let routes = Arc::new(ArcSwap::from_pointee(Routes::default()));
    let held = Arc::new(Certificates::default());
    let proxy =
        Proxy { routes: routes.clone(), pool: Pool::default(), upgraded: TaskTracker::new() };
    let mut doors: Option<Doors> = None;
    let mut wanted = Wanted::new();
    let mut tick = tokio::time::interval(CERTIFICATES);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        if let Some(asked) = inputs.current(&plan.node_name) {
            if **routes.load() != asked.routes {
                proxy.pool.retain(&asked.routes.targets());
                routes.store(Arc::new(asked.routes));
            }
            if wanted != asked.certificates && asked.listens {
                wanted = asked.certificates;
                held.refresh(&api, &wanted).await;
            }
            match (asked.listens, &doors) {
                (true, None) => doors = Some(Doors::open(&proxy, &held)),
                (false, Some(_)) => {
                    if let Some(doors) = doors.take() {
                        doors.close().await;
                    }
                }
                _ => {}
            }
        }
        tokio::select! {
            () = cancel.cancelled() => break,
            () = inputs.changed() => {}
            _ = tick.tick() => {
                if doors.is_some() && !wanted.is_empty() {
                    held.refresh(&api, &wanted).await;
                }
            }
        }
    }
    if let Some(doors) = doors {
        doors.close().await;
    }
}

/// The two ports and who came in by them.
#[derive(Debug)]
struct Doors {
    cancel: CancellationToken,
    tasks: TaskTracker,
}

impl Doors {
    fn open(proxy: &Proxy, certificates: &Arc<Certificates>) -> Self {
        let doors = Self { cancel: CancellationToken::new(), tasks: TaskTracker::new() };
        let room = Arc::new(Semaphore::new(INGRESS_CONNECTIONS));
        for secure in [false, true] {
            let door = Door {
                proxy: proxy.clone(),
                certificates: secure.then(|| certificates.clone()),
                room: room.clone(),
                tasks: doors.tasks.clone(),
                cancel: doors.cancel.clone(),
            };
            doors.tasks.spawn(door.run());
        }
        doors
    }

    async fn close(self) {
        self.cancel.cancel();
        self.tasks.close();
        if tokio::time::timeout(DRAIN_DEADLINE, self.tasks.wait()).await.is_err() {
            tracing::debug!(open = self.tasks.len(), "connections dropped after the deadline");
        }
    }
}

#[derive(Debug)]
struct Door {
    proxy: Proxy,
    /// Of the door with TLS.
    certificates: Option<Arc<Certificates>>,
    room: Arc<Semaphore>,
    tasks: TaskTracker,
    cancel: CancellationToken,
}

impl Door {
    async fn run(self) {
        let tls = match self.tls() {
            Ok(tls) => tls,
            Err(error) => {
                tracing::warn!(error = chain(&error), "the ingress cannot serve TLS");
                return;
            }
        };
        let port = if tls.is_some() { HTTPS_PORT } else { HTTP_PORT };
        let place = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let listener = loop {
            match TcpListener::bind(place).await {
                Ok(listener) => break listener,
                Err(error) => tracing::warn!(port, %error, "the ingress cannot listen"),
            }
            tokio::select! {
                () = self.cancel.cancelled() => return,
                () = tokio::time::sleep(RETRY) => {}
            }
        };
        tracing::info!(port, "the ingress listens");
        loop {
            let Ok(room) = self.room.clone().acquire_owned().await else { return };
            let (stream, address) = tokio::select! {
                () = self.cancel.cancelled() => return,
                accepted = listener.accept() => match accepted {
                    Ok(pair) => pair,
                    // Out of descriptors or a connection already gone: the port stays open.
                    Err(error) => {
                        tracing::debug!(%error, "cannot accept a connection");
                        tokio::task::yield_now().await;
                        continue;
                    }
                },
            };
            let (proxy, tls, cancel) = (self.proxy.clone(), tls.clone(), self.cancel.clone());
            self.tasks.spawn(async move {
                converse(stream, address, tls, proxy, cancel).await;
                drop(room);
            });
        }
    }

    fn tls(&self) -> Result<Option<TlsAcceptor>, TlsError> {
        let Some(certificates) = &self.certificates else { return Ok(None) };
        Ok(Some(TlsAcceptor::from(certificates.server()?)))
    }
}

async fn converse(
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    proxy: Proxy,
    cancel: CancellationToken,
) {
    let _best_effort = stream.set_nodelay(true);
    let caller = Caller { address, secure: tls.is_some() };
    let Some(tls) = tls else {
        return serve(stream, caller, proxy, cancel).await;
    };
    match tokio::time::timeout(HANDSHAKE_DEADLINE, tls.accept(stream)).await {
        Ok(Ok(stream)) => serve(stream, caller, proxy, cancel).await,
        Ok(Err(error)) => tracing::debug!(%address, %error, "handshake failed"),
        Err(_) => {}
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    caller: Caller,
    proxy: Proxy,
    cancel: CancellationToken,
) {
    let service = service_fn(move |request| proxy.clone().handle(request, caller));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(Duration::from_secs(20)))
        .keep_alive_timeout(Duration::from_secs(20));
    let served = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = cancel.cancelled() => {
            served.as_mut().graceful_shutdown();
            match tokio::time::timeout(DRAIN_DEADLINE, served).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(address = %caller.address, %error, "connection ended badly");
    }
}
