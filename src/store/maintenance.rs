//! Upkeep of this member: status, alarms, hashes, defragmentation, snapshot, hand-over.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use tokio::sync::mpsc;

use super::admin_api::{Alarm, AlarmKind, HistoryHash, Maintenance, MemberStatus};
use super::api::StoreError;
use super::leases::unexpected;
use super::measured::Measured;
use super::member::Store;
use super::shared::{Shared, leader_in};
use super::snapshot_file::SnapshotFormat;
use super::state::STATE_FILE;
use super::types::{Ask, Reply};
use crate::base::ids::MemberId;
use crate::model::auth::Caller;
use crate::model::kv::Revision;
use crate::model::refusal::Refusal;

/// How long a hand-over of the lead may take.
const HAND_OVER: Duration = Duration::from_secs(10);
/// How often the member's own alarm is compared with its disk.
const ALARM_EVERY: Duration = Duration::from_secs(1);
#[async_trait]
impl Maintenance for Store {
    fn measured(&self) -> Measured {
        self.shared.state.measured.clone()
    }

    fn member_status(&self) -> MemberStatus {
        let shared = &self.shared;
        let now = shared.raft.metrics().borrow_watched().clone();
        let own = shared.identity.member;
        let db_size_bytes = shared.disk.size(STATE_FILE).unwrap_or(0);
        let mut errors: Vec<String> = Vec::new();
        if let Err(error) = shared.health.borrow().check() {
            errors.push(error.to_string());
        }
        errors.extend(shared.state.alarms().iter().map(|alarm| {
            let kind = match alarm.kind {
                AlarmKind::NoSpace => "NOSPACE",
                AlarmKind::Corrupt => "CORRUPT",
            };
            format!("memberID:{} alarm:{kind} ", alarm.member)
        }));
        // A leader whom the majority does not answer leads nobody, though it does not know of
        // another one.
        let leader = leader_in(&now, own).filter(|_| shared.quorum.loss().is_none());
        if leader.is_none() {
            errors.push(Refusal::NoLeader.text().to_owned());
        }
        MemberStatus {
            db_size_bytes,
            db_size_in_use_bytes: shared.state.used_bytes().min(db_size_bytes),
            leader,
            raft_term: now.current_term,
            raft_index: now.local_committed.map_or(0, |committed| committed.index),
            raft_applied_index: now.last_applied.map_or(0, |applied| applied.index),
            is_learner: !now.membership_config.voter_ids().any(|voter| voter == own.0),
            errors,
        }
    }

    async fn alarms(&self, _caller: &Caller) -> Result<Vec<Alarm>, StoreError> {
        self.shared.barrier().await?;
        let alarms = self.shared.state.alarms();
        self.shared.all_shown().await?;
        Ok(alarms.into_iter().collect())
    }

    async fn set_alarm(
        &self,
        caller: &Caller,
        alarm: Alarm,
        on: bool,
    ) -> Result<Vec<Alarm>, StoreError> {
        self.shared.check_admin(caller)?;
        self.shared.set_alarm(alarm, on).await
    }

    async fn hash(&self, caller: &Caller) -> Result<(u32, Revision), StoreError> {
        self.shared.check_admin(caller)?;
        let hashed = self.shared.state.hash_all().await;
        self.shared.all_shown().await?;
        hashed.map_err(|error| self.shared.state_failed(&error))
    }

    async fn hash_kv(
        &self,
        caller: &Caller,
        revision: Revision,
    ) -> Result<HistoryHash, StoreError> {
        self.shared.check_admin(caller)?;
        let hashed = self.shared.state.hash_kv(revision).await;
        self.shared.all_shown().await?;
        let hashed = hashed.map_err(|error| self.shared.read_failed(error))?;
        let compacted = hashed.revisions.compacted;
        Ok(HistoryHash {
            hash: hashed.hash,
            hash_revision: hashed.upto,
            compact_revision: if compacted == 0 { -1 } else { compacted },
            revision: hashed.revisions.current,
        })
    }

    async fn move_leader(&self, caller: &Caller, to: MemberId) -> Result<(), StoreError> {
        let shared = &self.shared;
        shared.check_admin(caller)?;
        if !shared.raft.is_leader() {
            return Err(Refusal::NotLeader.into());
        }
        if to == shared.identity.member {
            return Ok(());
        }
        if !shared.membership().voter_ids().any(|voter| voter == to.0) {
            return Err(Refusal::BadLeaderTransferee.into());
        }
        // What the next leader shall not forget of the leases' time.
        if let Some((term, marks)) = shared.state.timer.mark_all() {
            shared.mark_leases(term, marks).await;
        }
        shared
            .raft
            .trigger()
            .transfer_leader(to.0)
            .await
            .map_err(|error| StoreError::Fatal { reason: error.to_string() })?;
        let mut leader = shared.leader.subscribe();
        let moved = leader.wait_for(|leader| *leader == Some(to));
        match tokio::time::timeout(HAND_OVER, moved).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(StoreError::ShuttingDown),
            Err(_) => Err(Refusal::Timeout.into()),
        }
    }

    async fn defragment(&self, caller: &Caller) -> Result<(), StoreError> {
        self.shared.check_admin(caller)?;
        let done = self.shared.state.defragment().await;
        done.map_err(|error| self.shared.state_failed(&error))
    }

    async fn snapshot(
        &self,
        caller: &Caller,
    ) -> Result<mpsc::Receiver<Result<Bytes, StoreError>>, StoreError> {
        self.shared.check_admin(caller)?;
        self.snapshot_stream(SnapshotFormat::EtcdDb).await
    }
}

impl Shared {
    async fn set_alarm(self: &Arc<Self>, alarm: Alarm, on: bool) -> Result<Vec<Alarm>, StoreError> {
        match self.ask(&Caller::Internal, Ask::Alarm { alarm, on }).await? {
            Reply::Alarms(changed) => Ok(changed),
            other => Err(unexpected(&other)),
        }
    }

    /// Raises this member's alarm while it has too little space, whoever leads, and clears
    /// it when there is space again.
    pub(super) async fn run_alarms(self: Arc<Self>) {
        let alarm = Alarm { member: self.identity.member, kind: AlarmKind::NoSpace };
        loop {
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return,
                () = tokio::time::sleep(ALARM_EVERY) => {}
            }
            let short = self.space.check().is_err();
            let raised = self.state.alarms().contains(&alarm);
            let is_member = self.membership().get_node(&self.identity.member.0).is_some();
            if short != raised
                && is_member
                && let Err(error) = self.set_alarm(alarm, short).await
            {
                tracing::debug!(%error, "the alarm about space is set later");
            }
        }
    }
}
