//! Notes this start of the member in the log.
//!
//! Why: peers then recognise an older copy of its disk, which was started less often.

use std::sync::Arc;
use std::time::Duration;

use super::api::StoreError;
use super::shared::Shared;
use super::types::{Command, Reply};

/// Pause before the next attempt after an answer that comes at once.
const PAUSE: Duration = Duration::from_millis(500);

impl Shared {
    /// Notes this start in the log, so that an older copy of the disk is recognised.
    pub(super) async fn announce(self: Arc<Self>) {
        let own = self.identity;
        let wait = self.raft.wait(None);
        let joined = wait.metrics(
            |now| now.membership_config.membership().get_node(&own.member.0).is_some(),
            "this member is in the membership",
        );
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => return,
            joined = joined => if joined.is_err() { return },
        }
        loop {
            let command = Command::Boot { member: own.member, note: own.note() };
            let noted = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return,
                noted = self.propose(command) => noted,
            };
            match noted {
                // It was added by a leader whose word was lost; it is added again, or not.
                Ok(Reply::Refused(_)) => tokio::select! {
                    biased;
                    () = self.cancel.cancelled() => return,
                    () = tokio::time::sleep(PAUSE) => {}
                },
                Ok(_) => return,
                Err(StoreError::NoLeader { .. } | StoreError::Unknown { .. }) => {}
                // This is answered at once, so it must not be asked again at once.
                Err(StoreError::NoQuorum(_) | StoreError::HeldBack { .. }) => tokio::select! {
                    biased;
                    () = self.cancel.cancelled() => return,
                    () = tokio::time::sleep(PAUSE) => {}
                },
                Err(error) => {
                    tracing::warn!(%error, "this start could not be noted");
                    return;
                }
            }
        }
    }
}
