//! Content by digest on this node's disk.
//!
//! ```text
//! blobs/sha256/ab/abcdef…   complete, verified
//! incoming/<uuid>           being written; removed at start
//! ```
//! Invariants: content is hashed while it is written and gets its final name only when
//! the digest fits and the bytes are on disk.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use sha2::{Digest as _, Sha256};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::registry::RegistryError;
use crate::registry::name::Digest;
use crate::sys::blob_files;

/// Open content.
#[derive(Debug)]
pub struct BlobReader {
    pub digest: Digest,
    /// Bytes.
    pub length: u64,
    file: File,
}

impl BlobReader {
    /// The content from a byte offset on.
    pub async fn into_reader_at(mut self, offset: u64) -> std::io::Result<File> {
        if offset > 0 {
            blob_files::seek(&mut self.file, offset).await?;
        }
        Ok(self.file)
    }

    /// The whole content in memory; for manifests.
    pub async fn read_all(mut self) -> std::io::Result<Vec<u8>> {
        let mut content = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut self.file, &mut content).await?;
        Ok(content)
    }
}

/// Content being written; dropped unfinished it leaves a temporary file only.
#[derive(Debug)]
pub(super) struct BlobWriter {
    path: PathBuf,
    file: File,
    hash: Sha256,
    pub(super) length: u64,
    finished: bool,
}

impl BlobWriter {
    pub(super) async fn write(&mut self, chunk: &[u8]) -> Result<(), RegistryError> {
        self.hash.update(chunk);
        self.length += chunk.len() as u64;
        self.file.write_all(chunk).await.map_err(|source| disk("write", &self.path, source))
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if !self.finished {
            blob_files::remove_now(&self.path);
        }
    }
}

/// The store of content.
#[derive(Debug)]
pub(super) struct Blobs {
    root: PathBuf,
    incoming: PathBuf,
    /// One fetch of a digest at a time; entries die with their last user.
    fetching: Mutex<HashMap<Digest, Weak<Mutex<()>>>>,
}

pub(super) fn disk(action: &'static str, path: &Path, source: std::io::Error) -> RegistryError {
    RegistryError::Disk { action, path: path.to_owned(), source }
}

impl Blobs {
    pub(super) fn open(directory: &Path) -> Result<Self, RegistryError> {
        let root = directory.join("blobs/sha256");
        let incoming = directory.join("incoming");
        for path in [&root, &incoming] {
            blob_files::make_directory(path).map_err(|source| disk("create", path, source))?;
        }
        blob_files::clear(&incoming).map_err(|source| disk("clear", &incoming, source))?;
        Ok(Self { root, incoming, fetching: Mutex::default() })
    }

    pub(super) fn path(&self, digest: &Digest) -> PathBuf {
        self.root.join(&digest.hex()[..2]).join(digest.hex())
    }

    pub(super) async fn open_blob(
        &self,
        digest: &Digest,
    ) -> Result<Option<BlobReader>, RegistryError> {
        let path = self.path(digest);
        let opened = blob_files::open(&path).await.map_err(|source| disk("open", &path, source))?;
        Ok(opened.map(|(file, length)| BlobReader { digest: digest.clone(), length, file }))
    }

    pub(super) async fn length(&self, digest: &Digest) -> Result<Option<u64>, RegistryError> {
        let path = self.path(digest);
        blob_files::length(&path).await.map_err(|source| disk("look at", &path, source))
    }

    pub(super) async fn writer(&self) -> Result<BlobWriter, RegistryError> {
        let path = self.incoming.join(uuid::Uuid::new_v4().to_string());
        let file =
            blob_files::create(&path).await.map_err(|source| disk("create", &path, source))?;
        Ok(BlobWriter { path, file, hash: Sha256::new(), length: 0, finished: false })
    }

    /// Verifies and publishes what was written.
    pub(super) async fn finish(
        &self,
        mut writer: BlobWriter,
        expected: &Digest,
    ) -> Result<(), RegistryError> {
        let found = Digest::from_sha256(&std::mem::take(&mut writer.hash).finalize());
        if found != *expected {
            let found = found.to_string();
            return Err(RegistryError::DigestMismatch { expected: expected.clone(), found });
        }
        let path = writer.path.clone();
        let copy = writer.file.try_clone().await.map_err(|source| disk("sync", &path, source))?;
        writer.file.flush().await.map_err(|source| disk("write", &path, source))?;
        blob_files::sync(copy).await.map_err(|source| disk("sync", &path, source))?;
        self.publish(path, expected).await?;
        writer.finished = true;
        Ok(())
    }

    /// Gives a verified file on disk its final name.
    pub(super) async fn publish(
        &self,
        from: PathBuf,
        digest: &Digest,
    ) -> Result<(), RegistryError> {
        let to = self.path(digest);
        blob_files::publish(from, to.clone()).await.map_err(|source| disk("publish", &to, source))
    }

    /// Stores small content that is already in memory.
    pub(super) async fn put(&self, content: &[u8]) -> Result<Digest, RegistryError> {
        let digest = Digest::of(content);
        if self.length(&digest).await? == Some(content.len() as u64) {
            self.touch(&digest).await?;
        } else {
            let mut writer = self.writer().await?;
            writer.write(content).await?;
            self.finish(writer, &digest).await?;
        }
        Ok(digest)
    }

    /// Restarts the safe age, because somebody counts on the content being here.
    pub(super) async fn touch(&self, digest: &Digest) -> Result<(), RegistryError> {
        let path = self.path(digest);
        blob_files::touch(path.clone()).await.map_err(|source| disk("touch", &path, source))
    }

    pub(super) async fn remove(&self, digest: &Digest) -> Result<bool, RegistryError> {
        let path = self.path(digest);
        blob_files::remove(&path).await.map_err(|source| disk("remove", &path, source))
    }

    /// All complete content.
    pub(super) async fn list(&self) -> Result<Vec<(Digest, blob_files::Found)>, RegistryError> {
        let found = blob_files::list(self.root.clone())
            .await
            .map_err(|source| disk("list", &self.root, source))?;
        let named = found.into_iter().filter_map(|file| {
            let digest = format!("sha256:{}", file.name).parse().ok()?;
            Some((digest, file))
        });
        Ok(named.collect())
    }

    /// Waits until nobody else fetches this digest.
    pub(super) async fn fetch_lock(&self, digest: &Digest) -> OwnedMutexGuard<()> {
        let lock = {
            let mut fetching = self.fetching.lock().await;
            fetching.retain(|_, lock| lock.strong_count() > 0);
            match fetching.get(digest).and_then(Weak::upgrade) {
                Some(lock) => lock,
                None => {
                    let lock = Arc::new(Mutex::new(()));
                    fetching.insert(digest.clone(), Arc::downgrade(&lock));
                    lock
                }
            }
        };
        lock.lock_owned().await
    }
}
