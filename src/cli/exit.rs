//! How verbs end: the exit codes that scripts rely on, and why a verb failed.

use std::path::PathBuf;
use std::process::ExitCode;

use super::printer;
use crate::base::chain::chain;
use crate::client::ApiError;
use crate::client::http::HttpSetupError;
use crate::lab::LabError;

/// How a verb ended. Source: `sysexits.h` for 64, 69 and 75.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, all well.
    Done,
    /// 1: tried and failed.
    Failed,
    /// 2: works, but wants attention (degraded).
    Attention,
    /// 64: wrong usage or configuration.
    Usage,
    /// 69: nobody could be reached.
    Unreachable,
    /// 75: not now; the same command may be tried again.
    TryAgain,
    /// That of a command which was run on the caller's behalf.
    Command(u8),
}

impl Exit {
    /// The number the shell sees.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Attention => 2,
            Exit::Usage => 64,
            Exit::Unreachable => 69,
            Exit::TryAgain => 75,
            Exit::Command(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

/// Why a verb that talks to the cluster failed; decides its exit code.
#[derive(Debug, thiserror::Error)]
pub enum VerbError {
    #[error("{0}")]
    Usage(String),
    #[error(
        "cannot use the kubeconfig {} (--kubeconfig or KUBECONFIG names another)",
        kubeconfig.display()
    )]
    Setup {
        kubeconfig: PathBuf,
        #[source]
        source: HttpSetupError,
    },
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error("{0}")]
    Failed(String),
    #[error("cannot write the output")]
    Output(#[from] std::io::Error),
}

impl VerbError {
    /// The code that it ends the program with.
    pub fn exit(&self) -> Exit {
        match self {
            VerbError::Usage(_) | VerbError::Setup { .. } => Exit::Usage,
            VerbError::Api(ApiError::Unreachable { .. }) => Exit::Unreachable,
            VerbError::Api(ApiError::Refused(status)) if matches!(status.code, 429 | 503) => {
                Exit::TryAgain
            }
            VerbError::Api(_) | VerbError::Failed(_) | VerbError::Output(_) => Exit::Failed,
        }
    }
}

/// Fails with wrong usage unless all files are there.
pub(super) fn require_files<'p>(
    files: impl IntoIterator<Item = &'p PathBuf>,
) -> Result<(), VerbError> {
    match files.into_iter().find(|file| !file.exists()) {
        Some(absent) => Err(VerbError::Usage(format!(
            "there is no file {}; check the path on the command line",
            absent.display()
        ))),
        None => Ok(()),
    }
}

/// The code that an error of any verb ends the program with.
pub(super) fn code_of(error: &anyhow::Error) -> Exit {
    if let Some(verb) = error.downcast_ref::<VerbError>() {
        return verb.exit();
    }
    match error.downcast_ref::<LabError>() {
        Some(lab) if lab.is_usage() => Exit::Usage,
        _ => Exit::Failed,
    }
}

/// Turns a verb's outcome into its exit code; the error goes to stderr.
pub(super) fn finish(outcome: Result<(), VerbError>) -> Exit {
    match outcome {
        Ok(()) => Exit::Done,
        // Whoever read us has read enough.
        Err(VerbError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            Exit::Done
        }
        Err(error) => {
            printer::note(&match &error {
                // In kubectl's words.
                VerbError::Api(ApiError::Refused(status)) if !status.reason.is_empty() => {
                    format!("Error from server ({}): {}", status.reason, status.message)
                }
                other => format!("error: {}", chain(other)),
            });
            error.exit()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_end_with_the_codes_that_scripts_rely_on() {
        use crate::model::status::Status;
        let unreachable = VerbError::Api(ApiError::Unreachable { reason: String::new() });
        assert_eq!(unreachable.exit().code(), 69);
        assert_eq!(VerbError::Api(Status::unavailable("no leader").into()).exit().code(), 75);
        assert_eq!(VerbError::Api(Status::not_found("pods", "", "x").into()).exit().code(), 1);
        assert_eq!(VerbError::Usage(String::new()).exit().code(), 64);
    }
}
