//! Docker's conversations: commands in containers and attached containers.
//!
//! ```text
//!  POST …/start  ──101──►  raw bytes both ways on the daemon's socket
//!     with a terminal:     output as it comes
//!     without:             [stream 1|2, 0, 0, 0, length u32 BE][bytes] …
//! ```
//! Why not by bollard's calls: it guesses from the first byte whether output is framed,
//! so that a terminal that prints a control character stalls. Here it is known.
//! Invariant: a frame is passed on as it comes, whatever length it claims.

use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bollard::Docker;
use bollard::exec::{CreateExecOptions, ResizeExecOptions};
use bollard::query_parameters::ResizeContainerTTYOptionsBuilder;
use bytes::{Buf, Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt};
use http::header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use http_body_util::{BodyExt, Full, Limited};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio_util::codec::{Decoder, FramedRead};
use tokio_util::io::ReaderStream;

use super::EngineError;
use super::docker_translate::failure;
use super::session::{Session, SessionControl, SessionInput, SessionOutput, SessionStreams};
use crate::base::limits::ENGINE_CALL_TIMEOUT;
use crate::sys::terminal;

/// Longest refusal that is read, bytes.
const REFUSAL_MAX_BYTES: usize = 64 * 1024;
/// Bytes read at a time.
const PIECE_BYTES: usize = 32 * 1024;
/// How long the engine may take to notice that a command has ended after its output did.
const EXIT_NOTICE: Duration = Duration::from_secs(30);

/// Runs a command in a container and connects to it.
pub(super) async fn exec(
    docker: Docker,
    socket: &Path,
    id: &str,
    command: &[String],
    streams: SessionStreams,
) -> Result<Session, EngineError> {
    let options = CreateExecOptions {
        attach_stdin: Some(streams.stdin),
        attach_stdout: Some(streams.stdout),
        attach_stderr: Some(streams.stderr && !streams.tty),
        tty: Some(streams.tty),
        cmd: Some(command.to_vec()),
        ..CreateExecOptions::default()
    };
    let created = in_time("run a command in", id, docker.create_exec(id, options)).await?;
    let path = format!("/v{}/exec/{}/start", docker.client_version(), created.id);
    let body = json!({"Detach": false, "Tty": streams.tty});
    let connection = hijack("run a command in", id, socket, &path, Some(&body)).await?;
    let control = ExecControl { docker, exec_id: created.id, tty: streams.tty };
    Ok(session(id, connection, streams, Box::new(control)))
}

/// Connects to a container's own process; `tty` says what the container was made with.
pub(super) async fn attach(
    docker: Docker,
    socket: &Path,
    id: &str,
    streams: SessionStreams,
    ends_stdin: bool,
) -> Result<Session, EngineError> {
    let path = format!(
        "/v{}/containers/{id}/attach?stream=1&logs=0&stdin={}&stdout={}&stderr={}",
        docker.client_version(),
        u8::from(streams.stdin),
        u8::from(streams.stdout),
        u8::from(streams.stderr),
    );
    let connection = hijack("attach to", id, socket, &path, None).await?;
    let control = AttachControl { docker, id: id.to_owned() };
    let mut session = session(id, connection, streams, Box::new(control));
    if !ends_stdin {
        session.input = session.input.map(|input| Box::new(HeldOpen(input)) as SessionInput);
    }
    Ok(session)
}

/// An input whose end is not told: the engine would take it for the end of the whole
/// conversation, while the process goes on and is still to be heard.
struct HeldOpen(SessionInput);

impl AsyncWrite for HeldOpen {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.poll_flush(context)
    }
}

async fn in_time<T>(
    action: &'static str,
    target: &str,
    request: impl Future<Output = Result<T, bollard::errors::Error>>,
) -> Result<T, EngineError> {
    match tokio::time::timeout(ENGINE_CALL_TIMEOUT, request).await {
        Ok(outcome) => outcome.map_err(|error| failure(action, target, error)),
        Err(_) => Err(late(action, target)),
    }
}

fn late(action: &'static str, target: &str) -> EngineError {
    let reason = format!("no answer within {} s", ENGINE_CALL_TIMEOUT.as_secs());
    EngineError::Silent { action, target: target.to_owned(), reason }
}

/// One request on a connection of its own, which then belongs to the conversation.
async fn hijack(
    action: &'static str,
    target: &str,
    socket: &Path,
    path: &str,
    body: Option<&Value>,
) -> Result<Upgraded, EngineError> {
    let asked = request_upgrade(action, target, socket, path, body);
    match tokio::time::timeout(ENGINE_CALL_TIMEOUT, asked).await {
        Ok(outcome) => outcome,
        Err(_) => Err(late(action, target)),
    }
}

