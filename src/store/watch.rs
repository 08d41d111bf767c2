//! Feeds one watcher: from memory while it keeps up, from the disk's history otherwise.
//!
//! Why each watcher pulls: a slow one holds up nobody and loses nothing; where it stands
//! is one number.
//! Invariants: revisions in order, each whole and once; nothing after `Compacted`.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::disk::{StoreDisk, run_on};
use super::health::Health;
use super::state::{Reader, StateError, StateStore};
use crate::base::chain::chain;
use crate::logic::mvcc::KeyRange;
use crate::model::kv::{Revision, WatchItem, WatchRequest};

/// Revisions read from the disk at a time.
const READ_AHEAD: usize = 256;
/// How often a watcher without matching events hears how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// One watcher's position and way out.
pub(super) struct Watcher {
    state: Arc<StateStore>,
    disk: Arc<dyn StoreDisk>,
    range: KeyRange,
    prev_kv: bool,
    /// First revision that was not looked at.
    next: Revision,
    /// Last revision the receiver was told it has.
    told: Revision,
    out: mpsc::Sender<WatchItem>,
}

impl Watcher {
    pub(super) fn new(
        state: Arc<StateStore>,
        disk: Arc<dyn StoreDisk>,
        request: WatchRequest,
        out: mpsc::Sender<WatchItem>,
    ) -> Self {
        let newest = state.progress().borrow().revision;
        let next = if request.start_revision > 0 { request.start_revision } else { newest + 1 };
        let range = KeyRange::new(request.key, request.range_end);
        Self { state, disk, range, prev_kv: request.prev_kv, next, told: 0, out }
    }

    /// Runs until the receiver is dropped, history is gone, or the member stops.
    pub(super) async fn run(
        mut self,
        mut health: watch::Receiver<Health>,
        cancel: CancellationToken,
    ) {
        let out = self.out.clone();
        tokio::select! {
            biased;
            () = cancel.cancelled() => {}
            _ = health.wait_for(|health| health.check().is_err()) => {}
            () = out.closed() => {}
            fed = self.feed() => if let Err(error) = fed {
                tracing::error!(error = chain(&error), "a watch ended because the disk failed");
            }
        }
    }

    async fn feed(&mut self) -> Result<(), StateError> {
        let mut progress = self.state.progress();
        loop {
            let newest = progress.borrow_and_update().revision;
            while self.next <= newest {
                if !self.deliver().await? {
                    return Ok(());
                }
            }
            if self.told == 0 && self.next == newest + 1 && !self.tell(newest).await {
                return Ok(());
            }
            match tokio::time::timeout(PROGRESS_EVERY, progress.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Ok(()),
                Err(_) => {
                    let seen = self.next - 1;
                    if seen > self.told && seen <= newest && !self.tell(seen).await {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn tell(&mut self, revision: Revision) -> bool {
        self.told = revision;
        self.out.send(WatchItem::Progress(revision)).await.is_ok()
    }

    /// Delivers the next span; false if the watch is over.
    async fn deliver(&mut self) -> Result<bool, StateError> {
        let found = match self.state.recent_changes(&self.range, self.next, self.prev_kv) {
            Some(found) => found,
            None => {
                let (state, range) = (self.state.clone(), self.range.clone());
                let (from, prev_kv) = (self.next, self.prev_kv);
                run_on(&*self.disk, move || state.changes(&range, from, prev_kv, READ_AHEAD))
                    .await
                    .map_err(|source| StateError::File { action: "read", source })??
            }
        };
        match found {
            Reader::Compacted { compact_revision } => {
                // The receiver may be gone; there is nothing more for it either way.
                let _ = self.out.send(WatchItem::Compacted { compact_revision }).await;
                Ok(false)
            }
            Reader::Changes { changes, next } => {
                for change in changes {
                    self.told = change.revision;
                    let item =
                        WatchItem::Events { revision: change.revision, events: change.events };
                    if self.out.send(item).await.is_err() {
                        return Ok(false);
                    }
                }
                self.next = next;
                Ok(true)
            }
        }
    }
}
