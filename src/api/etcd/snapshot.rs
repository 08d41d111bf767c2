//! A snapshot as etcd's clients save it: blobs, then the SHA-256 of all of them.
//!
//! ```text
//!  | bbolt file | zeros up to a multiple of 512 | SHA-256, 32 bytes |
//! ```
//! Why so: clients tell a whole snapshot by its length, which must be 32 more than a
//! multiple of 512, and verify the hash where they read it again.
//! Not here: what the store's snapshot holds (`store/`).

use bytes::Bytes;
use futures::Stream;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tonic::Status;

use super::backend::VERSION;
use super::errors::status;
use super::messages::etcdserverpb::{ResponseHeader, SnapshotResponse};
use crate::store::StoreError;

/// What the length without the hash is a multiple of.
const SECTOR: u64 = 512;

enum Next {
    Piece,
    Hash,
    End,
}

/// Turns the store's pieces into the protocol's messages.
pub(super) struct SnapshotBlobs {
    pieces: mpsc::Receiver<Result<Bytes, StoreError>>,
    header: Option<ResponseHeader>,
    hash: Sha256,
    length: u64,
    next: Next,
}

impl SnapshotBlobs {
    pub(super) fn new(
        pieces: mpsc::Receiver<Result<Bytes, StoreError>>,
        header: Option<ResponseHeader>,
    ) -> Self {
        Self { pieces, header, hash: Sha256::new(), length: 0, next: Next::Piece }
    }

    pub(super) fn into_stream(self) -> impl Stream<Item = Result<SnapshotResponse, Status>> + Send {
        futures::stream::unfold(self, |mut blobs| async move {
            let answer = blobs.next().await?;
            Some((answer, blobs))
        })
    }

    async fn next(&mut self) -> Option<Result<SnapshotResponse, Status>> {
        match self.next {
            Next::End => None,
            Next::Piece => match self.pieces.recv().await {
                Some(Ok(piece)) => {
                    self.take_in(&piece);
                    Some(Ok(self.message(piece)))
                }
                Some(Err(error)) => {
                    self.next = Next::End;
                    Some(Err(status(error)))
                }
                None => {
                    self.next = Next::Hash;
                    let missing = (SECTOR - self.length % SECTOR) % SECTOR;
                    let padding = Bytes::from(vec![0; usize::try_from(missing).ok()?]);
                    self.take_in(&padding);
                    Some(Ok(self.message(padding)))
                }
            },
            Next::Hash => {
                self.next = Next::End;
                let hash = std::mem::take(&mut self.hash).finalize();
                Some(Ok(self.message(Bytes::copy_from_slice(&hash))))
            }
        }
    }

    fn take_in(&mut self, piece: &Bytes) {
        self.hash.update(piece);
        self.length += piece.len() as u64;
    }

    fn message(&self, blob: Bytes) -> SnapshotResponse {
        // How much is left is known only at the end; clients do not count on it.
        SnapshotResponse { header: self.header, remaining_bytes: 0, blob, version: VERSION.into() }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    #[tokio::test]
    async fn a_saved_snapshot_has_the_length_and_hash_that_clients_check() {
        let (sender, pieces) = mpsc::channel(8);
        for piece in [vec![7_u8; 700], vec![8; 100]] {
            sender.send(Ok(Bytes::from(piece))).await.unwrap();
        }
        drop(sender);
        let messages: Vec<_> = SnapshotBlobs::new(pieces, None).into_stream().collect().await;
        let file: Vec<u8> = messages.into_iter().flat_map(|m| m.unwrap().blob.to_vec()).collect();
        assert_eq!(file.len(), 1024 + 32);
        let (content, hash) = file.split_at(1024);
        assert_eq!(Sha256::digest(content)[..], *hash);
    }

    #[tokio::test]
    async fn a_failed_snapshot_ends_with_the_error_and_without_a_hash() {
        let (sender, pieces) = mpsc::channel(8);
        sender.send(Err(StoreError::ShuttingDown)).await.unwrap();
        let messages: Vec<_> = SnapshotBlobs::new(pieces, None).into_stream().collect().await;
        assert_eq!(messages.len(), 1);
        assert!(messages[0].is_err());
    }
}
