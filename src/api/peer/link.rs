//! One connection to a peer, which carries messages to it.
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
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures::{Sink, SinkExt, StreamExt};
use http::header::{CONNECTION, HOST, UPGRADE};
use http::uri::Authority;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};
use tokio_util::task::TaskTracker;

use super::MESSAGE_PATH;
use super::frames::{
    Counted, PING_INTERVAL, PROTOCOL, SIGN_OF_LIFE, SILENCE_MAX, WRITE_BEHIND_BYTES, codec, flush,
    question, read_answer, while_moving,
};
use crate::base::chain::chain;

/// How long a connection to a peer may take, with its handshake and the upgrade.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// Bytes that may lie in the kernel unsent. With more, nothing would be seen of a long
/// message's way on a thin line until a third of a large buffer is free.
const UNSENT_MAX_BYTES: u32 = 256 * 1024;
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
    pub(super) fn open(address: String, tls: Arc<ClientConfig>, tasks: &TaskTracker) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        tasks.spawn(run(address, tls, waiting));
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
            let carrier = Carrier::new();
            let reason = carrier.carry(connection, &mut waiting).await;
            for (_, reply) in carrier.asked().drain() {
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
    SockRef::from(&stream)
        .set_tcp_notsent_lowat(UNSENT_MAX_BYTES)
        .map_err(|error| chain(&error))?;
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
    asked: Mutex<HashMap<u64, Reply>>,
    /// Something is being written.
    speaking: AtomicBool,
    /// When the last long writing ended.
    spoke: Mutex<Instant>,
}

impl Carrier {
    fn new() -> Self {
        let spoke = Mutex::new(Instant::now());
        Self { asked: Mutex::default(), speaking: AtomicBool::new(false), spoke }
    }

    /// Carries until the connection is of no use any more; says why.
    async fn carry(&self, connection: Upgraded, waiting: &mut mpsc::Receiver<Waiting>) -> String {
        let (read, write) = tokio::io::split(TokioIo::new(connection));
        let ((read, heard), (write, written)) = (Counted::new(read), Counted::new(write));
        let mut frames = FramedWrite::new(write, codec());
        frames.set_backpressure_boundary(WRITE_BEHIND_BYTES);
        // Neither waits for the other: a long message that is on its way holds up no answer.
        tokio::select! {
            reason = self.listen(FramedRead::new(read, codec()), &heard) => reason,
            reason = self.speak(frames, &written, waiting) => reason,
        }
    }

    async fn listen<R>(
        &self,
        mut frames: FramedRead<R, LengthDelimitedCodec>,
        heard: &AtomicU64,
    ) -> String
    where
        R: AsyncRead + Unpin,
    {
        loop {
            match while_moving(heard, SILENCE_MAX, frames.next()).await {
                Some(Some(Ok(frame))) => match read_answer(frame) {
                    Some((number, answered)) => self.tell(number, answered),
                    None => return "the peer sent what is no answer".into(),
                },
                Some(Some(Err(error))) => return chain(&error),
                Some(None) => return "the peer closed the connection".into(),
                None if self.is_spoken_to() => {}
                None => return format!("the peer was silent for {} s", SILENCE_MAX.as_secs()),
            }
        }
    }

    async fn speak<W>(
        &self,
        mut frames: FramedWrite<Counted<W>, LengthDelimitedCodec>,
        written: &AtomicU64,
        waiting: &mut mpsc::Receiver<Waiting>,
    ) -> String
    where
        W: AsyncWrite + Unpin,
    {
        let mut tick = interval(PING_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = SIGN_OF_LIFE;
        loop {
            let first = tokio::select! {
                first = waiting.recv() => match first {
                    Some(first) => Some(first),
                    None => return "it is not used any more".into(),
                },
                _ = tick.tick() => None,
            };
            let began = Instant::now();
            self.speaking.store(true, Ordering::Relaxed);
            let sent = match first {
                Some(first) => {
                    let sending = self.send(&mut frames, first, waiting, &mut last);
                    while_moving(written, SILENCE_MAX, sending).await
                }
                None => {
                    let asking = frames.send(question(SIGN_OF_LIFE, &[]));
                    while_moving(written, SILENCE_MAX, asking).await
                }
            };
            self.speaking.store(false, Ordering::Relaxed);
            match sent {
                Some(Ok(())) => {}
                Some(Err(error)) => return chain(&error),
                None => return "the peer takes nothing".into(),
            }
            if began.elapsed() > PING_INTERVAL {
                *self.spoke() = Instant::now();
            }
        }
    }

    /// Sends a message and all that wait behind it.
    async fn send<S>(
        &self,
        frames: &mut S,
        first: Waiting,
        waiting: &mut mpsc::Receiver<Waiting>,
        last: &mut u64,
    ) -> std::io::Result<()>
    where
        S: Sink<Bytes, Error = std::io::Error> + Unpin,
    {
        let mut next = Some(first);
        while let Some(Waiting { message, reply }) = next {
            // Whoever gave up does not want it sent.
            if !reply.is_closed() {
                *last += 1;
                self.asked().insert(*last, reply);
                frames.feed(question(*last, &message)).await?;
            }
            next = waiting.try_recv().ok();
        }
        flush(frames).await
    }

    fn tell(&self, number: u64, answered: Result<Bytes, String>) {
        if let Some(reply) = self.asked().remove(&number) {
            // Its caller may have given up.
            let _ = reply.send(answered.map_err(Lost::Unanswered));
        }
    }

    fn asked(&self) -> MutexGuard<'_, HashMap<u64, Reply>> {
        self.asked.lock().expect("no holder of the calls panics")
    }

    /// Whether the peer may well be silent: it takes what is written and was asked for
    /// nothing else meanwhile.
    fn is_spoken_to(&self) -> bool {
        self.speaking.load(Ordering::Relaxed) || self.spoke().elapsed() < SILENCE_MAX
    }

    fn spoke(&self) -> MutexGuard<'_, Instant> {
        self.spoke.lock().expect("no holder of a time panics")
    }
}
