//! The answering side of a connection between two nodes.
//!
//! Invariant: reading waits for writing only while as many answers as are worked on at a time
//! are not written yet. The asking side (`link`) reads whatever it writes, so the two never
//! each wait for the other to listen.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{Sink, SinkExt, StreamExt};
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::codec::{FramedRead, FramedWrite};
use tokio_util::task::TaskTracker;

use super::frames::{
    Counted, PROTOCOL, SIGN_OF_LIFE, SILENCE_MAX, WRITE_BEHIND_BYTES, answer, codec, flush,
    read_question, while_moving,
};
use super::server::PeerServices;
use crate::api::listener::Stopping;

/// Messages of one connection that are worked on at a time; more are not read.
const AT_ONCE: usize = 1_000;
/// Without a sign of life for so long the peer is not there any more; its own side gives
/// up long before.
const GONE_AFTER: Duration = SILENCE_MAX.saturating_mul(3);

/// Takes the connection over, if the peer speaks as this node does.
pub(super) fn upgrade(
    services: Arc<dyn PeerServices>,
    sessions: &TaskTracker,
    mut request: Request,
) -> Response {
    if request.headers().get(UPGRADE).is_none_or(|wanted| wanted != PROTOCOL) {
        let said = format!("only an upgrade to {PROTOCOL} is served here");
        return (StatusCode::UPGRADE_REQUIRED, [(UPGRADE, PROTOCOL)], said).into_response();
    }
    let stopping = request.extensions().get::<Stopping>().cloned();
    let upgrade = hyper::upgrade::on(&mut request);
    sessions.spawn(async move {
        let connection = match upgrade.await {
            Ok(connection) => TokioIo::new(connection),
            Err(error) => {
                tracing::debug!(%error, "a peer's connection was not handed over");
                return;
            }
        };
        let stopped = async {
            match stopping {
                Some(Stopping(stop)) => stop.cancelled_owned().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stopped => {}
            ended = talk(connection, services) => if let Err(error) = ended {
                tracing::debug!(%error, "a peer's connection ended badly");
            }
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
    response
}

/// An answer, and its place among those that are worked on, which it keeps until it is
/// written; a sign of life has none.
type Written = (Bytes, Option<OwnedSemaphorePermit>);

/// Answers until the peer hangs up or is silent.
async fn talk<C>(connection: C, services: Arc<dyn PeerServices>) -> std::io::Result<()>
where
    C: AsyncRead + AsyncWrite + Send + 'static,
{
    let (read, write) = tokio::io::split(connection);
    let (read, heard) = Counted::new(read);
    let mut questions = FramedRead::new(read, codec());
    let (answers, written) = mpsc::unbounded_channel();
    // Both end with this connection.
    let mut tasks = JoinSet::new();
    let mut frames = FramedWrite::new(write, codec());
    frames.set_backpressure_boundary(WRITE_BEHIND_BYTES);
    tasks.spawn(write_answers(frames, written));
    let room = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Some(next) = while_moving(&heard, GONE_AFTER, questions.next()).await else {
            return Err(std::io::Error::other("the peer gave no sign of life"));
        };
        let Some(frame) = next else { return Ok(()) };
        let Some((number, message)) = read_question(frame?) else {
            return Err(std::io::Error::other("the peer sent what is no message"));
        };
        if number == SIGN_OF_LIFE {
            // The writer is gone only when the connection is.
            let _ = answers.send((answer(number, &Ok(Bytes::new())), None));
            continue;
        }
        let Ok(place) = room.clone().acquire_owned().await else { return Ok(()) };
        let (services, answers) = (services.clone(), answers.clone());
        tasks.spawn(async move {
            let answered = services.receive(message).await;
            let _ = answers.send((answer(number, &answered), Some(place)));
        });
        while tasks.try_join_next().is_some() {}
    }
}

/// Writes answers, all that are ready at once.
async fn write_answers<S>(mut frames: S, mut answers: mpsc::UnboundedReceiver<Written>)
where
    S: Sink<Bytes, Error = std::io::Error> + Unpin,
{
    while let Some(first) = answers.recv().await {
        let mut next = Some(first);
        while let Some((frame, _place)) = next {
            if frames.feed(frame).await.is_err() {
                // The reading side notices the end by itself.
                return;
            }
            next = answers.try_recv().ok();
        }
        if flush(&mut frames).await.is_err() {
            return;
        }
    }
}
