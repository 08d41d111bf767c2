//! The command line: one file per verb, output and exit codes only.
pub mod host_init;
pub mod lab;
