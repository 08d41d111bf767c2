//! How far of what is applied may be answered, read or watched.
//!
//! ```text
//!  applied ───────► waiting (index, revision) … ──safe index heard──► shown
//!  while answers wait for nobody else: shown is what is applied, and nothing waits here
//! ```
//!
//! Why beside the applied state: applying is never held back, so that changes of members and
//! modes cannot queue behind what is waited for; who reads is given the revision of what may
//! be shown.
//! Invariants: what is shown only grows, over a restart too; an index is shown when an entry
//! at or behind it is safe, or was applied while answers waited for nobody.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::oneshot;

use super::StateError;
use super::store::{Inner, Progress, StateStore, progress_of};
use crate::logic::mvcc::KeyRange;
use crate::model::kv::Revision;
use crate::store::codec::CodecError;
use crate::store::commitment::{CHANGE_VERSION, Commitment, CommitmentChange};
use crate::store::types::{LogId, Reply};

/// Applied entries whose revisions are kept apart until they are safe.
const WAITING: usize = 16_384;
/// Waiting proposals after which those that gave up are looked for.
const MANY: usize = 1_024;

/// What is shown while answers wait for the remote center.
#[derive(Debug, Default)]
pub(super) struct Shown {
    shown: Progress,
    /// The highest safe index that a leader spoke of.
    heard: u64,
    waiting: VecDeque<Progress>,
}

impl Shown {
    /// As a member finds it on its disk.
    pub(super) fn load(shown: Progress, applied: Progress) -> Self {
        let waiting = (shown.applied < applied.applied).then_some(applied);
        Self { shown, heard: 0, waiting: waiting.into_iter().collect() }
    }

    fn push(&mut self, applied: Progress) {
        if applied.applied <= self.shown.applied {
            return;
        }
        if self.waiting.len() >= WAITING {
            self.waiting.pop_back();
        }
        self.waiting.push_back(applied);
    }

    fn advance(&mut self) {
        while let Some(next) = self.waiting.pop_front_if(|next| next.applied <= self.heard) {
            let revision = next.revision.max(self.shown.revision);
            self.shown = Progress { applied: next.applied, revision };
        }
    }
}

/// Who waits for an index to be shown, by the index.
#[derive(Debug, Default)]
pub(super) struct ShownWaiters {
    waiters: Mutex<BTreeMap<u64, Vec<oneshot::Sender<()>>>>,
    count: AtomicUsize,
}

impl ShownWaiters {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Vec<oneshot::Sender<()>>>> {
        self.waiters.lock().expect("no holder of the waiting answers panics")
    }

    fn release(&self, shown: u64) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut waiters = self.lock();
        let rest = waiters.split_off(&(shown + 1));
        for waiter in std::mem::replace(&mut *waiters, rest).into_values().flatten() {
            // It may have given up.
            let _ = waiter.send(());
        }
        self.count.store(waiters.values().map(Vec::len).sum(), Ordering::SeqCst);
    }
}

impl Inner {
    pub(super) fn waits_for_remote(&self) -> bool {
        self.commitment.waits_for_remote()
    }

    /// What may be answered, read or watched.
    pub(super) fn shown(&self) -> Progress {
        if self.waits_for_remote() { self.shown.shown } else { progress_of(self) }
    }

    /// The revision to read at so that nothing is seen which may not be shown yet; none if
    /// there is nothing of the kind in the range.
    pub(super) fn held_back(&self, range: &KeyRange, shown: Revision) -> Option<Revision> {
        let newest = self.marks.revision;
        if shown >= newest {
            return None;
        }
        let mut seen = 0;
        for layer in self.layers() {
            for keys in layer.changes.range(shown + 1..).map(|(_, keys)| keys) {
                if keys.iter().any(|key| range.contains(key)) {
                    return Some(shown);
                }
                seen += 1;
            }
        }
        // Some of it is in the file already, and that is not looked through for this.
        (seen < newest - shown).then_some(shown)
    }

    /// The state takes another's place: what was shown stays shown.
    pub(super) fn inherit(&mut self, before: &Inner) {
        let old = before.shown();
        if old.applied > self.shown.shown.applied {
            self.shown = Shown::load(old, progress_of(self));
        }
        self.shown.heard = self.shown.heard.max(before.shown.heard);
        self.show_revision(self.marks.compacted);
        self.shown.advance();
    }

    /// What is compacted was safe when that was asked for, and below it nobody can read.
    pub(super) fn show_revision(&mut self, revision: Revision) {
        self.shown.shown.revision = self.shown.shown.revision.max(revision);
    }
}

