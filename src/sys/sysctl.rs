//! Kernel switches under `/proc/sys`.
//!
//! `net/…` switches belong to the network namespace of the calling thread, which on a
//! node is the host's and in the lab the lab host's.

use std::fs;
use std::path::PathBuf;

/// A switch could not be set.
#[derive(Debug, thiserror::Error)]
#[error("cannot set {path} to {value}")]
pub struct SysctlError {
    path: PathBuf,
    value: String,
    #[source]
    source: std::io::Error,
}

/// Sets a switch such as `net/ipv4/ip_forward` unless it has the value already, so that
/// a read-only `/proc/sys` with the right value is no error.
pub(crate) fn set(name: &str, value: &str) -> Result<(), SysctlError> {
    let path = PathBuf::from("/proc/sys").join(name);
    if fs::read_to_string(&path).is_ok_and(|current| current.trim() == value) {
        return Ok(());
    }
    fs::write(&path, value).map_err(|source| SysctlError { path, value: value.to_owned(), source })
}
