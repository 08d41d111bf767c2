//! The leader's side: computes the safe index, falls back and comes back.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use tokio::time::Instant;

use crate::logic::remote_sync::Footing;
use crate::store::commitment::{CHANGE_VERSION, Commitment, CommitmentChange};
use crate::store::footing::{Lead, Seen};
use crate::store::message::Unread;
use crate::store::shared::Shared;
use crate::store::types::{Command, Reply};

/// How often a change of the footing is thought of.
const TICK: Duration = Duration::from_millis(100);
/// How long the first look of a term may take before it is begun again.
const BEGIN: Duration = Duration::from_secs(3);

/// Says what came of a change that is in the log.
fn note_change(change: &CommitmentChange, reply: &Reply) {
    let (mode, footing) = (change.mode.name(), change.footing.name());
    let (by, reason) = (&change.by, &change.reason);
    match reply {
        Reply::Commitment { took_effect: false } => {
            tracing::debug!(mode, footing, by, "another change came before this one");
        }
        _ if change.footing == Footing::FallenBack => {
            tracing::warn!(mode, footing, by, reason, "what answers wait for changed");
        }
        _ => tracing::info!(mode, footing, by, reason, "what answers wait for changed"),
    }
}

impl Shared {
    /// The term that this member leads, the last index of its log, and what is durable on
    /// each of the members that the commitment counts.
    pub(super) fn leading(&self, commitment: &Commitment) -> Option<(u64, u64, Vec<u64>)> {
        let metrics = self.raft.metrics();
        let now = metrics.borrow_watched();
        if !now.state.is_leader() {
            return None;
        }
        let replication = now.replication.as_ref()?;
        let matched = |member: &u64| {
            let matched = replication.get(member).and_then(|matched| matched.as_ref());
            matched.map_or(0, |matched| matched.index)
        };
        let remote = commitment.remote.iter().map(matched).collect();
        Some((now.current_term, now.last_log_index.unwrap_or(0), remote))
    }

