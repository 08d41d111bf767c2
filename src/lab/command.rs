//! How the lab starts its own program again: as PID 1, as switch, as daemon, or to ask it.
//!
//! Why not simply `current_exe`: tests run inside their harness, which must be told which
//! of its tests plays the child; the verb then travels in an environment variable.

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use super::error::{LabError, files};
use super::host::Host;

/// PATH on a lab host.
pub(super) const HOST_PATH: &str =
    "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin:/opt/holdfast/engine/bin";

/// The program that a lab's processes run.
#[derive(Clone, Debug)]
pub struct Program {
    /// The file on the machine; `lab up` copies it.
    pub file: PathBuf,
    /// Arguments in place of the verb's, which then go to [`Program::VERB`]; empty for the
    /// real program.
    pub instead: Vec<String>,
}

impl Program {
    /// Environment variable with the verb and its arguments, a line each.
    pub const VERB: &'static str = "HOLDFAST_LAB_VERB";

    /// The running program itself.
    pub fn current() -> Result<Self, LabError> {
        let file = std::env::current_exe().map_err(files("find the running program"))?;
        Ok(Self { file, instead: Vec::new() })
    }

    /// A command line for `file`, a copy of the program.
    pub(super) fn command(&self, file: impl AsRef<OsStr>, verb: &[&str]) -> Command {
        let mut command = Command::new(file);
        if self.instead.is_empty() {
            command.args(verb);
        } else {
            command.args(&self.instead).env(Self::VERB, verb.join("\n"));
        }
        command
    }
}

/// A finished command's words.
#[derive(Debug)]
pub(super) struct Spoken {
    pub(super) stdout: String,
}

/// Runs `command` on a host and takes its output; anything but exit code 0 is an error
/// that carries the last lines of what was said.
pub(super) fn run_on(
    host: &Host<'_>,
    mut command: Command,
    limit: Duration,
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
        Ok(output) if output.status.success() => {
            Ok(Spoken { stdout: String::from_utf8_lossy(&output.stdout).into_owned() })
        }
        Ok(output) => Err(failed(output.status.to_string(), last_words(&output))),
        Err(error) => Err(failed(error.to_string(), String::new())),
    }
}

fn last_words(output: &Output) -> String {
    const LINES: usize = 40;
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// The command line for messages; a token in it is not shown.
fn show(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    let mut hide = false;
    for argument in command.get_args() {
        let word = argument.to_string_lossy();
        words.push(if hide { "…".to_owned() } else { word.clone().into_owned() });
        hide = word == "--token";
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_not_shown() {
        let mut command = Command::new("holdfast");
        command.args(["join", "--token", "s3cret", "--node", "b1"]);
        assert_eq!(show(&command), "holdfast join --token … --node b1");
    }
}
