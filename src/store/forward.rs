//! Proposals of a member that does not lead, sent to the leader together.
//!
//! Why together: one message for each would cost both sides more than the write itself.
//! ```text
//!  proposals ► queue ─┬─ lane: what waits, one message, the answers to each
//!                     └─ …  LANES of them, so that one that waits for the disk delays none
//! ```
//! A proposal that finds a free lane goes at once, so a lone client waits for nobody.
//!
//! Invariants: each proposal has its own answer; whoever gave up changes nothing for the
//! others.
//! Not here: trying again (`propose`).

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::forward_queue::{Forwarded, NotAnswered, Waiting};
use super::message::{Answer, Request};
use super::outbound::CallError;
use super::shared::{ATTEMPT, Shared, WRITE_BUDGET};
use super::types::Command;
use crate::base::ids::MemberId;
use crate::store::codec::{decode, encode};

fn lost() -> NotAnswered {
    NotAnswered { reason: "this member is stopping".into(), may_have_happened: true }
}

impl Shared {
    /// Has the leader put the command in its log.
    pub(super) async fn forward(
        self: &Arc<Self>,
        leader: MemberId,
        command: &Command,
        until: Instant,
    ) -> Forwarded {
        let (answer, answered) = oneshot::channel();
        let command = Bytes::from(encode(command));
        if self.forwards.join(Waiting { leader, command, answer }) {
            let shared = self.clone();
            self.tracker.spawn(async move { shared.run_lane().await });
        }
        match tokio::time::timeout_at(until, answered).await {
            Ok(Ok(forwarded)) => forwarded,
            Ok(Err(_)) => Err(lost()),
            Err(_) => {
                let reason = format!("member {leader} did not answer in time");
                Err(NotAnswered { reason, may_have_happened: true })
            }
        }
    }

    async fn run_lane(self: Arc<Self>) {
        while let Some(batch) = self.forwards.next() {
            let (leader, commands) =
                (batch[0].leader, batch.iter().map(|waiting| waiting.command.clone()).collect());
            let answers = self.send_proposals(leader, commands, batch.len()).await;
            for (waiting, answer) in batch.into_iter().zip(answers) {
                // Whoever asked may have given up.
                let _ = waiting.answer.send(answer);
            }
        }
    }

    async fn send_proposals(
        &self,
        leader: MemberId,
        commands: Vec<Bytes>,
        count: usize,
    ) -> Vec<Forwarded> {
        let request = Request::Propose { commands };
        let answer = tokio::select! {
            biased;
            answer = self.outbound.call_member(leader.0, request, ATTEMPT) => answer,
            // The lane is wanted for the next leader; who waits asks that one again.
            () = self.other_leader(leader) => {
                let reason = format!("another member leads instead of {leader}");
                return vec![Err(NotAnswered { reason, may_have_happened: true }); count];
            }
        };
        let failed = match answer {
            Ok(Answer::Proposed(answers)) if answers.len() == count => {
                return answers.into_iter().map(Ok).collect();
            }
            Ok(answer) => NotAnswered {
                reason: format!("unexpected answer {answer:?}"),
                may_have_happened: true,
            },
            Err(error) => not_answered(&error),
        };
        vec![Err(failed); count]
    }

    /// The other side: proposes all of them here, at once.
    pub(super) async fn propose_all_here(&self, commands: Vec<Bytes>) -> Answer {
        let until = Instant::now() + WRITE_BUDGET;
        let mut decoded = Vec::with_capacity(commands.len());
        for command in &commands {
            match decode::<Command>(command) {
                Ok(command) => decoded.push(command),
                Err(error) => return Answer::Failed { reason: error.to_string() },
            }
        }
        let proposals = decoded.into_iter().map(|command| self.propose_here(command, until));
        Answer::Proposed(futures::future::join_all(proposals).await)
    }
}

fn not_answered(error: &CallError) -> NotAnswered {
    NotAnswered { reason: error.to_string(), may_have_happened: error.may_have_happened() }
}
