//! Files of the registry's content store: written beside, verified, then renamed.
//!
//! Why apart from small durable files: layers are gigabytes and are streamed.
//! Invariants: a file under its final name is complete and on disk; a crash leaves at
//! most temporary files, which [`clear`] removes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

/// Opens for reading and tells the length in bytes; `None` if there is no such file.
pub(crate) async fn open(path: &Path) -> io::Result<Option<(File, u64)>> {
    match File::open(path).await {
        Ok(file) => {
            let length = file.metadata().await?.len();
            Ok(Some((file, length)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The length in bytes; `None` if there is no such file.
pub(crate) async fn length(path: &Path) -> io::Result<Option<u64>> {
    match tokio::fs::metadata(path).await {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Moves the reading position.
pub(crate) async fn seek(file: &mut File, offset: u64) -> io::Result<()> {
    file.seek(io::SeekFrom::Start(offset)).await.map(|_| ())
}

/// A new, empty file for writing; it must not exist.
pub(crate) async fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path).await
}

/// An existing file for writing at its end.
pub(crate) async fn append(path: &Path) -> io::Result<Option<File>> {
    match OpenOptions::new().append(true).open(path).await {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Puts what was written onto the disk.
pub(crate) async fn sync(mut file: File) -> io::Result<()> {
    file.flush().await?;
    file.sync_all().await
}

/// Gives a synced file its final name and makes the name durable.
pub(crate) async fn publish(from: PathBuf, to: PathBuf) -> io::Result<()> {
    blocking(move || {
        let directory = to.parent().unwrap_or(Path::new("/")).to_owned();
        if !directory.is_dir() {
            fs::create_dir_all(&directory)?;
            if let Some(parent) = directory.parent() {
                fs::File::open(parent)?.sync_all()?;
            }
        }
        fs::rename(&from, &to)?;
        fs::File::open(&directory)?.sync_all()
    })
    .await
}

/// Removes a file; a missing one is no error. Returns whether there was one.
pub(crate) async fn remove(path: &Path) -> io::Result<bool> {
    match tokio::fs::remove_file(path).await {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes the file look new to collection; a missing one is no error.
pub(crate) async fn touch(path: PathBuf) -> io::Result<()> {
    blocking(move || match fs::File::options().append(true).open(&path) {
        Ok(file) => file.set_modified(SystemTime::now()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    })
    .await
}

/// A file found in a directory.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) length: u64,
    /// Since the last change; zero if the clock was set back.
    pub(crate) age: Duration,
}

/// The files of a directory and its direct subdirectories; a missing one is empty.
pub(crate) async fn list(directory: PathBuf) -> io::Result<Vec<Found>> {
    blocking(move || {
        let mut found = Vec::new();
        let mut pending = vec![directory];
        while let Some(directory) = pending.pop() {
            let entries = match fs::read_dir(&directory) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for entry in entries {
                let entry = entry?;
                let metadata = match entry.metadata() {
                    Ok(metadata) => metadata,
                    // Removed while we look: not there.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                };
                if metadata.is_dir() {
                    pending.push(entry.path());
                } else {
                    let age = metadata.modified()?.elapsed().unwrap_or_default();
                    let name = entry.file_name().to_string_lossy().into_owned();
                    found.push(Found { name, length: metadata.len(), age });
                }
            }
        }
        Ok(found)
    })
    .await
}

/// Makes a directory with its parents; blocking, for start-up.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

/// Removes the files of a directory, such as temporary ones of a killed process;
/// blocking, for start-up.
pub(crate) fn clear(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        fs::remove_file(entry?.path())?;
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(io::Error::other(error)),
    }
}
