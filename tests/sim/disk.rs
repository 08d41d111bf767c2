//! A disk in memory that forgets what was not synced when its member crashes.
//!
//! A crash keeps any part of the unsynced writes, in any combination, as a real disk may.
//! `lie` is the planted fault: a sync returns before the data of the last ones is safe.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use holdfast::store::{DiskSpace, DiskWork, StoreDisk};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use redb::StorageBackend;

#[derive(Debug, Clone)]
enum Write {
    Data(u64, Vec<u8>),
    Len(u64),
}

fn apply(bytes: &mut Vec<u8>, write: &Write) {
    match write {
        Write::Len(len) => bytes.resize(*len as usize, 0),
        Write::Data(offset, data) => {
            let end = *offset as usize + data.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*offset as usize..end].copy_from_slice(data);
        }
    }
}

#[derive(Debug, Default)]
struct File {
    seen: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Write>,
    /// With `lie`: writes of the last syncs, which are not safe yet.
    promised: VecDeque<Vec<Write>>,
}

#[derive(Debug)]
struct Platter {
    files: BTreeMap<String, Arc<Mutex<File>>>,
    rng: SmallRng,
    lie: bool,
    /// Syncs until the disk dies in the middle of one.
    fuse: Option<u32>,
}

/// What survives a member; hand out a [`SimDisk`] for each of its lives.
#[derive(Debug, Clone)]
pub(crate) struct Disk(Arc<Mutex<Platter>>);

impl Disk {
    pub(crate) fn new(seed: u64, lie: bool) -> Self {
        let rng = SmallRng::seed_from_u64(seed);
        Self(Arc::new(Mutex::new(Platter { files: BTreeMap::new(), rng, lie, fuse: None })))
    }

    pub(crate) fn start(&self) -> SimDisk {
        self.0.lock().unwrap().fuse = None;
        SimDisk { platter: self.0.clone(), dead: Arc::new(AtomicBool::new(false)) }
    }

    /// Lets the disk die in one of its next syncs.
    pub(crate) fn light_fuse(&self, syncs: u32) {
        self.0.lock().unwrap().fuse = Some(syncs);
    }

    /// Forgets what was not synced, but for a random part of it.
    pub(crate) fn crash(&self, life: &SimDisk) {
        life.dead.store(true, Ordering::SeqCst);
        let mut platter = self.0.lock().unwrap();
        let platter = &mut *platter;
        for file in platter.files.values() {
            let mut file = file.lock().unwrap();
            file.promised.clear();
            let unsynced = std::mem::take(&mut file.unsynced);
            // A generator of its own: how many writes there are must not shift what follows.
            let mut rng = SmallRng::seed_from_u64(platter.rng.random());
            let luck = rng.random_range(0..3);
            for write in unsynced {
                let kept = luck == 1 && rng.random_bool(0.5);
                if kept && !platter.lie {
                    apply(&mut file.durable, &write);
                }
            }
            file.seen = file.durable.clone();
        }
    }
}

/// The disk during one life of a member; dead handles fail.
#[derive(Debug, Clone)]
pub(crate) struct SimDisk {
    platter: Arc<Mutex<Platter>>,
    dead: Arc<AtomicBool>,
}

impl SimDisk {
    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    fn alive(&self) -> io::Result<()> {
        if self.is_dead() { Err(io::Error::other("the member crashed")) } else { Ok(()) }
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
        self.disk.alive()?;
        let mut file = self.file.lock().unwrap();
        apply(&mut file.seen, &Write::Len(len));
        file.unsynced.push(Write::Len(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.alive()?;
        let mut platter = self.disk.platter.lock().unwrap();
        if let Some(fuse) = &mut platter.fuse {
            if *fuse == 0 {
                self.disk.dead.store(true, Ordering::SeqCst);
                return Err(io::Error::other("the disk died"));
            }
            *fuse -= 1;
        }
        let mut file = self.file.lock().unwrap();
        let writes = std::mem::take(&mut file.unsynced);
        if platter.lie {
            file.promised.push_back(writes);
            if file.promised.len() <= 8 {
                return Ok(());
            }
        } else {
            file.promised.push_back(writes);
        }
        if let Some(writes) = file.promised.pop_front() {
            for write in &writes {
                apply(&mut file.durable, write);
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.alive()?;
        let mut file = self.file.lock().unwrap();
        let write = Write::Data(offset, data.to_vec());
        apply(&mut file.seen, &write);
        file.unsynced.push(write);
        Ok(())
    }
}

impl StoreDisk for SimDisk {
    fn open(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        self.alive()?;
        let mut platter = self.platter.lock().unwrap();
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
        self.alive()?;
        self.platter.lock().unwrap().files.remove(name);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.alive()?;
        let mut platter = self.platter.lock().unwrap();
        let file = platter.files.remove(from);
        let file = file.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        platter.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn space(&self) -> io::Result<DiskSpace> {
        Ok(DiskSpace { free_bytes: 1 << 40, total_bytes: 1 << 40 })
    }

    fn run(&self, work: DiskWork) -> BoxFuture<'static, ()> {
        let micros = self.platter.lock().unwrap().rng.random_range(50..3_000);
        Box::pin(async move {
            tokio::time::sleep(Duration::from_micros(micros)).await;
            work();
        })
    }
}
