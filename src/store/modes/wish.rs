//! Changes of the mode that an operator or the members' places ask for.
//!
//! Not here: which change a wish makes (`logic/commit_change`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::base::ids::MemberId;
use crate::logic::commit_change::{Held, Step, Wish, step};
use crate::logic::remote_sync::{CommitMode, LEASE_MS};
use crate::store::api::StoreError;
use crate::store::commitment::{CHANGE_VERSION, Commitment, CommitmentChange, CommitmentWish};
use crate::store::footing::Seen;
use crate::store::member::Store;
use crate::store::message::{Answer, ChangeRefused, Request};
use crate::store::shared::{PAUSE, Shared};

/// How long a wish may take in all: promises run out, a leader is elected.
const WISH_BUDGET: Duration = Duration::from_secs(30);
/// How long the leader works on it before the one who asked asks again.
const ROUND: Duration = Duration::from_secs(10);
/// How long one who waits for promises to run out keeps new ones from being given.
const SILENCE_MS: u64 = LEASE_MS + 2_000;

impl CommitmentWish {
    fn wish(&self) -> Wish {
        match self {
            Self::Mode { mode, remote, .. } => Wish::Mode { mode: *mode, remote: remote.clone() },
            Self::Places { mode, remote } => Wish::Places { mode: *mode, remote: remote.clone() },
        }
    }

    fn author(&self) -> (String, String) {
        match self {
            Self::Mode { by, reason, .. } => (by.clone(), reason.clone()),
            Self::Places { .. } => {
                ("the cluster file".into(), "the members' places or the file's mode".into())
            }
        }
    }
}

impl Store {
    /// Gives the journal of changes a clock of the day, Unix milliseconds.
    pub fn know_time(&self, wall_ms: fn() -> u64) {
        // The first one is as good as the next.
        let _ = self.shared.modes.wall.set(wall_ms);
    }

    /// What answers wait for, as far as this member has applied.
    pub fn commitment(&self) -> Arc<Commitment> {
        self.shared.state.commitment()
    }

    /// Follows changes of it, by the log index of the newest.
    pub fn commitment_changes(&self) -> watch::Receiver<u64> {
        self.shared.state.commitment_changed()
    }

    /// Sets the commit mode in an operator's name; repeating it is no error. `remote` are the
    /// members of the remote center if a majority was enough until now; later
    /// [`Self::place_remote`] says so.
    pub async fn set_commit_mode(
        &self,
        mode: CommitMode,
        remote: BTreeSet<MemberId>,
        by: &str,
        reason: &str,
    ) -> Result<(), StoreError> {
        let remote = remote.into_iter().map(|member| member.0).collect();
        let (by, reason) = (by.to_owned(), reason.to_owned());
        let wish = CommitmentWish::Mode { mode, remote, by, reason };
        self.shared.fulfil(wish).await
    }

    /// Names the members of the remote center, and the mode that counts until an operator
    /// has set one. Nothing is written while a majority is enough. Repeating it is no error.
    pub async fn place_remote(
        &self,
        mode: CommitMode,
        remote: BTreeSet<MemberId>,
    ) -> Result<(), StoreError> {
        let remote = remote.into_iter().map(|member| member.0).collect();
        let wish = CommitmentWish::Places { mode, remote };
        if self.shared.is_fulfilled(&wish) {
            return Ok(());
        }
        self.shared.fulfil(wish).await
    }
}

fn later(reason: impl ToString) -> ChangeRefused {
    ChangeRefused::Later { reason: reason.to_string() }
}

fn next_step(commitment: &Commitment, wish: &CommitmentWish) -> Result<Option<Step>, String> {
    let held = Held {
        mode: commitment.mode,
        footing: commitment.footing,
        remote: &commitment.remote,
        chosen: commitment.chosen,
    };
    step(&held, &wish.wish())
}

impl Shared {
    fn is_fulfilled(&self, wish: &CommitmentWish) -> bool {
        matches!(next_step(&self.state.commitment(), wish), Ok(None))
    }

    async fn fulfil(self: &Arc<Self>, wish: CommitmentWish) -> Result<(), StoreError> {
        let until = Instant::now() + WISH_BUDGET;
        loop {
            self.health.borrow().check()?;
            if let Some(loss) = self.quorum.loss() {
                return Err(StoreError::NoQuorum(loss));
            }
            let leader = *self.leader.borrow();
            let done = match leader {
                None => Err(later("no leader is known")),
                Some(leader) if leader == self.identity.member => {
                    self.fulfil_here(wish.clone()).await
                }
                Some(leader) => {
                    let request = Request::Commitment(wish.clone());
                    match self.call_within(leader.0, request, ROUND * 2).await {
                        Some(Ok(Answer::Changed(done))) => done,
                        Some(Ok(answer)) => Err(later(format!("unexpected answer {answer:?}"))),
                        Some(Err(error)) => Err(later(error)),
                        None => Err(later("the leader did not answer in time")),
                    }
                }
            };
            match done {
                Ok(()) => return Ok(()),
                Err(ChangeRefused::Never { reason }) => {
                    return Err(StoreError::BadRequest { reason });
                }
                Err(ChangeRefused::Later { reason }) if Instant::now() >= until => {
                    return Err(StoreError::NoLeader { reason });
                }
                Err(ChangeRefused::Later { .. }) => self.pause(leader).await,
            }
        }
    }

    /// Fulfils a wish on this member, which must be the leader.
    pub(in crate::store) async fn fulfil_here(
        self: &Arc<Self>,
        wish: CommitmentWish,
    ) -> Result<(), ChangeRefused> {
        let until = Instant::now() + ROUND;
        self.modes.wanted.notify_one();
        loop {
            match self.try_to_fulfil(&wish)? {
                None => return Ok(()),
                Some(reason) if Instant::now() >= until => return Err(later(reason)),
                Some(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// None if it is fulfilled, otherwise what is waited for.
    fn try_to_fulfil(
        self: &Arc<Self>,
        wish: &CommitmentWish,
    ) -> Result<Option<&'static str>, ChangeRefused> {
        let mut slot = self.modes.lead();
        let (commitment, applied) = self.state.commitment_and_applied();
        let Some((term, _, remote)) = self.leading(&commitment) else {
            return Err(later("this member leads no more"));
        };
        let Some(lead) = slot.as_mut().filter(|lead| lead.term == term) else {
            return Ok(Some("the leader is new"));
        };
        if lead.pending {
            return Ok(Some("another change is on its way"));
        }
        let next = next_step(&commitment, wish);
        let Some(next) = next.map_err(|reason| ChangeRefused::Never { reason })? else {
            return Ok(None);
        };
        let now_ms = self.modes.now_ms();
        let seen = Seen { now_ms, commitment: &commitment, applied, remote: &remote };
        lead.safe(&seen);
        if next.after_promises {
            lead.silent_until_ms = now_ms + SILENCE_MS;
            if lead.city.is_bound(now_ms) {
                return Ok(Some("the remote center still relies on a promise"));
            }
        }
        let (by, reason) = wish.author();
        let change = CommitmentChange {
            version: CHANGE_VERSION,
            term,
            after: commitment.changed,
            mode: next.mode,
            footing: next.footing,
            remote: next.remote,
            chosen: next.chosen,
            by,
            reason,
            at_ms: self.modes.wall_ms(),
        };
        self.propose_change(lead, change);
        Ok(Some("the change is on its way"))
    }
}
