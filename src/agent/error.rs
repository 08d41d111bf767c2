//! Why the agent could not do something for a pod.

use std::path::PathBuf;

use super::ports::{ImageError, PodNetworkError};
use crate::client::ApiError;
use crate::engine::EngineError;

/// One failed step; the pod's worker tries again with back-off.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Network(#[from] PodNetworkError),
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The pod's spec refers to something that does not exist or is not supported.
    #[error("{reason}")]
    Config { reason: String },
    #[error("cannot {action} {path}")]
    Files {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// What was asked for does not exist on this node.
    #[error("{what} not found")]
    NotFound { what: String },
    /// The request itself is wrong.
    #[error("{reason}")]
    BadRequest { reason: String },
}

impl AgentError {
    pub(crate) fn config(reason: impl Into<String>) -> Self {
        AgentError::Config { reason: reason.into() }
    }

    /// Wraps an I/O error with what was being done to which path.
    pub(crate) fn files(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| AgentError::Files { action, path, source }
    }
}
