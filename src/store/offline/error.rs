//! Why a stopped member's directory cannot be used.

use std::path::PathBuf;

use crate::store::log::LogError;
use crate::store::snapshot_file::SnapshotError;
use crate::store::state::StateError;

/// Why a stopped member's directory cannot be used, or a new one not be made.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    #[error("{} holds no member of a store", path.display())]
    Empty { path: PathBuf },
    #[error("{} holds a store already; nothing was written", path.display())]
    Occupied { path: PathBuf },
    #[error("the member in {} is running; stop it first", path.display())]
    Running { path: PathBuf },
    #[error("cannot read the log in {}", path.display())]
    Log {
        path: PathBuf,
        #[source]
        source: LogError,
    },
    #[error("cannot use the state in {}", path.display())]
    State {
        path: PathBuf,
        #[source]
        source: StateError,
    },
    #[error(
        "the log in {} begins after entry {first_missing}, which the state has not applied: this \
         member has forgotten what it acknowledged", path.display()
    )]
    Hole { path: PathBuf, first_missing: u64 },
    #[error("cannot use the directory {}", path.display())]
    Directory {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

impl OfflineError {
    /// Whether the directory itself is damaged, and not merely out of reach.
    pub fn is_damage(&self) -> bool {
        match self {
            OfflineError::Log { source, .. } => {
                matches!(source, LogError::Damaged { .. } | LogError::Decode { .. })
            }
            OfflineError::State { .. } | OfflineError::Hole { .. } => true,
            OfflineError::Empty { .. }
            | OfflineError::Occupied { .. }
            | OfflineError::Running { .. }
            | OfflineError::Directory { .. }
            | OfflineError::Snapshot(_) => false,
        }
    }
}
