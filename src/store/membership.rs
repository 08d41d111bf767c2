//! Grows and shrinks the group.
//!
//! A member is added as a learner first, catches up, and only then votes. Before it
//! votes, its disk's incarnation is in the membership, which every member knows that
//! counts its vote: a wiped disk under the same id is recognised.
//!
//! Invariants: repeating a change finishes it; without a majority it is said at once; a change is reported done only once it is
//! committed; one change at a time; an id that ever announced itself or could vote, and
//! was removed, is never taken again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::errors::{ClientWriteError, RaftError};
use openraft::{ChangeMembers, RaftMetrics};
use tokio::time::Instant;

use super::api::StoreError;
use super::member::Store;
use super::message::{Answer, ChangeRefused, MembershipChange, Request, Unproposed};
use super::quorum_loss::QuorumLoss;
use super::shared::Shared;
use super::types::{Command, Peer, Reply, StartNote, TypeConfig};
use crate::base::ids::{BootCount, MemberId};
use crate::logic::membership::{Standing, standing};

/// How long a change may take in all; a new member may have to copy the whole state.
const CHANGE_BUDGET: Duration = Duration::from_secs(300);
/// How long a change waits for a leader; a member outside the group never sees one.
const LEADERLESS: Duration = Duration::from_secs(20);
/// How long one round of it may take; the caller asks again.
const ROUND: Duration = Duration::from_secs(20);
/// How many entries a learner may be behind when it becomes a voter.
const CAUGHT_UP: u64 = 200;
/// How long a new member may take to say who it is.
const HELLO: Duration = Duration::from_secs(2);

impl Store {
    /// Adds a member that only copies; repeating it is no error.
    pub async fn add_learner(
        &self,
        member: MemberId,
        name: &str,
        address: &str,
    ) -> Result<(), StoreError> {
        self.add_member(member, name, address, false).await
    }

    /// Adds a member, waits until it has caught up, and if asked for lets it vote.
    /// Repeating it finishes a job that was interrupted. A voter must be running.
    pub async fn add_member(
        &self,
        member: MemberId,
        name: &str,
        address: &str,
        voter: bool,
    ) -> Result<(), StoreError> {
        let (name, address) = (name.to_owned(), address.to_owned());
        self.shared.change(MembershipChange::Add { member, name, address, voter }).await
    }

    /// Lets exactly these members vote, by one joint change; the others are learners.
    /// Repeating it is no error.
    pub async fn set_voters(&self, voters: BTreeSet<MemberId>) -> Result<(), StoreError> {
        self.shared.change(MembershipChange::SetVoters { voters }).await
    }

    /// Removes a member for good; repeating it is no error.
    pub async fn remove_member(&self, member: MemberId) -> Result<(), StoreError> {
        self.shared.change(MembershipChange::Remove { member }).await
    }
}

fn later(reason: impl ToString) -> ChangeRefused {
    ChangeRefused::Later { reason: reason.to_string() }
}

fn never(reason: impl ToString) -> ChangeRefused {
    ChangeRefused::Never { reason: reason.to_string() }
}

/// What was begun is in the log of a leader and may be committed when the others are back.
fn may_still_be_done(loss: &QuorumLoss) -> StoreError {
    StoreError::Unknown { reason: loss.to_string() }
}

impl Shared {
    pub(super) async fn change(
        self: &Arc<Self>,
        change: MembershipChange,
    ) -> Result<(), StoreError> {
        let until = Instant::now() + CHANGE_BUDGET;
        let mut led_at = Instant::now();
        let mut tried = false;
        loop {
            self.health.borrow().check()?;
            match self.quorum.loss() {
                Some(loss) if tried => return Err(may_still_be_done(&loss)),
                Some(loss) => return Err(StoreError::NoQuorum(loss)),
                None => {}
            }
            let leader = *self.leader.borrow();
            if leader.is_some() {
                led_at = Instant::now();
            } else if led_at.elapsed() > LEADERLESS {
                let reason = "none is known to this member, which may not be one yet or any more";
                return Err(StoreError::NoLeader { reason: reason.into() });
            }
            tried |= leader.is_some();
            let done = tokio::select! {
                biased;
                done = self.try_change(leader, &change) => done,
                loss = self.quorum.lost() => return Err(may_still_be_done(&loss)),
            };
            match done {
                Ok(()) => return Ok(()),
                Err(ChangeRefused::Never { reason }) => {
                    return Err(StoreError::BadRequest { reason });
                }
                Err(ChangeRefused::Later { reason }) if Instant::now() >= until => {
                    return Err(StoreError::NoLeader { reason });
                }
                Err(ChangeRefused::Later { reason }) => {
                    tracing::debug!(reason, "the membership change is tried again");
                    self.pause(leader).await;
                }
            }
        }
    }

