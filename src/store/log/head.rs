//! The log's first file, `log.head`: who the disk is and which segments there are.
//!
//! ```text
//!      0 ┌ slot 0: length u32 │ CRC-32 u32 │ versioned Head ┐
//!   4096 ├ slot 1: the same                                 ┤ little-endian
//!   8192 └──────────────────────────────────────────────────┘
//! ```
//!
//! The two slots are written in turn, each with a sync, so that one whole head is there at
//! any moment; the one with the higher number counts. If that one rots, the older one
//! stands in: its boot count is lower than what the peers remember, so they refuse the
//! member.
//! Invariants: a head is on disk before the first segment is made; every segment of
//! `first..=last` was whole once, so one that is not has been damaged.

use std::io;
use std::ops::Bound;

use redb::{BackendError, StorageBackend};
use serde::{Deserialize, Serialize};

use super::identity::Identity;
use super::{LogError, access};
use crate::store::codec::{decode, encode};
use crate::store::disk::StoreDisk;
use crate::store::types::Lineage;

/// The head's file name on the member's disk.
pub(super) const HEAD_FILE: &str = "log.head";
/// Distance of the slots: no sector of a disk holds parts of both.
const SLOT_BYTES: usize = 4096;
/// Starts that a disk remembers; they fit into a slot. A member that was started more often
/// without the others having heard of it is refused, as if its disk were an old copy.
const STARTS: usize = 128;

/// What a slot says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Head {
    /// Counts the writes of the head; tells the newer slot from the older.
    number: u64,
    pub(super) identity: Identity,
    /// The newest starts of this disk.
    pub(super) starts: Lineage,
    /// The oldest segment that is kept.
    pub(super) first: u64,
    /// The newest segment that is known to be whole; 0 before there is any.
    pub(super) last: u64,
}

/// The open head.
#[derive(Debug)]
pub(super) struct HeadFile {
    file: Box<dyn StorageBackend>,
    pub(super) head: Head,
}

impl HeadFile {
    /// Opens the head and takes its lock; `fresh` is what a new disk becomes.
    pub(super) fn open(disk: &dyn StoreDisk, fresh: Identity) -> Result<Self, LogError> {
        let file = disk.open(HEAD_FILE).map_err(access("open"))?;
        match file.try_lock_range(Bound::Unbounded, Bound::Unbounded) {
            Ok(true) | Err(BackendError::Unsupported) => {}
            Ok(false) => return Err(LogError::InUse),
            Err(BackendError::Io(error)) => return Err(access("lock")(error)),
            Err(error) => return Err(access("lock")(io::Error::other(format!("{error:?}")))),
        }
        let found = [0, 1].map(|slot| read_slot(&*file, slot));
        let mut newest: Option<Head> = None;
        for slot in found {
            if let Some(head) = slot?
                && newest.as_ref().is_none_or(|known| known.number < head.number)
            {
                newest = Some(head);
            }
        }
        let head = match newest {
            Some(head) => head,
            // The head is synced before the first segment exists, so a log with a segment
            // and no head is not a new one.
            None if disk.exists(&segment_file(1)).map_err(access("look at"))? => {
                return Err(LogError::Damaged { what: format!("{HEAD_FILE} has no whole slot") });
            }
            None => Head { number: 0, identity: fresh, starts: Lineage::new(), first: 1, last: 0 },
        };
        Ok(Self { file, head })
    }

    /// Whether nothing was ever written.
    pub(super) fn is_new(&self) -> bool {
        self.head.number == 0
    }

    /// Counts a start.
    pub(super) fn count_start(&mut self, session: u64) -> Result<(), LogError> {
        let head = &mut self.head;
        head.identity.session = session.max(1);
        head.identity.boot.0 += 1;
        head.starts.push((head.identity.boot, head.identity.session));
        head.starts.drain(..head.starts.len().saturating_sub(STARTS));
        self.save()
    }

    /// Writes the head in the place of the older slot; durable when it returns.
    pub(super) fn save(&mut self) -> Result<(), LogError> {
        self.head.number += 1;
        let body = encode(&self.head);
        let mut slot = Vec::with_capacity(8 + body.len());
        slot.extend((body.len() as u32).to_le_bytes());
        slot.extend(crc32fast::hash(&body).to_le_bytes());
        slot.extend(body);
        if self.file.len().map_err(access("look at"))? < 2 * SLOT_BYTES as u64 {
            self.file.set_len(2 * SLOT_BYTES as u64).map_err(access("make"))?;
        }
        let offset = (self.head.number % 2) * SLOT_BYTES as u64;
        self.file.write(offset, &slot).map_err(access("write the head of"))?;
        self.file.sync_data().map_err(access("sync the head of"))
    }
}

impl Drop for HeadFile {
    /// Gives the lock back, also where a child that is just being started shares the file.
    fn drop(&mut self) {
        // The file is closed next, which ends the lock too.
        let _ = self.file.close();
    }
}

fn read_slot(file: &dyn StorageBackend, slot: u64) -> Result<Option<Head>, LogError> {
    let len = file.len().map_err(access("look at"))?;
    let start = slot * SLOT_BYTES as u64;
    if len < start + SLOT_BYTES as u64 {
        return Ok(None);
    }
    let mut bytes = vec![0; SLOT_BYTES];
    file.read(start, &mut bytes).map_err(access("read the head of"))?;
    let (length, crc) = (number_at(&bytes, 0) as usize, number_at(&bytes, 4));
    let Some(body) = bytes.get(8..8 + length).filter(|body| !body.is_empty()) else {
        return Ok(None);
    };
    if crc32fast::hash(body) != crc {
        return Ok(None);
    }
    let head = decode(body);
    head.map(Some).map_err(|source| LogError::Decode { what: "the head".into(), source })
}

/// The file of a segment.
pub(super) fn segment_file(number: u64) -> String {
    format!("log.{number:010}")
}

fn number_at(bytes: &[u8], at: usize) -> u32 {
    let four = bytes[at..at + 4].try_into().expect("a slice of four bytes");
    u32::from_le_bytes(four)
}
