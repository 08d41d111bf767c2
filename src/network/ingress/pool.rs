//! Connections to pods, kept for the next request.
//!
//! Why our own: whoever sends must know whether a request that failed was sent. One that
//! was not can go to another pod, whatever it asks; that is how a rollout loses nothing.
//! Invariants: a connection carries one HTTP/1 request at a time; connections to pods that
//! are no backends any more are kept no longer, and what they carry ends by itself.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;

/// A pod on a segment that does not accept within this is gone.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// Idle connections kept for one pod.
const IDLE_MAX: usize = 32;

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error("cannot connect to {target}")]
    Connect {
        target: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("{target} does not accept connections")]
    Silent { target: SocketAddr },
    #[error("the conversation with {target} broke")]
    Broken {
        target: SocketAddr,
        #[source]
        source: hyper::Error,
    },
}

/// The failure, and the request if none of it was sent.
pub(super) type Failed = Box<(SendError, Option<Request<Body>>)>;

type Idle = HashMap<SocketAddr, Vec<http1::SendRequest<Body>>>;

#[derive(Clone, Debug, Default)]
pub(super) struct Pool {
    idle: Arc<Mutex<Idle>>,
    shared: Arc<Mutex<HashMap<SocketAddr, http2::SendRequest<Body>>>>,
    tasks: TaskTracker,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn connect(target: SocketAddr) -> Result<TokioIo<TcpStream>, SendError> {
    let stream = match tokio::time::timeout(CONNECT_DEADLINE, TcpStream::connect(target)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(source)) => return Err(SendError::Connect { target, source }),
        Err(_) => return Err(SendError::Silent { target }),
    };
    let _best_effort = stream.set_nodelay(true);
    Ok(TokioIo::new(stream))
}

impl Pool {
    /// Forgets idle connections to all others.
    pub(super) fn retain(&self, targets: &BTreeSet<SocketAddr>) {
        lock(&self.idle).retain(|target, _| targets.contains(target));
        lock(&self.shared).retain(|target, _| targets.contains(target));
    }

    /// Sends by HTTP/1.1.
    pub(super) async fn send(
        &self,
        target: SocketAddr,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, Failed> {
        let mut request = request;
        // A kept connection may have ended while it waited; then a new one is made.
        while let Some(sender) = self.take(target) {
            let failed = match self.send_over(target, sender, request).await {
                Ok(response) => return Ok(response),
                Err(failed) => *failed,
            };
            match failed {
                (_, Some(back)) => request = back,
                (error, None) => return Err(Box::new((error, None))),
            }
        }
        let io = match connect(target).await {
            Ok(io) => io,
            Err(error) => return Err(Box::new((error, Some(request)))),
        };
        let (sender, connection) = match http1::handshake(io).await {
            Ok(made) => made,
            Err(source) => {
                return Err(Box::new((SendError::Broken { target, source }, Some(request))));
            }
        };
        self.tasks.spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%target, %error, "a connection to a pod ended badly");
            }
        });
        self.send_over(target, sender, request).await
    }

    fn take(&self, target: SocketAddr) -> Option<http1::SendRequest<Body>> {
        let mut idle = lock(&self.idle);
        let kept = idle.get_mut(&target)?;
        while let Some(sender) = kept.pop() {
            if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    async fn send_over(
        &self,
        target: SocketAddr,
        mut sender: http1::SendRequest<Body>,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, Failed> {
        match sender.try_send_request(request).await {
            Ok(response) => {
                let idle = self.idle.clone();
                self.tasks.spawn(async move {
                    // Ready once the whole answer was read.
                    if sender.ready().await.is_ok() {
                        let mut idle = lock(&idle);
                        let kept = idle.entry(target).or_default();
                        if kept.len() < IDLE_MAX {
                            kept.push(sender);
                        }
                    }
                });
                Ok(response)
            }
            Err(mut failed) => {
                let back = failed.take_message();
                let source = failed.into_error();
                Err(Box::new((SendError::Broken { target, source }, back)))
            }
        }
    }

    /// Sends by HTTP/2, many at a time over one connection.
    pub(super) async fn send_h2(
        &self,
        target: SocketAddr,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, Failed> {
        let kept = lock(&self.shared).get(&target).cloned();
        let kept = kept.filter(|sender| !sender.is_closed());
        let mut sender = match kept {
            Some(sender) => sender,
            None => {
                let io = match connect(target).await {
                    Ok(io) => io,
                    Err(error) => return Err(Box::new((error, Some(request)))),
                };
                let builder = http2::Builder::new(TokioExecutor::new());
                let (sender, connection) = match builder.handshake(io).await {
                    Ok(made) => made,
                    Err(source) => {
                        let error = SendError::Broken { target, source };
                        return Err(Box::new((error, Some(request))));
                    }
                };
                self.tasks.spawn(async move {
                    if let Err(error) = connection.await {
                        tracing::debug!(%target, %error, "a connection to a pod ended badly");
                    }
                });
                lock(&self.shared).insert(target, sender.clone());
                sender
            }
        };
        sender.try_send_request(request).await.map_err(|mut failed| {
            lock(&self.shared).remove(&target);
            let back = failed.take_message();
            Box::new((SendError::Broken { target, source: failed.into_error() }, back))
        })
    }
}