    /// Runs what this member does as leader, until it stops.
    pub(in crate::store) async fn run_modes(self: Arc<Self>) {
        let mut leader = self.leader.subscribe();
        let mut changed = self.state.commitment_changed();
        let mut metrics = self.raft.metrics();
        let mut wanted = false;
        loop {
            let ever = *changed.borrow() > 0;
            let leads = if ever || wanted { self.follow_modes().await } else { false };
            let waits = self.state.waits_for_remote();
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return,
                told = leader.changed() => if told.is_err() { return },
                told = changed.changed() => if told.is_err() { return },
                () = self.modes.wanted.notified() => wanted = true,
                // Who holds what; of use only while answers wait for it.
                told = metrics.changed(), if leads && waits => if told.is_err() { return },
                () = tokio::time::sleep(TICK), if ever || wanted => {}
            }
        }
    }

    /// Looks once; whether this member leads.
    async fn follow_modes(self: &Arc<Self>) -> bool {
        let Some((term, ..)) = self.leading(&self.state.commitment()) else { return false };
        let known = self.modes.lead().as_ref().map(|lead| lead.term);
        if known != Some(term) {
            let begun = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return false,
                begun = self.begin_lead(term) => begun,
            };
            if let Err(reason) = begun {
                tracing::debug!(reason, "the commit mode is not led yet");
                return true;
            }
        }
        self.judge(term);
        true
    }

    /// Begins a term: only when all that earlier leaders committed is applied here.
    async fn begin_lead(&self, term: u64) -> Result<(), String> {
        let until = Instant::now() + BEGIN;
        let confirmed = self.confirm_lead(until).await.map_err(|unread| unread.to_string())?;
        let (first, led) = confirmed;
        let wait = self.raft.wait(Some(BEGIN));
        let applied = wait.applied_index_at_least(Some(first), "for the first look of a term");
        applied.await.map_err(|error| error.to_string())?;
        if led == term {
            let commitment = self.state.commitment();
            let lead = Lead::begin(term, self.modes.now_ms(), first, &commitment);
            *self.modes.lead() = Some(lead);
        }
        Ok(())
    }

    /// Computes what may be shown, and proposes a change that is due.
    pub(super) fn judge(self: &Arc<Self>, term: u64) {
        let (commitment, applied) = self.state.commitment_and_applied();
        let Some((led, last, remote)) = self.leading(&commitment) else { return };
        let now_ms = self.modes.now_ms();
        let mut slot = self.modes.lead();
        let Some(lead) = slot.as_mut().filter(|lead| lead.term == term && led == term) else {
            return;
        };
        lead.sample(now_ms, applied, last);
        let seen = Seen { now_ms, commitment: &commitment, applied, remote: &remote };
        let safe = lead.safe(&seen);
        if commitment.waits_for_remote() {
            self.show_safe(safe);
        }
        if let Some(footing) = lead.change_due(&seen) {
            let (by, reason) = match footing {
                Footing::FallenBack => {
                    ("the leader", "two nodes of the remote center did not confirm in time")
                }
                Footing::Synchronous => ("the leader", "the remote center has kept up"),
            };
            let change = CommitmentChange {
                version: CHANGE_VERSION,
                term,
                after: commitment.changed,
                mode: commitment.mode,
                footing,
                remote: commitment.remote.clone(),
                chosen: commitment.chosen,
                by: by.into(),
                reason: reason.into(),
                at_ms: self.modes.wall_ms(),
            };
            self.propose_change(lead, change);
        }
    }

    fn show_safe(&self, safe: u64) {
        self.state.hear_safe(safe);
        self.modes.safe.send_if_modified(|known| {
            let more = safe > *known;
            *known = (*known).max(safe);
            more
        });
    }

    /// Puts the change in the log. The caller holds the lead, so nobody promises meanwhile;
    /// and nobody will before it is known what became of the change.
    pub(super) fn propose_change(self: &Arc<Self>, lead: &mut Lead, change: CommitmentChange) {
        lead.pending = true;
        let shared = self.clone();
        let term = lead.term;
        self.tracker.spawn(async move {
            let told = change.clone();
            let written = shared.raft.client_write(Command::Commitment(Box::new(change))).await;
            match written {
                Ok(response) => note_change(&told, &response.data),
                // It was refused before it reached the log, as by a leader that a majority
                // has not answered for a while; that one may lead on in its term.
                Err(RaftError::APIError(ClientWriteError::ForwardToLeader(error))) => {
                    tracing::debug!(%error, "the change was not taken up");
                }
                // It may come yet, from the log of whoever leads next: nothing is promised
                // any more in this term, which is over.
                Err(error) => {
                    tracing::debug!(%error, "the change is left to the next leader");
                    return;
                }
            }
            let mut slot = shared.modes.lead();
            if let Some(lead) = slot.as_mut().filter(|lead| lead.term == term) {
                lead.pending = false;
            }
        });
    }

    /// The index that a read starting now must see, where this member confirmed that it leads
    /// `term` and that Raft's own such index is `committed`.
    pub(in crate::store) fn answerable(&self, committed: u64, term: u64) -> Result<u64, Unread> {
        if !self.state.waits_for_remote() {
            return Ok(committed);
        }
        let (commitment, applied) = self.state.commitment_and_applied();
        let Some((led, _, remote)) = self.leading(&commitment) else {
            return Err(Unread::Later { reason: "this member leads no more".into() });
        };
        let now_ms = self.modes.now_ms();
        let mut slot = self.modes.lead();
        let lead = slot.as_mut().filter(|lead| lead.term == term && led == term);
        let seen = Seen { now_ms, commitment: &commitment, applied, remote: &remote };
        match lead.map_or(0, |lead| lead.safe(&seen)) {
            0 => Err(Unread::Later {
                reason: "the leader is new and two nodes of the remote center have not confirmed \
                         its first entry"
                    .into(),
            }),
            safe => {
                if commitment.waits_for_remote() {
                    self.show_safe(safe);
                }
                Ok(safe)
            }
        }
    }

    /// Why no change of data is proposed now, if so. This member must lead.
    pub(in crate::store) fn held_back(&self) -> Option<String> {
        if !self.state.waits_for_remote() {
            return None;
        }
        let commitment = self.state.commitment();
        let slot = self.modes.lead();
        slot.as_ref().and_then(|lead| lead.holds_back(self.modes.now_ms(), &commitment))
    }

    /// What an answer is waiting for that did not come in time.
    pub(in crate::store) fn waited_for(&self) -> String {
        let mode = self.state.commitment().mode.name();
        format!(
            "the commit mode is {mode} and two control nodes of the remote center have not \
             confirmed it in time"
        )
    }

    /// Whether what follows may already be held back: it is, or a change is on its way.
    pub(in crate::store) fn may_be_held_back(&self) -> bool {
        self.state.waits_for_remote() || self.modes.lead().as_ref().is_some_and(|lead| lead.pending)
    }
}
