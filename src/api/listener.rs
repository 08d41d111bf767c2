//! One HTTPS listener: accepts, does the handshake, says who calls, serves a router.
//!
//! Invariants: a broken handshake or connection ends that connection only; on stop the
//! open requests get a grace period, then the connections are dropped; a handshake that
//! hangs holds nothing but itself.
//! Not here: which routes (the folders beside), starting it (`app/supervise`).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::api::identity::PeerIdentity;

/// How long a client may take for its handshake.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// How long open requests may go on after a stop was asked for.
const DRAIN_DEADLINE: Duration = Duration::from_secs(3);

/// Streams that one connection may have open at a time.
const STREAMS: u32 = 1_000;
/// The same where one client carries thousands of watches or writers over one connection.
const MANY_STREAMS: u32 = 100_000;
/// How much a client may send before it hears back, bytes: of one stream, and of all.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// The address a request came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteAddress(pub SocketAddr);

impl RemoteAddress {
    /// The address without the port, by which tries to sign in are counted; empty where no
    /// listener of ours took the request in.
    pub(crate) fn source(extensions: &http::Extensions) -> String {
        let remote = extensions.get::<Self>();
        remote.map(|remote| remote.0.ip().to_string()).unwrap_or_default()
    }
}

/// Says when the listener stops; for connections that outlive their request.
#[derive(Clone, Debug)]
pub(crate) struct Stopping(pub(crate) CancellationToken);

/// Serves until `cancel`; then drains.
pub async fn serve(
    socket: TcpListener,
    tls: Arc<ServerConfig>,
    router: Router,
    cancel: CancellationToken,
) -> std::io::Result<()> {
    serve_streams(socket, tls, router, STREAMS, cancel).await
}

/// The same for clients that do very much at a time over one connection.
pub async fn serve_many(
    socket: TcpListener,
    tls: Arc<ServerConfig>,
    router: Router,
    cancel: CancellationToken,
) -> std::io::Result<()> {
    serve_streams(socket, tls, router, MANY_STREAMS, cancel).await
}

async fn serve_streams(
    socket: TcpListener,
    tls: Arc<ServerConfig>,
    router: Router,
    streams: u32,
    cancel: CancellationToken,
) -> std::io::Result<()> {
    let acceptor = TlsAcceptor::from(tls);
    let connections = TaskTracker::new();
    loop {
        let (stream, remote) = tokio::select! {
            () = cancel.cancelled() => break,
            accepted = socket.accept() => match accepted {
                Ok(pair) => pair,
                // Out of descriptors or a connection already gone: the listener lives on.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::task::yield_now().await;
                    continue;
                }
            },
        };
        let (tls, cancel) = (acceptor.clone(), cancel.clone());
        connections.spawn(connection(stream, remote, tls, router.clone(), streams, cancel));
    }
    connections.close();
    if tokio::time::timeout(DRAIN_DEADLINE, connections.wait()).await.is_err() {
        tracing::debug!(open = connections.len(), "connections dropped after the drain deadline");
    }
    Ok(())
}

async fn connection(
    stream: TcpStream,
    remote: SocketAddr,
    acceptor: TlsAcceptor,
    router: Router,
    streams: u32,
    cancel: CancellationToken,
) {
    let _best_effort = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(HANDSHAKE_DEADLINE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%remote, %error, "handshake failed");
            return;
        }
        Err(_) => return,
    };
    let certificates = stream.get_ref().1.peer_certificates();
    let identity = certificates
        .and_then(|chain| chain.first())
        .and_then(|der| PeerIdentity::from_certificate(der));
    let stopping = Stopping(cancel.clone());
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request: Request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(stopping.clone());
        request.extensions_mut().insert(RemoteAddress(remote));
        if let Some(identity) = identity.clone() {
            request.extensions_mut().insert(identity);
        }
        router.clone().oneshot(request)
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(Some(streams))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(Some(Duration::from_secs(10)))
        .keep_alive_timeout(Duration::from_secs(20));
    builder.http1().timer(TokioTimer::new());
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
        tracing::debug!(%remote, %error, "connection ended badly");
    }
}
