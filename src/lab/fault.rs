//! Faults: a host is killed, stopped, wiped, or started again.
//!
//! Why SIGKILL to PID 1: the kernel then ends everything in the host at once, which is as
//! near to a power cut as a namespace comes. A stop freezes: connections stay open and
//! nobody answers, as with a host whose disk hangs.

use super::error::{LabError, files};
use super::host::Host;
use super::{Lab, require_root};
use crate::base::limits;
use crate::sys::{mounts, tree};

/// What to do to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Ends everything in it at once.
    Kill,
    /// Freezes everything in it.
    Stop,
    /// Kills it and takes all that was on its disk; it stays down.
    Wipe,
    /// Thaws a stopped host, boots a killed one.
    Start,
}

impl Lab {
    /// Brings a host into the wanted state; repeating it is no error.
    pub fn fault(&self, fault: Fault, host: &str) -> Result<(), LabError> {
        require_root()?;
        let host = self.host(host)?;
        match fault {
            Fault::Kill => kill(&host),
            Fault::Stop => stop(&host),
            Fault::Wipe => wipe(&host),
            Fault::Start => self.start(&host),
        }
    }

    fn start(&self, host: &Host<'_>) -> Result<(), LabError> {
        if host.group().is_frozen() {
            host.group().freeze(false)?;
        }
        host.ensure_booted()?;
        self.ensure_daemon().map(drop)
    }
}

fn kill(host: &Host<'_>) -> Result<(), LabError> {
    // The group holds PID 1 as well as those that `lab exec` brought in.
    Ok(host.group().kill_all(limits::LAB_KILL)?)
}

/// What the host mounted went with its mount namespace, so only its own files are met.
fn wipe(host: &Host<'_>) -> Result<(), LabError> {
    kill(host)?;
    mounts::unmount_below(&host.root())?;
    tree::remove(&host.root()).map_err(files("remove a host's disk"))
}

fn stop(host: &Host<'_>) -> Result<(), LabError> {
    if host.pid().is_none() {
        return Err(LabError::WrongState { host: host.name().to_owned(), state: "down" });
    }
    Ok(host.group().freeze(true)?)
}
