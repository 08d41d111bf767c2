//! A file under redb in which every block has a checksum.
//!
//! ```text
//!  redb ──block──► CheckedFile ──write──► block │ checksum in memory
//!                       │                            │ before each sync
//!                       │                            ▼
//!                       └──read: block, compared ◄── checksums of 1,022 blocks, one block
//! ```
//! Why: redb checks a page only when it repairs a file, so a bit that flipped would be
//! served. Why not a checksum beside each block: blocks would not stand where disks and
//! caches write at once, and a write that a disk lost would look whole.
//!
//! Crashes: redb writes a page only while nothing that was committed refers to it, and all
//! commits here have two phases: pages and their checksums are durable before the header
//! refers to them. So a block that does not match its checksum because a crash took one of
//! the two is never read before it is written anew. The header is written in turn (`head`);
//! while a file has not had two of them durable it has never held anything and is made anew.
//! Invariants: no byte is handed out that was not compared with its checksum, which covers
//! the file's salt and the block's position; damage is reported to whoever opened the file,
//! whatever becomes of the error; a file shorter than it was is noticed when it is opened.
//! Not here: what follows from damage (`state/damage`).

mod head;
mod layout;
mod sums;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::ops::{Bound, Deref, DerefMut};
use std::sync::{Mutex, MutexGuard};

use redb::{BackendError, StorageBackend};

use self::head::{Found, SLOT, Slot};
use self::layout::{BLOCK, block_offset, blocks_in, file_len, groups_of, place_of};
use self::sums::Sums;
use crate::store::runtime::random_u64;

/// Told what is wrong when a block is not as it was written.
pub(crate) type OnDamage = Box<dyn Fn(&str) + Send + Sync>;

/// How a file of the first version begins, which was redb's own.
const BARE_MAGIC: &[u8] = b"redb\x1a\n";
const BLOCK_BYTES: u64 = BLOCK as u64;

/// The file as redb sees it.
pub(crate) struct CheckedFile {
    name: String,
    file: Box<dyn StorageBackend>,
    head: Mutex<Option<Head>>,
    sums: Sums,
    on_damage: OnDamage,
}

impl fmt::Debug for CheckedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckedFile").field("name", &self.name).finish_non_exhaustive()
    }
}

/// redb's block 0 and how far it is on the disk.
#[derive(Debug)]
struct Head {
    slot: Slot,
    /// The newest number that is durable.
    durable: u64,
    /// Counts the writes of slots, durable or not.
    writes: u64,
    /// Blocks that redb sees; 0 in a file that holds nothing yet.
    blocks: u64,
}

/// The header once it was read.
struct HeadGuard<'a>(MutexGuard<'a, Option<Head>>);

impl Deref for HeadGuard<'_> {
    type Target = Head;

    fn deref(&self) -> &Head {
        self.0.as_ref().expect("a guard is made of a header that was read")
    }
}

impl DerefMut for HeadGuard<'_> {
    fn deref_mut(&mut self) -> &mut Head {
        self.0.as_mut().expect("a guard is made of a header that was read")
    }
}

impl CheckedFile {
    /// Nothing is read before redb has locked the file: somebody may be writing to it.
    pub(crate) fn new(name: &str, file: Box<dyn StorageBackend>, on_damage: OnDamage) -> Self {
        let name = name.to_owned();
        Self { name, file, head: Mutex::new(None), sums: Sums::default(), on_damage }
    }

