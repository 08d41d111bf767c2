//! Leases on a member, wherever the leader is; the leader's task that ends them.
//!
//! ```text
//!  keepalive ─► leader: does it still lead (shared round) ─► clock ─► answer, no log entry
//!                                                              │ a remainder is in the log
//!                                                              └► "renewed" into the log first
//! ```
//!
//! Invariant: a keepalive is answered only after the leader confirmed, after the keepalive
//! came, that it leads. Without it a leader that was cut off would go on renewing leases
//! that the next one ends.
//! Not here: the rules (`logic/lease`), applying (`state/apply_ask`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use openraft::async_runtime::WatchReceiver;
use tokio::time::Instant;

use super::admin_api::Leases;
use super::api::StoreError;
use super::disk::run_on;
use super::member::Store;
use super::message::{Answer, LeaseUnserved, Request};
use super::propose::refused;
use super::runtime::random_u64;
use super::shared::{PAUSE, Shared, WRITE_BUDGET};
use super::types::{Ask, Command, Reply};
use crate::base::limits::LEASE_TICK;
use crate::logic::auth::Access;
use crate::logic::lease::{LeaseMark, Renewal, check_ttl};
use crate::model::auth::Caller;
use crate::model::kv::Revision;
use crate::model::lease::{LeaseGranted, LeaseId, LeaseTimeToLive};
use crate::model::refusal::Refusal;

/// How long the leader's own proposals about leases may take before the next tick.
const TICK_BUDGET: Duration = Duration::from_secs(3);
/// Leases that end by one entry of the log.
const ENDS_PER_ENTRY: usize = 100;

/// What the leader does for a lease's holder.
type Served<'s, T> = BoxFuture<'s, Result<T, LeaseUnserved>>;

fn later(reason: impl ToString) -> LeaseUnserved {
    LeaseUnserved::Later { reason: reason.to_string() }
}

#[async_trait]
impl Leases for Store {
    async fn lease_grant(
        &self,
        caller: &Caller,
        id: LeaseId,
        ttl_s: i64,
    ) -> Result<LeaseGranted, StoreError> {
        check_ttl(ttl_s)?;
        self.shared.check_alarms(true)?;
        // The top bit is the sign, and 0 is no lease.
        let id = if id == 0 { (random_u64() >> 1).max(1).cast_signed() } else { id };
        match self.shared.ask(caller, Ask::LeaseGrant { id, ttl_s }).await? {
            Reply::Granted(granted) => Ok(granted),
            other => Err(unexpected(&other)),
        }
    }

    async fn lease_revoke(&self, caller: &Caller, id: LeaseId) -> Result<Revision, StoreError> {
        if *caller != Caller::Internal {
            self.shared.check_alarms(false)?;
        }
        match self.shared.ask(caller, Ask::LeaseRevoke { id }).await? {
            Reply::Revoked(revision) => Ok(revision),
            other => Err(unexpected(&other)),
        }
    }

    async fn lease_keep_alive(&self, _caller: &Caller, id: LeaseId) -> Result<i64, StoreError> {
        self.shared.keep_alive(id).await
    }

    async fn lease_time_to_live(
        &self,
        caller: &Caller,
        id: LeaseId,
        keys: bool,
    ) -> Result<LeaseTimeToLive, StoreError> {
        let shared = &self.shared;
        shared.barrier().await?;
        let Some(record) = shared.state.lease(id) else {
            shared.all_shown().await?;
            return Ok(gone(id));
        };
        let attached = if keys {
            let state = shared.state.clone();
            let found = run_on(&*shared.disk, move || state.lease_keys(id)).await;
            let found = found.map_err(|error| shared.disk_failed(&error))?;
            found.map_err(|error| shared.state_failed(&error))?
        } else {
            Vec::new()
        };
        shared.check_keys(caller, Access::Read, &attached)?;
        shared.all_shown().await?;
        match shared.lease_left(id).await? {
            None => Ok(gone(id)),
            Some(left_ms) => Ok(LeaseTimeToLive {
                id,
                ttl_s: if left_ms == 0 { -1 } else { (left_ms / 1_000).cast_signed() },
                granted_ttl_s: record.ttl_s,
                keys: attached,
            }),
        }
    }

