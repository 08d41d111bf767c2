//! Whether a majority of the voters can answer, as far as this member can know.
//!
//! Why: without a majority nothing that needs one will be done, however long one waits;
//! who asks must hear so at once, and who must be started. While a new leader is elected
//! the same request only has to wait a moment. Silence of the leader alone cannot tell the
//! two apart, so a member that hears none asks the others whether they are there.
//!
//! ```text
//!  leader heard, or a majority acknowledged    ► held
//!  silence for SUSPICIOUS                      ► ask every member
//!     a majority answers                       ► held: an election is under way
//!     none does, ROUNDS times in a row         ► lost, until one of the above
//! ```
//!
//! Invariants: it decides how long a request waits, never what is committed; a loss that
//! is told names only members that did not answer just then.
//! Not here: waiting for the leader (`barrier`, `propose`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use openraft::Instant as _;
use openraft::async_runtime::WatchReceiver;

use super::health::Health;
use super::member::Store;
use super::message::{Answer, Request};
use super::quorum::Voters;
use super::quorum_loss::QuorumLoss;
use super::shared::Shared;
use crate::base::ids::MemberId;

/// Silence after which the others are asked: longer than a heartbeat may be late.
const SUSPICIOUS: Duration = Duration::from_millis(1_200);
/// How often the silence is measured.
const MEASURE: Duration = Duration::from_millis(250);
/// How long a member may take to say that it is there.
const ANSWER: Duration = Duration::from_millis(800);
/// Rounds of asking without a majority before it counts as lost.
const ROUNDS: u32 = 2;

impl Store {
    /// Which members answer this one now; itself always does.
    pub async fn answering(&self) -> BTreeSet<MemberId> {
        self.shared.answering().await.into_iter().map(MemberId).collect()
    }

    /// The loss of the majority, if `answering` is all that answers.
    pub fn quorum_loss(&self, answering: &BTreeSet<MemberId>) -> Option<QuorumLoss> {
        self.shared.voters().loss(&answering.iter().map(|member| member.0).collect())
    }
}

impl Shared {
    pub(super) fn voters(&self) -> Voters {
        let membership = self.membership();
        let names = membership.nodes().map(|(member, peer)| (*member, peer.name.clone()));
        Voters { names: names.collect(), groups: membership.get_joint_config().clone() }
    }

    async fn answering(&self) -> BTreeSet<u64> {
        let own = self.identity.member.0;
        let members: Vec<u64> = self.membership().nodes().map(|(member, _)| *member).collect();
        let ask = |member: u64| async move {
            if member == own {
                return Some(own);
            }
            match self.outbound.call_member(member, Request::Status, ANSWER).await {
                Ok(Answer::Status(status)) if status.health == Health::Serving.text() => {
                    Some(member)
                }
                _ => None,
            }
        };
        // The network's own deadline is not trusted to be exact.
        let ask = |member: u64| async move {
            tokio::time::timeout(ANSWER, ask(member)).await.unwrap_or(None)
        };
        join_all(members.into_iter().map(ask)).await.into_iter().flatten().collect()
    }

    /// How long nothing has shown that there is a majority.
    fn silence(&self) -> Duration {
        let heard = *self.quorum.heard.lock().expect("no holder of the time panics");
        let metrics = self.raft.metrics();
        let now = metrics.borrow_watched();
        let acknowledged = now.last_quorum_acked.map(|time| time.into_inner());
        let acknowledged = acknowledged.filter(|_| now.state.is_leader());
        acknowledged.map_or(heard.elapsed(), |at| at.elapsed().min(heard.elapsed()))
    }

    /// Keeps the knowledge of the majority, until the member stops.
    pub(super) async fn watch_quorum(self: Arc<Self>) {
        let mut without = 0;
        loop {
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return,
                () = tokio::time::sleep(MEASURE) => {}
            }
            let own: BTreeSet<u64> = BTreeSet::from([self.identity.member.0]);
            // Alone it is its own majority; outside the group there is none to lose.
            let loss = if self.silence() < SUSPICIOUS || self.voters().loss(&own).is_none() {
                None
            } else {
                tokio::select! {
                    biased;
                    () = self.cancel.cancelled() => return,
                    answering = self.answering() => self.voters().loss(&answering),
                }
            };
            // A leader that spoke meanwhile knows better.
            match loss.filter(|_| self.silence() >= SUSPICIOUS) {
                None => {
                    without = 0;
                    self.quorum.tell(None);
                }
                Some(loss) => {
                    without += 1;
                    if without >= ROUNDS {
                        self.quorum.tell(Some(loss));
                    }
                }
            }
        }
    }
}
