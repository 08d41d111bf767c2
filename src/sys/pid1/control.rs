//! The socket on which PID 1 takes requests: one JSON line in, one JSON line out.
//!
//! Invariant: only root of this host can ask (the socket's mode). Several lines may
//! follow each other on one connection.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::Pid1Error;
use crate::sys::services::{ServiceAnswer, ServiceRequest};

/// Longest request, bytes.
const LINE_MAX_BYTES: u64 = 4_096;
/// Connections served at once.
const CONNECTIONS_MAX: usize = 32;

/// A request and where its answer goes.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) request: ServiceRequest,
    pub(super) answer: oneshot::Sender<ServiceAnswer>,
}

pub(super) fn listen(path: &Path) -> Result<UnixListener, Pid1Error> {
    let fail = |source| Pid1Error::Listen { path: path.to_owned(), source };
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(fail)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(fail)?;
    Ok(listener)
}

pub(super) async fn serve(listener: UnixListener, requests: mpsc::Sender<Question>) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = open.join_next(), if !open.is_empty() => {}
            accepted = listener.accept(), if open.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => {
                    open.spawn(converse(stream, requests.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a control connection");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            },
        }
    }
}

async fn converse(stream: UnixStream, requests: mpsc::Sender<Question>) {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let mut line = String::new();
        match (&mut read).take(LINE_MAX_BYTES).read_line(&mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let answer = ask(&line, &requests).await;
        let mut bytes = serde_json::to_vec(&answer).expect("an answer is plain data");
        bytes.push(b'\n');
        if write.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

async fn ask(line: &str, requests: &mpsc::Sender<Question>) -> ServiceAnswer {
    let request = match serde_json::from_str(line) {
        Ok(request) => request,
        Err(error) => return refuse(format!("the request is not understood: {error}")),
    };
    let (answer, answered) = oneshot::channel();
    if requests.send(Question { request, answer }).await.is_err() {
        return refuse("the host is stopping".to_owned());
    }
    match answered.await {
        Ok(answer) => answer,
        Err(_) => refuse("the host is stopping".to_owned()),
    }
}

pub(super) fn refuse(reason: String) -> ServiceAnswer {
    ServiceAnswer { error: Some(reason), running: false, pid: None }
}
