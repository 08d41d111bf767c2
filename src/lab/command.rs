//! How the lab starts its own program again: as PID 1, as switch, as daemon, or to ask it.
//!
//! Why not simply `current_exe`: tests run inside their harness, which must be told which
//! of its tests plays the child; the verb then travels in an environment variable.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use super::Lab;
use super::error::{LabError, files};
use crate::base::limits;
use crate::sys::cgroup::Group;
use crate::sys::namespaces::{join_before_exec, spawn_fresh};
use crate::sys::tree;

/// PATH on a lab host.
pub(super) const HOST_PATH: &str =
    "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin:/opt/holdfast/engine/bin";

/// A terminal's interrupt is meant for the command, not for what it leaves running.
pub(super) fn own_process_group(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
}

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

impl Lab {
    /// A command line of the lab's own program that becomes a process of `group`, in which
    /// nothing is left of one before.
    pub(super) fn command_in(&self, group: &Group, verb: &[&str]) -> Result<Command, LabError> {
        // The child of one that was killed a moment ago may still be on its way in.
        group.clear(limits::LAB_KILL)?;
        group.make()?;
        let log = tree::open_log(&self.dir.daemon_log()).map_err(files("open the daemon's log"))?;
        let mut command = self.program.command(self.dir.program(), verb);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).current_dir("/");
        own_process_group(&mut command);
        join_before_exec(&mut command, group.entrances()?);
        Ok(command)
    }

    /// Starts such a process, which is told the lab's directory.
    pub(super) fn start_in(
        &self,
        group: &Group,
        verb: &str,
        what: &'static str,
    ) -> Result<(), LabError> {
        let dir = self.dir.path().to_string_lossy().into_owned();
        let mut command = self.command_in(group, &["lab", verb, "--dir", &dir])?;
        let started = spawn_fresh(&mut command);
        started.map(drop).map_err(|source| LabError::Start { what: what.to_owned(), source })
    }
}

/// The end of what a command said.
pub(super) fn last_words(output: &Output) -> String {
    const LINES: usize = 40;
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// The command line for messages; a token in it is not shown.
pub(super) fn show(command: &Command) -> String {
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