    /// One attempt at whoever leads.
    async fn try_change(
        &self,
        leader: Option<MemberId>,
        change: &MembershipChange,
    ) -> Result<(), ChangeRefused> {
        let Some(leader) = leader else {
            return Err(later("no leader is known"));
        };
        if leader == self.identity.member {
            return self.change_here(change.clone()).await;
        }
        let request = Request::Change(change.clone());
        match self.outbound.call_member(leader.0, request, ROUND * 2).await {
            Ok(Answer::Changed(done)) => done,
            Ok(answer) => Err(later(format!("unexpected answer {answer:?}"))),
            Err(error) => Err(later(error)),
        }
    }

    /// Makes the change on this member, which must be the leader.
    pub(super) async fn change_here(&self, change: MembershipChange) -> Result<(), ChangeRefused> {
        let _changing = self.changing.lock().await;
        if !self.raft.is_leader() {
            return Err(later("this member does not lead"));
        }
        match change {
            MembershipChange::Add { member, name, address, voter } => {
                self.add_here(member, name, address, voter).await
            }
            MembershipChange::Remove { member } => self.remove_here(member).await,
            MembershipChange::SetVoters { voters } => self.set_voters_here(voters).await,
        }
    }

    async fn add_here(
        &self,
        member: MemberId,
        name: String,
        address: String,
        voter: bool,
    ) -> Result<(), ChangeRefused> {
        let membership = self.membership();
        let known = membership.get_node(&member.0).cloned();
        let noted = self.state.remembered_start(member.0).is_some();
        if standing(noted, known.is_some()) == Standing::Removed {
            let reason = format!("member id {member} was used before; join under a new id");
            return Err(never(reason));
        }
        let mut wanted =
            Peer { name, address, incarnation: known.as_ref().map_or(0, |k| k.incarnation) };
        if voter && wanted.incarnation == 0 {
            wanted.incarnation = self.hello(member, &wanted).await?;
        }
        let incarnation = wanted.incarnation;
        match &known {
            Some(known) if *known == wanted => {}
            Some(_) => {
                self.commit(ChangeMembers::SetNodes(BTreeMap::from([(member.0, wanted)]))).await?;
            }
            None => {
                self.commit(ChangeMembers::AddNodes(BTreeMap::from([(member.0, wanted)]))).await?;
            }
        }
        // In a joint membership the change is under way and must be finished.
        let configs = membership.get_joint_config();
        let is_voter = configs.len() == 1 && configs.iter().all(|ids| ids.contains(&member.0));
        if voter && !is_voter {
            self.may_vote(member, incarnation).await?;
            return self.commit(ChangeMembers::AddVoterIds(BTreeSet::from([member.0]))).await;
        }
        self.settled().await
    }

    /// Waits until a member can vote, and notes that it may.
    async fn may_vote(&self, member: MemberId, incarnation: u64) -> Result<(), ChangeRefused> {
        self.caught_up(member).await?;
        self.note_id(member, incarnation).await
    }

    async fn set_voters_here(&self, voters: BTreeSet<MemberId>) -> Result<(), ChangeRefused> {
        let membership = self.membership();
        let configs = membership.get_joint_config();
        let wanted: BTreeSet<u64> = voters.iter().map(|voter| voter.0).collect();
        if configs.len() == 1 && configs.iter().all(|ids| *ids == wanted) {
            return self.settled().await;
        }
        for voter in voters {
            let Some(known) = membership.get_node(&voter.0) else {
                return Err(never(format!("{voter} is no member")));
            };
            if configs.iter().any(|ids| ids.contains(&voter.0)) {
                continue;
            }
            let mut peer = known.clone();
            if peer.incarnation == 0 {
                peer.incarnation = self.hello(voter, &peer).await?;
                let nodes = BTreeMap::from([(voter.0, peer.clone())]);
                self.commit(ChangeMembers::SetNodes(nodes)).await?;
            }
            self.may_vote(voter, peer.incarnation).await?;
        }
        self.commit_as(ChangeMembers::ReplaceAllVoters(wanted), true).await
    }

