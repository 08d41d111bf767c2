//! Whether a member may serve, and if not, why.
//!
//! Invariant: health only gets worse; a member that stopped serving serves again only
//! after a restart.

use tokio::sync::watch;

use super::api::StoreError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    Serving,
    /// The disk is not the one the peers remember.
    Forgotten {
        reason: String,
    },
    /// The others took it out of the group.
    Removed,
    /// The disk or Raft failed.
    Failed {
        reason: String,
    },
    Stopping,
}

impl Health {
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        match self {
            Health::Serving => Ok(()),
            Health::Forgotten { reason } | Health::Failed { reason } => {
                Err(StoreError::Fatal { reason: reason.clone() })
            }
            Health::Removed => Err(StoreError::Removed),
            Health::Stopping => Err(StoreError::ShuttingDown),
        }
    }

    fn worsen(health: &watch::Sender<Health>, to: Health) {
        health.send_if_modified(|now| {
            let worse = matches!(now, Health::Serving)
                || (matches!(to, Health::Stopping) && !matches!(now, Health::Stopping));
            if worse {
                *now = to.clone();
            }
            worse
        });
    }

    pub(crate) fn forgotten(health: &watch::Sender<Health>, reason: &str) {
        if *health.borrow() == Health::Serving {
            tracing::error!(reason, "this member stops: its disk is not the one that voted");
        }
        Self::worsen(health, Health::Forgotten { reason: reason.to_owned() });
    }

    pub(crate) fn removed(health: &watch::Sender<Health>) {
        if *health.borrow() == Health::Serving {
            tracing::error!("this member stops: {}", StoreError::Removed);
        }
        Self::worsen(health, Health::Removed);
    }

    pub(crate) fn failed(health: &watch::Sender<Health>, reason: &str) {
        if *health.borrow() == Health::Serving {
            tracing::error!(reason, "this member stops: its storage or its log failed");
        }
        Self::worsen(health, Health::Failed { reason: reason.to_owned() });
    }

    pub(crate) fn stopping(health: &watch::Sender<Health>) {
        Self::worsen(health, Health::Stopping);
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        match self {
            Health::Serving => "serving".into(),
            Health::Forgotten { reason } => format!("forgotten: {reason}"),
            Health::Removed => format!("removed: {}", StoreError::Removed),
            Health::Failed { reason } => format!("failed: {reason}"),
            Health::Stopping => "stopping".into(),
        }
    }
}
