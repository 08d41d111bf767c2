//! Moves applied changes to the state file, and trims what compaction gave up.
//!
//! Why bounded: a flush competes with the log's fsync for the disk, so it takes what has
//! gathered since the last one and no more than [`LAYER_BYTES`].
//! Invariants: `applied` is in the transaction of what was applied; a failed flush leaves
//! the layer readable and is final: the member stops.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redb::{Database, ReadableTable, WriteTransaction};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::disk_view::{
    ATTACHED, BOOTS, CHANGES, CURRENT, DiskView, HISTORY, LEASES, META, Marks, REQUESTS,
};
use super::disk_view::{decode_record, encode_kv, mod_revision};
use super::layer::Layer;
use super::store::StateStore;
use super::{StateError, access};
use crate::model::kv::Revision;
use crate::store::codec::encode;
use crate::store::disk::run_on;

/// How often what has gathered is looked at.
const FLUSH_EVERY: Duration = Duration::from_millis(500);
/// How long a change may stay in memory only.
const FLUSH_LATEST: Duration = Duration::from_secs(5);
/// Changes that are worth a flush before that, bytes: a few are flushed at the price of
/// many, and writers feel each flush.
const FLUSH_WORTH_BYTES: usize = 1024 * 1024;
/// Changes that make a flush due at once, bytes.
pub(super) const LAYER_BYTES: usize = 4 * 1024 * 1024;
/// Changes beyond which applying waits for the flush, bytes.
pub(super) const LAYER_MAX_BYTES: usize = 32 * 1024 * 1024;
/// Answered requests in one row.
const REQUESTS_IN_ROW: usize = 1_024;
/// Changes that one trim transaction looks at.
const TRIM_ROWS: usize = 2_000;

impl StateStore {
    /// Flushes from time to time until cancelled; an error is fatal to the member.
    pub(crate) async fn run_flusher(&self, cancel: CancellationToken) -> Result<(), StateError> {
        let mut flushed = Instant::now();
        loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(()),
                () = self.wake_flusher.notified() => {}
                () = tokio::time::sleep(FLUSH_EVERY) => {
                    let few = self.unflushed_bytes() < FLUSH_WORTH_BYTES;
                    if few && flushed.elapsed() < FLUSH_LATEST {
                        continue;
                    }
                }
            }
            self.flush().await?;
            flushed = Instant::now();
            let before = *self.trimmed.borrow();
            while self.trim().await? {
                if cancel.is_cancelled() {
                    return Ok(());
                }
            }
            if *self.trimmed.borrow() != before {
                self.count_used().await?;
            }
        }
    }

    /// Makes all that is applied durable in the state file.
    pub(crate) async fn flush(&self) -> Result<(), StateError> {
        let _flushing = self.flushing.lock().await;
        let (layer, marks, db) = {
            let mut inner = self.write();
            if inner.frozen.is_some() {
                return Err(StateError::Snapshot { reason: "an earlier flush failed".into() });
            }
            if !inner.active.dirty {
                return Ok(());
            }
            let layer = Arc::new(std::mem::take(&mut inner.active));
            inner.frozen = Some(layer.clone());
            inner.marks.shown = inner.shown();
            (layer, inner.marks.clone(), inner.db.clone())
        };
        let took = self.measured.state_commit.clone();
        let work = move || {
            let since = std::time::Instant::now();
            write_layer(&db, &layer, &marks)?;
            took.observe(since.elapsed().as_secs_f64());
            DiskView::open(&db)
        };
        let view = self.disk_work(work).await?;
        // Whoever drops the last of a view or a layer does so without the lock.
        let _old = {
            let mut inner = self.write();
            let layer = inner.frozen.take();
            (layer, std::mem::replace(&mut inner.view, Arc::new(view)))
        };
        Ok(())
    }

    /// Removes some of what compaction gave up; says whether there is more.
    pub(super) async fn trim(&self) -> Result<bool, StateError> {
        // While the file is being copied nothing is removed from it.
        let Ok(_trimming) = self.trimming.try_lock() else { return Ok(false) };
        let _flushing = self.flushing.lock().await;
        let (db, view) = {
            let inner = self.read();
            if inner.marks.trimmed >= inner.marks.compacted {
                return Ok(false);
            }
            (inner.db.clone(), inner.view.clone())
        };
        let work = move || {
            // What the file says is compacted is in the file, and only that is trimmed.
            let marks = view.marks()?;
            let upto = marks.compacted;
            let trimmed = trim_rows(&db, marks.trimmed, upto)?;
            Ok((trimmed, upto, DiskView::open(&db)?))
        };
        let (trimmed, upto, view) = self.disk_work(work).await?;
        let mut inner = self.write();
        inner.marks.trimmed = trimmed;
        inner.view = Arc::new(view);
        drop(inner);
        self.trimmed.send_replace(trimmed);
        Ok(trimmed < upto)
    }

    /// Counts what of the file is in use; worth a walk only after something was removed.
    async fn count_used(&self) -> Result<(), StateError> {
        let view = self.view();
        let used = self.disk_work(move || view.used_bytes()).await?;
        self.used_bytes.store(used, Ordering::Relaxed);
        Ok(())
    }

    pub(super) async fn disk_work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, StateError> + Send + 'static,
    ) -> Result<T, StateError> {
        run_on(&*self.disk, work)
            .await
            .map_err(|source| StateError::File { action: "work on", source })?
    }
}