    /// The header, read when it is asked for first.
    fn head(&self) -> io::Result<HeadGuard<'_>> {
        let mut head = self.head.lock().expect("no holder of the header's lock panics");
        if head.is_none() {
            let read = self.open_head()?;
            self.sums.begin(read.slot.salt, read.durable, groups_of(read.blocks));
            *head = Some(read);
        }
        Ok(HeadGuard(head))
    }

    /// Reads the slots; a file that nothing was ever committed to shows as empty.
    fn open_head(&self) -> io::Result<Head> {
        let len = self.file.len()?;
        let found = [self.read_slot(len, false)?, self.read_slot(len, true)?];
        let mut newest: Option<&Slot> = None;
        for slot in &found {
            match slot {
                Found::Slot(slot) if newest.is_none_or(|known| known.number < slot.number) => {
                    newest = Some(slot);
                }
                Found::Version(version) => return Err(self.foreign(&version.to_string())),
                Found::Slot(_) | Found::Blank | Found::Garbled => {}
            }
        }
        match newest {
            // The first one does not say yet that this is a file of redb's.
            Some(slot) if slot.number > 1 => {
                if blocks_in(len) < slot.blocks || len < file_len(1) {
                    let whole = file_len(slot.blocks);
                    return Err(self.damaged(&format!("{len} bytes are left of {whole}")));
                }
                let (durable, blocks) = (slot.number, blocks_in(len));
                Ok(Head { slot: slot.clone(), durable, writes: 0, blocks })
            }
            None if self.is_bare(len)? => Err(self.foreign("1")),
            None if !found.contains(&Found::Blank) => Err(self.damaged("it has no whole header")),
            _ => {
                let slot = Slot::fresh(random_u64());
                Ok(Head { slot, durable: 0, writes: 0, blocks: 0 })
            }
        }
    }

    /// A slot as far as the file has it.
    fn read_slot(&self, len: u64, odd: bool) -> io::Result<Found> {
        let offset = Slot::offset(u64::from(odd));
        let mut bytes = [0; SLOT];
        if len < offset + SLOT as u64 {
            return Ok(Found::Blank);
        }
        self.file.read(offset, &mut bytes)?;
        Ok(Slot::read(&bytes, odd))
    }

    /// Whether it is a file of the first version.
    fn is_bare(&self, len: u64) -> io::Result<bool> {
        let mut bytes = [0; BARE_MAGIC.len()];
        if len < bytes.len() as u64 {
            return Ok(false);
        }
        self.file.read(0, &mut bytes)?;
        Ok(bytes == BARE_MAGIC)
    }

    fn foreign(&self, version: &str) -> io::Error {
        let name = &self.name;
        let text = format!("{name} is of version {version}, which this release does not read");
        io::Error::new(io::ErrorKind::Unsupported, text)
    }

    /// Reports damage and makes the error of it.
    fn damaged(&self, what: &str) -> io::Error {
        let what = format!("{}: {what}", self.name);
        (self.on_damage)(&what);
        io::Error::new(io::ErrorKind::InvalidData, what)
    }

    /// What is shorter than it was while it is open is damage, too.
    fn read_whole(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("it was cut off while it was open"),
            _ => error,
        })
    }

    /// The header as it is on the disk, not in memory.
    fn read_head(&self, offset: usize, out: &mut [u8]) -> io::Result<()> {
        let head = self.head()?;
        if head.writes == 0 && head.durable == 0 {
            head.slot.copy_to(offset, out);
            return Ok(());
        }
        let number = head.slot.number;
        let mut bytes = [0; SLOT];
        self.read_whole(Slot::offset(number), &mut bytes)?;
        match Slot::read(&bytes, number % 2 == 1) {
            Found::Slot(slot) if *slot == head.slot => {
                slot.copy_to(offset, out);
                Ok(())
            }
            _ => Err(self.damaged("its header is not as it was written")),
        }
    }

    /// Writes the slot that is not the durable one.
    fn write_slot(&self, head: &mut Head) -> io::Result<()> {
        head.slot.number = head.durable + 1;
        head.slot.blocks = head.blocks;
        self.file.write(Slot::offset(head.slot.number), &head.slot.bytes())?;
        head.writes += 1;
        Ok(())
    }

    /// redb's blocks as runs that lie together in the file: first block, bytes.
    fn runs(first: u64, bytes: usize) -> impl Iterator<Item = (u64, usize)> {
        let end = first + (bytes / BLOCK) as u64;
        let mut next = first;
        std::iter::from_fn(move || {
            (next < end).then(|| {
                let (group, _) = place_of(next);
                let run = layout::first_of(group + 1).min(end) - next;
                next += run;
                (next - run, run as usize * BLOCK)
            })
        })
    }

    fn check_range(&self, offset: u64, bytes: usize) -> io::Result<()> {
        let end = offset.checked_add(bytes as u64);
        let len = self.head()?.blocks * BLOCK_BYTES;
        if end.is_none_or(|end| end > len) {
            return Err(self.damaged("it is shorter than what it says of itself"));
        }
        if offset < BLOCK_BYTES {
            let one = end.is_some_and(|end| end <= BLOCK_BYTES);
            return if one { Ok(()) } else { Err(unaligned()) };
        }
        let whole = offset.is_multiple_of(BLOCK_BYTES) && bytes.is_multiple_of(BLOCK);
        if whole { Ok(()) } else { Err(unaligned()) }
    }

    /// Brings the checksums of a group into memory.
    fn load(&self, group: usize) -> io::Result<()> {
        if self.sums.is_loaded(group) {
            return Ok(());
        }
        let mut bytes = [0; BLOCK];
        self.read_whole(layout::sums_offset(group), &mut bytes)?;
        self.sums.load(group, &bytes).map_err(|what| self.damaged(&what))
    }
}

