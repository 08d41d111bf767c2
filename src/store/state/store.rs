//! The state's one holder: layers, file and marks under one lock.
//!
//! Invariants: only the apply path adds to the active layer; only the holder of `flushing`
//! changes the frozen layer or the file; the lock is never held across disk work.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

use redb::{Database, ReadableTable};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use super::damage::DamageNote;
use super::disk_view::{DiskView, Marks, create_tables};
use super::layer::Layer;
use super::requests::{Answered, RequestMemory};
use super::shown::{Shown, ShownWaiters};
use super::timer::LeaseTimer;
use super::tokens::Tokens;
use super::{StateError, access};
use crate::logic::auth::AuthState;
use crate::logic::lease::{LeaseBook, LeaseRecord};
use crate::logic::membership::{Standing, standing};
use crate::logic::mvcc::Revisions;
use crate::model::kv::{Event, Revision};
use crate::model::lease::LeaseId;
use crate::store::admin_api::{Alarm, AlarmKind};
use crate::store::codec::decode;
use crate::store::commitment::Commitment;
use crate::store::disk::StoreDisk;
use crate::store::measured::Measured;
use crate::store::types::{LogId, StartNote, StoredMembership};

/// The state's file name on the member's disk.
pub(crate) const STATE_FILE: &str = "state.redb";
/// A received snapshot until it takes the state's place.
pub(super) const INCOMING_FILE: &str = "incoming.redb";
/// A copy of the state without unused pages until it takes the state's place.
pub(super) const COPY_FILE: &str = "compact.redb";
/// Pages of the state kept in memory, bytes.
pub(super) const CACHE_BYTES: usize = 64 * 1024 * 1024;
/// Revisions kept in memory for watchers that are nearly up to date.
const RECENT_REVISIONS: usize = crate::base::limits::WATCH_BUFFER_EVENTS;
/// Events of one revision beyond which it is left to the disk.
const RECENT_EVENTS: usize = 4_096;

/// How far the state is; what readers and watchers wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Log index of the last applied entry that may be shown.
    pub(crate) applied: u64,
    pub(crate) revision: Revision,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) marks: Marks,
    pub(super) active: Layer,
    pub(super) frozen: Option<Arc<Layer>>,
    pub(super) view: Arc<DiskView>,
    pub(super) db: Arc<Database>,
    pub(super) requests: RequestMemory,
    /// Of each member the newest start that the log knows of.
    pub(super) boots: BTreeMap<u64, StartNote>,
    pub(super) leases: LeaseBook,
    pub(super) auth: Arc<AuthState>,
    pub(super) alarms: BTreeSet<Alarm>,
    pub(super) commitment: Arc<Commitment>,
    /// Of use only while answers wait for the remote center.
    pub(super) shown: Shown,
}

/// All events of one revision.
#[derive(Debug)]
pub(crate) struct RevisionEvents {
    pub(crate) revision: Revision,
    pub(crate) events: Vec<Event>,
}

/// The replicated state of this member.
#[derive(Debug)]
pub(crate) struct StateStore {
    pub(super) disk: Arc<dyn StoreDisk>,
    pub(super) damage: DamageNote,
    pub(crate) measured: Measured,
    inner: RwLock<Inner>,
    recent: Mutex<VecDeque<Arc<RevisionEvents>>>,
    /// Counted now and then; `u64::MAX` until then.
    pub(super) used_bytes: AtomicU64,
    pub(super) flushing: tokio::sync::Mutex<()>,
    /// Held by who removes compacted rows, and by who must not have that happen.
    pub(super) trimming: tokio::sync::Mutex<()>,
    pub(super) wake_flusher: Notify,
    pub(super) progress: watch::Sender<Progress>,
    pub(super) shown_waiters: ShownWaiters,
    /// Whether answers wait for the remote center.
    pub(super) gated: AtomicBool,
    /// Log index of the newest change of what answers wait for.
    pub(super) commitment_changed: watch::Sender<u64>,
    /// What this member has removed of what was compacted.
    pub(super) trimmed: watch::Sender<Revision>,
    /// The leader's clock over the leases; told of everything that is applied.
    pub(crate) timer: LeaseTimer,
    pub(crate) tokens: Tokens,
}

