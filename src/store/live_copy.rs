//! The running member's state as a stream of bytes: the snapshot file.
//!
//! Invariants: the state is as new as the call (a linearizable barrier comes first); the
//! view is of one moment however slowly it is read; the writer waits for its reader and
//! ends with it.

use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use tokio::sync::mpsc;

use super::api::StoreError;
use super::member::Store;
use super::offline::{end, known, voters};
use super::shared::Shared;
use super::snapshot_file::{SnapshotFormat, write_etcd_db, write_etcd_snapshot, write_snapshot};
use crate::base::chain::chain;
use crate::model::kv::RangeRequest;
use crate::model::recovery::MemberSummary;
use crate::store::api::Kv;

/// Bytes in one piece, and pieces that wait for a slow reader.
const PIECE_BYTES: usize = 64 * 1024;
const PIECES: usize = 8;

impl Store {
    /// What this member has; asks nobody, so it works without a majority.
    pub fn summary(&self) -> MemberSummary {
        self.shared.summary()
    }

    /// The state at one moment, not older than this call. A piece that is an error is the
    /// last one.
    pub async fn snapshot_stream(
        &self,
        format: SnapshotFormat,
    ) -> Result<mpsc::Receiver<Result<Bytes, StoreError>>, StoreError> {
        let barrier = RangeRequest { count_only: true, ..RangeRequest::key(vec![0]) };
        self.range(barrier).await?;
        let shared = self.shared.clone();
        shared.state.flush().await.map_err(|error| StoreError::Fatal { reason: chain(&error) })?;
        let view = shared.state.view();
        shared.all_shown().await?;
        let (sender, receiver) = mpsc::channel(PIECES);
        let writer = Arc::clone(&shared);
        let work = move || {
            let mut out = Pieces { sender: sender.clone(), piece: Vec::new() };
            let of = &writer.identity;
            let written = match format {
                SnapshotFormat::Holdfast => write_snapshot(&view, of, &mut out).map(drop),
                SnapshotFormat::Etcd => write_etcd_snapshot(&view, of, &mut out).map(drop),
                SnapshotFormat::EtcdDb => write_etcd_db(&view, &mut out),
            };
            let written = written.and_then(|()| Ok(out.flush()?));
            if let Err(error) = written {
                // The reader may have gone; then there is nobody to tell.
                let _gone = sender.blocking_send(Err(StoreError::Fatal { reason: chain(&error) }));
            }
        };
        shared.tracker.spawn(shared.disk.run(Box::new(work)));
        Ok(receiver)
    }
}

/// Writes into the channel in pieces.
struct Pieces {
    sender: mpsc::Sender<Result<Bytes, StoreError>>,
    piece: Vec<u8>,
}

impl Pieces {
    fn send(&mut self) -> io::Result<()> {
        let piece = Bytes::from(std::mem::take(&mut self.piece));
        self.sender.blocking_send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() { Ok(()) } else { self.send() }
    }
}

impl Shared {
    /// The same of a running member, which knows no better than what it has applied.
    pub(crate) fn summary(&self) -> MemberSummary {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let membership = metrics.membership_config.as_ref();
        let members = known(membership);
        let own = members.iter().find(|known| known.member == self.identity.member);
        let revisions = self.state.revisions();
        let last = self.log.head().ok().and_then(|head| head.last);
        MemberSummary {
            cluster: self.identity.cluster,
            generation: self.identity.generation,
            member: self.identity.member,
            name: own.map(|own| own.name.clone()).unwrap_or_default(),
            boot: self.identity.boot,
            vote_term: metrics.current_term,
            last: end(last),
            committed: end(metrics.local_committed),
            applied: end(metrics.last_applied),
            revision: revisions.current,
            compacted: revisions.compacted,
            keys: self.state.view().image_marks().map_or(0, |marks| marks.keys),
            voters: voters(membership),
            membership_at: end(*membership.log_id()),
            members,
            running: true,
        }
    }
}
