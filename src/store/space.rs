//! Refuses writes while there is still enough space to end them well.
//!
//! Why: a commit that finds the disk full ends the member, and a member that cannot start
//! cannot be told to delete anything. So a reserve is kept for what is under way, for
//! deletions and for compaction.
//! Each member judges its own disk and tells the others by an alarm (`maintenance`), which
//! forbids etcd's clients to put anything. This program's own writes go on as long as the
//! leader and a majority have space.
//! Invariants: refusing ends by itself when space returns; a disk that does not say how full
//! it is refuses nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::disk::{DiskSpace, StoreDisk, run_on};
use crate::base::limits::{STORE_DISK_RESERVE_MAX_BYTES, STORE_DISK_RESERVE_MIN_BYTES};
use crate::model::kv::{Op, TxnRequest};
use crate::store::types::{Ask, Command};

/// How often the disk is asked; at full speed less than the reserve is written meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Too little free space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the disk has {free_bytes} bytes free, below the reserve of {reserve_bytes}; only \
     deletions and compaction are accepted until there is more"
)]
pub(super) struct Shortage {
    pub(super) free_bytes: u64,
    pub(super) reserve_bytes: u64,
}

/// What is kept free: 2 % of the file system within bounds.
fn reserve(space: DiskSpace) -> u64 {
    (space.total_bytes / 50).clamp(STORE_DISK_RESERVE_MIN_BYTES, STORE_DISK_RESERVE_MAX_BYTES)
}

/// What the disk said last.
#[derive(Debug)]
pub(super) struct SpaceGuard {
    known: watch::Sender<Option<DiskSpace>>,
}

impl SpaceGuard {
    /// Asks once, so that a start on a full disk refuses from the first write on.
    pub(super) async fn new(disk: &Arc<dyn StoreDisk>) -> Self {
        Self { known: watch::Sender::new(ask(disk).await) }
    }

    /// Asks from time to time, for ever.
    pub(super) async fn run(&self, disk: &Arc<dyn StoreDisk>) {
        loop {
            tokio::time::sleep(ASK_EVERY).await;
            let before = self.check();
            self.known.send_replace(ask(disk).await);
            match (before, self.check()) {
                (Ok(()), Err(shortage)) => {
                    tracing::error!(
                        free_bytes = shortage.free_bytes,
                        reserve_bytes = shortage.reserve_bytes,
                        "the store's disk is nearly full; what needs space is refused"
                    );
                }
                (Err(_), Ok(())) => tracing::info!("the store's disk has space again"),
                (Ok(()), Ok(())) | (Err(_), Err(_)) => {}
            }
        }
    }

    pub(super) fn free_bytes(&self) -> Option<u64> {
        self.known.borrow().map(|space| space.free_bytes)
    }

    pub(super) fn check(&self) -> Result<(), Shortage> {
        let Some(space) = *self.known.borrow() else { return Ok(()) };
        let (free_bytes, reserve_bytes) = (space.free_bytes, reserve(space));
        if free_bytes < reserve_bytes {
            return Err(Shortage { free_bytes, reserve_bytes });
        }
        Ok(())
    }
}

/// Whether the command could store something new.
pub(super) fn takes_space(command: &Command) -> bool {
    match command {
        Command::Txn { request, .. } => adds(request),
        Command::Ask { ask, .. } => matches!(ask, Ask::LeaseGrant { .. }),
        Command::LeaseEnds { .. }
        | Command::LeaseMarks { .. }
        | Command::Compact { .. }
        | Command::Boot { .. }
        | Command::Commitment(_) => false,
    }
}

async fn ask(disk: &Arc<dyn StoreDisk>) -> Option<DiskSpace> {
    let of = disk.clone();
    match run_on(&**disk, move || of.space()).await {
        Ok(Ok(space)) => Some(space),
        Ok(Err(error)) | Err(error) => {
            tracing::debug!(%error, "the disk does not say how full it is");
            None
        }
    }
}

/// Whether the transaction could store something new.
pub(super) fn adds(request: &TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).any(|op| match op {
        Op::Put(_) => true,
        Op::Txn(nested) => adds(nested),
        Op::Range(_) | Op::DeleteRange(_) => false,
    })
}
