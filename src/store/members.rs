//! The cluster's members as etcd's clients manage them.
//!
//! Not here: how a change is made (`membership`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::admin_api::{ClusterAdmin, ClusterMember};
use super::api::StoreError;
use super::member::Store;
use super::message::MembershipChange;
use super::runtime::random_u64;
use super::shared::Shared;
use crate::base::ids::MemberId;
use crate::model::auth::Caller;
use crate::model::refusal::Refusal;

/// How many entries a learner may be behind when it is promoted.
const CAUGHT_UP: u64 = 200;
/// How long the leader may take to say how far a learner is.
const LAG_DEADLINE: Duration = Duration::from_secs(3);
/// Pause between two attempts to promote a member that shall vote.
const PROMOTE_EVERY: Duration = Duration::from_secs(1);
/// Attempts in a row at which nothing is known of it; then it was removed.
const UNHEARD_OF: u32 = 30;

impl Shared {
    fn listed(&self) -> Vec<ClusterMember> {
        let status = self.status();
        let members = status.members.into_iter().map(|member| ClusterMember {
            id: member.member,
            name: member.name,
            address: member.address,
            is_learner: !member.voter,
        });
        members.collect()
    }

    /// Lets a learner vote as soon as it can; gives up when it is a member no more.
    async fn promote_when_ready(self: &Arc<Self>, id: MemberId) {
        let mut missed = 0;
        // This member may not have heard of it yet.
        while missed < UNHEARD_OF {
            match self.find(id) {
                Ok(ClusterMember { is_learner: false, .. }) => return,
                Ok(ClusterMember { name, address, .. }) => {
                    missed = 0;
                    let change = MembershipChange::Add { member: id, name, address, voter: true };
                    match self.change(change).await {
                        Ok(()) => return,
                        Err(error) => tracing::debug!(member = %id, %error, "promoted later"),
                    }
                }
                Err(_) => missed += 1,
            }
            tokio::time::sleep(PROMOTE_EVERY).await;
        }
    }

    fn find(&self, id: MemberId) -> Result<ClusterMember, StoreError> {
        let found = self.listed().into_iter().find(|member| member.id == id);
        found.ok_or(StoreError::Refused(Refusal::MemberNotFound))
    }
}

/// etcd refuses addresses that nobody can be reached at.
fn check_address(address: &str) -> Result<(), StoreError> {
    let (host, port) = address.rsplit_once(':').ok_or(Refusal::MemberBadUrls)?;
    if host.is_empty() || port.parse::<u16>().is_err() {
        return Err(Refusal::MemberBadUrls.into());
    }
    Ok(())
}

#[async_trait]
impl ClusterAdmin for Store {
    async fn members(&self, linearizable: bool) -> Result<Vec<ClusterMember>, StoreError> {
        if linearizable {
            self.shared.barrier().await?;
        }
        Ok(self.shared.listed())
    }

    async fn member_add(
        &self,
        caller: &Caller,
        address: &str,
        learner: bool,
    ) -> Result<ClusterMember, StoreError> {
        let shared = &self.shared;
        shared.check_admin(caller)?;
        check_address(address)?;
        shared.barrier().await?;
        if shared.listed().iter().any(|member| member.address == address) {
            return Err(Refusal::PeerUrlExists.into());
        }
        // Random, so that no id that was ever used, or is about to be, comes again.
        let id = MemberId((random_u64() >> 1).max(1));
        self.add_learner(id, "", address).await?;
        if !learner {
            let task = shared.clone();
            shared.tracker.spawn(async move {
                tokio::select! {
                    biased;
                    () = task.cancel.cancelled() => {}
                    () = task.promote_when_ready(id) => {}
                }
            });
        }
        let (name, address) = (String::new(), address.to_owned());
        Ok(ClusterMember { id, name, address, is_learner: true })
    }

    async fn member_promote(&self, caller: &Caller, id: MemberId) -> Result<(), StoreError> {
        let shared = &self.shared;
        shared.check_admin(caller)?;
        shared.barrier().await?;
        let member = shared.find(id)?;
        if !member.is_learner {
            return Err(Refusal::MemberNotLearner.into());
        }
        let status = shared.status_with_lag(LAG_DEADLINE).await;
        let known = status.members.iter().find(|known| known.member == id);
        if known.and_then(|known| known.lag).is_none_or(|lag| lag > CAUGHT_UP) {
            return Err(Refusal::LearnerNotReady.into());
        }
        self.add_member(id, &member.name, &member.address, true).await
    }

    async fn member_update(
        &self,
        caller: &Caller,
        id: MemberId,
        address: &str,
    ) -> Result<(), StoreError> {
        let shared = &self.shared;
        shared.check_admin(caller)?;
        check_address(address)?;
        shared.barrier().await?;
        let member = shared.find(id)?;
        if shared.listed().iter().any(|other| other.id != id && other.address == address) {
            return Err(Refusal::PeerUrlExists.into());
        }
        self.add_member(id, &member.name, address, !member.is_learner).await
    }

    async fn member_remove(&self, caller: &Caller, id: MemberId) -> Result<(), StoreError> {
        let shared = &self.shared;
        shared.check_admin(caller)?;
        shared.barrier().await?;
        let member = shared.find(id)?;
        let voters = shared.listed().iter().filter(|member| !member.is_learner).count();
        if !member.is_learner && voters == 1 {
            return Err(Refusal::MemberNotEnoughStarted.into());
        }
        self.remove_member(id).await
    }
}
