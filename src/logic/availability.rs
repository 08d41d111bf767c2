//! Whether a pod has been ready for as long as its owner asks (`minReadySeconds`).

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::logic::rollout_ranking::ready_since;

/// How far a pod has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    Unready,
    /// Ready, and available after this time if it stays so.
    ReadyFor {
        left: Duration,
    },
    Available,
}

impl Availability {
    /// The pod's state now.
    pub fn of(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Self {
        let Some(since) = ready_since(pod) else { return Self::Unready };
        let left = i64::from(min_ready_seconds) - (now.as_second() - since.as_second());
        if min_ready_seconds <= 0 || left <= 0 {
            Self::Available
        } else {
            Self::ReadyFor { left: Duration::from_secs(left.unsigned_abs()) }
        }
    }

    pub fn is_ready(self) -> bool {
        self != Self::Unready
    }

    pub fn is_available(self) -> bool {
        self == Self::Available
    }
}
