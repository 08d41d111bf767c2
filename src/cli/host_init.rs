//! `holdfast host-init`: is PID 1 of a host. Hidden; started by the lab and the appliance.

use super::exit::Exit;
use super::logging::{self, Program};

/// Runs until the host is asked to stop. Must be called outside of any runtime.
pub fn run() -> anyhow::Result<Exit> {
    logging::start(Program::HostInit);
    crate::sys::pid1::run(crate::sys::pid1::Pid1Config::default())?;
    Ok(Exit::Done)
}
