//! The command line: one file per verb, output and exit codes only.

pub mod apply;
pub mod delete;
pub mod describe;
pub mod get;
pub mod logs;
