//! WebSockets: the channels of a conversation, and a tunnel for bytes.
//!
//! Invariants: a client that does not take what it is sent is pinged, so that the kernel
//! notices when it is gone; after the last message the other side's goodbye is awaited
//! for a bounded time, so that nothing that was sent is lost by closing too early.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::{BoxStream, SplitSink, SplitStream};
use futures::{Sink, SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_util::io::ReaderStream;

use super::channel::{END, FromChannel, Protocol, STDERR, STDOUT};
use super::conversation::{FromClient, QUEUE, ToClient, converse, pieces};
use crate::base::limits::POD_STREAM_MESSAGE_MAX_BYTES;
use crate::engine::session::Session;

/// How often a silent connection is tried.
const PING_EVERY: Duration = Duration::from_secs(30);
/// How long a client may take to say goodbye.
const CLOSE_WAIT: Duration = Duration::from_secs(5);
/// Bytes read from a connection at a time.
const PIECE_BYTES: usize = 32 * 1024;

type Connection = TokioIo<Upgraded>;
/// Bytes as they come; ends with the connection.
pub(super) type FromBytes = BoxStream<'static, std::io::Result<Bytes>>;
/// Where bytes go.
pub(super) type ToBytes = std::pin::Pin<Box<dyn Sink<Bytes, Error = std::io::Error> + Send>>;

/// A connection whose handshake is done, as this side's WebSocket.
pub(super) async fn socket(io: Connection) -> WebSocketStream<Connection> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(POD_STREAM_MESSAGE_MAX_BYTES))
        .max_frame_size(Some(POD_STREAM_MESSAGE_MAX_BYTES));
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

/// A whole conversation over channels.
pub(super) async fn talk(io: Connection, protocol: Protocol, session: Session) {
    let (sink, stream) = socket(io).await.split();
    let (heard, from) = mpsc::channel(QUEUE);
    let (to, said) = mpsc::channel(QUEUE);
    let front = async move {
        let hear = hear(stream, protocol, heard);
        tokio::pin!(hear);
        let ended = tokio::select! {
            () = &mut hear => false,
            ended = say(sink, protocol, said) => ended,
        };
        if ended {
            let _ = tokio::time::timeout(CLOSE_WAIT, hear).await;
        }
    };
    tokio::join!(front, converse(session, from, to));
}

/// Reads until the client is gone.
async fn hear(
    mut stream: SplitStream<WebSocketStream<Connection>>,
    protocol: Protocol,
    heard: mpsc::Sender<FromClient>,
) {
    while let Some(Ok(message)) = stream.next().await {
        let word = match protocol.decode(message) {
            Ok(None) => continue,
            Ok(Some(FromChannel::Gone)) => return,
            Ok(Some(FromChannel::Stdin(bytes))) => {
                for piece in pieces(&bytes) {
                    let _ = heard.send(FromClient::Stdin(piece)).await;
                }
                continue;
            }
            Ok(Some(FromChannel::StdinClosed)) => FromClient::StdinClosed,
            Ok(Some(FromChannel::Resize { rows, columns })) => FromClient::Resize { rows, columns },
            Err(error) => {
                tracing::debug!(%error, "a client of a container is not understood");
                return;
            }
        };
        // Nobody listens any more: the goodbye is still to be read.
        let _ = heard.send(word).await;
    }
}

/// Writes until the end was told (true) or the client is gone.
async fn say(
    mut sink: SplitSink<WebSocketStream<Connection>, Message>,
    protocol: Protocol,
    mut said: mpsc::Receiver<ToClient>,
) -> bool {
    // Tells a client that waits for its first message that the connection is made.
    if sink.send(protocol.encode(STDOUT, &[])).await.is_err() {
        return false;
    }
    let mut ping = tokio::time::interval(PING_EVERY);
    ping.reset();
    loop {
        let message = tokio::select! {
            word = said.recv() => match word {
                Some(ToClient::Stdout(bytes)) => protocol.encode(STDOUT, &bytes),
                Some(ToClient::Stderr(bytes)) => protocol.encode(STDERR, &bytes),
                Some(ToClient::Ended(status)) => {
                    let end = protocol.encode(END, status.to_string().as_bytes());
                    return close(&mut sink, Some(end)).await.is_ok();
                }
                None => return close(&mut sink, None).await.is_ok(),
            },
            _ = ping.tick() => Message::Ping(Bytes::new()),
        };
        if sink.send(message).await.is_err() {
            return false;
        }
    }
}

/// Says goodbye after a last message.
pub(super) async fn close(
    sink: &mut SplitSink<WebSocketStream<Connection>, Message>,
    last: Option<Message>,
) -> Result<(), Error> {
    if let Some(last) = last {
        sink.send(last).await?;
    }
    let goodbye = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    sink.send(Message::Close(Some(goodbye))).await
}

/// The bytes in the binary messages of a WebSocket, as if it were a plain connection.
pub(super) async fn tunnel(io: Connection) -> (FromBytes, ToBytes) {
    let (sink, stream) = socket(io).await.split();
    let from = stream
        .take_while(|message| std::future::ready(!matches!(message, Ok(Message::Close(_)))))
        .filter_map(|message| {
            std::future::ready(match message {
                Ok(message @ (Message::Binary(_) | Message::Text(_))) => {
                    Some(Ok(message.into_data()))
                }
                Ok(_) => None,
                Err(error) => Some(Err(std::io::Error::other(error))),
            })
        });
    let to = sink
        .sink_map_err(std::io::Error::other)
        .with(|bytes: Bytes| std::future::ready(Ok::<_, std::io::Error>(Message::Binary(bytes))));
    (from.boxed(), Box::pin(to))
}

/// The bytes of a plain connection.
pub(super) fn bytes_of(io: Connection) -> (FromBytes, ToBytes) {
    let (read, write) = tokio::io::split(io);
    let from = ReaderStream::with_capacity(read, PIECE_BYTES).boxed();
    let codec = tokio_util::codec::BytesCodec::new();
    let to = tokio_util::codec::FramedWrite::new(write, codec);
    (from, Box::pin(to))
}
