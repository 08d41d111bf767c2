//! The only code that touches the operating system.

pub mod host_facts;
pub mod pod_files;
pub mod services;
