//! Brings a command into the log, wherever the leader is.
//!
//! Why repeating is safe: a transaction carries an id and the state machine answers a
//! known id from memory; the other commands change nothing when done twice.
//! Not here: how a command gets to another member (`forward`).
//! Invariant: `NoLeader` and `NoQuorum` are said only if no attempt can have reached the log.

use std::sync::Arc;

use openraft::errors::{ClientWriteError, RaftError};
use tokio::time::{Instant, timeout_at};

use super::api::StoreError;
use super::forward_queue::NotAnswered;
use super::message::Unproposed;
use super::quorum_loss::QuorumLoss;
use super::shared::{ATTEMPT, PAUSE, Shared, WRITE_BUDGET};
use super::space::takes_space;
use super::types::{Command, Refusal, Reply};
use crate::base::ids::MemberId;
use crate::model::kv::Revision;

/// What became of one attempt.
enum Attempt {
    Done(Reply),
    /// It never reached the log.
    Not {
        reason: String,
    },
    /// It may have.
    Maybe {
        reason: String,
    },
    /// It did not, and will not before more members answer.
    NoQuorum(QuorumLoss),
    /// It did not, for want of space.
    NoSpace {
        reason: String,
    },
    /// It did not, because the commit mode waits for the remote center.
    HeldBack {
        reason: String,
    },
}

/// Whether the command's answer tells anybody of data.
fn tells(command: &Command) -> bool {
    match command {
        Command::Txn { .. } | Command::Ask { .. } | Command::Compact { .. } => true,
        // What members note of themselves must not queue behind what is waited for.
        Command::LeaseEnds { .. }
        | Command::LeaseMarks { .. }
        | Command::Boot { .. }
        | Command::Commitment(_) => false,
    }
}

impl Shared {
    /// Proposes until it is answered or the time is up.
    pub(super) async fn propose(self: &Arc<Self>, command: Command) -> Result<Reply, StoreError> {
        let measured = &self.state.measured;
        let _pending = measured.pending();
        let proposed = self.propose_until(command).await;
        if proposed.is_err() {
            measured.proposals_failed.inc();
        }
        proposed
    }

    async fn propose_until(self: &Arc<Self>, command: Command) -> Result<Reply, StoreError> {
        let until = Instant::now() + WRITE_BUDGET;
        let mut uncertain = false;
        let mut last = String::from("no leader is known");
        loop {
            if let Err(error) = self.health.borrow().check() {
                return Err(if uncertain { StoreError::Unknown { reason: last } } else { error });
            }
            let attempt_until = until.min(Instant::now() + ATTEMPT);
            let leader = *self.leader.borrow();
            let attempt = tokio::select! {
                biased;
                attempt = self.attempt(leader, &command, attempt_until) => attempt,
                reason = self.deposed(leader) => Attempt::Maybe { reason },
                // What was sent may still be done when the others are back.
                loss = self.quorum.lost() => Attempt::Maybe { reason: loss.to_string() },
            };
            match attempt {
                Attempt::Done(Reply::Refused(Refusal::Compacted { requested, compacted }))
                    if uncertain
                        && requested == compacted
                        && matches!(command, Command::Compact { .. }) =>
                {
                    return Ok(Reply::Done);
                }
                Attempt::Done(reply) => return Ok(reply),
                // An earlier attempt may still be done; another leader may have space.
                Attempt::NoSpace { reason } if !uncertain => {
                    return Err(StoreError::NoSpace { reason });
                }
                Attempt::HeldBack { reason } if !uncertain => {
                    return Err(StoreError::HeldBack { reason });
                }
                Attempt::NoQuorum(loss) if uncertain => {
                    return Err(StoreError::Unknown { reason: loss.to_string() });
                }
                Attempt::NoQuorum(loss) => return Err(StoreError::NoQuorum(loss)),
                // Whether it will count is told when the remote center confirms again.
                Attempt::HeldBack { reason } => return Err(StoreError::Unknown { reason }),
                Attempt::NoSpace { reason } | Attempt::Not { reason } => last = reason,
                Attempt::Maybe { reason } => {
                    uncertain = true;
                    last = reason;
                }
            }
            if Instant::now() + PAUSE >= until {
                if self.state.waits_for_remote() {
                    last = format!("{last}; {}", self.waited_for());
                }
                return Err(if uncertain {
                    StoreError::Unknown { reason: last }
                } else {
                    StoreError::NoLeader { reason: last }
                });
            }
            self.pause(leader).await;
        }
    }

    /// Returns when the leader that was asked is no more the leader.
    async fn deposed(&self, asked: Option<MemberId>) -> String {
        // Without one there is nothing to wait for.
        let Some(asked) = asked else { return std::future::pending().await };
        self.other_leader(asked).await;
        format!("another member leads instead of {asked}")
    }

