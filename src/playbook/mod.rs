//! Runs playbooks in the shape of Ansible, journalled and resumable.
//!
//! Why not Ansible: an empty host has no Python. Why its shape: its users can read and
//! write ours on the first day. Modules are native code; nothing goes through a shell.
//!
//! ```text
//!  text ──parse──► Playbook ──Runner──► module ──► host
//!                     ▲         │          │
//!              vars, facts   journal    undo log
//! ```
//! Invariants: a task that the journal calls done is done; a task that may be half done
//! is run again, and every module is idempotent, so that converges. What a module is
//! about to overwrite is in the undo log before it is overwritten.
//! Not here: which playbooks are run and with which variables (`install/`).

mod expression;
mod facts;
mod journal;
mod modules;
mod parse;
mod runner;
mod undo;

use std::path::Path;

pub use facts::{Facts, gather};
pub use journal::JournalError;
pub use modules::ModuleError;
pub use parse::{ParseError, Play, Playbook, Task};
pub use runner::{
    Event, PlaybookError, PlaybookReport, Reporter, Runner, RunnerInput, TaskReport, TaskState,
};
pub use undo::{UndoError, UndoLog};

/// Where playbooks, templates and the engine come from: the bundle, or a directory.
pub trait BundleFiles: Send + Sync + std::fmt::Debug {
    /// Identifies the content, so that another bundle's run is not taken for this one's.
    fn digest(&self) -> String;
    /// One file, such as `playbooks/host.yaml`.
    fn read(&self, name: &str) -> Result<Vec<u8>, BundleFileError>;
    /// Extracts the tree `name` (`engine`) into an existing empty directory.
    fn extract_tree(&self, name: &str, dest: &Path) -> Result<(), BundleFileError>;
}

/// Why a bundle's file could not be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot take {name} from the bundle: {reason}")]
pub struct BundleFileError {
    pub name: String,
    pub reason: String,
}

#[cfg(test)]
mod tests;
