//! Gives unused space of the state file back: a copy beside it takes its place.
//!
//! ```text
//!  1. copy a view, page by page          flushes go on into the old file; trimming waits
//!  2. copy what changed since, again until that is little
//!  3. holding flushes: copy the last of it, and the small tables anew
//!  4. rename, reopen                     readers of the old file keep it until they end
//! ```
//!
//! Why a copy: redb compacts in place only without readers. Writers are held up only by
//! the disk, which is why the copy rests after each page, and by memory filling while step
//! 3 holds flushes.
//! Invariants: as for a snapshot, the file takes the state's place in one step, complete
//! and durable; a crash before leaves the old one.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use redb::Database;
use tokio::time::Instant;

use super::damage::is_told_by_its_error;
use super::disk_view::{
    ATTACHED, CHANGES, CURRENT, DiskView, HISTORY, LEASES, REQUESTS, create_tables, mod_revision,
};
use super::flush::begin;
use super::snapshot::{Row, rows_after, write_rows};
use super::store::{CACHE_BYTES, COPY_FILE, STATE_FILE, StateStore};
use super::{StateError, access};
use crate::model::kv::Revision;
use crate::store::disk::{StoreDisk, open_database};

/// Rows copied in one transaction, bytes: the log's next sync waits for at most this much.
const PAGE_BYTES: usize = 1024 * 1024;
/// Revisions that may be left for when flushes are held.
const FEW_REVISIONS: Revision = 2_000;
/// Rounds of catching up; where writers are as fast as the copy, more would not help.
const ROUNDS: usize = 8;

impl StateStore {
    /// Rewrites the state file without its unused pages.
    pub(crate) async fn defragment(&self) -> Result<(), StateError> {
        let _trimming = self.trimming.lock().await;
        self.flush().await?;
        let disk = self.disk.clone();
        let mut copy = self.disk_work(move || StateCopy::begin(&*disk)).await?;
        let view = self.view();
        let mut after: Option<Row> = None;
        loop {
            let of = view.clone();
            let began = Instant::now();
            let page = self.disk_work(move || copy.page(&of, after)).await?;
            (copy, after) = page;
            if after.is_none() {
                break;
            }
            // Half of the disk's time is the writers'.
            tokio::time::sleep(began.elapsed()).await;
        }
        copy.upto = view.marks()?.revision;
        for _ in 0..ROUNDS {
            let view = self.view();
            if view.marks()?.revision - copy.upto < FEW_REVISIONS {
                break;
            }
            copy = self.disk_work(move || copy.changes(&view)).await?;
        }
        let _flushing = self.flushing.lock().await;
        let (view, disk, damage) = (self.view(), self.disk.clone(), self.damage.clone());
        let work = move || {
            copy.changes(&view)?.finish(&view)?;
            disk.rename(COPY_FILE, STATE_FILE)
                .map_err(|source| StateError::File { action: "replace", source })?;
            let db = Arc::new(damage.open_state()?);
            let view = DiskView::open(&db)?;
            Ok((db, view))
        };
        let (db, view) = self.disk_work(work).await?;
        // All of the new file is in use.
        self.used_bytes.store(u64::MAX, Ordering::Relaxed);
        let old = {
            let mut inner = self.write();
            let view = std::mem::replace(&mut inner.view, Arc::new(view));
            (std::mem::replace(&mut inner.db, db), view)
        };
        // Closing the old file gives its space back, which takes its time.
        self.disk_work(move || {
            drop(old);
            Ok(())
        })
        .await
    }
}

/// The file that is to take the state's place.
struct StateCopy {
    db: Database,
    /// It has all that is current and every change up to here.
    upto: Revision,
}

impl StateCopy {
    fn begin(disk: &dyn StoreDisk) -> Result<Self, StateError> {
        disk.remove(COPY_FILE).map_err(|source| StateError::File { action: "remove", source })?;
        let db = open_database(disk, COPY_FILE, CACHE_BYTES, is_told_by_its_error())
            .map_err(StateError::Open)?;
        let txn = begin(&db)?;
        create_tables(&txn)?;
        txn.commit().map_err(access("commit to"))?;
        Ok(Self { db, upto: 0 })
    }

    /// Copies the rows that follow `after`; says which was the last, if any was.
    fn page(self, view: &DiskView, after: Option<Row>) -> Result<(Self, Option<Row>), StateError> {
        let rows = rows_after(view, after.as_ref(), PAGE_BYTES)?;
        let last = rows.last().cloned();
        if last.is_some() {
            write_rows(&self.db, &rows)?;
        }
        Ok((self, last))
    }

    /// Brings all that is kept by revision to the view's moment.
    fn changes(mut self, view: &DiskView) -> Result<Self, StateError> {
        copy_changes(&self.db, view, self.upto)?;
        self.upto = view.marks()?.revision;
        Ok(self)
    }

    /// Brings all else to the view's moment, and closes the file.
    fn finish(self, view: &DiskView) -> Result<(), StateError> {
        copy_small_tables(&self.db, view)
    }
}

fn copy_changes(db: &Database, view: &DiskView, upto: Revision) -> Result<(), StateError> {
    let txn = begin(db)?;
    {
        let mut changes = txn.open_table(CHANGES).map_err(access("open a table of"))?;
        let mut history = txn.open_table(HISTORY).map_err(access("open a table of"))?;
        let mut current = txn.open_table(CURRENT).map_err(access("open a table of"))?;
        for row in view.changes.range((upto + 1, 0)..).map_err(access("read"))? {
            let (id, key) = row.map_err(access("read"))?;
            let (revision, number) = id.value();
            let key = key.value();
            changes.insert((revision, number), key).map_err(access("write"))?;
            let before = match view.current.get(key).map_err(access("read"))? {
                Some(record) => current.insert(key, record.value()),
                None => current.remove(key),
            };
            let before = before.map_err(access("write"))?;
            // What the copy had as current may have been superseded since.
            let before = before.map(|record| mod_revision(record.value())).transpose()?;
            for revision in before.into_iter().chain([revision]) {
                if let Some(record) = view.history.get((key, revision)).map_err(access("read"))? {
                    history.insert((key, revision), record.value()).map_err(access("write"))?;
                }
            }
        }
    }
    txn.commit().map_err(access("commit to"))
}

fn copy_small_tables(db: &Database, view: &DiskView) -> Result<(), StateError> {
    let txn = begin(db)?;
    {
        let mut requests = txn.open_table(REQUESTS).map_err(access("open a table of"))?;
        let mut leases = txn.open_table(LEASES).map_err(access("open a table of"))?;
        let mut attached = txn.open_table(ATTACHED).map_err(access("open a table of"))?;
        requests.retain(|_, _| false).map_err(access("write"))?;
        leases.retain(|_, _| false).map_err(access("write"))?;
        attached.retain(|_, ()| false).map_err(access("write"))?;
    }
    txn.commit().map_err(access("commit to"))?;
    // The tables that are small or were just emptied; the others have been copied.
    let skip_to_leases = Row::Change(Revision::MAX, u32::MAX - 1, Vec::new());
    for start in [None, Some(skip_to_leases)] {
        let mut after = start;
        loop {
            let mut rows = rows_after(view, after.as_ref(), PAGE_BYTES)?;
            let last = rows.last().cloned();
            rows.retain(|row| {
                !matches!(row, Row::Current(..) | Row::History(..) | Row::Change(..))
            });
            let done = matches!(last, None | Some(Row::Current(..) | Row::History(..)));
            write_rows(db, &rows)?;
            if done {
                break;
            }
            after = last;
        }
    }
    Ok(())
}
