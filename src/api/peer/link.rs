//! One connection to a peer, which carries all messages to it.
//!
//! ```text
//!  call ──► queue ──► link task ── frames ──► peer
//!    ▲                  │   ▲
//!    └── by number ─────┘   └──── frames ──── peer
//! ```
//!
//! Why not a request of HTTP each: a replicated write is a few messages of some hundred
//! bytes, and heads, streams and their tasks cost each of them more than its own work.
//! Lifecycle: connect, ask for the upgrade, carry until the connection ends or the peer is
//! silent; the next call makes a new link.
//! Invariant: a call is told [`Lost::Unsent`] only if no byte of its message was written.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::header::{CONNECTION, HOST, UPGRADE};
use http::uri::Authority;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::MESSAGE_PATH;
use super::frames::{
    PROTOCOL, SIGN_OF_LIFE, WRITE_BEHIND_BYTES, codec, flush, question, read_answer,
};
use crate::base::chain::chain;

/// How long a connection to a peer may take, with its handshake and the upgrade.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// How often the peer is asked for a sign of life, and how long none may come.
const PING_INTERVAL: Duration = Duration::from_secs(1);
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// Messages that may wait for the connection; callers wait beyond it.
const QUEUE: usize = 1_024;
/// Most of a refusal's text that is read, bytes.
const REFUSAL_MAX_BYTES: usize = 4 * 1024;

/// Why a call brought nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// The message was never on its way.
    Unsent(String),
    /// It may have reached the peer.
    Unanswered(String),
}

type Reply = oneshot::Sender<Result<Bytes, Lost>>;

/// A message that waits to be sent.
#[derive(Debug)]
pub(super) struct Waiting {
    message: Bytes,
    reply: Reply,
}

/// The way into a link's queue.
#[derive(Clone, Debug)]
pub(super) struct Link(mpsc::Sender<Waiting>);

impl Link {
    /// Makes a link whose task ends with its connection, or when nobody holds the link.
    pub(super) fn open(address: String, tls: Arc<ClientConfig>) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(run(address, tls, waiting));
        Self(queue)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Sends a message and waits for its answer, for as long as the caller does.
    pub(super) async fn call(&self, message: Bytes) -> Result<Bytes, Lost> {
        let (reply, answer) = oneshot::channel();
        let ended = || "the connection has just ended".to_owned();
        self.0.send(Waiting { message, reply }).await.map_err(|_| Lost::Unsent(ended()))?;
        answer.await.unwrap_or_else(|_| Err(Lost::Unanswered(ended())))
    }
}

async fn run(address: String, tls: Arc<ClientConfig>, mut waiting: mpsc::Receiver<Waiting>) {
    let connected = match timeout(CONNECT_DEADLINE, connect(&address, tls)).await {
        Ok(connected) => connected,
        Err(_) => Err(format!("no connection within {} s", CONNECT_DEADLINE.as_secs())),
    };
    let reason = match connected {
        Ok(connection) => {
            let mut carrier = Carrier { asked: HashMap::new(), next: SIGN_OF_LIFE };
            let reason = carrier.carry(connection, &mut waiting).await;
            for (_, reply) in carrier.asked.drain() {
                // Its caller may have given up.
                let _ = reply.send(Err(Lost::Unanswered(reason.clone())));
            }
            reason
        }
        Err(reason) => reason,
    };
    tracing::debug!(address, reason, "the connection to a peer ended");
    waiting.close();
    while let Some(Waiting { reply, .. }) = waiting.recv().await {
        let _ = reply.send(Err(Lost::Unsent(reason.clone())));
    }
}

