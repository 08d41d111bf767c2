//! The only code that touches the operating system.

pub mod files;
pub mod host;
pub mod process;
pub mod services;
pub mod systemd;
pub mod tls_keys;
