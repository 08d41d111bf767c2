//! The serving side of one SPDY connection: its streams as queues.
//!
//! ```text
//!  bytes ─► frames ─► opened streams ─► handler
//!                 └─► each stream's queue (short: who does not read holds all up, as the
//!                     clients have no flow control)
//!  bytes ◄─ frames ◄─ Outgoing, shared by all streams
//! ```
//! Invariants: streams that both sides have ended leave nothing; when the connection
//! ends, every queue ends; the number of open streams is bounded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio_util::codec::{Decoder, Encoder};
use tokio_util::sync::CancellationToken;

use super::frame::{Codec, Frame, INVALID_STREAM, REFUSED_STREAM, SpdyError};
use super::headers::HeaderList;
use crate::api::pod_streams::conversation::{QUEUE, pieces};
use crate::api::pod_streams::websocket::{FromBytes, ToBytes};

/// Streams that one connection may have open; a tunnel has two for each connection.
const STREAMS_MAX: usize = 256;
/// Pieces that wait on one of them: all streams of a connection hold 32 MiB at most.
const STREAM_QUEUE: usize = 4;

/// A stream that the client has opened.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: u32,
    pub(crate) headers: HeaderList,
    /// Ends with what the client sends on it.
    pub(crate) data: mpsc::Receiver<Bytes>,
    /// The client wants to hear no more.
    pub(crate) reset: CancellationToken,
}

#[derive(Debug)]
struct Open {
    /// Absent once the client has ended its side.
    data: Option<mpsc::Sender<Bytes>>,
    /// This side has not ended yet.
    answering: bool,
    reset: CancellationToken,
}

type Table = Arc<Mutex<HashMap<u32, Open>>>;

fn locked(table: &Table) -> MutexGuard<'_, HashMap<u32, Open>> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends on any stream of the connection; all fail once it has ended.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    frames: mpsc::Sender<Frame>,
    table: Table,
}

impl Outgoing {
    /// False when the connection is gone.
    pub(crate) async fn send(&self, stream: u32, bytes: Bytes) -> bool {
        self.frames.send(Frame::Data { stream, bytes, fin: false }).await.is_ok()
    }

    /// Ends this side of a stream.
    pub(crate) async fn finish(&self, stream: u32) {
        let known = {
            let mut table = locked(&self.table);
            match table.get_mut(&stream) {
                Some(open) => {
                    open.answering = false;
                    if open.data.is_none() {
                        table.remove(&stream);
                    }
                    true
                }
                None => false,
            }
        };
        if known {
            let fin = Frame::Data { stream, bytes: Bytes::new(), fin: true };
            let _ = self.frames.send(fin).await;
        }
    }

    /// Ends both sides of a stream at once.
    pub(crate) async fn refuse(&self, stream: u32) {
        locked(&self.table).remove(&stream);
        let _ = self.frames.send(Frame::Reset { stream, status: REFUSED_STREAM }).await;
    }
}

/// Runs the connection, and beside it `handle` with the streams that come, until the
/// connection or `handle` ends.
pub(crate) async fn serve<F, Fut>(from: FromBytes, to: ToBytes, handle: F)
where
    F: FnOnce(mpsc::Receiver<Stream>, Outgoing) -> Fut,
    Fut: Future<Output = ()>,
{
    let table = Table::default();
    let (frames, queue) = mpsc::channel(QUEUE);
    let (opened, streams) = mpsc::channel(QUEUE);
    let outgoing = Outgoing { frames, table: table.clone() };
    let reading = read(from, opened, outgoing.clone());
    let writing = write(to, queue);
    tokio::pin!(writing);
    let ended = tokio::select! {
        outcome = reading => outcome,
        outcome = &mut writing => outcome,
        () = handle(streams, outgoing) => {
            // What was said last is still to be written; the queue has ended by now.
            writing.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a SPDY connection ended badly");
    }
    for open in locked(&table).values() {
        open.reset.cancel();
    }
}

async fn write(mut to: ToBytes, mut queue: mpsc::Receiver<Frame>) -> Result<(), SpdyError> {
    let mut codec = Codec::default();
    while let Some(frame) = queue.recv().await {
        let mut bytes = BytesMut::new();
        codec.encode(frame, &mut bytes)?;
        to.send(bytes.freeze()).await?;
    }
    let _ = to.close().await;
    Ok(())
}

async fn read(
    mut from: FromBytes,
    opened: mpsc::Sender<Stream>,
    outgoing: Outgoing,
) -> Result<(), SpdyError> {
    let mut codec = Codec::default();
    let mut buffer = BytesMut::new();
    while let Some(piece) = from.next().await {
        buffer.extend_from_slice(&piece?);
        while let Some(frame) = codec.decode(&mut buffer)? {
            take(frame, &opened, &outgoing).await;
        }
    }
    Ok(())
}

async fn take(frame: Frame, opened: &mpsc::Sender<Stream>, outgoing: &Outgoing) {
    match frame {
        Frame::Open { stream, headers, fin } => open(stream, headers, fin, opened, outgoing).await,
        Frame::Data { stream, bytes, fin } => {
            let queue = match locked(&outgoing.table).get(&stream) {
                Some(open) => open.data.clone(),
                None => {
                    // It may have been ended here while this was on its way.
                    return;
                }
            };
            if let Some(queue) = queue {
                for piece in pieces(&bytes) {
                    // Whoever does not read any more does not need it.
                    if queue.send(piece).await.is_err() {
                        break;
                    }
                }
            }
            if fin {
                end_of(&outgoing.table, stream);
            }
        }
        Frame::Headers { stream, fin: true, .. } => end_of(&outgoing.table, stream),
        Frame::Reset { stream, .. } => {
            if let Some(open) = locked(&outgoing.table).remove(&stream) {
                open.reset.cancel();
            }
        }
        // The client's own have odd numbers; an even one would be an echo of ours.
        Frame::Ping { id } if id % 2 == 1 => {
            let _ = outgoing.frames.send(Frame::Ping { id }).await;
        }
        Frame::Ping { .. }
        | Frame::GoAway { .. }
        | Frame::Headers { .. }
        | Frame::Reply { .. }
        | Frame::Other { .. } => {}
    }
}

/// The client's side of a stream has ended.
fn end_of(table: &Table, stream: u32) {
    let mut table = locked(table);
    if let Some(open) = table.get_mut(&stream) {
        open.data = None;
        if !open.answering {
            table.remove(&stream);
        }
    }
}

async fn open(
    stream: u32,
    headers: HeaderList,
    fin: bool,
    opened: &mpsc::Sender<Stream>,
    outgoing: &Outgoing,
) {
    let (queue, data) = mpsc::channel(STREAM_QUEUE);
    let reset = CancellationToken::new();
    let refusal = {
        let mut table = locked(&outgoing.table);
        if stream.is_multiple_of(2) || table.contains_key(&stream) {
            Some(INVALID_STREAM)
        } else if table.len() >= STREAMS_MAX {
            Some(REFUSED_STREAM)
        } else {
            let data = (!fin).then_some(queue);
            table.insert(stream, Open { data, answering: true, reset: reset.clone() });
            None
        }
    };
    if let Some(status) = refusal {
        let _ = outgoing.frames.send(Frame::Reset { stream, status }).await;
        return;
    }
    let reply = Frame::Reply { stream, headers: HeaderList::default(), fin: false };
    let _ = outgoing.frames.send(reply).await;
    let _ = opened.send(Stream { id: stream, headers, data, reset }).await;
}
