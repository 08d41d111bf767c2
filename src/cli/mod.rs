//! The command line: one file per verb, output and exit codes only.

pub mod connection;
pub mod exit;
pub mod printer;
pub mod probe;
pub mod status;

use std::process::ExitCode;

/// Runs the verb that the command line names.
pub fn main() -> ExitCode {
    exit::Exit::Usage.into()
}
