//! What can go wrong with keys and certificates.

use crate::base::chain::chain;
use crate::sys::files::FileError;

/// Why a key or certificate could not be made, read or signed.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("cannot {action}: {reason}")]
    Crypto { action: &'static str, reason: String },
    #[error("the certificate request is not valid: {reason}")]
    Request { reason: String },
    #[error(transparent)]
    File(#[from] FileError),
}

pub(crate) fn crypto(action: &'static str) -> impl FnOnce(rcgen::Error) -> PkiError {
    move |error| PkiError::Crypto { action, reason: chain(&error) }
}
