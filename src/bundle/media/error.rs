//! Why no medium was written.

use std::path::{Path, PathBuf};

use crate::bundle::error::BundleError;
use crate::bundle::keys::KeyError;

/// A medium that could not be made; nothing was left in its place.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(
        "{path} carries no system to boot; build it with \
         `holdfast bundle build --system bundle/system.yaml …`"
    )]
    NoSystem { path: PathBuf },
    #[error("{path} is not a file; write the medium to a file and copy that to the device")]
    NotAFile { path: PathBuf },
    #[error("the output {output} is the same file as {input}, of which the medium is made")]
    OverInput { output: PathBuf, input: PathBuf },
    #[error("the boot loader's image {image} is not what this program can place: {reason}")]
    Loader { image: &'static str, reason: &'static str },
    #[error("cannot pack the first program")]
    Pack(#[source] std::io::Error),
    #[error("cannot {action} {path}")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot lay out the medium")]
    Layout(#[source] std::io::Error),
    #[error("what was written is not what was to be written")]
    ReadBack {
        #[source]
        source: Option<std::io::Error>,
    },
}

/// For `map_err`: what was done to which file.
pub(super) fn failed(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(std::io::Error) -> MediaError {
    let path = path.to_owned();
    move |source| MediaError::Io { action, path, source }
}

/// For `map_err` on what the libraries of file systems say.
pub(super) fn layout(error: impl Into<std::io::Error>) -> MediaError {
    MediaError::Layout(error.into())
}
