//! Faults: a host, or all of a center, is killed, stopped, wiped, or started again.
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
    /// Brings a host, or every host of a center, into the wanted state; repeating it is no
    /// error. Answers which.
    pub fn fault(&self, fault: Fault, name: &str) -> Result<Vec<String>, LabError> {
        require_root()?;
        let mut hosts: Vec<Host<'_>> =
            self.each_host().filter(|host| host.plan().center == name).collect();
        if hosts.is_empty() {
            hosts.push(self.host(name)?);
        }
        for host in &hosts {
            match fault {
                Fault::Kill => kill(host),
                Fault::Stop => stop(host),
                Fault::Wipe => wipe(host),
                Fault::Start => self.start(host),
            }?;
        }
        Ok(hosts.iter().map(|host| host.name().to_owned()).collect())
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
