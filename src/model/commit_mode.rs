//! What an answer of the store waits for.

use serde::{Deserialize, Serialize};

/// What an answer waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommitMode {
    /// Raft's majority.
    #[default]
    Majority,
    /// Also two of the remote center's members; the city may fall back.
    RemoteSync,
    /// The same; the city never falls back, writes stop instead.
    MaxProtection,
}

/// A mode's name was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is no commit mode; they are majority, remote-sync and max-protection")]
pub struct NoCommitMode {
    found: String,
}

impl std::str::FromStr for CommitMode {
    type Err = NoCommitMode;

    fn from_str(name: &str) -> Result<Self, NoCommitMode> {
        let known = Self::ALL.into_iter().find(|mode| mode.name() == name);
        known.ok_or_else(|| NoCommitMode { found: name.to_owned() })
    }
}

impl CommitMode {
    pub const ALL: [Self; 3] = [Self::Majority, Self::RemoteSync, Self::MaxProtection];

    /// As it stands in files, commands and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Majority => "majority",
            Self::RemoteSync => "remote-sync",
            Self::MaxProtection => "max-protection",
        }
    }

    /// Whether an answer waits for the remote center.
    pub fn waits_for_remote(self, footing: Footing) -> bool {
        match self {
            Self::Majority => false,
            Self::RemoteSync => footing == Footing::Synchronous,
            Self::MaxProtection => true,
        }
    }
}

/// Whether the remote center counts at the moment; what the newest committed entry of
/// that kind says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Footing {
    Synchronous,
    #[default]
    FallenBack,
}

impl Footing {
    pub fn name(self) -> &'static str {
        match self {
            Self::Synchronous => "synchronous",
            Self::FallenBack => "fallen-back",
        }
    }
}
