//! How a long operation tells that it moves, without knowing of any terminal.
//!
//! Why a trait: the library runs under the command line, the lab, the installer and tests;
//! each shows progress in its own way or not at all.
//! Not here: drawing bars (`cli/`).

/// Receives the steps of one operation; calls may come from several threads.
pub trait Progress: Send + Sync {
    /// A phase starts: what it does and how many bytes it will handle, 0 when unknown.
    fn begin(&self, phase: &str, total_bytes: u64);
    /// The item that is worked on now.
    fn item(&self, name: &str);
    /// More bytes are done.
    fn advance(&self, bytes: u64);
    /// The phase is over.
    fn end(&self);
}

/// Shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _phase: &str, _total_bytes: u64) {}
    fn item(&self, _name: &str) {}
    fn advance(&self, _bytes: u64) {}
    fn end(&self) {}
}
