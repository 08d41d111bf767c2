//! Small files and directory trees that a host's root or a lab's directory consists of.
//!
//! Invariants: a file is replaced as a whole or not at all, and is on disk when the call
//! returns; removing what is not there is no error. Errors carry the path in their text.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

fn at(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    let path = path.to_owned();
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Makes a directory and its parents; returns whether it was not there.
pub fn make_dir(path: &Path) -> io::Result<bool> {
    if path.is_dir() {
        return Ok(false);
    }
    fs::create_dir_all(path).map_err(at(path))?;
    Ok(true)
}

/// Makes a directory with the given mode.
pub fn make_dir_mode(path: &Path, mode: u32) -> io::Result<()> {
    make_dir(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(at(path))
}

/// Where a new version of a file lies until it is complete; a crash may leave it there.
pub fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

/// Replaces a file: written beside it, flushed, renamed, and the rename flushed too.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    make_dir(parent)?;
    let beside = beside(path);
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(mode)
        .open(&beside)
        .map_err(at(&beside))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(at(&beside))?;
    fs::rename(&beside, path).map_err(at(path))?;
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(at(parent))
}

/// Writes a file unless it is there.
pub fn write_once(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    if path.exists() { Ok(()) } else { replace(path, bytes, mode) }
}

/// Copies a program so that later changes of the original do not show.
pub fn copy_program(from: &Path, to: &Path) -> io::Result<()> {
    let beside = beside(to);
    fs::copy(from, &beside).map_err(at(from))?;
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o755)).map_err(at(&beside))?;
    fs::rename(&beside, to).map_err(at(to))
}

/// A file's text; `None` when there is no such file.
pub fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path)(error)),
    }
}

/// Opens a log for appending.
pub fn open_log(path: &Path) -> io::Result<File> {
    if let Some(parent) = path.parent() {
        make_dir(parent)?;
    }
    OpenOptions::new().create(true).append(true).open(path).map_err(at(path))
}

/// Names of the entries of a directory, sorted; empty when there is none.
pub fn list(path: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(at(path))?,
    };
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

/// Removes a file, or a directory with all below it.
pub fn remove(path: &Path) -> io::Result<()> {
    let gone = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match gone {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path)(error)),
        _ => Ok(()),
    }
}

/// The last lines of a text file, at most `lines` of its last 64 KiB.
pub fn tail(path: &Path, lines: usize) -> io::Result<String> {
    use std::io::{Read, Seek, SeekFrom};
    const WINDOW_BYTES: u64 = 64 * 1024;
    let mut file = File::open(path).map_err(at(path))?;
    let length = file.metadata().map_err(at(path))?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(WINDOW_BYTES))).map_err(at(path))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(at(path))?;
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    Ok(all[all.len().saturating_sub(lines)..].join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/er/file");
        replace(&path, b"one\ntwo\nthree\n", 0o600).unwrap();
        write_once(&path, b"other", 0o600).unwrap();
        assert_eq!(tail(&path, 2).unwrap(), "two\nthree");
        assert_eq!(list(path.parent().unwrap()).unwrap(), ["file"]);
        remove(&dir.path().join("deep")).unwrap();
        remove(&dir.path().join("deep")).unwrap();
        assert_eq!(read(&path).unwrap(), None);
    }
}
