//! Faults: a host is killed, stopped, or started again.
//!
//! Why SIGKILL to PID 1: the kernel then ends everything in the host at once, which is as
//! near to a power cut as a namespace comes. A stop freezes: connections stay open and
//! nobody answers, as with a host whose disk hangs.

use super::error::LabError;
use super::host::Host;
use super::{Lab, require_root};
use crate::base::limits;

/// What to do to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Ends everything in it at once.
    Kill,
    /// Freezes everything in it.
    Stop,
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

fn stop(host: &Host<'_>) -> Result<(), LabError> {
    if host.pid().is_none() {
        return Err(LabError::WrongState { host: host.name().to_owned(), state: "down" });
    }
    Ok(host.group().freeze(true)?)
}
