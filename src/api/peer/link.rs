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
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};
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
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};
use tokio_util::task::TaskTracker;

use super::MESSAGE_PATH;
use super::frames::{
    PROTOCOL, SIGN_OF_LIFE, WRITE_BEHIND_BYTES, codec, flush, question, read_answer,
};
use crate::base::chain::chain;

/// How long a connection to a peer may take, with its handshake and the upgrade.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// How often the peer is asked for a sign of life, and how long none may come. A peer that
/// takes bytes of a long message gives one.
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

/// The messages on a connection, and what was last heard from the other side.
#[derive(Debug)]
struct Carrier {
    asked: Mutex<HashMap<u64, Reply>>,
    heard: Mutex<Instant>,
}

impl Carrier {
    fn new() -> Self {
        Self { asked: Mutex::default(), heard: Mutex::new(Instant::now()) }
    }

    /// Carries until the connection is of no use any more; says why.
    async fn carry(&self, connection: Upgraded, waiting: &mut mpsc::Receiver<Waiting>) -> String {
        let (read, write) = tokio::io::split(TokioIo::new(connection));
        let written = Arc::new(AtomicU64::new(0));
        let write = Counted { write, written: written.clone() };
        let mut frames = FramedWrite::new(write, codec());
        frames.set_backpressure_boundary(WRITE_BEHIND_BYTES);
        // Neither waits for the other: a long message that is on its way holds up no answer.
        tokio::select! {
            reason = self.listen(FramedRead::new(read, codec())) => reason,
            reason = self.speak(frames, &written, waiting) => reason,
        }
    }

    async fn listen<R>(&self, mut frames: FramedRead<R, LengthDelimitedCodec>) -> String
    where
        R: AsyncRead + Unpin,
    {
        loop {
            match frames.next().await {
                Some(Ok(frame)) => match read_answer(frame) {
                    Some((number, answered)) => self.tell(number, answered),
                    None => return "the peer sent what is no answer".into(),
                },
                Some(Err(error)) => return chain(&error),
                None => return "the peer closed the connection".into(),
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
            let began = Instant::now();
            let sent = tokio::select! {
                first = waiting.recv() => match first {
                    Some(first) => {
                        let sending = self.send(&mut frames, first, waiting, &mut last);
                        while_taken(written, sending).await
                    }
                    None => return "it is not used any more".into(),
                },
                _ = tick.tick() => {
                    if self.heard().elapsed() > SILENCE_MAX {
                        return format!("the peer was silent for {} s", SILENCE_MAX.as_secs());
                    }
                    while_taken(written, frames.send(question(SIGN_OF_LIFE, &[]))).await
                }
            };
            match sent {
                Some(Ok(())) => {}
                Some(Err(error)) => return chain(&error),
                None => return "the peer takes nothing".into(),
            }
            if began.elapsed() > PING_INTERVAL {
                // It took what was written all that time, and was asked for nothing else.
                *self.heard() = Instant::now();
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
        *self.heard() = Instant::now();
        if let Some(reply) = self.asked().remove(&number) {
            // Its caller may have given up.
            let _ = reply.send(answered.map_err(Lost::Unanswered));
        }
    }

    fn asked(&self) -> MutexGuard<'_, HashMap<u64, Reply>> {
        self.asked.lock().expect("no holder of the calls panics")
    }

    fn heard(&self) -> MutexGuard<'_, Instant> {
        self.heard.lock().expect("no holder of a time panics")
    }
}

/// Goes on with what writes for as long as the other side takes something of it.
async fn while_taken<T>(written: &AtomicU64, writing: impl Future<Output = T>) -> Option<T> {
    tokio::pin!(writing);
    loop {
        let before = written.load(Ordering::Relaxed);
        if let Ok(done) = timeout(SILENCE_MAX, &mut writing).await {
            return Some(done);
        }
        if written.load(Ordering::Relaxed) == before {
            return None;
        }
    }
}

/// Counts the bytes that are taken.
#[derive(Debug)]
struct Counted<W> {
    write: W,
    written: Arc<AtomicU64>,
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Counted<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let taken = ready!(Pin::new(&mut self.write).poll_write(context, bytes))?;
        self.written.fetch_add(taken as u64, Ordering::Relaxed);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.write).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.write).poll_shutdown(context)
    }
}
