//! A disk in memory that forgets what was not synced when the power goes, and fails.
//!
//! Faults: dying at any operation, a sync that fails once, no space (with and without
//! warning), slowness. `lie` and `dropped` are planted: a sync that returns before the data
//! of the last ones is safe, and one of many that does nothing.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use holdfast::store::{DiskSpace, DiskWork, StoreDisk};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use redb::StorageBackend;

use crate::disk_file::{File, Write};
use crate::plant::Plant;
use crate::trace;

const TOTAL_BYTES: u64 = 1 << 40;
/// Free space that is below every reserve.
const NEARLY_FULL_BYTES: u64 = 1 << 20;
/// Syncs that a lying disk is behind.
const LIE_SYNCS: usize = 8;

/// What is wrong with a disk at the moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Space {
    #[default]
    Plenty,
    /// It says that it is nearly full.
    Low,
    /// Files cannot grow.
    None,
}

#[derive(Debug)]
struct Platter {
    number: u64,
    files: BTreeMap<String, Arc<Mutex<File>>>,
    rng: SmallRng,
    plant: Plant,
    /// Operations until the power goes in the middle of one.
    fuse: Option<u32>,
    /// Whether the next sync fails, and whether one did since the last start.
    sync_fails: bool,
    sync_failed: bool,
    space: Space,
    /// Longest time that work takes, microseconds.
    slowness_us: u64,
}

/// What survives a member; hand out a [`SimDisk`] for each of its lives.
#[derive(Debug, Clone)]
pub(crate) struct Disk(Arc<Mutex<Platter>>);

const QUICK_US: u64 = 3_000;

impl Disk {
    pub(crate) fn new(seed: u64, number: u64, plant: Plant) -> Self {
        let platter = Platter {
            number,
            files: BTreeMap::new(),
            rng: crate::random::stream(seed, "disk", number),
            plant,
            fuse: None,
            sync_fails: false,
            sync_failed: false,
            space: Space::Plenty,
            slowness_us: QUICK_US,
        };
        Self(Arc::new(Mutex::new(platter)))
    }

    /// What was wrong with it stays wrong, but for what a new start mends.
    pub(crate) fn start(&self) -> SimDisk {
        let mut platter = self.0.lock().unwrap();
        platter.fuse = None;
        platter.sync_fails = false;
        platter.sync_failed = false;
        let number = platter.number;
        SimDisk { number, platter: self.0.clone(), dead: Arc::new(AtomicBool::new(false)) }
    }

    /// The power goes at one of the next operations.
    pub(crate) fn light_fuse(&self, operations: u32) {
        self.0.lock().unwrap().fuse = Some(operations);
    }

    pub(crate) fn fail_a_sync(&self) {
        self.0.lock().unwrap().sync_fails = true;
    }

    pub(crate) fn set_space(&self, space: Space) {
        self.0.lock().unwrap().space = space;
    }

    /// Whether what is wrong with it excuses a member that does not start.
    pub(crate) fn is_to_blame(&self) -> bool {
        let platter = self.0.lock().unwrap();
        platter.space == Space::None || platter.sync_failed
    }

    pub(crate) fn mend(&self) {
        let mut platter = self.0.lock().unwrap();
        platter.space = Space::Plenty;
        platter.slowness_us = QUICK_US;
        platter.sync_fails = false;
    }

    pub(crate) fn set_slowness(&self, most: Option<Duration>) {
        let most = most.map_or(QUICK_US, |most| most.as_micros() as u64);
        self.0.lock().unwrap().slowness_us = most;
    }

    /// Forgets what was not synced, but for a random part of it.
    pub(crate) fn lose_power(&self, life: &SimDisk) {
        life.dead.store(true, Ordering::SeqCst);
        let mut platter = self.0.lock().unwrap();
        let platter = &mut *platter;
        for file in platter.files.values() {
            // A generator of its own: how many writes there are must not shift what follows.
            let mut rng = SmallRng::seed_from_u64(platter.rng.random());
            file.lock().unwrap().lose_power(&mut rng);
        }
    }

    /// A copy of all that is on it, on another disk.
    pub(crate) fn copy_to(&self, other: &Disk) {
        let files = self.0.lock().unwrap().files.clone();
        let copied = files.into_iter().map(|(name, file)| {
            let whole = File::whole(file.lock().unwrap().seen.clone());
            (name, Arc::new(Mutex::new(whole)))
        });
        other.0.lock().unwrap().files = copied.collect();
    }

    /// Writes its files to a directory of the host, for tools that read directories.
    pub(crate) fn export(&self, to: &Path) -> io::Result<()> {
        std::fs::create_dir_all(to)?;
        for (name, file) in &self.0.lock().unwrap().files {
            std::fs::write(to.join(name), &file.lock().unwrap().seen)?;
        }
        Ok(())
    }

