//! A stopped member, opened for looking: its identity, its log, its state.
//!
//! Invariant: the directory is not changed, whatever is done here.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::OverlayDisk;
use super::error::OfflineError;
use bytes::Bytes;

use crate::base::ids::{Generation, MemberId};
use crate::model::kv::KeyValue;
use crate::store::disk::StoreDisk;
use crate::store::log::{Claim, Identity, LogError, LogFile, LogHead, SegmentLog};
use crate::store::snapshot_file::{
    SnapshotFormat, write_etcd_db, write_etcd_snapshot, write_snapshot,
};
use crate::store::state::{DiskView, StateError, StateRest, StateStore};
use crate::store::types::LogId;
use crate::sys::waiting::wait_until;

/// Entries that are replayed at once.
const REPLAY_ENTRIES: u64 = 256;
/// How long a member may take to let go of its directory.
const ENDING: Duration = Duration::from_secs(2);

/// How much of the log counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// What the member knew to be committed.
    Committed,
    /// All of it: after the loss of the majority an entry that was not known to be
    /// committed may have been acknowledged all the same.
    Everything,
}

/// A stopped member.
#[derive(Debug)]
pub struct StoppedMember {
    path: PathBuf,
    pub(crate) identity: Identity,
    pub(crate) head: LogHead,
    pub(crate) log: SegmentLog,
    pub(crate) state: StateStore,
}

impl StoppedMember {
    /// Opens the directory of a member that is not running. One that has just ended may hold
    /// it a little longer: by its last thread, or by a program that it was starting.
    pub fn open(path: &Path) -> Result<Self, OfflineError> {
        let mut opened = Err(OfflineError::Running { path: path.to_owned() });
        wait_until(ENDING, ENDING / 100, || {
            opened = Self::open_now(path);
            !matches!(opened, Err(OfflineError::Running { .. }))
        });
        opened
    }

    fn open_now(path: &Path) -> Result<Self, OfflineError> {
        let disk: Arc<dyn StoreDisk> = Arc::new(OverlayDisk::new(path));
        let failed = |source| log_error(path, source);
        let Some(identity) = SegmentLog::owner(&*disk).map_err(failed)? else {
            return Err(OfflineError::Empty { path: path.to_owned() });
        };
        let claim = Claim {
            cluster: identity.cluster,
            generation: identity.generation,
            member: identity.member,
        };
        let (log, _) = SegmentLog::open(disk.clone(), claim, 0, 1, 1).map_err(failed)?;
        let head = log.head().map_err(failed)?;
        let state = StateStore::open(disk.clone()).map_err(|source| state_error(path, source))?;
        Ok(Self { path: path.to_owned(), identity, head, log, state })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Applies the log to the state, in memory, and shows the result.
    pub(crate) async fn view(&self, replay: Replay) -> Result<Arc<DiskView>, OfflineError> {
        let failed = |source| state_error(&self.path, source);
        let upto = match replay {
            Replay::Committed => self.head.committed,
            Replay::Everything => self.head.last,
        };
        let index = |mark: Option<LogId>| mark.map_or(0, |mark| mark.index);
        let Some(upto) = upto.map(|mark| mark.index) else { return Ok(self.state.view()) };
        let mut next = index(self.state.applied().0) + 1;
        if self.state.applied().0.is_none() && self.head.purged.is_none() {
            // Raft's first entry has index 0.
            next = 0;
        }
        while next <= upto {
            let to = (next + REPLAY_ENTRIES).min(upto + 1);
            let entries =
                self.log.read(next, to).map_err(|source| log_error(&self.path, source))?;
            let contiguous = entries.iter().zip(next..).all(|(entry, at)| entry.log_id.index == at);
            if !contiguous || entries.len() as u64 != to - next {
                return Err(OfflineError::Hole { path: self.path.clone(), first_missing: next });
            }
            self.state.replay(entries).map_err(failed)?;
            self.state.flush().await.map_err(failed)?;
            next = to;
        }
        Ok(self.state.view())
    }
}

pub(super) fn log_error(path: &Path, source: LogError) -> OfflineError {
    let path = path.to_owned();
    match source {
        LogError::InUse => OfflineError::Running { path },
        source => OfflineError::Log { path, source },
    }
}

pub(super) fn state_error(path: &Path, source: StateError) -> OfflineError {
    let path = path.to_owned();
    match source {
        StateError::Open(redb::DatabaseError::DatabaseAlreadyOpen) => {
            OfflineError::Running { path }
        }
        source => OfflineError::State { path, source },
    }
}

/// Records that are read at once while they are streamed.
const BATCH: usize = 1_024;

impl StoppedMember {
    /// Whose store stands in a directory: its generation and member.
    pub fn owner(path: &Path) -> Result<(Generation, MemberId), OfflineError> {
        let disk = OverlayDisk::new(path);
        let owner = SegmentLog::owner(&disk).map_err(|source| log_error(path, source))?;
        owner
            .map(|identity| (identity.generation, identity.member))
            .ok_or_else(|| OfflineError::Empty { path: path.to_owned() })
    }

    /// Leases, users and alarms with the log applied.
    pub async fn rest(&self, replay: Replay) -> Result<StateRest, OfflineError> {
        let view = self.view(replay).await?;
        view.rest().map_err(|source| state_error(&self.path, source))
    }

    /// All live records with the log applied, in key order.
    pub async fn live_records(
        &self,
        replay: Replay,
    ) -> Result<impl Iterator<Item = Result<KeyValue, StateError>> + use<>, OfflineError> {
        let view = self.view(replay).await?;
        let mut batch = std::collections::VecDeque::new();
        let mut last: Option<Bytes> = None;
        let mut ended = false;
        Ok(std::iter::from_fn(move || {
            if batch.is_empty() && !ended {
                match view.live_after(last.as_deref(), BATCH) {
                    Ok(more) => {
                        ended = more.len() < BATCH;
                        last = more.last().map(|kv| kv.key.clone());
                        batch.extend(more);
                    }
                    Err(error) => {
                        ended = true;
                        return Some(Err(error));
                    }
                }
            }
            batch.pop_front().map(Ok)
        }))
    }

    /// Writes a snapshot of what the member knew to be committed.
    pub async fn write_snapshot(
        &self,
        format: SnapshotFormat,
        mut out: impl std::io::Write,
    ) -> Result<(), OfflineError> {
        let view = self.view(Replay::Committed).await?;
        match format {
            SnapshotFormat::Holdfast => write_snapshot(&view, &self.identity, out).map(drop)?,
            SnapshotFormat::Etcd => {
                write_etcd_snapshot(&view, &self.identity, &mut out).map(drop)?;
            }
            SnapshotFormat::EtcdDb => write_etcd_db(&view, &mut out)?,
        }
        Ok(())
    }
}
