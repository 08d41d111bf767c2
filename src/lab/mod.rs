//! Several hosts on one machine, each with namespaces, control groups and an engine.
//!
//! ```text
//!  machine            │ switch (network namespace)     │ host a1 (all namespaces)
//!  127.0.0.1:port ──► daemon ── connects inside ──► bridge ── cable ── eth0
//!                     │        default route ──► outside (counted, lost)
//! ```
//!
//! With several segments each has a router instead, and links between them (`wan`).
//!
//! Why this way: a host must be killed as a whole, as a machine is by a power cut, so it
//! is a PID namespace with our own PID 1; nothing may change in the machine's network, so
//! the way in is a program and the way out is a link that leads nowhere and counts.
//!
//! Invariants: nothing is mounted in the machine's mount namespace; every process of a lab
//! is in the lab's control groups from before its program starts; the record is on disk
//! before the first resource exists. Not here: what runs on a host (install/).

mod command;
mod daemon;
mod down;
mod env;
mod error;
mod fault;
mod host;
mod layout;
mod logs;
mod provision;
mod record;
mod root;
mod run;
mod sample;
mod status;
mod switch;
#[cfg(test)]
mod tests;
mod up;
mod wan;

use std::path::{Path, PathBuf};

pub use command::Program;
pub use daemon::run_daemon;
pub use down::{DownReport, down};
pub use error::LabError;
pub use fault::Fault;
pub use layout::{HostPlan, Layout, LayoutError};
pub use logs::LogTail;
pub use record::Forwards;
pub use status::{HostState, HostStatus, LabStatus, ServiceStatus};
pub use switch::hold_switch;
pub use up::{Bundle, Step, UpOptions, UpReport, up};
pub use wan::{Direction, LinkChange, Way, Ways, run_links};

use record::{LabDir, Record};

/// An existing lab.
#[derive(Debug)]
pub struct Lab {
    dir: LabDir,
    record: Record,
    program: Program,
}

impl Lab {
    /// Opens the lab in `dir`.
    pub fn open(dir: &Path, program: Program) -> Result<Self, LabError> {
        let none = || LabError::NoLab { dir: dir.to_owned() };
        if !dir.is_dir() {
            return Err(none());
        }
        let dir = LabDir::open(dir)?;
        let record = dir.read()?.ok_or_else(none)?;
        Ok(Self { dir, record, program })
    }

    /// Its directory, absolute.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn hosts(&self) -> &[HostPlan] {
        &self.record.hosts
    }

    /// The host's disk, as a path on the machine.
    pub fn host_root(&self, host: &str) -> PathBuf {
        self.dir.root(host)
    }

    fn host(&self, name: &str) -> Result<host::Host<'_>, LabError> {
        match self.record.hosts.iter().find(|plan| plan.name == name) {
            Some(plan) => Ok(host::Host::new(self, plan)),
            None => {
                let all: Vec<&str> =
                    self.record.hosts.iter().map(|one| one.name.as_str()).collect();
                Err(LabError::NoHost { name: name.to_owned(), known: all.join(", ") })
            }
        }
    }

    fn each_host(&self) -> impl Iterator<Item = host::Host<'_>> {
        self.record.hosts.iter().map(|plan| host::Host::new(self, plan))
    }
}

fn require_root() -> Result<(), LabError> {
    if crate::sys::namespaces::is_root() { Ok(()) } else { Err(LabError::NotRoot) }
}