    /// Takes its files from a directory of the host.
    pub(crate) fn import(&self, from: &Path) -> io::Result<()> {
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let file = File::whole(std::fs::read(entry.path())?);
            files.insert(name, Arc::new(Mutex::new(file)));
        }
        self.0.lock().unwrap().files = files;
        Ok(())
    }
}

/// The disk during one life of a member; dead handles fail.
#[derive(Debug, Clone)]
pub(crate) struct SimDisk {
    number: u64,
    platter: Arc<Mutex<Platter>>,
    dead: Arc<AtomicBool>,
}

fn no_space() -> io::Error {
    io::Error::from(io::ErrorKind::StorageFull)
}

impl SimDisk {
    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    fn alive(&self) -> io::Result<()> {
        if self.is_dead() { Err(io::Error::other("the member crashed")) } else { Ok(()) }
    }

    /// Counts an operation that changes something; the power may go at it.
    fn operate(&self, what: &'static str, content: &[u8]) -> io::Result<()> {
        self.alive()?;
        trace::note(what, self.number, content);
        let mut platter = self.platter.lock().unwrap();
        if let Some(fuse) = &mut platter.fuse {
            if *fuse == 0 {
                self.dead.store(true, Ordering::SeqCst);
                return Err(io::Error::other("the power went"));
            }
            *fuse -= 1;
        }
        Ok(())
    }

    fn may_grow(&self) -> bool {
        self.platter.lock().unwrap().space != Space::None
    }
}

#[derive(Debug)]
struct Handle {
    disk: SimDisk,
    file: Arc<Mutex<File>>,
}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        self.disk.alive()?;
        Ok(self.file.lock().unwrap().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.alive()?;
        let file = self.file.lock().unwrap();
        let from = offset as usize;
        let found = file.seen.get(from..from + out.len());
        let found = found.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.operate("set_len", &len.to_le_bytes())?;
        let mut file = self.file.lock().unwrap();
        if len > file.seen.len() as u64 && !self.disk.may_grow() {
            return Err(no_space());
        }
        file.write(Write::Len(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.operate("sync", &[])?;
        let mut platter = self.disk.platter.lock().unwrap();
        let mut file = self.file.lock().unwrap();
        if std::mem::take(&mut platter.sync_fails) {
            platter.sync_failed = true;
            return Err(io::Error::other("the sync failed"));
        }
        let skipped = platter.plant == Plant::DroppedSync && platter.rng.random_bool(0.3);
        match platter.plant {
            Plant::LyingDisk => file.sync(LIE_SYNCS),
            _ if skipped => {}
            _ => file.sync(0),
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.operate("write", data)?;
        let mut file = self.file.lock().unwrap();
        if offset + data.len() as u64 > file.seen.len() as u64 && !self.disk.may_grow() {
            return Err(no_space());
        }
        file.write(Write::Data(offset, data.to_vec()));
        Ok(())
    }
}

impl StoreDisk for SimDisk {
    fn open(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        self.operate("open", name.as_bytes())?;
        let mut platter = self.platter.lock().unwrap();
        let full = platter.space == Space::None;
        if full && !platter.files.contains_key(name) {
            return Err(no_space());
        }
        let file = platter.files.entry(name.to_owned()).or_default().clone();
        Ok(Box::new(Handle { disk: self.clone(), file }))
    }

    fn exists(&self, name: &str) -> io::Result<bool> {
        self.alive()?;
        Ok(self.platter.lock().unwrap().files.contains_key(name))
    }

    fn size(&self, name: &str) -> io::Result<u64> {
        let platter = self.platter.lock().unwrap();
        Ok(platter.files.get(name).map_or(0, |file| file.lock().unwrap().seen.len() as u64))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.operate("remove", name.as_bytes())?;
        self.platter.lock().unwrap().files.remove(name);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.operate("rename", to.as_bytes())?;
        let mut platter = self.platter.lock().unwrap();
        let file = platter.files.remove(from);
        let file = file.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        platter.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn space(&self) -> io::Result<DiskSpace> {
        self.alive()?;
        let free_bytes = match self.platter.lock().unwrap().space {
            Space::Plenty => TOTAL_BYTES,
            Space::Low => NEARLY_FULL_BYTES,
            Space::None => 0,
        };
        Ok(DiskSpace { free_bytes, total_bytes: TOTAL_BYTES })
    }

    fn run(&self, work: DiskWork) -> BoxFuture<'static, ()> {
        let micros = {
            let mut platter = self.platter.lock().unwrap();
            let most = platter.slowness_us;
            platter.rng.random_range(50..most)
        };
        Box::pin(async move {
            tokio::time::sleep(Duration::from_micros(micros)).await;
            work();
        })
    }
}
