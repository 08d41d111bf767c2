//! One open file read at offsets by many readers at once, and whole-file writes that
//! are complete or absent.
//!
//! Why offsets: a bundle is checked and extracted entry by entry; one shared handle means
//! that the file which was verified is the file that is read, even if its path is swapped.
//! Invariants: [`replace`] leaves the old content or the new one, never a part.
//! Not here: the meaning of the bytes (`bundle/`).

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

/// A file open for reading at any place; clones share the handle.
#[derive(Clone, Debug)]
pub struct SharedFile {
    file: Arc<File>,
    len: u64,
}

impl SharedFile {
    /// Opens a regular file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(Self { file: Arc::new(file), len: meta.len() })
    }

    /// Bytes in the file when it was opened.
    pub fn size(&self) -> u64 {
        self.len
    }

    /// Fills `buffer` from `offset` on.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    /// A reader of `len` bytes from `offset` on.
    pub fn section(&self, offset: u64, len: u64) -> Section {
        Section { file: self.file.clone(), at: offset, left: len }
    }
}

/// A bounded part of a [`SharedFile`] as a stream.
#[derive(Debug)]
pub struct Section {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let got = self.file.read_at(&mut buffer[..want], self.at)?;
        self.at += got as u64;
        self.left -= got as u64;
        Ok(got)
    }
}

/// Writes `bytes` to `path` with `mode`: to a new file beside it, synced, then renamed.
pub fn replace(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    replace_from(path, mode, &mut io::Cursor::new(bytes)).map(|_| ())
}

/// As [`replace`], from a reader; an error of the reader leaves `path` as it was.
/// Returns the bytes written.
pub fn replace_from(path: &Path, mode: u32, source: &mut dyn Read) -> io::Result<u64> {
    let folder = folder_of(path);
    std::fs::create_dir_all(&folder)?;
    let mut draft = tempfile::Builder::new().prefix(".draft-").tempfile_in(&folder)?;
    let written = io::copy(source, draft.as_file_mut())?;
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
    draft.as_file().set_permissions(permissions)?;
    draft.as_file().sync_all()?;
    draft.persist(path).map_err(|failed| failed.error)?;
    File::open(&folder)?.sync_all()?;
    Ok(written)
}

/// A file in the making beside its place, for writers that go back and forth in it. Dropped
/// before [`settle`](Self::settle) it is gone and the place is as it was.
#[derive(Debug)]
pub struct Draft {
    draft: tempfile::NamedTempFile,
    place: PathBuf,
}

impl Draft {
    /// Starts an empty file that will stand at `place`.
    pub fn start(place: &Path) -> io::Result<Self> {
        let folder = folder_of(place);
        let draft = tempfile::Builder::new().prefix(".draft-").tempfile_in(folder)?;
        Ok(Self { draft, place: place.to_path_buf() })
    }

    /// Where it is written.
    pub fn path(&self) -> &Path {
        self.draft.path()
    }

    /// Syncs it, puts it in its place and answers its size.
    pub fn settle(self, mode: u32) -> io::Result<u64> {
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        self.draft.as_file().set_permissions(permissions)?;
        self.draft.as_file().sync_all()?;
        let size = self.draft.as_file().metadata()?.len();
        self.draft.persist(&self.place).map_err(|failed| failed.error)?;
        File::open(folder_of(&self.place))?.sync_all()?;
        Ok(size)
    }
}

/// Opens a file that is there, to read and to write it.
pub fn open_to_change(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// Writes over a part of a file that is there.
pub fn write_at(path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
    open_to_change(path)?.write_all_at(bytes, offset)
}

/// Writes a file that must not exist yet.
pub fn create_new(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Creates a folder and those above it; no error when it is there.
pub fn create_folder(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path)
}

/// Removes a file; no error when it is not there.
pub fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Creates or empties a file for writing.
pub fn create(path: &Path) -> io::Result<File> {
    File::create(path)
}

/// A folder below `beside` that is removed when the value is dropped.
pub fn work_folder(beside: &Path) -> io::Result<tempfile::TempDir> {
    std::fs::create_dir_all(beside)?;
    tempfile::Builder::new().prefix(".work-").tempdir_in(beside)
}

/// The whole text of a small file.
pub fn read_text(path: &Path) -> io::Result<String> {
    std::fs::read_to_string(path)
}

/// The whole content of a file.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    std::fs::read(path)
}

/// The SHA-256 of a file, hex, and its size.
pub fn digest(path: &Path) -> io::Result<(String, u64)> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 128 * 1024];
    let mut size = 0;
    loop {
        let got = file.read(&mut buffer)?;
        if got == 0 {
            return Ok((hex::encode(hash.finalize()), size));
        }
        hash.update(&buffer[..got]);
        size += got as u64;
    }
}

/// The folder that `path` stands in.
pub fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}
