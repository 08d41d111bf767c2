//! openraft's state machine over [`StateStore`].
//!
//! Snapshots need no file of their own: the state file is the snapshot. Building one is
//! a flush, after which the log may be purged up to what the file holds; sending one
//! reads a view of the file, which stays of one moment however long the sending takes.

use std::io;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot};

use super::apply::Step;
use super::flush::{LAYER_BYTES, LAYER_MAX_BYTES};
use super::snapshot::SnapshotData;
use super::store::StateStore;
use crate::store::disk::run_on;
use crate::store::types::{Command, LogId, Peer, SnapshotMeta, StoredMembership, TypeConfig};

/// The state machine that Raft drives; the store reads beside it.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    state: Arc<StateStore>,
}

type RaftSnapshot = openraft::type_config::alias::SnapshotOf<TypeConfig, SnapshotData>;

impl Machine {
    pub(crate) fn new(state: Arc<StateStore>) -> Self {
        Self { state }
    }

    /// The state file as it is, if anything was applied to it.
    fn current(&self) -> Result<Option<RaftSnapshot>, io::Error> {
        let view = self.state.view();
        let marks = view.marks()?;
        let Some(applied) = marks.applied else { return Ok(None) };
        let meta = SnapshotMeta { last_log_id: Some(applied), last_membership: marks.membership };
        Ok(Some(Snapshot { meta, snapshot: SnapshotData::View(view) }))
    }
}

/// What an entry asks of the state.
pub(super) fn step_of(log_id: LogId, payload: EntryPayload<Command, u64, Peer>) -> Step {
    match payload {
        EntryPayload::Blank => Step::Blank,
        EntryPayload::Normal(command) => Step::Command(command),
        EntryPayload::Membership(membership) => {
            Step::Membership(StoredMembership::new(Some(log_id), membership))
        }
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Machine {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<RaftSnapshot, io::Error> {
        self.state.flush().await?;
        self.current()?.ok_or_else(|| io::Error::other("nothing was applied yet"))
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok(self.state.applied())
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let step = step_of(entry.log_id, entry.payload);
            let reply = if step.is_heavy() {
                // The runtime's threads are for what is short.
                let (state, log_id) = (self.state.clone(), entry.log_id);
                run_on(&*self.state.disk, move || state.apply_noting(log_id, step)).await??
            } else {
                self.state.apply_noting(entry.log_id, step)?
            };
            if let Some(responder) = responder {
                responder.send(reply);
            }
            let waiting = self.state.unflushed_bytes();
            if waiting > LAYER_MAX_BYTES {
                self.state.flush().await?;
            } else if waiting > LAYER_BYTES {
                self.state.wake_flusher.notify_one();
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        match snapshot {
            SnapshotData::Incoming(incoming) => {
                self.state.install(meta.last_log_id, incoming).await?;
                Ok(())
            }
            // openraft restores from its own snapshot at start if that is ahead of what
            // is applied; ours is the applied state itself and never is.
            SnapshotData::View(_) => Err(io::Error::other("the state is its own snapshot")),
        }
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<RaftSnapshot>, io::Error> {
        self.current()
    }
}
