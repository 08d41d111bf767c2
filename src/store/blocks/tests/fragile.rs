//! A file in memory that fails at its nth operation and forgets what was not synced.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use rand::RngExt;
use rand::rngs::SmallRng;
use redb::StorageBackend;

const SECTOR: usize = 512;

#[derive(Clone, Debug)]
enum Write {
    Data(u64, Vec<u8>),
    Len(u64),
}

fn apply(bytes: &mut Vec<u8>, write: &Write) {
    match write {
        Write::Len(len) => bytes.resize(*len as usize, 0),
        Write::Data(offset, data) => {
            let (from, end) = (*offset as usize, *offset as usize + data.len());
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[from..end].copy_from_slice(data);
        }
    }
}

#[derive(Debug, Default)]
struct Content {
    seen: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Write>,
    operations: usize,
    /// The operation that fails, and all after it.
    fails_at: Option<usize>,
    /// A sync makes nothing durable.
    lies: bool,
}

/// What becomes of unsynced writes in a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Lost,
    Kept,
    /// Each by chance.
    Some,
    /// Each sector of each by chance; of the last one written a part of a sector.
    Torn,
}

/// Clones share the file.
#[derive(Clone, Debug, Default)]
pub(super) struct Fragile(Arc<Mutex<Content>>);

impl Fragile {
    pub(super) fn holding(bytes: Vec<u8>) -> Self {
        let content = Content { seen: bytes.clone(), durable: bytes, ..Content::default() };
        Self(Arc::new(Mutex::new(content)))
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap()
    }

    pub(super) fn fail_at(&self, operation: usize) {
        self.content().fails_at = Some(operation);
    }

    pub(super) fn lie(&self, lies: bool) {
        self.content().lies = lies;
    }

    pub(super) fn operations(&self) -> usize {
        self.content().operations
    }

    pub(super) fn has_failed(&self) -> bool {
        let content = self.content();
        content.fails_at.is_some_and(|at| content.operations > at)
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.content().seen.clone()
    }

    /// The file as a crash leaves it.
    pub(super) fn crash(&self, fate: Fate, rng: &mut SmallRng) -> Self {
        let content = self.content();
        let mut bytes = content.durable.clone();
        for (number, write) in content.unsynced.iter().enumerate() {
            let last = number + 1 == content.unsynced.len();
            match (fate, write) {
                (Fate::Kept, write) => apply(&mut bytes, write),
                (Fate::Torn, Write::Data(offset, data)) => {
                    for (at, sector) in data.chunks(SECTOR).enumerate() {
                        let of = offset + (at * SECTOR) as u64;
                        let cut = if last { rng.random_range(0..sector.len()) } else { 0 };
                        if rng.random_bool(0.5) {
                            apply(&mut bytes, &Write::Data(of, sector.to_vec()));
                        } else if cut > 0 && at == 0 {
                            apply(&mut bytes, &Write::Data(of, sector[..cut].to_vec()));
                        }
                    }
                }
                (Fate::Some | Fate::Torn, write) if rng.random_bool(0.5) => {
                    apply(&mut bytes, write);
                }
                (Fate::Lost | Fate::Some | Fate::Torn, _) => {}
            }
        }
        Self::holding(bytes)
    }

    /// Counts an operation and says whether it is the one that fails, or one behind it.
    fn count(content: &mut Content) -> io::Result<()> {
        let number = content.operations;
        content.operations += 1;
        match content.fails_at {
            Some(at) if number >= at => Err(io::Error::other("the disk is gone")),
            _ => Ok(()),
        }
    }

    fn change(&self, write: Write) -> io::Result<()> {
        let mut content = self.content();
        let gone = content.fails_at.is_some_and(|at| content.operations > at);
        let counted = Self::count(&mut content);
        if !gone {
            // The one that fails may have reached the disk all the same.
            content.unsynced.push(write.clone());
        }
        counted?;
        apply(&mut content.seen, &write);
        Ok(())
    }
}

impl StorageBackend for Fragile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.content().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let content = self.content();
        let from = offset as usize;
        let found = content.seen.get(from..from + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Write::Len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut content = self.content();
        Self::count(&mut content)?;
        let content = &mut *content;
        if content.lies {
            return Ok(());
        }
        for write in content.unsynced.drain(..) {
            apply(&mut content.durable, &write);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Write::Data(offset, data.to_vec()))
    }
}
