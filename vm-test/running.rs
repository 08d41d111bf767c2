//! What the scenarios here wait for, and what they run on this machine.

use std::process::Command;
use std::time::Duration;

use libtest_mimic::Failed;

use crate::failure::{eventually_after, failed};

/// Each look costs an emulated processor time that the awaited thing needs.
const PAUSE: Duration = Duration::from_secs(1);

/// Asks again until the check answers `Ok` or patience ends; then reports the last answer.
pub(crate) fn eventually<T>(
    what: &str,
    patience: Duration,
    check: impl FnMut() -> Result<T, Failed>,
) -> Result<T, Failed> {
    eventually_after(PAUSE, what, patience, check)
}

/// Runs a command of this machine that must succeed and returns its stdout.
pub(crate) fn succeed(command: &mut Command) -> Result<String, Failed> {
    let output = command.output().map_err(|error| failed(format!("{command:?}"), error))?;
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(out);
    }
    let err = String::from_utf8_lossy(&output.stderr);
    Err(format!("{:?}: exit {:?}\n{out}{err}", command.get_program(), output.status.code()).into())
}
