//! Why a bundle cannot be used, one variant per thing a person must know apart.

use std::path::PathBuf;

/// A bundle that cannot be opened, verified, read or extracted.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("cannot {action} {path}")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} is not a holdfast bundle")]
    NotABundle { path: PathBuf },
    #[error("{path} is truncated: {have} bytes of {need}")]
    Truncated { path: PathBuf, have: u64, need: u64 },
    #[error("{path} has {extra} bytes after its end")]
    TrailingBytes { path: PathBuf, extra: u64 },
    #[error("{path} is damaged in the {part}")]
    Damaged { path: PathBuf, part: String },
    #[error("{path} is signed by key {key_id}, which is not trusted here (trusted: {trusted})")]
    UntrustedKey { path: PathBuf, key_id: String, trusted: String },
    #[error("the signature of {path} is wrong: its manifest was altered")]
    BadSignature { path: PathBuf },
    #[error("{path} has bundle format {found}; this program reads format {supported}")]
    WrongFormat { path: PathBuf, found: u64, supported: u32 },
    #[error("the manifest of {path} is not valid: {reason}")]
    Manifest { path: PathBuf, reason: String },
    #[error("entry {name} of {path} is wrong: {reason}")]
    Entry { path: PathBuf, name: String, reason: String },
    #[error("{path} has no entry {name}")]
    NoEntry { path: PathBuf, name: String },
}
