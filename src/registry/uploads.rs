//! Upload sessions: content that a client sends in pieces.
//!
//! A session is a file; its length is the session's state, so that a client can go on
//! after this program was restarted. Sessions belong to the node that began them.
//! Invariants: one writer at a time per session; the digest is computed over the whole
//! file when the client says that it is complete.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Mutex;

use crate::registry::blobs::disk;
use crate::registry::name::Digest;
use crate::registry::{Registry, RegistryError};
use crate::sys::blob_files;

/// A session that nobody touched for longer is given up.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 3_600);

/// Where a session stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadStatus {
    pub id: String,
    /// Bytes received.
    pub length: u64,
}

/// The sessions of this node.
#[derive(Debug)]
pub struct Uploads {
    directory: PathBuf,
    writing: Mutex<HashMap<String, Weak<Mutex<()>>>>,
}

impl Uploads {
    pub(super) fn open(directory: &Path) -> Result<Self, RegistryError> {
        let directory = directory.join("uploads");
        blob_files::make_directory(&directory)
            .map_err(|source| disk("create", &directory, source))?;
        Ok(Self { directory, writing: Mutex::default() })
    }

    /// Only ids that we could have given out become file names.
    fn path(&self, id: &str) -> Result<PathBuf, RegistryError> {
        match uuid::Uuid::try_parse(id) {
            Ok(uuid) => Ok(self.directory.join(uuid.to_string())),
            Err(_) => Err(RegistryError::UploadUnknown { id: id.to_owned() }),
        }
    }

    async fn lock(&self, id: &str) -> Arc<Mutex<()>> {
        let mut writing = self.writing.lock().await;
        writing.retain(|_, lock| lock.strong_count() > 0);
        match writing.get(id).and_then(Weak::upgrade) {
            Some(lock) => lock,
            None => {
                let lock = Arc::new(Mutex::new(()));
                writing.insert(id.to_owned(), Arc::downgrade(&lock));
                lock
            }
        }
    }

    /// Begins a session.
    pub async fn begin(&self) -> Result<UploadStatus, RegistryError> {
        let id = uuid::Uuid::new_v4().to_string();
        let path = self.path(&id)?;
        blob_files::create(&path).await.map_err(|source| disk("create", &path, source))?;
        Ok(UploadStatus { id, length: 0 })
    }

    /// Where the session stands.
    pub async fn status(&self, id: &str) -> Result<UploadStatus, RegistryError> {
        let path = self.path(id)?;
        let length =
            blob_files::length(&path).await.map_err(|source| disk("look at", &path, source))?;
        match length {
            Some(length) => Ok(UploadStatus { id: id.to_owned(), length }),
            None => Err(RegistryError::UploadUnknown { id: id.to_owned() }),
        }
    }

    /// Appends a piece. `range` is the inclusive byte range that the client announced.
    pub async fn append<S, E>(
        &self,
        id: &str,
        range: Option<(u64, u64)>,
        mut body: S,
    ) -> Result<UploadStatus, RegistryError>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: std::fmt::Display,
    {
        let path = self.path(id)?;
        let lock = self.lock(id).await;
        let _alone = lock.lock().await;
        let at = self.status(id).await?.length;
        if let Some((start, _)) = range
            && start != at
        {
            return Err(RegistryError::OutOfOrder { id: id.to_owned(), at, start });
        }
        let write = |source| disk("append to", &path, source);
        let mut file = blob_files::append(&path)
            .await
            .map_err(write)?
            .ok_or_else(|| RegistryError::UploadUnknown { id: id.to_owned() })?;
        let mut length = at;
        let mut failure = None;
        while let Some(chunk) = body.next().await {
            match chunk {
                Ok(chunk) => {
                    file.write_all(&chunk).await.map_err(write)?;
                    length += chunk.len() as u64;
                }
                // What arrived is kept: the client may go on from there.
                Err(error) => {
                    failure = Some(RegistryError::Receive { reason: error.to_string() });
                    break;
                }
            }
        }
        file.flush().await.map_err(write)?;
        if let Some(error) = failure {
            return Err(error);
        }
        if range.is_some_and(|(start, end)| end + 1 - start != length - at) {
            return Err(RegistryError::ChunkLength);
        }
        Ok(UploadStatus { id: id.to_owned(), length })
    }

    /// Gives a session up.
    pub async fn cancel(&self, id: &str) -> Result<(), RegistryError> {
        let path = self.path(id)?;
        match blob_files::remove(&path).await.map_err(|source| disk("remove", &path, source))? {
            true => Ok(()),
            false => Err(RegistryError::UploadUnknown { id: id.to_owned() }),
        }
    }

    /// Removes abandoned sessions; returns how many.
    pub(super) async fn expire(&self) -> Result<usize, RegistryError> {
        let found = blob_files::list(self.directory.clone())
            .await
            .map_err(|source| disk("list", &self.directory, source))?;
        let mut removed = 0;
        for file in found.iter().filter(|file| file.age > ABANDONED_AFTER) {
            let path = self.directory.join(&file.name);
            blob_files::remove(&path).await.map_err(|source| disk("remove", &path, source))?;
            removed += 1;
        }
        Ok(removed)
    }
}

impl Registry {
    /// Verifies a complete session and makes it a blob.
    pub async fn finish_upload(&self, id: &str, expected: &Digest) -> Result<(), RegistryError> {
        let path = self.uploads.path(id)?;
        let lock = self.uploads.lock(id).await;
        let _alone = lock.lock().await;
        let read = |source| disk("read", &path, source);
        let Some((mut file, _)) = blob_files::open(&path).await.map_err(read)? else {
            return Err(RegistryError::UploadUnknown { id: id.to_owned() });
        };
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let count = file.read(&mut buffer).await.map_err(read)?;
            if count == 0 {
                break;
            }
            hash.update(&buffer[..count]);
        }
        let found = Digest::from_sha256(&hash.finalize());
        if found != *expected {
            blob_files::remove(&path).await.map_err(|source| disk("remove", &path, source))?;
            let found = found.to_string();
            return Err(RegistryError::DigestMismatch { expected: expected.clone(), found });
        }
        blob_files::sync(file).await.map_err(|source| disk("sync", &path, source))?;
        self.blobs.publish(path, expected).await?;
        // The upload's last piece may be old; collection counts from now.
        self.blobs.touch(expected).await
    }

    /// Whether a blob can be used without sending it again; restarts its safe age.
    pub async fn mount_blob(&self, digest: &Digest) -> Result<bool, RegistryError> {
        match self.blob(digest).await {
            Ok(_) => {
                self.blobs.touch(digest).await?;
                Ok(true)
            }
            Err(RegistryError::BlobUnknown { .. } | RegistryError::Fetch { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
