//! The remote center's side: asks for promises and counts from its questions.

use std::sync::Arc;
use std::time::Duration;

use crate::store::footing::Seen;
use crate::store::message::{Answer, Request};
use crate::store::shared::Shared;

/// How often it asks.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long an answer is of use.
const ANSWER: Duration = Duration::from_secs(2);

impl Shared {
    /// Asks for promises as long as this member is of the remote center.
    pub(in crate::store) async fn ask_for_promises(self: Arc<Self>) {
        let mut changed = self.state.commitment_changed();
        loop {
            let own = self.identity.member.0;
            let commitment = self.state.commitment();
            let asks = commitment.waits_for_remote() && commitment.remote.contains(&own);
            if asks {
                tokio::select! {
                    biased;
                    () = self.cancel.cancelled() => return,
                    () = self.ask_for_promise() => {}
                }
            }
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return,
                told = changed.changed() => if told.is_err() { return },
                () = tokio::time::sleep(ASK_EVERY), if asks => {}
            }
        }
    }

    async fn ask_for_promise(self: &Arc<Self>) {
        let Some(leader) = *self.leader.borrow() else { return };
        // Before the question leaves.
        let asked_ms = self.modes.now_ms();
        let promised = if leader == self.identity.member {
            self.promise_here().await
        } else {
            let answer = self.call_within(leader.0, Request::Promise, ANSWER).await;
            matches!(answer, Some(Ok(Answer::Promise { given: true })))
        };
        if promised {
            self.modes.claim().promised(asked_ms);
        }
    }

    /// Whether the city will not fall back from now on; only its leader knows.
    pub(in crate::store) async fn promise_here(self: &Arc<Self>) -> bool {
        if !self.state.waits_for_remote() {
            return false;
        }
        // By a round that begins only now: a leader that was deposed must not promise.
        let Ok(term) = self.confirmed_term().await else { return false };
        let mut slot = self.modes.lead();
        let (commitment, applied) = self.state.commitment_and_applied();
        let Some((led, _, remote)) = self.leading(&commitment) else { return false };
        let now_ms = self.modes.now_ms();
        let lead = slot.as_mut().filter(|lead| lead.term == term && led == term);
        let seen = Seen { now_ms, commitment: &commitment, applied, remote: &remote };
        lead.is_some_and(|lead| lead.promise(&seen))
    }
}
