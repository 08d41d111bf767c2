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

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use openraft::Instant as _;
use openraft::async_runtime::WatchReceiver;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use super::health::Health;
use super::member::Store;
use super::message::{Answer, Request};
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

/// Too few members answer; who does, who does not, and how many are missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct QuorumLoss {
    /// Names of the voters that answer, the one that says this included.
    pub answering: Vec<String>,
    /// Names of the voters that do not.
    pub silent: Vec<String>,
    /// How many of the silent ones make a majority again.
    pub missing: usize,
}

/// `a`, `a and b`, `a, b and c`.
fn list(names: &[String], last: &str) -> String {
    match names {
        [] => "none".into(),
        [one] => one.clone(),
        [rest @ .., end] => format!("{} {last} {end}", rest.join(", ")),
    }
}

impl QuorumLoss {
    /// What brings a majority back: `start b1 or c1`.
    pub fn remedy(&self) -> String {
        match self.missing {
            1 => format!("start {}", list(&self.silent, "or")),
            all if all >= self.silent.len() => format!("start {}", list(&self.silent, "and")),
            some => format!("start {some} of {}", list(&self.silent, "and")),
        }
    }
}

impl fmt::Display for QuorumLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (answering, silent) = (self.answering.len(), self.silent.len());
        let verb = if answering == 1 { "answers" } else { "answer" };
        let negation = if silent == 1 { "does not" } else { "do not" };
        write!(
            f,
            "no majority of the control nodes answers ({answering} of {}): {} {verb}, {} \
             {negation}; {}",
            answering + silent,
            list(&self.answering, "and"),
            list(&self.silent, "and"),
            self.remedy()
        )
    }
}

/// A voter of one or, while the membership changes, of two groups.
struct Voters {
    names: BTreeMap<u64, String>,
    /// Each needs a majority of its own.
    groups: Vec<BTreeSet<u64>>,
}

impl Voters {
    fn loss(&self, answering: &BTreeSet<u64>) -> Option<QuorumLoss> {
        let lacks = |group: &BTreeSet<u64>| {
            let there = group.intersection(answering).count();
            (group.len() / 2 + 1).saturating_sub(there)
        };
        let missing = self.groups.iter().map(lacks).max().unwrap_or(0);
        if missing == 0 {
            return None;
        }
        let all: BTreeSet<u64> = self.groups.iter().flatten().copied().collect();
        let named = |wanted: bool| {
            let of = all.iter().filter(|member| answering.contains(member) == wanted);
            of.map(|member| self.names.get(member).cloned().unwrap_or_default()).collect()
        };
        Some(QuorumLoss { answering: named(true), silent: named(false), missing })
    }
}

/// What one member knows of the majority.
#[derive(Debug)]
pub(super) struct Quorum {
    /// When a leader was last heard, or the member began to listen.
    heard: Mutex<Instant>,
    lost: watch::Sender<Option<QuorumLoss>>,
}

impl Default for Quorum {
    fn default() -> Self {
        Self { heard: Mutex::new(Instant::now()), lost: watch::Sender::new(None) }
    }
}

impl Quorum {
    /// A leader spoke to this member.
    pub(super) fn leader_heard(&self) {
        *self.heard.lock().expect("no holder of the time panics") = Instant::now();
        self.tell(None);
    }

    /// The loss, while there is one.
    pub(super) fn loss(&self) -> Option<QuorumLoss> {
        self.lost.borrow().clone()
    }

    /// Returns when the majority is lost.
    pub(super) async fn lost(&self) -> QuorumLoss {
        let mut lost = self.lost.subscribe();
        loop {
            if let Some(loss) = lost.borrow_and_update().clone() {
                return loss;
            }
            if lost.changed().await.is_err() {
                // The sender is `self`, so this is not reached; nobody is lost to wait for.
                return std::future::pending().await;
            }
        }
    }

    fn tell(&self, now: Option<QuorumLoss>) {
        let changed = self.lost.send_if_modified(|known| {
            let changed = *known != now;
            known.clone_from(&now);
            changed
        });
        match &now {
            Some(loss) if changed => tracing::warn!(%loss, "the majority is lost"),
            None if changed => tracing::info!("the majority may be back"),
            _ => {}
        }
    }
}

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
    fn voters(&self) -> Voters {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn voters(groups: &[&[u64]]) -> Voters {
        let groups: Vec<BTreeSet<u64>> =
            groups.iter().map(|group| group.iter().copied().collect()).collect();
        let names = groups.iter().flatten().map(|member| (*member, format!("n{member}"))).collect();
        Voters { names, groups }
    }

    fn loss(groups: &[&[u64]], answering: &[u64]) -> Option<String> {
        let answering = answering.iter().copied().collect();
        voters(groups).loss(&answering).map(|loss| loss.to_string())
    }

    #[test]
    fn the_loss_names_who_answers_and_how_many_to_start() {
        let text = loss(&[&[1, 2, 3]], &[1]).unwrap();
        assert_eq!(
            text,
            "no majority of the control nodes answers (1 of 3): n1 answers, n2 and n3 do not; \
             start n2 or n3"
        );
        let text = loss(&[&[1, 2, 3, 4, 5]], &[1]).unwrap();
        assert!(text.ends_with("start 2 of n2, n3, n4 and n5"), "{text}");
        let text = loss(&[&[1, 2]], &[1]).unwrap();
        assert!(text.ends_with("n1 answers, n2 does not; start n2"), "{text}");
    }

    #[test]
    fn a_majority_of_each_group_is_needed_and_enough() {
        assert_eq!(loss(&[&[1, 2, 3]], &[1, 3]), None);
        assert_eq!(loss(&[&[1]], &[1]), None);
        assert_eq!(loss(&[], &[1]), None, "who is in no group has none to lose");
        assert!(loss(&[&[1, 2, 3], &[3, 4, 5]], &[1, 2, 3]).is_some());
        assert_eq!(loss(&[&[1, 2, 3], &[3, 4, 5]], &[1, 3, 4]), None);
    }
}