const POISON: &str = "no holder of the state's lock panics";

impl StateStore {
    /// Opens or makes the state file and drops what an interrupted snapshot left.
    pub(crate) fn open(disk: Arc<dyn StoreDisk>) -> Result<Self, StateError> {
        for left_over in [INCOMING_FILE, COPY_FILE] {
            disk.remove(left_over)
                .map_err(|source| StateError::File { action: "remove", source })?;
        }
        let damage = DamageNote::new(disk.clone());
        let inner = load(&damage)?;
        let (progress, gated) = (inner.shown(), inner.waits_for_remote());
        let changed = inner.commitment.changed;
        let trimmed = inner.marks.trimmed;
        let measured = Measured::default();
        measured.remote_synchronous.set(i64::from(gated));
        Ok(Self {
            disk,
            damage,
            measured,
            inner: RwLock::new(inner),
            recent: Mutex::new(VecDeque::new()),
            used_bytes: AtomicU64::new(u64::MAX),
            flushing: tokio::sync::Mutex::new(()),
            trimming: tokio::sync::Mutex::new(()),
            wake_flusher: Notify::new(),
            progress: watch::Sender::new(progress),
            shown_waiters: ShownWaiters::default(),
            gated: AtomicBool::new(gated),
            commitment_changed: watch::Sender::new(changed),
            trimmed: watch::Sender::new(trimmed),
            timer: LeaseTimer::new(),
            tokens: Tokens::default(),
        })
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().expect(POISON)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().expect(POISON)
    }

    pub(super) fn recent(&self) -> MutexGuard<'_, VecDeque<Arc<RevisionEvents>>> {
        self.recent.lock().expect(POISON)
    }

    /// Keeps a revision's events for watchers; called in order of revisions.
    pub(super) fn push_recent(&self, revision: Revision, events: Vec<Event>) {
        let mut recent = self.recent();
        if events.len() > RECENT_EVENTS {
            // A hole would be a lie; watchers take this span from the disk.
            recent.clear();
            return;
        }
        recent.push_back(Arc::new(RevisionEvents { revision, events }));
        if recent.len() > RECENT_REVISIONS {
            recent.pop_front();
        }
    }

    /// Follows what is applied and may be shown.
    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// The newest revision that may be shown, and the compacted one.
    pub(crate) fn revisions(&self) -> Revisions {
        let inner = self.read();
        Revisions { current: inner.shown().revision, ..inner.revisions() }
    }

    /// Follows the newest change of what answers wait for, by its log index.
    pub(crate) fn commitment_changed(&self) -> watch::Receiver<u64> {
        self.commitment_changed.subscribe()
    }

    pub(crate) fn applied(&self) -> (Option<LogId>, StoredMembership) {
        let inner = self.read();
        (inner.marks.applied, inner.marks.membership.clone())
    }

    /// The newest start of a member that the log knows of.
    pub(crate) fn remembered_start(&self, member: u64) -> Option<StartNote> {
        self.read().boots.get(&member).copied()
    }

    /// Whether a member took part once and was removed since, by all that is applied. An
    /// id is noted only after it was added, so a member that is still being added never
    /// looks removed.
    pub(crate) fn is_removed(&self, member: u64) -> bool {
        let inner = self.read();
        let noted = inner.boots.contains_key(&member);
        let listed = inner.marks.membership.membership().get_node(&member).is_some();
        standing(noted, listed) == Standing::Removed
    }

    /// What this member has removed of what was compacted.
    pub(crate) fn trimmed(&self) -> watch::Receiver<Revision> {
        self.trimmed.subscribe()
    }

    /// Users and roles as of what is applied.
    pub(crate) fn auth(&self) -> Arc<AuthState> {
        self.read().auth.clone()
    }

    /// Bytes of the state file that hold something, as of when they were last counted.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// The alarms that stand.
    pub(crate) fn alarms(&self) -> BTreeSet<Alarm> {
        self.read().alarms.clone()
    }

    /// The members whose alarm about space stands.
    pub(crate) fn short_of_space(&self) -> BTreeSet<u64> {
        let inner = self.read();
        let short = inner.alarms.iter().filter(|alarm| alarm.kind == AlarmKind::NoSpace);
        short.map(|alarm| alarm.member.0).collect()
    }

    pub(crate) fn lease(&self, id: LeaseId) -> Option<LeaseRecord> {
        self.read().leases.get(id)
    }

    pub(crate) fn lease_ids(&self) -> Vec<LeaseId> {
        self.read().leases.iter().map(|(id, _)| id).collect()
    }

    /// Starts the leader's clock with all that is applied.
    pub(crate) fn promote_timer(&self, term: u64) {
        let inner = self.read();
        self.timer.promote(term, &inner.leases);
    }
}

