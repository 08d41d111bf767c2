//! Runs one of the product's commands on a host and takes what it says.

use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::command::{last_words, show};
use super::error::LabError;
use super::host::Host;

/// A finished command's words.
#[derive(Debug)]
pub(super) struct Spoken {
    pub(super) stdout: String,
}

/// Runs `command` on a host and takes its output; anything but exit code 0 is an error
/// that carries the last lines of what was said.
pub(super) fn run_on(
    host: &Host<'_>,
    command: Command,
    limit: Duration,
) -> Result<Spoken, LabError> {
    run_accepting(host, command, limit, &[0])
}

/// The same where other exit codes come with an answer, too.
pub(super) fn run_accepting(
    host: &Host<'_>,
    mut command: Command,
    limit: Duration,
    accepted: &[i32],
) -> Result<Spoken, LabError> {
    let shown = show(&command);
    let failed = |outcome: String, output: String| LabError::Command {
        host: host.name().to_owned(),
        command: shown.clone(),
        outcome,
        output,
    };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = host.spawn(command)?;
    let pid = child.id();
    let (done, finished) = std::sync::mpsc::channel();
    let waiter = std::thread::spawn(move || {
        // The receiver waits for exactly this or gives up before.
        let _ = done.send(child.wait_with_output());
    });
    let output = finished.recv_timeout(limit).unwrap_or_else(|_| {
        crate::sys::namespaces::kill_process(pid);
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("none within {} s", limit.as_secs())))
    });
    // It ends with the child, which has ended or was killed.
    let _ = waiter.join();
    match output {
        Ok(output) if output.status.code().is_some_and(|code| accepted.contains(&code)) => {
            Ok(Spoken { stdout: String::from_utf8_lossy(&output.stdout).into_owned() })
        }
        Ok(output) => Err(failed(output.status.to_string(), last_words(&output))),
        Err(error) => Err(failed(error.to_string(), String::new())),
    }
}
