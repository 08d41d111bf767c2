//! Applies one command to the state, in memory.
//!
//! Invariants: the same commands in the same order give the same state and answers on
//! every member; a repeated request is answered from memory and changes nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::StateError;
use super::reader::Newest;
use super::requests::Answered;
use super::store::{Inner, StateStore};
use crate::logic::auth::AuthState;
use crate::logic::lease::LeaseRecord;
use crate::logic::mvcc::{MvccError, check_compaction, run_txn};
use crate::model::auth::AuthInfo;
use crate::model::kv::{Event, Op, Revision, TxnRequest};
use crate::model::lease::LeaseId;
use crate::model::refusal::Refusal as Rule;
use crate::store::admin_api::Alarm;
use crate::store::types::{
    Ask, Command, LogId, Refusal, Reply, RequestId, StartNote, StoredMembership,
};

/// What an entry asks of the state.
pub(super) enum Step {
    Blank,
    Membership(StoredMembership),
    Command(Command),
}

/// What happens to one lease.
pub(super) enum LeaseChange {
    Granted(LeaseRecord),
    Marked(LeaseRecord),
    Ended,
}

/// The leases that a transaction could attach keys to.
fn leases_joined(txn: &TxnRequest, joined: &mut BTreeSet<LeaseId>) {
    for op in txn.success.iter().chain(&txn.failure) {
        match op {
            Op::Put(put) if put.lease != 0 => {
                joined.insert(put.lease);
            }
            Op::Txn(nested) => leases_joined(nested, joined),
            Op::Put(_) | Op::Range(_) | Op::DeleteRange(_) => {}
        }
    }
}

/// All that one request changes.
#[derive(Default)]
pub(super) struct Effects {
    /// Of one revision.
    pub(super) events: Vec<Event>,
    pub(super) leases: Vec<(LeaseId, LeaseChange)>,
    pub(super) auth: Option<Arc<AuthState>>,
    pub(super) alarms: Option<BTreeSet<Alarm>>,
}

impl Effects {
    pub(super) fn of(events: Vec<Event>) -> Self {
        Self { events, ..Self::default() }
    }
}

impl Inner {
    fn take_up(&mut self, revision: Revision, effects: &Effects) {
        for (id, change) in &effects.leases {
            let record = match change {
                LeaseChange::Granted(record) | LeaseChange::Marked(record) => Some(*record),
                LeaseChange::Ended => None,
            };
            self.leases.set(*id, record);
            self.active.leases.insert(*id, record);
        }
        if let Some(auth) = &effects.auth {
            self.auth = auth.clone();
            self.active.auth = Some(auth.clone());
        }
        if let Some(alarms) = &effects.alarms {
            self.alarms = alarms.clone();
            self.active.alarms = Some(alarms.clone());
        }
        if !effects.events.is_empty() {
            self.active.record(revision, &effects.events);
            self.marks.revision = revision;
        }
    }
}

/// Operations up to which a transaction of single keys is short work.
const SHORT_OPS: usize = 16;

impl Step {
    /// Whether applying it may read much, as a range or many operations do.
    pub(super) fn is_heavy(&self) -> bool {
        let request = match self {
            Step::Command(Command::Txn { request, .. }) => request,
            Step::Command(Command::Ask { ask: Ask::LeaseRevoke { .. }, .. })
            | Step::Command(Command::LeaseEnds { .. }) => return true,
            Step::Blank | Step::Membership(_) | Step::Command(_) => return false,
        };
        let ranged = |op: &Op| match op {
            Op::Put(_) => false,
            Op::Range(range) => !range.range_end.is_empty(),
            Op::DeleteRange(delete) => !delete.range_end.is_empty(),
            Op::Txn(_) => true,
        };
        request.success.len() + request.failure.len() + request.compare.len() > SHORT_OPS
            || request.compare.iter().any(|compare| !compare.range_end.is_empty())
            || request.success.iter().chain(&request.failure).any(ranged)
    }
}

fn refuse(error: MvccError<StateError>) -> Result<Reply, StateError> {
    Ok(Reply::Refused(match error {
        MvccError::Compacted { requested, compacted } => {
            Refusal::Compacted { requested, compacted }
        }
        MvccError::Future { requested, current } => Refusal::Future { requested, current },
        MvccError::Refused(rule) => Refusal::Rule(rule),
        MvccError::View(error) => return Err(error),
    }))
}

impl StateStore {
    /// Applies the entry; the answer is visible to readers when this returns.
    pub(super) fn apply(&self, log_id: LogId, step: Step) -> Result<Reply, StateError> {
        let reply = match step {
            Step::Blank => {
                self.advance(log_id);
                Reply::Done
            }
            Step::Membership(membership) => {
                self.write().marks.membership = membership;
                self.advance(log_id);
                Reply::Done
            }
            Step::Command(Command::Txn { id, issued_at, by, request }) => {
                self.apply_txn(log_id, id, issued_at, by.as_ref(), &request)?
            }
            Step::Command(Command::Ask { id, issued_at, by, ask }) => {
                self.apply_ask(log_id, id, issued_at, by.as_ref(), &ask)?
            }
            Step::Command(Command::LeaseEnds { term, ids }) => {
                self.apply_lease_ends(log_id, term, &ids)?
            }
            Step::Command(Command::LeaseMarks { term, marks }) => {
                self.apply_lease_marks(log_id, term, &marks)
            }
            Step::Command(Command::Compact { revision }) => self.apply_compact(log_id, revision)?,
            Step::Command(Command::Commitment(change)) => self.apply_commitment(log_id, &change)?,
            Step::Command(Command::Boot { member, note }) => {
                let reply = self.apply_boot(member.0, note);
                self.advance(log_id);
                reply
            }
        };
        self.publish();
        Ok(reply)
    }