/// Connects as a browser would to a web socket, so that one listener serves all.
async fn connect(address: &str, tls: Arc<ClientConfig>) -> Result<Upgraded, String> {
    let authority: Authority = address.parse().map_err(|error| chain(&error))?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host).map_err(|error| chain(&error))?;
    let stream = TcpStream::connect(address).await.map_err(|error| chain(&error))?;
    stream.set_nodelay(true).map_err(|error| chain(&error))?;
    let stream = TlsConnector::from(tls).connect(name, stream).await;
    let stream = stream.map_err(|error| chain(&error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| chain(&error))?;
    let request = http::Request::get(MESSAGE_PATH)
        .header(HOST, authority.as_str())
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, PROTOCOL)
        .body(Empty::<Bytes>::new())
        .map_err(|error| chain(&error))?;
    let asked = async {
        let answer = sender.send_request(request).await.map_err(|error| chain(&error))?;
        let status = answer.status();
        if status == http::StatusCode::SWITCHING_PROTOCOLS {
            return hyper::upgrade::on(answer).await.map_err(|error| chain(&error));
        }
        let text = Limited::new(answer.into_body(), REFUSAL_MAX_BYTES).collect().await;
        let text = text.map(|text| text.to_bytes()).unwrap_or_default();
        Err(format!("{status}: {}", String::from_utf8_lossy(&text)))
    };
    beside(connection.with_upgrades(), asked).await
}

/// Awaits what only comes while the connection is driven.
async fn beside<T>(connection: impl Future, asked: impl Future<Output = T>) -> T {
    tokio::pin!(asked);
    tokio::select! {
        biased;
        output = &mut asked => return output,
        _ = connection => {}
    }
    asked.await
}

/// The messages on a connection.
#[derive(Debug)]
struct Carrier {
    asked: HashMap<u64, Reply>,
    /// The number of the last message.
    next: u64,
}

type Frames = Framed<TokioIo<Upgraded>, LengthDelimitedCodec>;

impl Carrier {
    /// Carries until the connection is of no use any more; says why.
    async fn carry(
        &mut self,
        connection: Upgraded,
        waiting: &mut mpsc::Receiver<Waiting>,
    ) -> String {
        let mut frames = Framed::new(TokioIo::new(connection), codec());
        frames.set_backpressure_boundary(WRITE_BEHIND_BYTES);
        let mut tick = interval(PING_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            let sent = tokio::select! {
                frame = frames.next() => match frame {
                    Some(Ok(frame)) => {
                        heard = Instant::now();
                        match read_answer(frame) {
                            Some((number, answered)) => self.tell(number, answered),
                            None => return "the peer sent what is no answer".into(),
                        }
                        continue;
                    }
                    Some(Err(error)) => return chain(&error),
                    None => return "the peer closed the connection".into(),
                },
                first = waiting.recv() => match first {
                    Some(first) => timeout(SILENCE_MAX, self.send(&mut frames, first, waiting)).await,
                    None => return "it is not used any more".into(),
                },
                _ = tick.tick() => {
                    if heard.elapsed() > SILENCE_MAX {
                        return format!("the peer was silent for {} s", SILENCE_MAX.as_secs());
                    }
                    timeout(SILENCE_MAX, frames.send(question(SIGN_OF_LIFE, &[]))).await
                }
            };
            match sent {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return chain(&error),
                Err(_) => return "the peer takes nothing".into(),
            }
        }
    }

    /// Sends a message and all that wait behind it.
    async fn send(
        &mut self,
        frames: &mut Frames,
        first: Waiting,
        waiting: &mut mpsc::Receiver<Waiting>,
    ) -> std::io::Result<()> {
        let mut next = Some(first);
        while let Some(Waiting { message, reply }) = next {
            // Whoever gave up does not want it sent.
            if !reply.is_closed() {
                self.next += 1;
                self.asked.insert(self.next, reply);
                frames.feed(question(self.next, &message)).await?;
            }
            next = waiting.try_recv().ok();
        }
        flush(frames).await
    }

    fn tell(&mut self, number: u64, answered: Result<Bytes, String>) {
        if let Some(reply) = self.asked.remove(&number) {
            // Its caller may have given up.
            let _ = reply.send(answered.map_err(Lost::Unanswered));
        }
    }
}