/// A write transaction whose file opens again without a walk through all of it.
pub(super) fn begin(db: &Database) -> Result<WriteTransaction, StateError> {
    let mut txn = db.begin_write().map_err(access("begin a write to"))?;
    txn.set_quick_repair(true);
    Ok(txn)
}

fn write_layer(db: &Database, layer: &Layer, marks: &Marks) -> Result<(), StateError> {
    let txn = begin(db)?;
    {
        write_records(&txn, layer)?;
        let mut changes = txn.open_table(CHANGES).map_err(access("open a table of"))?;
        for (revision, keys) in &layer.changes {
            for (number, key) in (0_u32..).zip(keys) {
                changes.insert((*revision, number), &key[..]).map_err(access("write"))?;
            }
        }
        let mut requests = txn.open_table(REQUESTS).map_err(access("open a table of"))?;
        requests.retain_in(..=marks.forgotten, |_, _| false).map_err(access("write"))?;
        let answered: Vec<_> = layer.requests.range(marks.forgotten + 1..).collect();
        for span in answered.chunks(REQUESTS_IN_ROW) {
            let last = span.last().map_or(0, |(index, _)| **index);
            requests.insert(last, &encode(&span)[..]).map_err(access("write"))?;
        }
        let mut boots = txn.open_table(BOOTS).map_err(access("open a table of"))?;
        for (member, boot) in &layer.boots {
            boots.insert(member, &encode(boot)[..]).map_err(access("write"))?;
        }
    }
    write_layer_rest(&txn, layer)?;
    marks.write(&txn)?;
    txn.commit().map_err(access("commit to"))
}

/// Puts the newest record of each key in its place and what they supersede into the
/// history. Keys come in order, so that both trees are walked once.
fn write_records(txn: &WriteTransaction, layer: &Layer) -> Result<(), StateError> {
    let mut current = txn.open_table(CURRENT).map_err(access("open a table of"))?;
    let mut history = txn.open_table(HISTORY).map_err(access("open a table of"))?;
    let mut records = layer.history.iter().peekable();
    while let Some(((key, revision), record)) = records.next() {
        let mut newest = (*revision, record);
        while let Some(((_, later), newer)) = records.next_if(|((next, _), _)| next == key) {
            let (revision, record) = std::mem::replace(&mut newest, (*later, newer));
            let bytes = encode_kv(&record.kv, record.number);
            history.insert((&key[..], revision), &bytes[..]).map_err(access("write"))?;
        }
        let (revision, record) = newest;
        let (bytes, lives) = (encode_kv(&record.kv, record.number), record.kv.version > 0);
        let before = if lives {
            current.insert(&key[..], &bytes[..])
        } else {
            history.insert((&key[..], revision), &bytes[..]).map_err(access("write"))?;
            current.remove(&key[..])
        };
        if let Some(before) = before.map_err(access("write"))? {
            let id = (&key[..], mod_revision(before.value())?);
            history.insert(id, before.value()).map_err(access("write"))?;
        }
    }
    Ok(())
}

