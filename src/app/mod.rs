//! Builds the whole from its configuration and owns every long-lived task.

pub mod in_process;
pub mod supervise;
