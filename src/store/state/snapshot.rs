//! A snapshot on its way: rows read from a view, rows written to a file beside the state.
//!
//! ```text
//!  sender: view ──rows──► messages ──rows──► receiver: incoming.redb ──rename──► state.redb
//! ```
//!
//! Invariants: the rows are of one moment; the file takes the state's place in one step
//! and only when it is complete and durable; a crash before that leaves the old state.

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use redb::{Database, ReadableTable};
use serde::{Deserialize, Serialize};

use super::damage::is_told_by_its_error;
use super::disk_view::{
    ATTACHED, BOOTS, CHANGES, CURRENT, DiskView, HISTORY, LEASES, META, REQUESTS, create_tables,
};
use super::flush::begin;
use super::store::{CACHE_BYTES, INCOMING_FILE, STATE_FILE, StateStore, load};
use super::{StateError, access};
use crate::model::kv::Revision;
use crate::store::disk::{StoreDisk, open_database, run_on};
use crate::store::types::LogId;

/// A snapshot as Raft hands it about.
pub(crate) enum SnapshotData {
    /// Ours, to be sent.
    View(Arc<DiskView>),
    /// Another's, complete and ready to take the state's place.
    Incoming(Incoming),
}

impl std::fmt::Debug for SnapshotData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            SnapshotData::View(_) => "SnapshotData::View",
            SnapshotData::Incoming(_) => "SnapshotData::Incoming",
        })
    }
}

/// One row of one table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Row {
    Meta(String, Vec<u8>),
    Boot(u64, Vec<u8>),
    Request(u64, Vec<u8>),
    Current(Vec<u8>, Vec<u8>),
    History(Vec<u8>, Revision, Vec<u8>),
    Change(Revision, u32, Vec<u8>),
    Lease(i64, Vec<u8>),
    Attached(i64, Vec<u8>),
}

impl Row {
    fn bytes(&self) -> usize {
        32 + match self {
            Row::Meta(key, value) => key.len() + value.len(),
            Row::Boot(_, value)
            | Row::Request(_, value)
            | Row::Change(_, _, value)
            | Row::Lease(_, value)
            | Row::Attached(_, value) => value.len(),
            Row::Current(key, value) | Row::History(key, _, value) => key.len() + value.len(),
        }
    }
}

/// Gathers rows until the message is full.
struct Page {
    rows: Vec<Row>,
    room: usize,
}

impl Page {
    fn push(&mut self, row: Row) -> bool {
        self.room = self.room.saturating_sub(row.bytes());
        self.rows.push(row);
        self.room > 0
    }
}

/// Up to about `bytes` of rows after `after`; empty when there are no more.
pub(crate) fn rows_after(
    view: &DiskView,
    after: Option<&Row>,
    bytes: usize,
) -> Result<Vec<Row>, StateError> {
    let mut page = Page { rows: Vec::new(), room: bytes };
    let _full = fill(view, after, &mut page)?;
    Ok(page.rows)
}

/// Walks the tables in the order of `Row`'s variants, starting behind `after`.
fn fill(view: &DiskView, after: Option<&Row>, page: &mut Page) -> Result<bool, StateError> {
    let stage = match after {
        None | Some(Row::Meta(..)) => 0,
        Some(Row::Boot(..)) => 1,
        Some(Row::Request(..)) => 2,
        Some(Row::Current(..)) => 3,
        Some(Row::History(..)) => 4,
        Some(Row::Change(..)) => 5,
        Some(Row::Lease(..)) => 6,
        Some(Row::Attached(..)) => 7,
    };
    if stage == 0 {
        // `trimmed` goes along: the rows are those of the same moment.
        for row in view.meta.iter().map_err(access("read"))? {
            let (key, value) = row.map_err(access("read"))?;
            let done = matches!(after, Some(Row::Meta(last, _)) if key.value() <= last.as_str());
            if !done && !page.push(Row::Meta(key.value().to_owned(), value.value().to_vec())) {
                return Ok(true);
            }
        }
    }
    if stage <= 1 {
        let from = if let Some(Row::Boot(last, _)) = after { last + 1 } else { 0 };
        for row in view.boots.range(from..).map_err(access("read"))? {
            let (key, value) = row.map_err(access("read"))?;
            if !page.push(Row::Boot(key.value(), value.value().to_vec())) {
                return Ok(true);
            }
        }
    }
    if stage <= 2 {
        let from = if let Some(Row::Request(last, _)) = after { last + 1 } else { 0 };
        for row in view.requests.range(from..).map_err(access("read"))? {
            let (key, value) = row.map_err(access("read"))?;
            if !page.push(Row::Request(key.value(), value.value().to_vec())) {
                return Ok(true);
            }
        }
    }
    if stage <= 3 && fill_current(view, after, page)? {
        return Ok(true);
    }
    if stage <= 4 && fill_history(view, after, page)? {
        return Ok(true);
    }
    if stage <= 5 {
        let from = if let Some(Row::Change(revision, number, _)) = after {
            (*revision, number + 1)
        } else {
            (0, 0)
        };
        for row in view.changes.range(from..).map_err(access("read"))? {
            let (id, key) = row.map_err(access("read"))?;
            let (revision, number) = id.value();
            if !page.push(Row::Change(revision, number, key.value().to_vec())) {
                return Ok(true);
            }
        }
    }
    fill_leases(view, after, page)
}