async fn request_upgrade(
    action: &'static str,
    target: &str,
    socket: &Path,
    path: &str,
    body: Option<&Value>,
) -> Result<Upgraded, EngineError> {
    let silent = |reason: String| EngineError::Silent { action, target: target.to_owned(), reason };
    let stream = UnixStream::connect(socket).await.map_err(|error| silent(error.to_string()))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| silent(error.to_string()))?;
    let mut driver = Some(Box::pin(connection.with_upgrades()));
    let bytes = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
    let request = http::Request::post(path)
        .header(HOST, "docker")
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "tcp")
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(bytes))
        .map_err(|error| silent(error.to_string()))?;
    let answer = driven(&mut driver, sender.send_request(request)).await;
    let answer = answer.map_err(|error| silent(error.to_string()))?;
    let status = answer.status();
    if status == http::StatusCode::SWITCHING_PROTOCOLS {
        let upgraded = driven(&mut driver, hyper::upgrade::on(answer)).await;
        return upgraded.map_err(|error| silent(error.to_string()));
    }
    let body = Limited::new(answer.into_body(), REFUSAL_MAX_BYTES).collect();
    let text = driven(&mut driver, body).await;
    let text = text.map(|text| text.to_bytes()).unwrap_or_default();
    let message = serde_json::from_slice::<Value>(&text)
        .ok()
        .and_then(|value| value["message"].as_str().map(str::to_owned))
        .unwrap_or_else(|| String::from_utf8_lossy(&text).into_owned());
    let target = target.to_owned();
    Err(match status.as_u16() {
        404 => EngineError::NotFound { action, target },
        status => EngineError::Refused { action, target, status, message },
    })
}

/// Awaits what only comes while the connection is driven; the connection may end first,
/// and has then brought all that it will.
async fn driven<D, F>(driver: &mut Option<Pin<Box<D>>>, future: F) -> F::Output
where
    D: Future,
    F: Future,
{
    tokio::pin!(future);
    if let Some(running) = driver {
        tokio::select! {
            biased;
            output = &mut future => return output,
            _ = running.as_mut() => {}
        }
        *driver = None;
    }
    future.await
}

fn session(
    id: &str,
    connection: Upgraded,
    streams: SessionStreams,
    control: Box<dyn SessionControl>,
) -> Session {
    let (read, write) = tokio::io::split(TokioIo::new(connection));
    let output = if streams.tty { plain(read, id).boxed() } else { framed(read, id).boxed() };
    let input = streams.stdin.then(|| Box::new(write) as SessionInput);
    Session { output, input, control }
}

fn broken(id: &str, error: &std::io::Error) -> EngineError {
    let reason = format!("the connection broke: {error}");
    EngineError::Silent { action: "read from", target: id.to_owned(), reason }
}

fn plain(
    read: impl AsyncRead + Send + 'static,
    id: &str,
) -> impl futures::Stream<Item = Result<SessionOutput, EngineError>> + Send + 'static {
    let id = id.to_owned();
    ReaderStream::with_capacity(read, PIECE_BYTES)
        .map_ok(SessionOutput::Stdout)
        .map_err(move |error| broken(&id, &error))
}

fn framed(
    read: impl AsyncRead + Send + 'static,
    id: &str,
) -> impl futures::Stream<Item = Result<SessionOutput, EngineError>> + Send + 'static {
    let id = id.to_owned();
    FramedRead::with_capacity(read, Multiplexed::default(), PIECE_BYTES)
        .map_err(move |error| broken(&id, &error))
}

/// Takes Docker's frames apart.
#[derive(Debug, Default)]
pub(super) struct Multiplexed {
    stream: u8,
    /// What is still to come of the frame that has begun, bytes.
    left: usize,
}

impl Decoder for Multiplexed {
    type Item = SessionOutput;
    type Error = std::io::Error;

    fn decode(&mut self, source: &mut BytesMut) -> Result<Option<SessionOutput>, std::io::Error> {
        while self.left == 0 {
            if source.len() < 8 {
                source.reserve(PIECE_BYTES);
                return Ok(None);
            }
            let (stream, padding) = (source[0], [source[1], source[2], source[3]]);
            if stream > 3 || padding != [0; 3] {
                return Err(std::io::Error::other("output that is not framed"));
            }
            source.advance(4);
            self.stream = stream;
            self.left = usize::try_from(source.get_u32()).unwrap_or(usize::MAX);
        }
        if source.is_empty() {
            return Ok(None);
        }
        let piece = source.split_to(source.len().min(self.left)).freeze();
        self.left -= piece.len();
        Ok(Some(if self.stream >= 2 {
            SessionOutput::Stderr(piece)
        } else {
            SessionOutput::Stdout(piece)
        }))
    }

