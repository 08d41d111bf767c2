//! Files as the rest of the program wants them: whole, durable, with a mode.
//!
//! Why one place: a half-written key or node.yaml after a power cut would make a node
//! that cannot start and cannot be told why. Every write goes to a temporary name beside
//! the target, is synced, renamed over it, and the directory is synced.
//! Invariants: after [`write_atomic`] returns, the new content survives a power cut;
//! before it returns, the old content does. Modes are set before the name appears.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What could not be done to which path.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct FileError {
    pub action: &'static str,
    pub path: PathBuf,
    #[source]
    pub source: io::Error,
}

impl FileError {
    /// The path does not exist.
    pub fn is_absent(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

fn at<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> FileError + 'a {
    move |source| FileError { action, path: path.to_owned(), source }
}

/// Writes a whole file durably; `mode` is the permission bits, such as `0o600`.
pub fn write_atomic(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = dir.join(format!(".{name}.{}.new", std::process::id()));
    let written = (|| {
        // A leftover of a killed run with the same pid must not keep its mode.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(dir)?.sync_all()
    })();
    if written.is_err() {
        // The first error is the one that matters; a leftover is removed by the next run.
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(at("write", path))
}

/// Whether [`write_atomic`] gave a file this name while it was not whole yet.
pub fn is_leftover(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.') && name.ends_with(".new")
}

/// Removes what killed [`write_atomic`]s left in a directory; it may be absent.
pub fn remove_leftovers(dir: &Path) -> Result<(), FileError> {
    if !dir.exists() {
        return Ok(());
    }
    for path in list_dir(dir)?.iter().filter(|path| is_leftover(path)) {
        remove_file(path)?;
    }
    Ok(())
}

/// Writes a stream to a new file, or over one; not synced: the caller syncs the tree.
pub fn write_stream(path: &Path, source: &mut dyn io::Read, mode: u32) -> Result<(), FileError> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    options
        .open(path)
        .and_then(|mut file| io::copy(source, &mut file))
        .map(drop)
        .map_err(at("write", path))
}

/// Appends one record and syncs; creates the file with mode 0600.
pub fn append_durable(path: &Path, record: &[u8]) -> Result<(), FileError> {
    let existed = path.exists();
    (|| {
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        file.write_all(record)?;
        file.sync_data()?;
        if !existed && let Some(dir) = path.parent() {
            File::open(dir)?.sync_all()?;
        }
        Ok(())
    })()
    .map_err(at("append to", path))
}

pub fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    fs::read(path).map_err(at("read", path))
}

/// The content, or `None` when there is no such file.
pub fn read_if_present(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at("read", path)(error)),
    }
}

pub fn read_text(path: &Path) -> Result<String, FileError> {
    fs::read_to_string(path).map_err(at("read", path))
}

/// Creates a directory with its parents; the mode is set on the last one only.
pub fn create_dir(path: &Path, mode: u32) -> Result<(), FileError> {
    fs::create_dir_all(path).map_err(at("create directory", path))?;
    set_mode(path, mode)
}

pub fn set_mode(path: &Path, mode: u32) -> Result<(), FileError> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(at("set mode of", path))
}

/// Removes a file; absent is fine. True when there was one.
pub fn remove_file(path: &Path) -> Result<bool, FileError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(at("remove", path)(error)),
    }
}

/// Removes a directory and all in it; absent is fine.
pub fn remove_tree(path: &Path) -> Result<(), FileError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Removes a directory if nothing is in it; true when it is gone.
pub fn remove_dir_if_empty(path: &Path) -> Result<bool, FileError> {
    match fs::remove_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
        Err(error) => Err(at("remove", path)(error)),
    }
}

/// What a path is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathInfo {
    pub is_dir: bool,
    pub is_link: bool,
    /// Permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size_bytes: u64,
    pub link_target: Option<PathBuf>,
}

/// Looks at a path without following a link; `None` when it does not exist.
pub fn inspect(path: &Path) -> Result<Option<PathInfo>, FileError> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(at("look at", path)(error)),
    };
    let is_link = meta.file_type().is_symlink();
    let link_target =
        if is_link { Some(fs::read_link(path).map_err(at("read link", path))?) } else { None };
    Ok(Some(PathInfo {
        is_dir: meta.is_dir(),
        is_link,
        mode: meta.permissions().mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
        size_bytes: meta.len(),
        link_target,
    }))
}

/// Makes `path` a symbolic link to `target`, replacing another link.
pub fn link(path: &Path, target: &Path) -> Result<(), FileError> {
    remove_file(path)?;
    std::os::unix::fs::symlink(target, path).map_err(at("link", path))
}

/// Renames and syncs the target's directory.
pub fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    let dir = to.parent().unwrap_or(Path::new("/"));
    fs::rename(from, to).and_then(|()| File::open(dir)?.sync_all()).map_err(at("rename to", to))
}

/// Makes everything on the path's file system durable; cheaper than thousands of syncs.
pub fn sync_tree(path: &Path) -> Result<(), FileError> {
    File::open(path)
        .and_then(|dir| nix::unistd::syncfs(&dir).map_err(Into::into))
        .map_err(at("sync", path))
}

/// Names in a directory, sorted; an absent directory has none.
pub fn list_dir(path: &Path) -> Result<Vec<PathBuf>, FileError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(at("list", path)(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(at("list", path))?.path());
    }
    paths.sort();
    Ok(paths)
}

/// Writes into a kernel file such as one under `/proc/sys`, where rename makes no sense.
pub fn write_kernel(path: &Path, value: &str) -> Result<(), FileError> {
    fs::write(path, value).map_err(at("write", path))
}

/// The highest existing directory at or above `path`: where its file system is.
pub fn nearest_existing(path: &Path) -> PathBuf {
    path.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/")).to_owned()
}

/// An exclusive lock that ends with the process, however it ends.
#[derive(Debug)]
pub struct LockFile {
    file: File,
}

impl Drop for LockFile {
    /// Says so: a child that another thread is just starting shares the open file until
    /// it becomes its own program.
    fn drop(&mut self) {
        // The file is closed next, which ends the lock too.
        let _ = self.file.unlock();
    }
}

impl LockFile {
    /// Takes the lock, or `None` when another process holds it.
    pub fn take(path: &Path) -> Result<Option<Self>, FileError> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)
            .map_err(at("open lock", path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { file })),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(at("lock", path)(error)),
        }
    }
}

/// Opens a file for reading without holding up the runtime.
pub async fn open_async(path: &Path) -> io::Result<tokio::fs::File> {
    tokio::fs::File::open(path).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_file_has_its_mode_and_leaves_no_temporary() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("key");
        write_atomic(&path, b"one", 0o644).expect("writes");
        write_atomic(&path, b"two", 0o600).expect("replaces");
        assert_eq!(read_text(&path).expect("reads"), "two");
        assert_eq!(inspect(&path).expect("looks").expect("exists").mode, 0o600);
        assert_eq!(list_dir(dir.path()).expect("lists"), [path]);
    }

    #[test]
    fn absence_is_an_answer_and_not_an_error() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("none");
        assert!(read_if_present(&path).expect("asks").is_none());
        assert!(inspect(&path).expect("asks").is_none());
        assert!(!remove_file(&path).expect("removes"));
        assert!(read(&path).expect_err("is absent").is_absent());
    }

    #[test]
    fn a_lock_is_held_by_one() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("lock");
        let first = LockFile::take(&path).expect("locks");
        assert!(first.is_some());
        assert!(LockFile::take(&path).expect("asks").is_none());
        drop(first);
        assert!(LockFile::take(&path).expect("asks").is_some());
    }
}