    /// Notes that the id is taken before it can vote, whether it ever announces itself or
    /// not.
    async fn note_id(&self, member: MemberId, incarnation: u64) -> Result<(), ChangeRefused> {
        let note = StartNote { incarnation, boot: BootCount(0), session: 0 };
        let until = Instant::now() + ROUND;
        match self.propose_here(Command::Boot { member, note }, until).await {
            Ok(Reply::Refused(refusal)) => Err(later(format!("{refusal:?}"))),
            Ok(_) => Ok(()),
            Err(Unproposed::NotLeader) => Err(later("this member leads no more")),
            Err(Unproposed::NoQuorum(loss)) => Err(later(loss)),
            Err(
                Unproposed::Unknown { reason }
                | Unproposed::NoSpace { reason }
                | Unproposed::HeldBack { reason },
            ) => Err(later(reason)),
        }
    }

    /// Waits until the membership that this member knows is committed: what is merely in
    /// its log could still be lost with it.
    async fn settled(&self) -> Result<(), ChangeRefused> {
        let own = self.identity.member.0;
        let settled = |now: &RaftMetrics<TypeConfig>| {
            now.current_leader != Some(own)
                || now.committed_membership_config.log_id() == now.membership_config.log_id()
        };
        match self.raft.wait(Some(ROUND)).metrics(settled, "the membership is committed").await {
            Ok(now) if now.current_leader == Some(own) => Ok(()),
            Ok(_) => Err(later("this member leads no more")),
            Err(error) => Err(later(error)),
        }
    }

    /// Asks the member which disk it has.
    async fn hello(&self, member: MemberId, peer: &Peer) -> Result<u64, ChangeRefused> {
        match self.outbound.call(member.0, peer, Request::Hello, HELLO).await {
            Ok(Answer::Hello { incarnation }) => Ok(incarnation),
            Ok(answer) => Err(later(format!("unexpected answer {answer:?}"))),
            Err(error) => Err(later(error)),
        }
    }

    async fn caught_up(&self, member: MemberId) -> Result<(), ChangeRefused> {
        let near = |now: &RaftMetrics<TypeConfig>| {
            let Some(replication) = &now.replication else { return true };
            let matched = replication.get(&member.0).and_then(|matched| matched.as_ref());
            let last = now.last_log_index.unwrap_or(0);
            matched.is_some_and(|matched| matched.index + CAUGHT_UP >= last)
        };
        match self.raft.wait(Some(ROUND)).metrics(near, "a learner catches up").await {
            Ok(now) if now.replication.is_some() => Ok(()),
            Ok(_) => Err(later("this member leads no more")),
            Err(error) => Err(later(format!("member {member} has not caught up: {error}"))),
        }
    }

    async fn remove_here(&self, member: MemberId) -> Result<(), ChangeRefused> {
        let membership = self.membership();
        let ids = BTreeSet::from([member.0]);
        if membership.voter_ids().any(|voter| voter == member.0) {
            // A leader that removed itself leads no more, so nothing is asked of it after.
            return self.commit(ChangeMembers::RemoveVoters(ids)).await;
        }
        if membership.get_node(&member.0).is_some() {
            return self.commit(ChangeMembers::RemoveNodes(ids)).await;
        }
        self.settled().await
    }

    async fn commit(&self, change: ChangeMembers<u64, Peer>) -> Result<(), ChangeRefused> {
        self.commit_as(change, false).await
    }

    /// With `retain` who votes no more stays as a learner.
    async fn commit_as(
        &self,
        change: ChangeMembers<u64, Peer>,
        retain: bool,
    ) -> Result<(), ChangeRefused> {
        let done = tokio::time::timeout(ROUND, self.raft.change_membership(change, retain)).await;
        match done {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error)))) => {
                use openraft::errors::ChangeMembershipError as Change;
                match error {
                    Change::InProgress(error) => Err(later(error)),
                    error => Err(never(error)),
                }
            }
            Ok(Err(error)) => Err(later(error)),
            Err(_) => Err(later("it was not committed in time")),
        }
    }
}
