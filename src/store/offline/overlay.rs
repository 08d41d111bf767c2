//! A member's directory as it is, with all writes kept in memory.
//!
//! Why: opening a log counts a start and opening a state file may repair it. Whoever looks
//! at a stopped member, above all at the last one that is left, must not change a byte.
//! Invariants: nothing below the directory is ever written; the files are locked like the
//! running member locks them, so a running member is noticed.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, OpenOptions};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use futures::future::BoxFuture;
use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

use crate::store::disk::{DiskSpace, DiskWork, StoreDisk};

const PAGE: u64 = 4096;
const POISON: &str = "no holder of the overlay's lock panics";

/// The directory and what was changed over it.
#[derive(Debug)]
pub(crate) struct OverlayDisk {
    dir: PathBuf,
    /// Files that were opened, renamed or removed (`None`).
    files: Mutex<BTreeMap<String, Option<Arc<OverlayFile>>>>,
}

#[derive(Debug)]
struct OverlayFile {
    base: Option<FileBackend>,
    content: Mutex<Content>,
}

#[derive(Debug)]
struct Content {
    len: u64,
    /// Up to where the base still shows through.
    base_len: u64,
    pages: HashMap<u64, Box<[u8]>>,
}

impl OverlayDisk {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), files: Mutex::new(BTreeMap::new()) }
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Option<Arc<OverlayFile>>>> {
        self.files.lock().expect(POISON)
    }

    fn file(&self, name: &str) -> io::Result<Option<Arc<OverlayFile>>> {
        if let Some(known) = self.files().get(name) {
            return Ok(known.clone());
        }
        let path = self.dir.join(name);
        // Writing is asked for because the lock wants it; nothing is written.
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let len = file.metadata()?.len();
        let base = FileBackend::new(file).map_err(io::Error::other)?;
        let content = Content { len, base_len: len, pages: HashMap::new() };
        let opened = Arc::new(OverlayFile { base: Some(base), content: Mutex::new(content) });
        self.files().insert(name.to_owned(), Some(opened.clone()));
        Ok(Some(opened))
    }
}

impl StoreDisk for OverlayDisk {
    fn open(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        let file = match self.file(name)? {
            Some(file) => file,
            None => {
                let content = Content { len: 0, base_len: 0, pages: HashMap::new() };
                let fresh = Arc::new(OverlayFile { base: None, content: Mutex::new(content) });
                self.files().insert(name.to_owned(), Some(fresh.clone()));
                fresh
            }
        };
        Ok(Box::new(Handle(file)))
    }

    fn exists(&self, name: &str) -> io::Result<bool> {
        match self.files().get(name) {
            Some(known) => Ok(known.is_some()),
            None => self.dir.join(name).try_exists(),
        }
    }

    fn size(&self, name: &str) -> io::Result<u64> {
        if let Some(known) = self.files().get(name) {
            return Ok(known.as_ref().map_or(0, |file| file.content().len));
        }
        match fs::metadata(self.dir.join(name)) {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files().insert(name.to_owned(), None);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let file = self.file(from)?.ok_or(io::ErrorKind::NotFound)?;
        let mut files = self.files();
        files.insert(from.to_owned(), None);
        files.insert(to.to_owned(), Some(file));
        Ok(())
    }

    /// Memory has no reserve to keep.
    fn space(&self) -> io::Result<DiskSpace> {
        Ok(DiskSpace { free_bytes: u64::MAX, total_bytes: u64::MAX })
    }

    fn run(&self, work: DiskWork) -> BoxFuture<'static, ()> {
        Box::pin(async move { work() })
    }
}

impl OverlayFile {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().expect(POISON)
    }

    /// A page as it is now, zeros behind the end.
    fn page(&self, content: &Content, number: u64) -> io::Result<Vec<u8>> {
        if let Some(page) = content.pages.get(&number) {
            return Ok(page.to_vec());
        }
        let mut page = vec![0; PAGE as usize];
        let start = number * PAGE;
        let shown = content.base_len.saturating_sub(start).min(PAGE) as usize;
        if let Some(base) = self.base.as_ref().filter(|_| shown > 0) {
            base.read(start, &mut page[..shown])?;
        }
        Ok(page)
    }
}

/// One opening of a file; closing it keeps the lock until the disk is dropped.
#[derive(Debug)]
struct Handle(Arc<OverlayFile>);

impl Handle {
    fn lock<T>(
        &self,
        unlocked: T,
        on: impl FnOnce(&FileBackend) -> Result<T, BackendError>,
    ) -> Result<T, BackendError> {
        self.0.base.as_ref().map_or(Ok(unlocked), on)
    }
}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.content().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let content = self.0.content();
        if offset + out.len() as u64 > content.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut done = 0;
        while done < out.len() {
            let at = offset + done as u64;
            let within = (at % PAGE) as usize;
            let step = (PAGE as usize - within).min(out.len() - done);
            let page = self.0.page(&content, at / PAGE)?;
            out[done..done + step].copy_from_slice(&page[within..within + step]);
            done += step;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut content = self.0.content();
        if len < content.len {
            let (number, within) = (len / PAGE, (len % PAGE) as usize);
            let mut page = self.0.page(&content, number)?;
            page[within..].fill(0);
            content.pages.retain(|known, _| *known < number);
            content.pages.insert(number, page.into());
            content.base_len = content.base_len.min(number * PAGE);
        }
        content.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut content = self.0.content();
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let within = (at % PAGE) as usize;
            let step = (PAGE as usize - within).min(data.len() - done);
            let mut page = self.0.page(&content, at / PAGE)?;
            page[within..within + step].copy_from_slice(&data[done..done + step]);
            content.pages.insert(at / PAGE, page.into());
            done += step;
        }
        content.len = content.len.max(offset + data.len() as u64);
        Ok(())
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.lock(true, |base| base.try_lock_range(start, end))
    }
    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.lock(true, |base| base.try_lock_shared_range(start, end))
    }
    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.lock((), |base| base.lock_range(start, end))
    }
    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.lock((), |base| base.lock_shared_range(start, end))
    }
    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.lock((), |base| base.unlock_range(start, end))
    }
    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.lock(false, |base| base.query_lock_range(start, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_over_a_directory_is_read_back_and_never_reaches_it() {
        let dir = tempfile::tempdir().unwrap();
        let original: Vec<u8> = (0..10_000_u32).map(|byte| byte as u8).collect();
        fs::write(dir.path().join("a"), &original).unwrap();
        let disk = OverlayDisk::new(dir.path());
        let file = disk.open("a").unwrap();
        file.write(4_090, &[7; 20]).unwrap();
        file.set_len(9_000).unwrap();
        file.set_len(12_000).unwrap();
        disk.rename("a", "b").unwrap();
        disk.open("c").unwrap().write(0, b"new").unwrap();
        let mut expected = original.clone();
        expected[4_090..4_110].fill(7);
        expected.truncate(9_000);
        expected.resize(12_000, 0);
        let mut found = vec![0; 12_000];
        disk.open("b").unwrap().read(0, &mut found).unwrap();
        assert_eq!(found, expected);
        assert!(!disk.exists("a").unwrap() && disk.exists("c").unwrap());
        drop((file, disk));
        assert_eq!(fs::read(dir.path().join("a")).unwrap(), original);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
