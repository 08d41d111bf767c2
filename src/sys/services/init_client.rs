//! Asks our own PID 1 to start and stop services.
//!
//! Why a blocking exchange inside: it is one line there and one line back over a local
//! socket, used by playbooks (asynchronous) and by the lab (plain threads) alike.
//! Invariant: no call waits longer than [`ANSWER_LIMIT`].

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;

use super::{CONTROL_SOCKET, ServiceAnswer, ServiceError, ServiceManager, ServiceRequest};

/// Longest wait for an answer; stopping a service may take its whole grace period.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// The services of a host whose PID 1 is ours.
#[derive(Clone, Debug)]
pub struct InitClient {
    socket: PathBuf,
}

impl Default for InitClient {
    fn default() -> Self {
        Self::at(CONTROL_SOCKET)
    }
}

impl InitClient {
    /// Asks through another path than [`CONTROL_SOCKET`], such as one below
    /// `/proc/PID/root` from outside of the host.
    pub fn at(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// Whether a PID 1 of ours answers on this host.
    pub fn is_present() -> bool {
        UnixStream::connect(CONTROL_SOCKET).is_ok()
    }

    /// One question, blocking.
    pub fn ask(&self, request: &ServiceRequest) -> Result<ServiceAnswer, ServiceError> {
        let (action, name) = describe(request);
        let answer = exchange(&self.socket, request).map_err(|source| {
            ServiceError::Unreachable { action, name: name.to_owned(), source }
        })?;
        match answer.error {
            Some(reason) => Err(ServiceError::Refused { action, name: name.to_owned(), reason }),
            None => Ok(answer),
        }
    }

    async fn ask_async(&self, request: ServiceRequest) -> Result<ServiceAnswer, ServiceError> {
        let client = self.clone();
        let (action, name) = describe(&request);
        let name = name.to_owned();
        let asked = tokio::task::spawn_blocking(move || client.ask(&request)).await;
        asked.unwrap_or_else(|broken| {
            let source = io::Error::other(broken);
            Err(ServiceError::Unreachable { action, name, source })
        })
    }
}

fn describe(request: &ServiceRequest) -> (&'static str, &str) {
    match request {
        ServiceRequest::Start { name } => ("start", name),
        ServiceRequest::Stop { name } => ("stop", name),
        ServiceRequest::Restart { name } => ("restart", name),
        ServiceRequest::Status { name } => ("ask about", name),
    }
}

fn exchange(socket: &Path, request: &ServiceRequest) -> io::Result<ServiceAnswer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.set_write_timeout(Some(ANSWER_LIMIT))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}

#[async_trait]
impl ServiceManager for InitClient {
    fn name(&self) -> &'static str {
        "holdfast-init"
    }

    async fn start(&self, name: &str) -> Result<(), ServiceError> {
        self.ask_async(ServiceRequest::Start { name: name.to_owned() }).await.map(drop)
    }

    async fn stop(&self, name: &str) -> Result<(), ServiceError> {
        self.ask_async(ServiceRequest::Stop { name: name.to_owned() }).await.map(drop)
    }

    async fn restart(&self, name: &str) -> Result<(), ServiceError> {
        self.ask_async(ServiceRequest::Restart { name: name.to_owned() }).await.map(drop)
    }

    async fn is_running(&self, name: &str) -> Result<bool, ServiceError> {
        let answer = self.ask_async(ServiceRequest::Status { name: name.to_owned() }).await?;
        Ok(answer.running)
    }
}
