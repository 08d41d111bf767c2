//! What a member can say of replication: what holds, who lacks what, what is proven.
//!
//! Why also from a member that hears nobody: at the remote center, with the city cut off or
//! gone, it is all that there is to decide by.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use serde::{Deserialize, Serialize};

use crate::base::ids::MemberId;
use crate::logic::remote_sync::{CLAIM_MS, CommitMode, Footing, LEASE_MS};
use crate::store::codec::encoded_len;
use crate::store::commitment::Commitment;
use crate::store::disk::run_on;
use crate::store::footing::Seen;
use crate::store::lag::{CenterLag, LeaderView};
use crate::store::member::Store;
use crate::store::message::{Answer, Request};
use crate::store::shared::Shared;

/// Entries up to which the bytes of a lag are counted.
const COUNTED: u64 = 2_000;

/// What one member knows of replication.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Replication {
    pub member: MemberId,
    /// As of what this member has applied.
    pub commitment: Commitment,
    pub applied: u64,
    /// Last index that may be answered, as far as this member heard.
    pub shown: u64,
    /// Since when this member heard of no leader, milliseconds.
    pub silent_ms: u64,
    /// Whether it is of the remote center.
    pub is_remote: bool,
    /// For how long it may still say that any two of the remote center's members hold all
    /// that was ever answered; 0 if it may not.
    pub proven_ms: u64,
    /// How long ago it asked the question that the newest promise answered.
    pub promise_age_ms: Option<u64>,
    /// Of the leader, if it answers.
    pub leader: Option<LeaderView>,
}

/// Where one member stands at a moment, for who watches it closely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub mode: CommitMode,
    pub footing: Footing,
    /// Whether answers wait for the remote center.
    pub waits: bool,
    /// Log index of the newest change of that.
    pub changed: u64,
    /// Last index of its log.
    pub last: u64,
    /// Last index that it may answer from.
    pub shown: u64,
    /// As in [`Replication`].
    pub proven_ms: u64,
}

impl Store {
    /// Where this member stands; asks nobody.
    pub fn standing(&self) -> Standing {
        let shared = &self.shared;
        let commitment = shared.state.commitment();
        let until = shared.modes.claim().proven_until_ms();
        let shown = shared.state.shown_index();
        let metrics = shared.raft.metrics();
        Standing {
            mode: commitment.mode,
            footing: commitment.footing,
            waits: commitment.waits_for_remote(),
            changed: commitment.changed,
            last: metrics.borrow_watched().last_log_index.unwrap_or(0),
            shown,
            proven_ms: until.map_or(0, |until| until.saturating_sub(shared.modes.now_ms())),
        }
    }

    /// What this member knows, and what the leader knows if it answers within `deadline`.
    pub async fn replication(&self, deadline: Duration) -> Replication {
        let shared = &self.shared;
        let own = shared.identity.member;
        let leader = *shared.leader.borrow();
        let leader = match leader {
            Some(leader) if leader == own => shared.leader_view().await,
            Some(leader) => {
                match shared.call_within(leader.0, Request::Replication, deadline).await {
                    Some(Ok(Answer::Replication(view))) => view.map(|view| *view),
                    Some(_) | None => None,
                }
            }
            None => None,
        };
        let commitment = Commitment::clone(&shared.state.commitment());
        let now_ms = shared.modes.now_ms();
        let until = shared.modes.claim().proven_until_ms();
        let asked = until.map(|until| until.saturating_sub(CLAIM_MS));
        let silent = shared.quorum.heard.lock().expect("no holder of the time panics").elapsed();
        let leads = leader.as_ref().is_some_and(|view| view.leader == own);
        Replication {
            member: own,
            applied: shared.state.applied_index(),
            shown: shared.state.shown_index(),
            silent_ms: if leads { 0 } else { u64::try_from(silent.as_millis()).unwrap_or(0) },
            is_remote: commitment.remote.contains(&own.0),
            proven_ms: until.map_or(0, |until| until.saturating_sub(now_ms)),
            promise_age_ms: asked.map(|asked| now_ms.saturating_sub(asked)),
            commitment,
            leader,
        }
    }
}

impl Shared {
    /// What this member knows as leader; none if it does not lead.
    pub(in crate::store) async fn leader_view(self: &Arc<Self>) -> Option<LeaderView> {
        let (commitment, applied) = self.state.commitment_and_applied();
        let (term, last, remote) = self.leading(&commitment)?;
        let matched: Vec<(u64, u64)> = self
            .status()
            .members
            .iter()
            .map(|member| (member.member.0, member.matched.unwrap_or(0).min(last)))
            .collect();
        let now_ms = self.modes.now_ms();
        let (safe, waiting_ms, promised_ms, ages) = {
            let mut slot = self.modes.lead();
            let lead = slot.as_mut().filter(|lead| lead.term == term)?;
            let seen = Seen { now_ms, commitment: &commitment, applied, remote: &remote };
            let safe = lead.safe(&seen);
            let promised = lead.promised_ms.map_or(0, |at| (at + LEASE_MS).saturating_sub(now_ms));
            let ages: Vec<u64> =
                matched.iter().map(|(_, held)| lead.age_behind(now_ms, *held, last)).collect();
            (safe, lead.waiting_ms(now_ms), promised, ages)
        };
        let mut members = Vec::new();
        for ((member, held), age_ms) in matched.into_iter().zip(ages) {
            let bytes = self.log_bytes_between(held, last).await;
            let entries = last.saturating_sub(held);
            members.push(CenterLag {
                member: MemberId(member),
                matched: held,
                entries,
                bytes,
                age_ms,
            });
        }
        Some(LeaderView {
            leader: self.identity.member,
            term,
            last_log_index: last,
            applied,
            safe,
            waiting_ms,
            promised_ms,
            members,
        })
    }

    async fn log_bytes_between(&self, held: u64, last: u64) -> Option<u64> {
        if last <= held {
            return Some(0);
        }
        if last - held > COUNTED {
            return None;
        }
        let log = self.log.clone();
        let read = run_on(&*self.disk, move || log.read(held + 1, last + 1)).await;
        let entries = read.ok()?.ok()?;
        Some(entries.iter().map(|entry| encoded_len(entry) as u64).sum())
    }
}