/// Leases with their keys, users and alarms.
fn write_layer_rest(txn: &WriteTransaction, layer: &Layer) -> Result<(), StateError> {
    let mut leases = txn.open_table(LEASES).map_err(access("open a table of"))?;
    for (id, record) in &layer.leases {
        match record {
            Some(record) => leases.insert(id, &encode(record)[..]).map(drop),
            None => leases.remove(id).map(drop),
        }
        .map_err(access("write"))?;
    }
    let mut attached = txn.open_table(ATTACHED).map_err(access("open a table of"))?;
    for ((id, key), is_attached) in &layer.lease_keys {
        if *is_attached {
            attached.insert((*id, &key[..]), ()).map(drop)
        } else {
            attached.remove((*id, &key[..])).map(drop)
        }
        .map_err(access("write"))?;
    }
    let mut meta = txn.open_table(META).map_err(access("open a table of"))?;
    if let Some(auth) = &layer.auth {
        meta.insert("auth", &encode(&**auth)[..]).map_err(access("write"))?;
    }
    if let Some(alarms) = &layer.alarms {
        meta.insert("alarms", &encode(alarms)[..]).map_err(access("write"))?;
    }
    if let Some(commitment) = &layer.commitment {
        meta.insert("commitment", &encode(&**commitment)[..]).map_err(access("write"))?;
    }
    Ok(())
}

/// Removes superseded history up to `upto`, in bounded steps; says how far it came.
///
/// A record that stays, because it is its key's newest up to `upto`, keeps its change, so
/// the order of all that is kept is known. Changes of `upto` itself stay whole, because a
/// watch may still start there. What a current record is newer than stands in the history,
/// and so does a deletion: the current records are not looked at.
fn trim_rows(db: &Database, from: Revision, upto: Revision) -> Result<Revision, StateError> {
    let txn = begin(db)?;
    let mut reached = upto;
    {
        let mut changes = txn.open_table(CHANGES).map_err(access("open a table of"))?;
        let mut history = txn.open_table(HISTORY).map_err(access("open a table of"))?;
        let mut rows: Vec<(Revision, u32, Vec<u8>)> = Vec::new();
        for row in changes.range((from, 0)..=(upto, u32::MAX)).map_err(access("read"))? {
            let (id, key) = row.map_err(access("read"))?;
            let (revision, number) = id.value();
            let last = rows.last().map_or(revision, |(last, ..)| *last);
            // Stop between two revisions; the next step begins with the one left over.
            if rows.len() >= TRIM_ROWS && revision != last && last > from && revision < upto {
                reached = revision;
                break;
            }
            rows.push((revision, number, key.value().to_vec()));
        }
        for (revision, number, key) in rows {
            let key = &key[..];
            let mut gone = Vec::new();
            for row in history.range((key, 0)..(key, revision)).map_err(access("read"))? {
                let (id, record) = row.map_err(access("read"))?;
                gone.push((id.value().1, decode_record(key, record.value())?.number));
            }
            for (old, number) in gone {
                history.remove((key, old)).map_err(access("trim"))?;
                changes.remove((old, number)).map_err(access("trim"))?;
            }
            let deleted = match history.get((key, revision)).map_err(access("read"))? {
                Some(record) => decode_record(key, record.value())?.kv.version == 0,
                None => false,
            };
            if deleted && revision < upto {
                history.remove((key, revision)).map_err(access("trim"))?;
                changes.remove((revision, number)).map_err(access("trim"))?;
            }
        }
        let mut meta = txn.open_table(META).map_err(access("open a table of"))?;
        meta.insert("trimmed", &encode(&reached)[..]).map_err(access("write"))?;
    }
    txn.commit().map_err(access("commit to"))?;
    Ok(reached)
}
