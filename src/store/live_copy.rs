//! The running member's state as a stream of bytes: the snapshot file.
//!
//! Invariants: the state is as new as the call (a linearizable barrier comes first); the
//! view is of one moment however slowly it is read; the writer waits for its reader and
//! ends with it.

use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::api::StoreError;
use super::member::Store;
use super::snapshot_file::write_snapshot;
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

    /// The state at one moment, not older than this call, in the format of
    /// [`super::snapshot_file`]. A piece that is an error is the last one.
    pub async fn snapshot_stream(
        &self,
    ) -> Result<mpsc::Receiver<Result<Bytes, StoreError>>, StoreError> {
        let barrier = RangeRequest { count_only: true, ..RangeRequest::key(vec![0]) };
        self.range(barrier).await?;
        let shared = self.shared.clone();
        shared.state.flush().await.map_err(|error| StoreError::Fatal { reason: chain(&error) })?;
        let view = shared.state.view();
        let (sender, receiver) = mpsc::channel(PIECES);
        let writer = Arc::clone(&shared);
        let work = move || {
            let mut out = Pieces { sender: sender.clone(), piece: Vec::new() };
            if let Err(error) = write_snapshot(&view, &writer.identity, &mut out) {
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
