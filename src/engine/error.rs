//! Why the engine did not do what was asked.
//!
//! Invariant: an engine that does not answer is [`EngineError::Silent`], whatever was
//! asked of it. Silence says nothing about containers: they may all be running well, so
//! no caller may take it for a failed container or a failed probe.

/// One failed request to the engine.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// No answer came; whether the request was carried out is not known.
    #[error("the engine did not answer when asked to {action} {target}: {reason}")]
    Silent { action: &'static str, target: String, reason: String },
    /// There is no such container or image.
    #[error("cannot {action} {target}: no such object")]
    NotFound { action: &'static str, target: String },
    /// A container of this name exists already.
    #[error("the container name {name} is taken")]
    NameTaken { name: String },
    /// The engine understood and said no.
    #[error("the engine refused to {action} {target} ({status}): {message}")]
    Refused { action: &'static str, target: String, status: u16, message: String },
    /// The image could not be fetched.
    #[error("cannot pull {image}: {message}")]
    Pull { image: String, message: String },
    /// The command run inside a container outlived its deadline.
    #[error("command in {target} did not finish within {timeout_ms} ms")]
    ExecTimeout { target: String, timeout_ms: u128 },
}

impl EngineError {
    /// True when nothing is known about the outcome or the state.
    pub fn is_unknown(&self) -> bool {
        match self {
            EngineError::Silent { .. } => true,
            EngineError::NotFound { .. }
            | EngineError::NameTaken { .. }
            | EngineError::Refused { .. }
            | EngineError::Pull { .. }
            | EngineError::ExecTimeout { .. } => false,
        }
    }

    /// True when the object asked about does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, EngineError::NotFound { .. })
    }
}
