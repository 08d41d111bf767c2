//! The linearizable read's barrier, wherever the leader is.
//!
//! The leader confirms with a majority that it still leads and names the log index that a
//! read starting now must see; this member waits until it has applied that far and may show
//! it. Where answers wait for the remote center, the index is the leader's safe one. Reads
//! that wait at the same time share one such round.

use std::sync::Arc;
use std::time::Duration;

use openraft::ReadPolicy;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

use super::api::StoreError;
use super::message::{Answer, Request, Unread};
use super::shared::Shared;

/// How long a read may look for a leader.
const READ_BUDGET: Duration = Duration::from_secs(10);
/// How long one round with one leader may take.
const ROUND: Duration = Duration::from_millis(1_500);

impl Shared {
    /// Returns when this member has applied all that was acknowledged before the call.
    pub(super) async fn barrier(self: &Arc<Self>) -> Result<(), StoreError> {
        let (tx, rx) = oneshot::channel();
        if self.gate.join(tx) {
            // On the tracker, so that a reader who gives up does not stop the others.
            let shared = self.clone();
            self.tracker.spawn(async move { shared.run_gate().await });
        }
        let index = rx.await.map_err(|_| StoreError::ShuttingDown)??;
        let mut progress = self.state.progress();
        let applied = progress.wait_for(|progress| progress.applied >= index);
        let applied = tokio::select! {
            biased;
            applied = timeout(READ_BUDGET, applied) => applied,
            loss = self.quorum.lost() => return Err(StoreError::NoQuorum(loss)),
        };
        match applied {
            Ok(Ok(_)) => self.health.borrow().check(),
            Ok(Err(_)) => Err(StoreError::ShuttingDown),
            Err(_) if self.state.waits_for_remote() && self.state.applied_index() >= index => {
                Err(StoreError::HeldBack { reason: self.waited_for() })
            }
            Err(_) => Err(StoreError::NoLeader {
                reason: format!("this member did not catch up to entry {index} in time"),
            }),
        }
    }

    /// Returns when all that this member has applied by now may be shown: what was read of it
    /// before, beside the keys, which are read as of a revision.
    pub(super) async fn all_shown(&self) -> Result<(), StoreError> {
        if !self.state.waits_for_remote() {
            return Ok(());
        }
        let shown = self.state.until_shown(self.state.applied_index());
        tokio::select! {
            biased;
            shown = timeout(READ_BUDGET, shown) => {
                shown.map_err(|_| StoreError::HeldBack { reason: self.waited_for() })
            }
            loss = self.quorum.lost() => Err(StoreError::NoQuorum(loss)),
        }
    }

    async fn run_gate(self: Arc<Self>) {
        // Only reads that were waiting before the round began may use its answer.
        while let Some(served) = self.gate.next() {
            let index = tokio::select! {
                biased;
                // No leader will come by waiting for one.
                loss = self.quorum.lost() => Err(StoreError::NoQuorum(loss)),
                index = self.read_index() => index,
            };
            for waiting in served {
                // A reader may have given up.
                let _ = waiting.send(index.clone());
            }
        }
    }

    async fn read_index(self: &Arc<Self>) -> Result<u64, StoreError> {
        let until = Instant::now() + READ_BUDGET;
        let mut last = String::from("no leader is known");
        loop {
            self.health.borrow().check()?;
            let leader = *self.leader.borrow();
            match leader {
                None => {}
                Some(leader) if leader == self.identity.member => {
                    match self.read_index_here(until).await {
                        Ok(index) => return Ok(index),
                        Err(Unread::NoQuorum(loss)) => return Err(StoreError::NoQuorum(loss)),
                        Err(Unread::Later { reason }) => last = reason,
                    }
                }
                Some(leader) => {
                    let deadline = ROUND.min(until.saturating_duration_since(Instant::now()));
                    let asked = self.outbound.call_member(leader.0, Request::ReadIndex, deadline);
                    let answer = tokio::select! {
                        biased;
                        answer = asked => answer,
                        () = self.other_leader(leader) => continue,
                    };
                    match answer {
                        Ok(Answer::ReadIndex(Ok(index))) => return Ok(index),
                        Ok(Answer::ReadIndex(Err(Unread::NoQuorum(loss)))) => {
                            return Err(StoreError::NoQuorum(loss));
                        }
                        Ok(Answer::ReadIndex(Err(Unread::Later { reason }))) => last = reason,
                        Ok(answer) => last = format!("unexpected answer {answer:?}"),
                        Err(error) => last = error.to_string(),
                    }
                }
            }
            if Instant::now() >= until {
                return Err(StoreError::NoLeader { reason: last });
            }
            self.pause(leader).await;
        }
    }

    /// The index that a read starting now must see; only the leader knows.
    pub(super) async fn read_index_here(&self, until: Instant) -> Result<u64, Unread> {
        let (index, term) = self.confirm_lead(until).await?;
        self.answerable(index, term)
    }

    /// The term in which this member led at some moment after the call, with a majority's
    /// word; calls at the same time share a round.
    pub(super) async fn confirmed_term(self: &Arc<Self>) -> Result<u64, StoreError> {
        let (tx, rx) = oneshot::channel();
        if self.lead_gate.join(tx) {
            let shared = self.clone();
            self.tracker.spawn(async move {
                while let Some(served) = shared.lead_gate.next() {
                    let confirmed = shared.confirm_lead(Instant::now() + ROUND).await;
                    let term = confirmed.map(|(_, term)| term).map_err(|unread| match unread {
                        Unread::Later { reason } => StoreError::NoLeader { reason },
                        Unread::NoQuorum(loss) => StoreError::NoQuorum(loss),
                    });
                    for waiting in served {
                        // Its holder may have given up.
                        let _ = waiting.send(term.clone());
                    }
                }
            });
        }
        rx.await.map_err(|_| StoreError::ShuttingDown)?
    }

    /// The index that a read starting now must see, and the term of this member's lead.
    pub(super) async fn confirm_lead(&self, until: Instant) -> Result<(u64, u64), Unread> {
        let later = |reason: String| Err(Unread::Later { reason });
        if let Some(loss) = self.quorum.loss() {
            return Err(Unread::NoQuorum(loss));
        }
        let until = until.min(Instant::now() + ROUND);
        match timeout_at(until, self.raft.get_read_log_id(ReadPolicy::ReadIndex)).await {
            // A leader reads no earlier than at its own first entry, so the entry's term is
            // the lead's.
            Ok(Ok((read, _applied))) => {
                Ok((read.log_id().index, read.log_id().committed_leader_id().term))
            }
            Ok(Err(error)) => later(error.to_string()),
            Err(_) => later("the leader could not confirm that it leads".into()),
        }
    }
}