    /// A member that was being added by a leader whose word was lost was never added: its
    /// id must not be taken for one that was used, or it could never join.
    fn apply_boot(&self, member: u64, note: StartNote) -> Reply {
        let mut inner = self.write();
        if inner.marks.membership.membership().get_node(&member).is_none() {
            return Reply::Refused(Refusal::NotAMember);
        }
        let known = inner.boots.get(&member).copied();
        if known.is_none_or(|known| note.replaces(&known)) {
            inner.boots.insert(member, note);
            inner.active.boots.insert(member, note);
        }
        Reply::Done
    }

    pub(super) fn advance(&self, log_id: LogId) {
        let mut inner = self.write();
        inner.marks.applied = Some(log_id);
        inner.active.dirty = true;
    }

    fn apply_txn(
        &self,
        log_id: LogId,
        id: RequestId,
        issued_at: u64,
        by: Option<&AuthInfo>,
        request: &TxnRequest,
    ) -> Result<Reply, StateError> {
        let (recalled, revisions, auth) = {
            let inner = self.read();
            (inner.requests.recall(&id, issued_at), inner.revisions(), inner.auth.clone())
        };
        if let Some(reply) = recalled {
            self.advance(log_id);
            return Ok(reply);
        }
        let permitted = match by {
            Some(by) if auth.is_enabled() => match auth.check_txn(by, request) {
                Ok(()) => self.check_attached(by, request)?,
                Err(rule) => Err(rule),
            },
            Some(_) | None => Ok(()),
        };
        let outcome = match permitted {
            Ok(()) => run_txn(&Newest(self), revisions, request),
            Err(rule) => Err(rule.into()),
        };
        let (reply, effects) = match outcome {
            Ok(outcome) => (Reply::Txn(outcome.response), Effects::of(outcome.events)),
            Err(error) => (refuse(error)?, Effects::default()),
        };
        self.commit_txn(log_id, id, revisions.current + 1, &reply, effects);
        Ok(reply)
    }

    /// A put may attach its key only to a lease whose other keys its author may write, or
    /// ending that lease would be denied to him.
    fn check_attached(
        &self,
        by: &AuthInfo,
        request: &TxnRequest,
    ) -> Result<Result<(), Rule>, StateError> {
        let mut joined = BTreeSet::new();
        leases_joined(request, &mut joined);
        for lease in joined {
            let keys = self.lease_keys(lease)?;
            if let Err(rule) = self.check_lease_keys(Some(by), &keys) {
                return Ok(Err(rule));
            }
        }
        Ok(Ok(()))
    }

    /// Notes an answered request and takes up its effects, in one step: a flush sees all
    /// of it or nothing.
    pub(super) fn commit_txn(
        &self,
        log_id: LogId,
        id: RequestId,
        revision: Revision,
        reply: &Reply,
        effects: Effects,
    ) {
        let answered = Answered::new(id, reply);
        let mut inner = self.write();
        inner.marks.applied = Some(log_id);
        inner.active.dirty = true;
        inner.active.requests.insert(log_id.index, answered.clone());
        inner.active.bytes += 256;
        inner.requests.remember(log_id.index, answered);
        inner.marks.forgotten = inner.requests.horizon();
        inner.take_up(revision, &effects);
        drop(inner);
        self.tell(revision, effects);
    }

    /// Takes up effects without an answer, in one step.
    pub(super) fn commit_effects(&self, revision: Revision, effects: Effects) {
        let mut inner = self.write();
        inner.active.dirty = true;
        inner.take_up(revision, &effects);
        drop(inner);
        self.tell(revision, effects);
    }

    /// Tells the clock and the watchers of what was taken up.
    fn tell(&self, revision: Revision, effects: Effects) {
        for (id, change) in effects.leases {
            match change {
                LeaseChange::Granted(record) => self.timer.granted(id, record),
                LeaseChange::Marked(record) => self.timer.marked(id, record),
                LeaseChange::Ended => self.timer.revoked(id),
            }
        }
        if !effects.events.is_empty() {
            self.push_recent(revision, effects.events);
        }
    }

    fn apply_compact(&self, log_id: LogId, revision: Revision) -> Result<Reply, StateError> {
        self.advance(log_id);
        let mut inner = self.write();
        match check_compaction(inner.revisions(), revision) {
            Ok(()) => {
                inner.marks.compacted = revision;
                inner.show_revision(revision);
                drop(inner);
                self.wake_flusher.notify_one();
                Ok(Reply::Done)
            }
            Err(error) => refuse(error),
        }
    }
}