fn fill_leases(view: &DiskView, after: Option<&Row>, page: &mut Page) -> Result<bool, StateError> {
    if !matches!(after, Some(Row::Attached(..))) {
        let last = if let Some(Row::Lease(last, _)) = after { Some(*last) } else { None };
        let rows = match last {
            Some(last) => view.leases.range((Bound::Excluded(last), Bound::Unbounded)),
            None => view.leases.range::<i64>(..),
        };
        for row in rows.map_err(access("read"))? {
            let (id, value) = row.map_err(access("read"))?;
            if !page.push(Row::Lease(id.value(), value.value().to_vec())) {
                return Ok(true);
            }
        }
    }
    let from = if let Some(Row::Attached(id, key)) = after {
        // The smallest key after another is that key and a zero byte.
        (*id, [&key[..], &[0]].concat())
    } else {
        (i64::MIN, Vec::new())
    };
    for row in view.attached.range((from.0, &from.1[..])..).map_err(access("read"))? {
        let (id, _) = row.map_err(access("read"))?;
        let (id, key) = id.value();
        if !page.push(Row::Attached(id, key.to_vec())) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn fill_current(view: &DiskView, after: Option<&Row>, page: &mut Page) -> Result<bool, StateError> {
    // The smallest key after another is that key and a zero byte.
    let from = if let Some(Row::Current(last, _)) = after {
        [&last[..], &[0]].concat()
    } else {
        Vec::new()
    };
    for row in view.current.range(&from[..]..).map_err(access("read"))? {
        let (key, value) = row.map_err(access("read"))?;
        if !page.push(Row::Current(key.value().to_vec(), value.value().to_vec())) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn fill_history(view: &DiskView, after: Option<&Row>, page: &mut Page) -> Result<bool, StateError> {
    let (key, revision) = if let Some(Row::History(key, revision, _)) = after {
        (&key[..], revision + 1)
    } else {
        (&[][..], 0)
    };
    for row in view.history.range((key, revision)..).map_err(access("read"))? {
        let (id, value) = row.map_err(access("read"))?;
        let (key, revision) = id.value();
        if !page.push(Row::History(key.to_vec(), revision, value.value().to_vec())) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A snapshot that is being received, in a file of its own.
#[derive(Debug)]
pub(crate) struct Incoming {
    db: Arc<Database>,
}

impl Incoming {
    /// Starts a new one; an older unfinished one is dropped.
    pub(crate) async fn begin(disk: Arc<dyn StoreDisk>) -> Result<Self, StateError> {
        let of = disk.clone();
        let db = run_on(&*disk, move || {
            of.remove(INCOMING_FILE)
                .map_err(|source| StateError::File { action: "remove", source })?;
            let db = open_database(&*of, INCOMING_FILE, CACHE_BYTES, is_told_by_its_error())
                .map_err(StateError::Open)?;
            let txn = begin(&db)?;
            create_tables(&txn)?;
            txn.commit().map_err(access("commit to"))?;
            Ok::<_, StateError>(db)
        })
        .await
        .map_err(|source| StateError::File { action: "make", source })??;
        Ok(Self { db: Arc::new(db) })
    }

    /// Writes rows, durably; writing the same rows again changes nothing.
    pub(crate) async fn add(&self, disk: &dyn StoreDisk, rows: Vec<Row>) -> Result<(), StateError> {
        let db = self.db.clone();
        run_on(disk, move || write_rows(&db, &rows))
            .await
            .map_err(|source| StateError::File { action: "write", source })?
    }
}

impl Incoming {
    /// Puts it in the place of a state that is not open, complete and durable.
    pub(crate) async fn replace_state(
        self,
        disk: &Arc<dyn StoreDisk>,
        expected: LogId,
    ) -> Result<(), StateError> {
        let of = disk.clone();
        let work = move || self.take_place(&*of, Some(expected));
        run_on(&**disk, work)
            .await
            .map_err(|source| StateError::File { action: "replace", source })?
    }

    fn take_place(self, disk: &dyn StoreDisk, expected: Option<LogId>) -> Result<(), StateError> {
        let found = DiskView::open(&self.db)?.marks()?.applied;
        if found != expected {
            let reason = format!("it holds {found:?}, announced was {expected:?}");
            return Err(StateError::Snapshot { reason });
        }
        drop(self);
        disk.rename(INCOMING_FILE, STATE_FILE)
            .map_err(|source| StateError::File { action: "replace", source })
    }
}

pub(super) fn write_rows(db: &Database, rows: &[Row]) -> Result<(), StateError> {
    let txn = begin(db)?;
    {
        let mut meta = txn.open_table(META).map_err(access("open a table of"))?;
        let mut boots = txn.open_table(BOOTS).map_err(access("open a table of"))?;
        let mut requests = txn.open_table(REQUESTS).map_err(access("open a table of"))?;
        let mut current = txn.open_table(CURRENT).map_err(access("open a table of"))?;
        let mut history = txn.open_table(HISTORY).map_err(access("open a table of"))?;
        let mut changes = txn.open_table(CHANGES).map_err(access("open a table of"))?;
        let mut leases = txn.open_table(LEASES).map_err(access("open a table of"))?;
        let mut attached = txn.open_table(ATTACHED).map_err(access("open a table of"))?;
        for row in rows {
            match row {
                Row::Lease(id, value) => leases.insert(id, &value[..]).map(drop),
                Row::Attached(id, key) => attached.insert((*id, &key[..]), ()).map(drop),
                Row::Meta(key, value) => meta.insert(&key[..], &value[..]).map(drop),
                Row::Boot(key, value) => boots.insert(key, &value[..]).map(drop),
                Row::Request(key, value) => requests.insert(key, &value[..]).map(drop),
                Row::Current(key, value) => current.insert(&key[..], &value[..]).map(drop),
                Row::History(key, revision, value) => {
                    history.insert((&key[..], *revision), &value[..]).map(drop)
                }
                Row::Change(revision, number, key) => {
                    changes.insert((*revision, *number), &key[..]).map(drop)
                }
            }
            .map_err(access("write"))?;
        }
    }
    txn.commit().map_err(access("commit to"))
}

impl StateStore {
    /// Puts a complete snapshot in the state's place, on disk and in memory.
    pub(super) async fn install(
        &self,
        expected: Option<LogId>,
        incoming: Incoming,
    ) -> Result<(), StateError> {
        let _trimming = self.trimming.lock().await;
        let _flushing = self.flushing.lock().await;
        let (disk, damage) = (self.disk.clone(), self.damage.clone());
        let fresh = self
            .disk_work(move || {
                incoming.take_place(&*disk, expected)?;
                load(&damage)
            })
            .await?;
        self.trimmed.send_replace(fresh.marks.trimmed);
        let changed = {
            let mut inner = self.write();
            let mut fresh = fresh;
            fresh.inherit(&inner);
            self.gated.store(fresh.waits_for_remote(), Ordering::SeqCst);
            *inner = fresh;
            inner.commitment.clone()
        };
        self.measured.footing_changed(&changed);
        self.commitment_changed.send_replace(changed.changed);
        self.recent().clear();
        self.tokens.clear();
        self.timer.demote();
        self.publish();
        Ok(())
    }

    /// The state file at this moment.
    pub(crate) fn view(&self) -> Arc<DiskView> {
        self.read().view.clone()
    }

    pub(super) fn unflushed_bytes(&self) -> usize {
        self.read().active.bytes
    }
}