impl StateStore {
    /// Tells those who read and wait how far the state is now.
    pub(super) fn publish(&self) {
        let progress = if self.waits_for_remote() {
            let mut inner = self.write();
            let applied = progress_of(&inner);
            inner.shown.push(applied);
            inner.shown.advance();
            inner.shown()
        } else {
            progress_of(&self.read())
        };
        self.show(progress);
    }

    fn show(&self, progress: Progress) {
        // Two may come here at once, and what was told is not taken back.
        self.progress.send_if_modified(|told| {
            let more = progress.applied > told.applied || progress.revision > told.revision;
            told.applied = told.applied.max(progress.applied);
            told.revision = told.revision.max(progress.revision);
            more
        });
        self.shown_waiters.release(progress.applied);
    }

    /// Whether answers wait for the remote center, as of what is applied.
    pub(crate) fn waits_for_remote(&self) -> bool {
        self.gated.load(Ordering::SeqCst)
    }

    pub(crate) fn commitment(&self) -> Arc<Commitment> {
        self.read().commitment.clone()
    }

    /// What holds, and the index of the last applied entry at the same moment.
    pub(crate) fn commitment_and_applied(&self) -> (Arc<Commitment>, u64) {
        let inner = self.read();
        (inner.commitment.clone(), progress_of(&inner).applied)
    }

    /// Log index of the last applied entry, shown or not.
    pub(crate) fn applied_index(&self) -> u64 {
        progress_of(&self.read()).applied
    }

    /// Log index of the last entry that may be shown.
    pub(crate) fn shown_index(&self) -> u64 {
        self.read().shown().applied
    }

    /// The highest safe index that a leader spoke of.
    pub(crate) fn heard_safe(&self) -> u64 {
        self.read().shown.heard
    }

    /// A leader says that all up to this index may be shown. It stays true whoever leads.
    pub(crate) fn hear_safe(&self, safe: u64) {
        let progress = {
            let mut inner = self.write();
            if safe <= inner.shown.heard {
                return;
            }
            inner.shown.heard = safe;
            inner.shown.advance();
            if !inner.waits_for_remote() {
                return;
            }
            inner.shown()
        };
        self.show(progress);
    }

    /// Returns when this index is shown.
    pub(crate) async fn until_shown(&self, index: u64) {
        let shown = {
            let mut waiters = self.shown_waiters.lock();
            // Whoever shows more tells it before it looks for those who wait.
            self.shown_waiters.count.fetch_add(1, Ordering::SeqCst);
            if self.progress.borrow().applied >= index {
                self.shown_waiters.count.fetch_sub(1, Ordering::SeqCst);
                return;
            }
            let (tx, rx) = oneshot::channel();
            let count = self.shown_waiters.count.load(Ordering::SeqCst);
            if count.is_multiple_of(MANY) {
                waiters.values_mut().for_each(|all| all.retain(|one| !one.is_closed()));
                waiters.retain(|_, all| !all.is_empty());
                let left: usize = waiters.values().map(Vec::len).sum();
                self.shown_waiters.count.store(left + 1, Ordering::SeqCst);
            }
            waiters.entry(index).or_default().push(tx);
            rx
        };
        if shown.await.is_err() {
            // Only with the state itself; nobody is left to be answered.
            std::future::pending().await
        }
    }

    /// Takes up a change of what answers wait for.
    pub(super) fn apply_commitment(
        &self,
        log_id: LogId,
        change: &CommitmentChange,
    ) -> Result<Reply, StateError> {
        if change.version != CHANGE_VERSION {
            let source = CodecError::Version { found: change.version };
            return Err(StateError::Decode { what: "a change of the commit mode", source });
        }
        let mut inner = self.write();
        let term = log_id.committed_leader_id().term;
        let changed = inner.commitment.changed_by(log_id.index, term, change).map(Arc::new);
        if let Some(changed) = &changed {
            if !inner.waits_for_remote() && changed.waits_for_remote() {
                // All before it was answered without waiting for anybody.
                let before = progress_of(&inner);
                let heard = inner.shown.heard;
                inner.shown = Shown { shown: before, heard, waiting: VecDeque::new() };
            } else if inner.waits_for_remote() && !changed.waits_for_remote() {
                inner.shown.waiting.clear();
            }
            self.gated.store(changed.waits_for_remote(), Ordering::SeqCst);
            inner.active.commitment = Some(changed.clone());
            inner.commitment = changed.clone();
        }
        inner.marks.applied = Some(log_id);
        inner.active.dirty = true;
        drop(inner);
        let took_effect = changed.is_some();
        if let Some(changed) = changed {
            self.measured.footing_changed(&changed);
            self.commitment_changed.send_replace(changed.changed);
        }
        Ok(Reply::Commitment { took_effect })
    }
}
