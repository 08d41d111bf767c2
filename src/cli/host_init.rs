//! `holdfast host-init`: is PID 1 of a host. Hidden; started by the lab and the appliance.

use tracing_subscriber::EnvFilter;

use super::exit::Exit;

/// Runs until the host is asked to stop. Must be called outside of any runtime.
pub fn run() -> anyhow::Result<Exit> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // A subscriber may have been set by the caller; then that one is used.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init();
    crate::sys::pid1::run(crate::sys::pid1::Pid1Config::default())?;
    Ok(Exit::Done)
}
