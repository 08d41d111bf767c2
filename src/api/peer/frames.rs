//! How store messages stand on a connection between two nodes.
//!
//! ```text
//! asked:     length u32 │ number u64 │ message
//! answered:  length u32 │ number u64 │ 0 │ answer
//!                                    │ 1 │ why there is none, UTF-8
//! ```
//!
//! All integers are big-endian; a length counts what follows it. Numbers are the asker's,
//! and answers come in any order. Number 0 asks only whether the other side is there.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::{Sink, SinkExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tokio_util::codec::LengthDelimitedCodec;

/// The name of this protocol in HTTP's `Upgrade`.
pub(super) const PROTOCOL: &str = "holdfast-peer/1";
/// Largest message, bytes: a batch of log entries or a piece of a snapshot.
pub(super) const MESSAGE_MAX_BYTES: usize = 64 * 1024 * 1024;
/// Bytes that may wait to be written before writing waits for the other side.
pub(super) const WRITE_BEHIND_BYTES: usize = 256 * 1024;
/// How often the asking side asks for a sign of life, and how long none may come.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(1);
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(3);
/// The number of a question that only asks for a sign of life.
pub(super) const SIGN_OF_LIFE: u64 = 0;

const NUMBER_BYTES: usize = 8;
const ANSWERED: u8 = 0;
const REFUSED: u8 = 1;

pub(super) fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().max_frame_length(MESSAGE_MAX_BYTES).new_codec()
}

/// Writes what waits behind.
pub(super) async fn flush<S>(frames: &mut S) -> std::io::Result<()>
where
    S: Sink<Bytes, Error = std::io::Error> + Unpin,
{
    frames.flush().await
}

pub(super) fn question(number: u64, message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(NUMBER_BYTES + message.len());
    frame.put_u64(number);
    frame.put_slice(message);
    frame.freeze()
}

/// The number and the message; nothing if that is not a question.
pub(super) fn read_question(frame: BytesMut) -> Option<(u64, Bytes)> {
    let mut frame = frame.freeze();
    let number = frame.try_get_u64().ok()?;
    Some((number, frame))
}

pub(super) fn answer(number: u64, answer: &Result<Bytes, String>) -> Bytes {
    let (kind, body) = match answer {
        Ok(answer) => (ANSWERED, &answer[..]),
        Err(reason) => (REFUSED, reason.as_bytes()),
    };
    let mut frame = BytesMut::with_capacity(NUMBER_BYTES + 1 + body.len());
    frame.put_u64(number);
    frame.put_u8(kind);
    frame.put_slice(body);
    frame.freeze()
}

/// The number and what was answered; nothing if that is not an answer.
pub(super) fn read_answer(frame: BytesMut) -> Option<(u64, Result<Bytes, String>)> {
    let mut frame = frame.freeze();
    let number = frame.try_get_u64().ok()?;
    match frame.try_get_u8().ok()? {
        ANSWERED => Some((number, Ok(frame))),
        REFUSED => Some((number, Err(String::from_utf8_lossy(&frame).into_owned()))),
        _ => None,
    }
}

/// One direction of a connection, whose bytes are counted: those of a long message are signs
/// of life long before it is whole.
#[derive(Debug)]
pub(super) struct Counted<C> {
    inner: C,
    bytes: Arc<AtomicU64>,
}

impl<C> Counted<C> {
    /// Also gives the count.
    pub(super) fn new(inner: C) -> (Self, Arc<AtomicU64>) {
        let bytes = Arc::new(AtomicU64::new(0));
        (Self { inner, bytes: bytes.clone() }, bytes)
    }

    fn count(&self, more: usize) {
        self.bytes.fetch_add(more as u64, Ordering::Relaxed);
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Counted<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, into))?;
        self.count(into.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Counted<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let taken = ready!(Pin::new(&mut self.inner).poll_write(context, bytes))?;
        self.count(taken);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

/// Waits for `work` as long as bytes go their way; `None` when none did for so long.
pub(super) async fn while_moving<T>(
    bytes: &AtomicU64,
    silence: Duration,
    work: impl Future<Output = T>,
) -> Option<T> {
    tokio::pin!(work);
    loop {
        let before = bytes.load(Ordering::Relaxed);
        if let Ok(done) = timeout(silence, &mut work).await {
            return Some(done);
        }
        if bytes.load(Ordering::Relaxed) == before {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_framed_is_read_again() {
        let asked = BytesMut::from(question(7, b"message").as_ref());
        assert_eq!(read_question(asked), Some((7, Bytes::from("message"))));
        for answered in [Ok(Bytes::from("done")), Ok(Bytes::new()), Err("busy".to_owned())] {
            let frame = BytesMut::from(answer(9, &answered).as_ref());
            assert_eq!(read_answer(frame), Some((9, answered)));
        }
    }

    #[test]
    fn what_is_cut_short_or_of_no_known_kind_is_refused() {
        assert_eq!(read_question(BytesMut::from(&[0; 7][..])), None);
        assert_eq!(read_answer(BytesMut::from(&[0; 8][..])), None);
        assert_eq!(read_answer(BytesMut::from(&[0, 0, 0, 0, 0, 0, 0, 1, 9][..])), None);
    }
}
