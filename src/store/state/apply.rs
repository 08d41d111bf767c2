//! Applies one command to the state, in memory.
//!
//! Invariants: the same commands in the same order give the same state and answers on
//! every member; a repeated request is answered from memory and changes nothing.

use super::StateError;
use super::reader::Newest;
use super::requests::Answered;
use super::store::StateStore;
use crate::logic::mvcc::{MvccError, check_compaction, run_txn};
use crate::model::kv::{Event, Op, Revision, TxnRequest};
use crate::store::types::{Command, LogId, Refusal, Reply, RequestId, StoredMembership};

/// What an entry asks of the state.
pub(super) enum Step {
    Blank,
    Membership(StoredMembership),
    Command(Command),
}

/// Operations up to which a transaction of single keys is short work.
const SHORT_OPS: usize = 16;

impl Step {
    /// Whether applying it may read much, as a range or many operations do.
    pub(super) fn is_heavy(&self) -> bool {
        let Step::Command(Command::Txn { request, .. }) = self else { return false };
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
            Step::Command(Command::Txn { id, issued_at, request }) => {
                self.apply_txn(log_id, id, issued_at, &request)?
            }
            Step::Command(Command::Compact { revision }) => self.apply_compact(log_id, revision)?,
            Step::Command(Command::Boot { member, note }) => {
                let mut inner = self.write();
                let known = inner.boots.get(&member.0).copied();
                // A foreign incarnation is not written over the one that acknowledged.
                let taken = match known {
                    Some(known) => known.incarnation == note.incarnation && known.boot < note.boot,
                    None => true,
                };
                if taken {
                    inner.boots.insert(member.0, note);
                    inner.active.boots.insert(member.0, note);
                }
                drop(inner);
                self.advance(log_id);
                Reply::Done
            }
        };
        self.publish();
        Ok(reply)
    }

    fn advance(&self, log_id: LogId) {
        let mut inner = self.write();
        inner.marks.applied = Some(log_id);
        inner.active.dirty = true;
    }

    fn apply_txn(
        &self,
        log_id: LogId,
        id: RequestId,
        issued_at: u64,
        request: &TxnRequest,
    ) -> Result<Reply, StateError> {
        let (recalled, revisions) = {
            let inner = self.read();
            (inner.requests.recall(&id, issued_at), inner.revisions())
        };
        if let Some(reply) = recalled {
            self.advance(log_id);
            return Ok(reply);
        }
        let (reply, events) = match run_txn(&Newest(self), revisions, request) {
            Ok(outcome) => (Reply::Txn(outcome.response), outcome.events),
            Err(error) => (refuse(error)?, Vec::new()),
        };
        self.commit_txn(log_id, id, revisions.current + 1, &reply, events);
        Ok(reply)
    }

    fn commit_txn(
        &self,
        log_id: LogId,
        id: RequestId,
        revision: Revision,
        reply: &Reply,
        events: Vec<Event>,
    ) {
        let answered = Answered::new(id, reply);
        let mut inner = self.write();
        inner.marks.applied = Some(log_id);
        inner.active.dirty = true;
        inner.active.requests.insert(log_id.index, answered.clone());
        inner.active.bytes += 256;
        inner.requests.remember(log_id.index, answered);
        inner.marks.forgotten = inner.requests.horizon();
        if events.is_empty() {
            return;
        }
        inner.active.record(revision, &events);
        inner.marks.revision = revision;
        drop(inner);
        self.push_recent(revision, events);
    }

    fn apply_compact(&self, log_id: LogId, revision: Revision) -> Result<Reply, StateError> {
        self.advance(log_id);
        let mut inner = self.write();
        match check_compaction(inner.revisions(), revision) {
            Ok(()) => {
                inner.marks.compacted = revision;
                drop(inner);
                self.wake_flusher.notify_one();
                Ok(Reply::Done)
            }
            Err(error) => refuse(error),
        }
    }
}