    fn decode_eof(&mut self, source: &mut BytesMut) -> Result<Option<SessionOutput>, Self::Error> {
        match self.decode(source)? {
            Some(piece) => Ok(Some(piece)),
            None if self.left == 0 && source.is_empty() => Ok(None),
            None => Err(std::io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

struct ExecControl {
    docker: Docker,
    exec_id: String,
    tty: bool,
}

#[async_trait]
impl SessionControl for ExecControl {
    async fn resize(&self, rows: u16, columns: u16) -> Result<(), EngineError> {
        let size = ResizeExecOptions { height: rows, width: columns };
        in_time("resize", &self.exec_id, self.docker.resize_exec(&self.exec_id, size)).await
    }

    async fn exit_code(&self) -> Result<Option<i64>, EngineError> {
        let action = "ask how a command ended";
        let ended = async {
            let mut ask = tokio::time::interval(Duration::from_millis(50));
            loop {
                ask.tick().await;
                let inspected = self.docker.inspect_exec(&self.exec_id);
                let state = in_time(action, &self.exec_id, inspected).await?;
                if let Some(code) = state.exit_code
                    && state.running != Some(true)
                {
                    return Ok(Some(code));
                }
            }
        };
        match tokio::time::timeout(EXIT_NOTICE, ended).await {
            Ok(outcome) => outcome,
            Err(_) => Err(EngineError::Silent {
                action,
                target: self.exec_id.clone(),
                reason: "its output ended before the command did".to_owned(),
            }),
        }
    }

    async fn hang_up(&self) {
        if !self.tty {
            return;
        }
        let inspected = self.docker.inspect_exec(&self.exec_id);
        match in_time("hang up", &self.exec_id, inspected).await {
            Ok(state) if state.running == Some(true) => {
                let pid = state.pid.and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default();
                if let Err(error) = terminal::hang_up(pid) {
                    tracing::debug!(pid, %error, "a terminal was not hung up");
                }
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "a terminal was not hung up"),
        }
    }
}

struct AttachControl {
    docker: Docker,
    id: String,
}

#[async_trait]
impl SessionControl for AttachControl {
    async fn resize(&self, rows: u16, columns: u16) -> Result<(), EngineError> {
        let size = ResizeContainerTTYOptionsBuilder::default()
            .h(i32::from(rows))
            .w(i32::from(columns))
            .build();
        in_time("resize", &self.id, self.docker.resize_container_tty(&self.id, size)).await
    }

    async fn exit_code(&self) -> Result<Option<i64>, EngineError> {
        Ok(None)
    }

    async fn hang_up(&self) {}
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(pieces: &[Vec<u8>]) -> Result<(Vec<u8>, Vec<u8>), std::io::Error> {
        let (mut codec, mut buffer) = (Multiplexed::default(), BytesMut::new());
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut take = |piece| match piece {
            SessionOutput::Stdout(bytes) => out.extend_from_slice(&bytes),
            SessionOutput::Stderr(bytes) => err.extend_from_slice(&bytes),
        };
        for piece in pieces {
            buffer.extend_from_slice(piece);
            while let Some(piece) = codec.decode(&mut buffer)? {
                take(piece);
            }
        }
        while let Some(piece) = codec.decode_eof(&mut buffer)? {
            take(piece);
        }
        Ok((out, err))
    }

    #[test]
    fn a_frame_that_breaks_off_is_an_error() {
        assert!(decoded(&[vec![1, 0, 0, 0, 0, 0, 0, 9, b'x']]).is_err());
        assert!(decoded(&[vec![1, 0, 0]]).is_err());
        assert!(decoded(&[b"plain text that is no frame".to_vec()]).is_err());
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_they_are_cut(
            frames in prop::collection::vec((1u8..=2, prop::collection::vec(any::<u8>(), 0..40)), 0..20),
            cut in 1usize..30,
        ) {
            let (mut wire, mut out, mut err) = (Vec::new(), Vec::new(), Vec::new());
            for (stream, bytes) in &frames {
                wire.extend_from_slice(&[*stream, 0, 0, 0]);
                wire.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_be_bytes());
                wire.extend_from_slice(bytes);
                if *stream == 1 { out.extend(bytes) } else { err.extend(bytes) }
            }
            let pieces: Vec<Vec<u8>> = wire.chunks(cut).map(<[u8]>::to_vec).collect();
            prop_assert_eq!(decoded(&pieces).unwrap(), (out, err));
        }

        #[test]
        fn no_input_panics(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..10)) {
            let _ = decoded(&pieces);
        }
    }
}
