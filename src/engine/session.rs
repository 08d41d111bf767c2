//! A conversation with a process in a container: its streams, its terminal, its end.
//!
//! Why a type of its own beside the port's calls: it lives as long as somebody listens,
//! and dropping it must give back everything that it holds.
//! Invariants: dropping `input` ends the process's standard input; dropping the whole
//! closes the connection to the engine; a process that had no terminal is never killed.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::io::AsyncWrite;

use super::EngineError;

/// Which streams are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionStreams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// With a terminal there is one stream for all output, stdout.
    pub tty: bool,
}

/// A piece of what the process says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionOutput {
    Stdout(Bytes),
    Stderr(Bytes),
}

/// Where the process's standard input is written to.
pub type SessionInput = Box<dyn AsyncWrite + Send + Unpin>;

/// See the module.
pub struct Session {
    /// Ends when the process has ended or the engine has gone away.
    pub output: BoxStream<'static, Result<SessionOutput, EngineError>>,
    /// Shut down and drop it to end the standard input; absent when it was not wanted.
    pub input: Option<SessionInput>,
    pub control: Box<dyn SessionControl>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let has_input = self.input.is_some();
        formatter.debug_struct("Session").field("has_input", &has_input).finish_non_exhaustive()
    }
}

/// What can be done to a conversation besides reading and writing.
#[async_trait]
pub trait SessionControl: Send + Sync {
    /// The terminal's new size, in characters.
    async fn resize(&self, rows: u16, columns: u16) -> Result<(), EngineError>;

    /// How the process ended, asked after its output did; `None` where the conversation
    /// was with a container's own process, whose end its status tells.
    async fn exit_code(&self) -> Result<Option<i64>, EngineError>;

    /// The other side went away: a process on a terminal is hung up, as a terminal that
    /// is closed hangs up what runs on it; others only see the end of their input.
    async fn hang_up(&self);
}
