//! A member's disk in memory that fails at its nth operation, and what a crash leaves of it.
//!
//! Files forget what was not synced, the directory what was not synced in it: making and
//! renaming a file sync the directory as they do on the host, removing one does not.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use futures::future::BoxFuture;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use redb::StorageBackend;

use crate::store::{DiskSpace, DiskWork, StoreDisk};

#[derive(Clone, Debug)]
enum Write {
    Data(u64, Vec<u8>),
    Len(u64),
}

#[derive(Clone, Debug, Default)]
struct File {
    seen: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Write>,
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

/// Names of files, each with the number of its content.
type Names = BTreeMap<String, usize>;

/// What an operation does when it is its turn to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The machine stops; the operation may have been done or not.
    Crash,
    /// The operation is refused, later ones are not.
    Refused(io::ErrorKind),
    /// This one and all later writes are refused.
    Full,
}

#[derive(Debug, Default)]
struct Platter {
    files: Vec<File>,
    names: Names,
    /// What the directory was after each change that is not synced; the first is durable.
    directories: Vec<Names>,
    /// What was done, for people.
    operations: Vec<String>,
    fails: Option<(usize, Failure)>,
    /// A sync of a file makes nothing durable.
    lies: bool,
    dead: bool,
}

/// Clones share the disk.
#[derive(Clone, Debug)]
pub(super) struct FailingDisk(Arc<Mutex<Platter>>);

fn stopped() -> io::Error {
    io::Error::other("the machine has stopped")
}

impl Platter {
    /// Counts an operation; `Ok(false)` if the machine stops with it.
    fn count(&mut self, what: String, writes: bool) -> io::Result<bool> {
        if self.dead {
            return Err(stopped());
        }
        let number = self.operations.len();
        self.operations.push(what);
        match self.fails {
            Some((at, Failure::Crash)) if number >= at => {
                self.dead = true;
                Ok(false)
            }
            Some((at, Failure::Refused(kind))) if number == at => Err(kind.into()),
            Some((at, Failure::Full)) if number >= at && writes => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(true),
        }
    }

    /// A change of the directory, which is durable with the next sync of it.
    fn change_names(&mut self, change: impl FnOnce(&mut Names)) {
        change(&mut self.names);
        self.directories.push(self.names.clone());
    }

    fn sync_names(&mut self, why: &str) -> io::Result<()> {
        if !self.count(format!("sync the directory after {why}"), false)? {
            return Err(stopped());
        }
        self.directories = vec![self.names.clone()];
        Ok(())
    }
}

impl FailingDisk {
    pub(super) fn new() -> Self {
        let platter = Platter { directories: vec![Names::new()], ..Platter::default() };
        Self(Arc::new(Mutex::new(platter)))
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap()
    }

    pub(super) fn fail_at(&self, operation: usize, failure: Failure) {
        self.platter().fails = Some((operation, failure));
    }

    pub(super) fn lie(&self) {
        self.platter().lies = true;
    }

    pub(super) fn operations(&self) -> Vec<String> {
        self.platter().operations.clone()
    }

    /// Whether the failure has happened.
    pub(super) fn has_failed(&self) -> bool {
        let platter = self.platter();
        platter.fails.is_some_and(|(at, _)| platter.operations.len() > at)
    }

    /// The disk after a crash: what was synced, and by chance some of what was not. The
    /// old one is dead to whoever still holds it.
    pub(super) fn crash(&self, seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut platter = self.platter();
        platter.dead = true;
        let luck = rng.random_range(0..3);
        let kept = |rng: &mut SmallRng| luck == 1 || (luck == 2 && rng.random_bool(0.5));
        let files = platter.files.iter().map(|file| {
            let mut bytes = file.durable.clone();
            for write in &file.unsynced {
                if kept(&mut rng) {
                    apply(&mut bytes, write);
                }
            }
            File { seen: bytes.clone(), durable: bytes, unsynced: Vec::new() }
        });
        let files = files.collect();
        let names = platter.directories[rng.random_range(0..platter.directories.len())].clone();
        let directories = vec![names.clone()];
        let after = Platter { files, names, directories, ..Platter::default() };
        Self(Arc::new(Mutex::new(after)))
    }
}

#[derive(Debug)]
struct Handle {
    disk: FailingDisk,
    name: String,
    file: usize,
}

impl Handle {
    fn change(&self, what: &str, write: Write) -> io::Result<()> {
        let mut platter = self.disk.platter();
        let goes_on = platter.count(format!("{what} {}", self.name), true)?;
        let file = &mut platter.files[self.file];
        file.unsynced.push(write.clone());
        if !goes_on {
            return Err(stopped());
        }
        apply(&mut file.seen, &write);
        Ok(())
    }
}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.platter().files[self.file].seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.disk.platter();
        let from = offset as usize;
        let found = platter.files[self.file].seen.get(from..from + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change("set the length of", Write::Len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.disk.platter();
        if !platter.count(format!("sync {}", self.name), false)? {
            return Err(stopped());
        }
        if platter.lies {
            return Ok(());
        }
        let file = &mut platter.files[self.file];
        for write in file.unsynced.drain(..) {
            apply(&mut file.durable, &write);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change("write", Write::Data(offset, data.to_vec()))
    }
}

impl StoreDisk for FailingDisk {
    fn open(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        let mut platter = self.platter();
        if platter.dead {
            return Err(stopped());
        }
        let file = match platter.names.get(name) {
            Some(file) => *file,
            None => {
                let goes_on = platter.count(format!("make {name}"), true)?;
                platter.files.push(File::default());
                let file = platter.files.len() - 1;
                platter.change_names(|names| {
                    names.insert(name.to_owned(), file);
                });
                if !goes_on {
                    return Err(stopped());
                }
                platter.sync_names("making a file")?;
                file
            }
        };
        drop(platter);
        Ok(Box::new(Handle { disk: self.clone(), name: name.to_owned(), file }))
    }

    fn exists(&self, name: &str) -> io::Result<bool> {
        let platter = self.platter();
        if platter.dead { Err(stopped()) } else { Ok(platter.names.contains_key(name)) }
    }

    fn size(&self, name: &str) -> io::Result<u64> {
        let platter = self.platter();
        let file = platter.names.get(name).map(|file| &platter.files[*file]);
        Ok(file.map_or(0, |file| file.seen.len() as u64))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut platter = self.platter();
        if !platter.names.contains_key(name) {
            return if platter.dead { Err(stopped()) } else { Ok(()) };
        }
        let goes_on = platter.count(format!("remove {name}"), false)?;
        platter.change_names(|names| {
            names.remove(name);
        });
        if goes_on { Ok(()) } else { Err(stopped()) }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut platter = self.platter();
        let goes_on = platter.count(format!("rename {from} to {to}"), false)?;
        let file = *platter.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        platter.change_names(|names| {
            names.remove(from);
            names.insert(to.to_owned(), file);
        });
        if !goes_on {
            return Err(stopped());
        }
        platter.sync_names("a rename")
    }

    fn space(&self) -> io::Result<DiskSpace> {
        Ok(DiskSpace { free_bytes: 1 << 40, total_bytes: 1 << 40 })
    }

    fn run(&self, work: DiskWork) -> BoxFuture<'static, ()> {
        Box::pin(async move { work() })
    }
}
