//! Takes in a snapshot that the leader sends in pages.
//!
//! Invariant: a page or an end that comes again, because its answer was lost, changes
//! nothing and is answered the same.

use std::sync::Arc;

use openraft::raft::SnapshotResponse;
use openraft::{Raft, Snapshot};

use super::disk::StoreDisk;
use super::message::Answer;
use super::state::{Incoming, Machine, Row, SnapshotData};
use super::types::{SnapshotMeta, TypeConfig, Vote};
use crate::base::chain::chain;

/// The one snapshot that is being received, and the last that was installed.
#[derive(Debug, Default)]
pub(super) struct IncomingSlot {
    open: Option<IncomingSession>,
    /// Kept because the answer to the last page may be lost and the page sent again.
    installed: Option<(u64, SnapshotResponse<TypeConfig>)>,
}

/// A snapshot that is being received.
#[derive(Debug)]
struct IncomingSession {
    session: u64,
    /// Pages received; a page that comes again is not written again.
    pages: u64,
    incoming: Incoming,
}

impl IncomingSlot {
    pub(super) async fn begin(&mut self, disk: Arc<dyn StoreDisk>, session: u64) -> Answer {
        if self.open.as_ref().is_some_and(|open| open.session == session) {
            return Answer::SnapshotReady;
        }
        // The old file is closed before the new one takes its name.
        self.open = None;
        match Incoming::begin(disk).await {
            Ok(incoming) => {
                self.open = Some(IncomingSession { session, pages: 0, incoming });
                Answer::SnapshotReady
            }
            Err(error) => Answer::Failed { reason: chain(&error) },
        }
    }

    pub(super) async fn rows(
        &mut self,
        disk: &dyn StoreDisk,
        session: u64,
        number: u64,
        rows: Vec<Row>,
    ) -> Answer {
        let Some(open) = self.open.as_mut().filter(|open| open.session == session) else {
            return Answer::Failed { reason: "another snapshot has begun".into() };
        };
        if number < open.pages {
            return Answer::SnapshotReady;
        }
        if number > open.pages {
            return Answer::Failed { reason: format!("page {} is missing", open.pages) };
        }
        match open.incoming.add(disk, rows).await {
            Ok(()) => {
                open.pages += 1;
                Answer::SnapshotReady
            }
            Err(error) => Answer::Failed { reason: chain(&error) },
        }
    }

    /// Installs what came. The caller holds the slot until then: a new file must not take
    /// this one's name before.
    pub(super) async fn end(
        &mut self,
        raft: &Raft<TypeConfig, Machine>,
        session: u64,
        vote: Vote,
        meta: SnapshotMeta,
    ) -> Answer {
        if let Some((of, response)) = &self.installed
            && *of == session
        {
            return Answer::SnapshotInstalled(response.clone());
        }
        let Some(open) = self.open.take_if(|open| open.session == session) else {
            return Answer::Failed { reason: "another snapshot has begun".into() };
        };
        let snapshot = Snapshot { meta, snapshot: SnapshotData::Incoming(open.incoming) };
        match raft.install_full_snapshot(vote, snapshot).await {
            Ok(response) => {
                self.installed = Some((session, response.clone()));
                Answer::SnapshotInstalled(response)
            }
            Err(error) => Answer::Failed { reason: error.to_string() },
        }
    }
}
