//! The disk as the store sees it: a few named files, and where blocking work runs.
//!
//! Why a trait: the simulation gives the store a disk in memory that forgets what was
//! not synced when the member crashes, and runs the work inline so that time is its own.
//! Invariant: [`StoreDisk::rename`] replaces the target in one step and is durable when
//! it returns.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use futures::future::BoxFuture;
use redb::backends::FileBackend;
use redb::{Database, DatabaseError, StorageBackend};

use super::blocks::{CheckedFile, OnDamage};

/// Work that may block.
pub type DiskWork = Box<dyn FnOnce() + Send>;

/// How full a file system is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    pub free_bytes: u64,
    pub total_bytes: u64,
}

/// Where a member keeps its files.
pub trait StoreDisk: Send + Sync + Debug + 'static {
    /// Opens a file for reading and writing, making it if it does not exist.
    fn open(&self, name: &str) -> io::Result<Box<dyn StorageBackend>>;

    fn exists(&self, name: &str) -> io::Result<bool>;

    /// Bytes that a file takes; 0 if it does not exist.
    fn size(&self, name: &str) -> io::Result<u64>;

    /// Removes a file; not an error if it does not exist.
    fn remove(&self, name: &str) -> io::Result<()>;

    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// How full the file system with the files is.
    fn space(&self) -> io::Result<DiskSpace>;

    /// Runs blocking work and returns when it is done.
    fn run(&self, work: DiskWork) -> BoxFuture<'static, ()>;
}

/// Runs `work` where the disk wants blocking work to run and brings its result back.
pub(crate) async fn run_on<T: Send + 'static>(
    disk: &dyn StoreDisk,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (tx, rx) = tokio::sync::oneshot::channel();
    disk.run(Box::new(move || {
        // The receiver may be gone when the caller was cancelled; the work is done anyway.
        let _ = tx.send(work());
    }))
    .await;
    rx.await.map_err(|_| io::Error::other("the disk work was dropped or panicked"))
}

/// Opens a redb file on the disk, every block of it checked, with a bounded cache (bytes).
pub(crate) fn open_database(
    disk: &dyn StoreDisk,
    name: &str,
    cache_bytes: usize,
    on_damage: OnDamage,
) -> Result<Database, DatabaseError> {
    let file = disk.open(name).map_err(|error| DatabaseError::Storage(error.into()))?;
    let checked = CheckedFile::new(name, file, on_damage);
    Database::builder().set_cache_size(cache_bytes).create_with_backend(checked)
}

/// A directory of the host.
#[derive(Debug)]
pub struct HostDisk {
    dir: PathBuf,
}

impl HostDisk {
    /// Makes the directory if need be.
    pub fn new(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        Ok(Self { dir: dir.to_owned() })
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }
}

impl StoreDisk for HostDisk {
    fn open(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        let path = self.dir.join(name);
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        self.sync_dir()?;
        Ok(Box::new(FileBackend::new(file).map_err(io::Error::other)?))
    }

    fn exists(&self, name: &str) -> io::Result<bool> {
        self.dir.join(name).try_exists()
    }

    fn size(&self, name: &str) -> io::Result<u64> {
        match fs::metadata(self.dir.join(name)) {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.dir.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.dir.join(from), self.dir.join(to))?;
        self.sync_dir()
    }

    fn space(&self) -> io::Result<DiskSpace> {
        let found = crate::sys::host::file_system(&self.dir)?;
        Ok(DiskSpace { free_bytes: found.free_bytes, total_bytes: found.total_bytes })
    }

    fn run(&self, work: DiskWork) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            if let Err(error) = tokio::task::spawn_blocking(work).await {
                tracing::error!(%error, "disk work panicked");
            }
        })
    }
}
