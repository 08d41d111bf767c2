//! Why a bundle or an image could not be built.

use std::path::{Path, PathBuf};

use crate::bundle::write::WriteError;
use crate::sys::bundle_tools::ToolError;

/// A build that failed; the text says what to do where there is something to do.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("cannot {action} {path}")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} is not valid: {reason}")]
    Config { path: PathBuf, reason: String },
    #[error(
        "{path} does not fit the appliance ({reason}); \
         renew it with `holdfast bundle lock --refresh`"
    )]
    LockStale { path: PathBuf, reason: String },
    #[error(
        "the package mirrors no longer offer {package} {version} ({reason}); \
         renew the lock with `holdfast bundle lock --refresh` and build again"
    )]
    PackageGone { package: String, version: String, reason: String },
    #[error("package file {file} has SHA-256 {found}, the lock says {locked}")]
    PackageDigest { file: String, found: String, locked: String },
    #[error("package {package} is not offered by any mirror of this host")]
    PackageUnknown {
        package: String,
        #[source]
        source: ToolError,
    },
    #[error("apt's answer for package {package} is not understood: {answer}")]
    AptAnswer { package: String, answer: String },
    #[error("package {package} has no file {file}")]
    PackageFile { package: String, file: String },
    #[error("no package provides {library}, which {needed_by} needs")]
    LibraryMissing { library: String, needed_by: String },
    #[error("{file} is not a readable ELF file: {reason}")]
    Elf { file: String, reason: String },
    #[error("cannot pack the kernel's first file system")]
    Archive {
        #[source]
        source: std::io::Error,
    },
    #[error("image recipe {recipe}: {reason}")]
    Recipe { recipe: PathBuf, reason: String },
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

pub(super) fn io(action: &'static str, path: &Path, source: std::io::Error) -> BuildError {
    BuildError::Io { action, path: path.into(), source }
}