impl Inner {
    pub(super) fn revisions(&self) -> Revisions {
        Revisions { current: self.marks.revision, compacted: self.marks.compacted }
    }
}

pub(super) fn progress_of(inner: &Inner) -> Progress {
    applied_by(&inner.marks)
}

fn applied_by(marks: &Marks) -> Progress {
    Progress { applied: marks.applied.map_or(0, |applied| applied.index), revision: marks.revision }
}

/// Opens the state file and reads what is kept in memory.
pub(super) fn load(damage: &DamageNote) -> Result<Inner, StateError> {
    let db = Arc::new(damage.open_state()?);
    let view = match DiskView::open(&db) {
        // Only then: a member whose disk is full must start without room for it.
        Err(StateError::Access { source: redb::Error::TableDoesNotExist(_), .. }) => {
            let mut txn = db.begin_write().map_err(access("begin a write to"))?;
            txn.set_quick_repair(true);
            create_tables(&txn)?;
            txn.commit().map_err(access("commit to"))?;
            DiskView::open(&db)?
        }
        opened => opened?,
    };
    let marks = view.marks()?;
    let mut answered: Vec<(u64, Answered)> = Vec::new();
    for row in view.requests.iter().map_err(access("read"))? {
        let (_, bytes) = row.map_err(access("read"))?;
        let span: Vec<(u64, Answered)> = decode(bytes.value())
            .map_err(|source| StateError::Decode { what: "requests", source })?;
        // Of the oldest row only a part may be remembered.
        answered.extend(span.into_iter().filter(|(index, _)| *index > marks.forgotten));
    }
    let mut boots = BTreeMap::new();
    for row in view.boots.iter().map_err(access("read"))? {
        let (member, bytes) = row.map_err(access("read"))?;
        let record = decode(bytes.value())
            .map_err(|source| StateError::Decode { what: "a boot count", source })?;
        boots.insert(member.value(), record);
    }
    let mut leases = Vec::new();
    for row in view.leases.iter().map_err(access("read"))? {
        let (id, bytes) = row.map_err(access("read"))?;
        let record: LeaseRecord = decode(bytes.value())
            .map_err(|source| StateError::Decode { what: "a lease", source })?;
        leases.push((id.value(), record));
    }
    let auth: Option<AuthState> = view.mark("auth")?;
    let alarms: Option<BTreeSet<Alarm>> = view.mark("alarms")?;
    let requests = RequestMemory::load(answered, marks.forgotten);
    let commitment: Option<Commitment> = view.mark("commitment")?;
    let shown = Shown::load(marks.shown, applied_by(&marks));
    let mut inner = Inner {
        marks,
        active: Layer::default(),
        frozen: None,
        view: Arc::new(view),
        db,
        requests,
        boots,
        leases: LeaseBook::load(leases),
        auth: Arc::new(auth.unwrap_or_default()),
        alarms: alarms.unwrap_or_default(),
        commitment: Arc::new(commitment.unwrap_or_default()),
        shown,
    };
    inner.show_revision(inner.marks.compacted);
    Ok(inner)
}