    async fn attempt(
        self: &Arc<Self>,
        leader: Option<MemberId>,
        command: &Command,
        until: Instant,
    ) -> Attempt {
        if let Some(loss) = self.quorum.loss() {
            return Attempt::NoQuorum(loss);
        }
        let Some(leader) = leader else {
            return Attempt::Not { reason: "no leader is known".into() };
        };
        let proposed = if leader == self.identity.member {
            self.propose_here(command.clone(), until).await
        } else {
            match self.forward(leader, command, until).await {
                Ok(proposed) => proposed,
                Err(NotAnswered { reason, may_have_happened: true }) => {
                    return Attempt::Maybe { reason };
                }
                Err(NotAnswered { reason, .. }) => return Attempt::Not { reason },
            }
        };
        match proposed {
            Ok(reply) => Attempt::Done(reply),
            Err(Unproposed::NotLeader) => {
                Attempt::Not { reason: format!("member {leader} leads no more") }
            }
            Err(Unproposed::NoQuorum(loss)) => Attempt::NoQuorum(loss),
            Err(Unproposed::Unknown { reason }) => Attempt::Maybe { reason },
            Err(Unproposed::NoSpace { reason }) => Attempt::NoSpace { reason },
            Err(Unproposed::HeldBack { reason }) => Attempt::HeldBack { reason },
        }
    }

    /// What is compacted must be what may be shown: replicas read at or behind it then.
    fn compacts_too_much(&self, revision: Revision) -> Option<Refusal> {
        let current = self.state.revisions().current;
        (revision > current && self.may_be_held_back())
            .then_some(Refusal::Future { requested: revision, current })
    }

    /// Whether the command may be proposed now, and if not, why.
    fn admit_to_disks(&self, command: &Command) -> Result<(), String> {
        if !takes_space(command) {
            return Ok(());
        }
        self.space.check().map_err(|shortage| shortage.to_string())?;
        let short = self.state.short_of_space();
        if short.is_empty() {
            return Ok(());
        }
        let voters = self.voters();
        let with_space = voters.names.keys().copied().filter(|member| !short.contains(member));
        match voters.loss(&with_space.collect()) {
            None => Ok(()),
            Some(loss) => Err(format!(
                "the disks of {} are nearly full, so that no majority has space; only deletions \
                 and compaction are accepted until one has more",
                loss.silent.join(", ")
            )),
        }
    }

    /// Proposes on this member, which must be the leader.
    pub(super) async fn propose_here(
        &self,
        command: Command,
        until: Instant,
    ) -> Result<Reply, Unproposed> {
        if !self.raft.is_leader() {
            // The next leader's disk is what counts.
            return Err(Unproposed::NotLeader);
        }
        if let Some(loss) = self.quorum.loss() {
            return Err(Unproposed::NoQuorum(loss));
        }
        self.admit_to_disks(&command).map_err(|reason| Unproposed::NoSpace { reason })?;
        let tells = tells(&command);
        if tells && let Some(reason) = self.held_back() {
            return Err(Unproposed::HeldBack { reason });
        }
        if let Command::Compact { revision } = &command
            && let Some(refusal) = self.compacts_too_much(*revision)
        {
            return Ok(Reply::Refused(refusal));
        }
        match timeout_at(until, self.raft.client_write(command)).await {
            Ok(Ok(response)) if tells && self.state.waits_for_remote() => {
                let shown = self.state.until_shown(response.log_id.index);
                match timeout_at(until, shown).await {
                    Ok(()) => Ok(response.data),
                    Err(_) => Err(Unproposed::Unknown { reason: self.waited_for() }),
                }
            }
            Ok(Ok(response)) => Ok(response.data),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => {
                Err(Unproposed::NotLeader)
            }
            Ok(Err(error)) => Err(Unproposed::Unknown { reason: error.to_string() }),
            Err(_) => Err(Unproposed::Unknown { reason: "it was not committed in time".into() }),
        }
    }
}

/// What a refusal means to the caller.
pub(super) fn refused(refusal: Refusal) -> StoreError {
    match refusal {
        Refusal::Compacted { requested, compacted } => {
            StoreError::Compacted { requested, compacted }
        }
        Refusal::Future { requested, current } => StoreError::Future { requested, current },
        Refusal::Rule(rule) => StoreError::Refused(rule),
        Refusal::Forgotten => StoreError::Unknown {
            reason: "the request is older than the memory of answered requests".into(),
        },
        Refusal::AnswerLost => StoreError::Unknown {
            reason: "the request was done, but its answer was too large to keep".into(),
        },
        Refusal::NotAMember => {
            StoreError::BadRequest { reason: "that is no member of this cluster".into() }
        }
    }
}