fn unaligned() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "redb asks for parts of blocks")
}

impl StorageBackend for CheckedFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.head()?.blocks * BLOCK_BYTES)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.check_range(offset, out.len())?;
        if offset < BLOCK_BYTES {
            return self.read_head(offset as usize, out);
        }
        let mut rest = out;
        for (first, bytes) in Self::runs(offset / BLOCK_BYTES, rest.len()) {
            let (run, behind) = rest.split_at_mut(bytes);
            rest = behind;
            let (group, within) = place_of(first);
            self.load(group)?;
            self.read_whole(block_offset(first), run)?;
            if let Some(block) = self.sums.first_wrong(group, within, first, run) {
                let at = block_offset(block);
                return Err(self.damaged(&format!("the block at byte {at} is not as written")));
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if !len.is_multiple_of(BLOCK_BYTES) || len == 0 {
            return Err(unaligned());
        }
        let (before, blocks) = (self.head()?.blocks, len / BLOCK_BYTES);
        if blocks < before {
            // Durable before the file is cut, so that one cut by somebody else is noticed.
            let mut head = self.head()?;
            head.blocks = blocks;
            self.write_slot(&mut head)?;
            drop(head);
            self.sync_data()?;
        }
        // Of the group that goes on, the part that comes anew was never written.
        let kept = blocks.min(before);
        if kept > 1 && groups_of(kept) > 0 {
            let (group, within) = place_of(kept - 1);
            self.load(group)?;
            self.sums.blank_from(group, within + 1);
        }
        self.sums.resize(groups_of(kept), groups_of(blocks));
        if blocks > before {
            let whole = if before == 0 { 0 } else { file_len(before) };
            if self.file.len()? > whole {
                // What a crash left behind the end must not come back.
                self.file.set_len(whole)?;
            }
        }
        self.file.set_len(file_len(blocks))?;
        self.head()?.blocks = blocks;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let (number, writes) = {
            let head = self.head()?;
            (head.slot.number, head.writes)
        };
        let changed = self.sums.take_changed();
        let mut writes_of_sums = changed
            .iter()
            .map(|(group, bytes)| self.file.write(layout::sums_offset(*group), &bytes[..]));
        if let Err(error) = writes_of_sums.try_for_each(|written| written) {
            self.sums.keep_changed(changed.iter().map(|(group, _)| *group));
            return Err(error);
        }
        self.file.sync_data()?;
        let mut head = self.head()?;
        if head.writes == writes && number > head.durable {
            head.durable = number;
            self.sums.set_durable(number);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check_range(offset, data.len())?;
        if offset < BLOCK_BYTES {
            let mut head = self.head()?;
            if !head.slot.copy_from(offset as usize, data) {
                return Err(unaligned());
            }
            return self.write_slot(&mut head);
        }
        let mut rest = data;
        for (first, bytes) in Self::runs(offset / BLOCK_BYTES, data.len()) {
            let (run, behind) = rest.split_at(bytes);
            rest = behind;
            let (group, within) = place_of(first);
            self.load(group)?;
            self.file.write(block_offset(first), run)?;
            self.sums.set(group, within, first, run);
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }
    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }
    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }
    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }
    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }
    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}