    async fn leases(&self, _caller: &Caller) -> Result<Vec<LeaseId>, StoreError> {
        self.shared.barrier().await?;
        let ids = self.shared.state.lease_ids();
        self.shared.all_shown().await?;
        Ok(ids)
    }
}

fn gone(id: LeaseId) -> LeaseTimeToLive {
    LeaseTimeToLive { id, ttl_s: -1, granted_ttl_s: 0, keys: Vec::new() }
}

/// What a reply of another kind than the request's means.
pub(super) fn unexpected(reply: &Reply) -> StoreError {
    match reply {
        Reply::Refused(refusal) => refused(refusal.clone()),
        other => StoreError::Unknown { reason: format!("unexpected reply {other}") },
    }
}

impl Shared {
    async fn keep_alive(self: &Arc<Self>, id: LeaseId) -> Result<i64, StoreError> {
        let here = |until| -> Served<'_, i64> { Box::pin(self.keep_alive_here(id, until)) };
        let there = |answer| match answer {
            Answer::KeepAlive(served) => served,
            other => Err(later(format!("unexpected answer {other:?}"))),
        };
        let served = self.at_leader(Request::KeepAlive { id }, here, there).await?;
        served.ok_or_else(|| Refusal::LeaseNotFound.into())
    }

    async fn lease_left(self: &Arc<Self>, id: LeaseId) -> Result<Option<u64>, StoreError> {
        let here = |until| -> Served<'_, Option<u64>> { Box::pin(self.lease_left_here(id, until)) };
        let there = |answer| match answer {
            Answer::LeaseLeft(served) => served,
            other => Err(later(format!("unexpected answer {other:?}"))),
        };
        let served = self.at_leader(Request::LeaseLeft { id }, here, there).await?;
        Ok(served.flatten())
    }

