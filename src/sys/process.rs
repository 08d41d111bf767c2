//! Runs a program to its end and brings back what it said.
//!
//! Why a deadline and a bound: an installer that hangs on a program that waits for input
//! tells nobody why. stdin is always empty.
//! Not here: long-running services (`services`, `systemd`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// What to run.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// Program and arguments.
    pub argv: Vec<String>,
    pub environment: BTreeMap<String, String>,
    pub directory: Option<PathBuf>,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Exit status; 128 + signal when it was killed, as shells count.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error("cannot start {program}")]
    Start {
        program: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{program} did not end within {} s and was killed", deadline.as_secs())]
    Deadline { program: String, deadline: Duration },
    #[error("no program was named")]
    Empty,
}

impl Program {
    pub fn new(argv: &[&str]) -> Self {
        Self { argv: argv.iter().map(|&part| part.to_owned()).collect(), ..Self::default() }
    }

    /// Runs to the end; a program that outlives the deadline is killed.
    pub async fn run(&self, deadline: Duration) -> Result<Finished, ProcessError> {
        let (program, arguments) = self.argv.split_first().ok_or(ProcessError::Empty)?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .envs(&self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        let start = |source| ProcessError::Start { program: program.clone(), source };
        let child = command.spawn().map_err(start)?;
        let output = tokio::time::timeout(deadline, child.wait_with_output())
            .await
            .map_err(|_| ProcessError::Deadline { program: program.clone(), deadline })?
            .map_err(start)?;
        let code = output.status.code().unwrap_or_else(|| {
            use std::os::unix::process::ExitStatusExt;
            128 + output.status.signal().unwrap_or(0)
        });
        Ok(Finished {
            code,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn output_and_status_come_back() {
        let program = Program::new(&["sh", "-c", "echo out; echo err >&2; exit 3"]);
        let finished = program.run(Duration::from_secs(30)).await.expect("runs");
        assert_eq!(
            (finished.code, finished.stdout.trim(), finished.stderr.trim()),
            (3, "out", "err")
        );
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_killed() {
        let program = Program::new(&["sleep", "600"]);
        let error = program.run(Duration::from_millis(50)).await.expect_err("hangs");
        assert!(matches!(error, ProcessError::Deadline { .. }), "{error}");
    }
}