    /// Has the leader serve it, wherever it is, until it does or the time is up; none if
    /// the lease is gone. `here` serves on this member, `there` reads another's answer.
    async fn at_leader<'s, T>(
        self: &'s Arc<Self>,
        request: Request,
        here: impl Fn(Instant) -> Served<'s, T>,
        there: impl Fn(Answer) -> Result<T, LeaseUnserved>,
    ) -> Result<Option<T>, StoreError> {
        let until = Instant::now() + WRITE_BUDGET;
        loop {
            self.health.borrow().check()?;
            let leader = *self.leader.borrow();
            let served = match leader {
                None => Err(later("no leader is known")),
                Some(leader) if leader == self.identity.member => here(until).await,
                Some(leader) => {
                    let deadline = until.saturating_duration_since(Instant::now());
                    let called = self.outbound.call_member(leader.0, request.clone(), deadline);
                    let answer = tokio::select! {
                        biased;
                        answer = called => answer,
                        () = self.other_leader(leader) => continue,
                    };
                    answer.map_err(later).and_then(&there)
                }
            };
            match served {
                Ok(served) => return Ok(Some(served)),
                Err(LeaseUnserved::Gone) => return Ok(None),
                Err(LeaseUnserved::Later { reason }) if Instant::now() + PAUSE >= until => {
                    return Err(StoreError::NoLeader { reason });
                }
                Err(LeaseUnserved::Later { .. }) => self.pause(leader).await,
            }
        }
    }

    /// Renews on this member, which must be the leader.
    pub(super) async fn keep_alive_here(
        self: &Arc<Self>,
        id: LeaseId,
        until: Instant,
    ) -> Result<i64, LeaseUnserved> {
        if !self.raft.is_leader() {
            return Err(later("this member does not lead"));
        }
        let term = self.confirmed_term().await.map_err(later)?;
        loop {
            let ended = self.state.timer.ended();
            match self.state.timer.renew(id, term) {
                Renewal::Renewed { ttl_s } => {
                    self.all_shown().await.map_err(later)?;
                    return Ok(ttl_s);
                }
                Renewal::Gone => {
                    self.all_shown().await.map_err(later)?;
                    return Err(LeaseUnserved::Gone);
                }
                Renewal::NotLeading => {
                    // Another leader, or this member's next clock, knows better.
                    return Err(later("the lease clock does not run in this term"));
                }
                Renewal::Ending => {
                    // To say "gone" the end must have come; the holder may not be told
                    // anything else, because its time is over.
                    if tokio::time::timeout_at(until, ended).await.is_err() {
                        return Err(later("the lease is ending"));
                    }
                }
                Renewal::MarkFirst(mark) => {
                    let command = Command::LeaseMarks { term, marks: vec![mark] };
                    if let Err(error) = self.propose_here(command, until).await {
                        return Err(later(format!("{error:?}")));
                    }
                }
            }
        }
    }

    /// How long a lease has; this member must be the leader.
    pub(super) async fn lease_left_here(
        self: &Arc<Self>,
        id: LeaseId,
        until: Instant,
    ) -> Result<Option<u64>, LeaseUnserved> {
        self.read_index_here(until).await.map_err(later)?;
        if self.state.timer.term().is_none() {
            return Err(later("this member's lease clock does not run"));
        }
        Ok(self.state.timer.remaining_ms(id))
    }

    /// Starts and stops the clock with the lead, and puts in the log what falls due.
    pub(super) async fn run_leases(self: Arc<Self>) {
        let mut leader = self.leader.subscribe();
        loop {
            if let Err(reason) = self.follow_lead().await {
                tracing::debug!(reason, "the lease clock does not run yet");
            }
            self.end_leases().await;
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return,
                changed = leader.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(LEASE_TICK) => {}
            }
        }
    }

    async fn follow_lead(self: &Arc<Self>) -> Result<(), String> {
        let leads = || {
            let metrics = self.raft.metrics();
            let now = metrics.borrow_watched();
            now.state.is_leader().then_some(now.current_term)
        };
        let Some(term) = leads() else {
            if self.state.timer.term().is_some() {
                self.state.timer.demote();
            }
            return Ok(());
        };
        if self.state.timer.term() == Some(term) {
            return Ok(());
        }
        self.state.timer.demote();
        // The first index that a leader may read at is behind all that others committed.
        // Shown or not: the clock is over all that is applied.
        let confirmed = self.confirm_lead(Instant::now() + TICK_BUDGET).await;
        let (index, _) = confirmed.map_err(|unread| unread.to_string())?;
        let applied = self.raft.wait(Some(TICK_BUDGET));
        let applied = applied.applied_index_at_least(Some(index), "for the leases' clock").await;
        applied.map_err(|error| error.to_string())?;
        if leads() == Some(term) {
            self.state.promote_timer(term);
        }
        Ok(())
    }

    async fn end_leases(self: &Arc<Self>) {
        let Some((term, due)) = self.state.timer.tick() else { return };
        for ids in due.expire.chunks(ENDS_PER_ENTRY) {
            tracing::debug!(leases = ids.len(), "leases end");
            self.note(Command::LeaseEnds { term, ids: ids.to_vec() }).await;
        }
        self.mark_leases(term, due.marks).await;
    }

    /// Puts remainders in the log.
    pub(super) async fn mark_leases(&self, term: u64, marks: Vec<LeaseMark>) {
        if !marks.is_empty() {
            self.note(Command::LeaseMarks { term, marks }).await;
        }
    }

    async fn note(&self, command: Command) {
        let what = command.to_string();
        if let Err(error) = self.propose_here(command, Instant::now() + TICK_BUDGET).await {
            // What is still due is proposed again, by whoever leads then.
            tracing::debug!(what, ?error, "not noted");
        }
    }
}
