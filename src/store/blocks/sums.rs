//! The checksums of the blocks in memory, group by group, as far as they were asked for.
//!
//! ```text
//!  a block of checksums: 0 number of the newest durable header u64 │ 8 1,022 × CRC-32C u32
//! ```
//! A checksum covers the file's salt, the block's number and its bytes. 0 stands for a block
//! that was never written and matches nothing: redb reads only what it wrote, so what it
//! reads there was lost.
//! Why it has no checksum of its own: it is written in place, and of a write that is cut
//! short each half is right, because what is durable did not change in it. A bit that flips
//! in it makes a block look damaged.
//! Why the header's number: a file whose newest header was lost shows an older state; this
//! says that something was written since.

use std::collections::BTreeSet;
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::layout::{BLOCK, GROUP};

/// The checksum of a block; never 0.
pub(super) fn sum_of(salt: u64, block: u64, bytes: &[u8]) -> u32 {
    let mut position = [0; 16];
    position[..8].copy_from_slice(&salt.to_le_bytes());
    position[8..].copy_from_slice(&block.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&position), bytes).max(1)
}

#[derive(Debug)]
struct Group(Box<[u32; GROUP]>);

impl Group {
    fn blank() -> Self {
        Self(Box::new([0; GROUP]))
    }

    fn bytes(&self, durable: u64) -> Box<[u8; BLOCK]> {
        let mut bytes = Box::new([0; BLOCK]);
        bytes[..8].copy_from_slice(&durable.to_le_bytes());
        for (four, sum) in bytes[8..].chunks_exact_mut(4).zip(&self.0[..]) {
            four.copy_from_slice(&sum.to_le_bytes());
        }
        bytes
    }
}

#[derive(Debug, Default)]
struct Known {
    salt: u64,
    /// Number of the newest durable header.
    durable: u64,
    groups: Vec<Option<Group>>,
    /// Groups that are not on the disk as they are here.
    changed: BTreeSet<usize>,
}

/// The checksums of a file.
#[derive(Debug, Default)]
pub(super) struct Sums(RwLock<Known>);

const POISON: &str = "no holder of the checksums' lock panics";

impl Sums {
    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.0.read().expect(POISON)
    }

    fn known_mut(&self) -> RwLockWriteGuard<'_, Known> {
        self.0.write().expect(POISON)
    }

    /// Those of a file with so many groups, none of which was read.
    pub(super) fn begin(&self, salt: u64, durable: u64, groups: usize) {
        let groups = std::iter::repeat_with(|| None).take(groups).collect();
        *self.known_mut() = Known { salt, durable, groups, changed: BTreeSet::new() };
    }

    pub(super) fn is_loaded(&self, group: usize) -> bool {
        self.known().groups.get(group).is_some_and(Option::is_some)
    }

    /// Takes what was read of a group, unless it is known already.
    pub(super) fn load(&self, group: usize, bytes: &[u8; BLOCK]) -> Result<(), String> {
        let mut known = self.known_mut();
        let durable = known.durable;
        let Some(place @ None) = known.groups.get_mut(group) else { return Ok(()) };
        let (after, sums) = bytes.split_at(8);
        let after = u64::from_le_bytes(after.try_into().expect("a slice of eight bytes"));
        if after > durable {
            return Err(format!(
                "its header {durable} is older than what was written after header {after}"
            ));
        }
        let mut read = Group::blank();
        for (sum, four) in read.0.iter_mut().zip(sums.chunks_exact(4)) {
            *sum = u32::from_le_bytes(four.try_into().expect("a slice of four bytes"));
        }
        *place = Some(read);
        Ok(())
    }

    /// The first block of a run in one loaded group that does not match; `first` is its
    /// number, `within` its place in the group.
    pub(super) fn first_wrong(
        &self,
        group: usize,
        within: usize,
        first: u64,
        run: &[u8],
    ) -> Option<u64> {
        let known = self.known();
        let sums = known.groups.get(group).and_then(Option::as_ref);
        let blocks = run.chunks_exact(BLOCK).zip(first..).enumerate();
        for (behind, (bytes, block)) in blocks {
            let sum = sums.map(|group| group.0[within + behind]);
            if sum != Some(sum_of(known.salt, block, bytes)) {
                return Some(block);
            }
        }
        None
    }

    /// Notes the checksums of a run that was written, in one loaded group.
    pub(super) fn set(&self, group: usize, within: usize, first: u64, run: &[u8]) {
        let salt = self.known().salt;
        let fresh: Vec<u32> = run
            .chunks_exact(BLOCK)
            .zip(first..)
            .map(|(bytes, block)| sum_of(salt, block, bytes))
            .collect();
        let mut known = self.known_mut();
        if let Some(Some(sums)) = known.groups.get_mut(group) {
            sums.0[within..within + fresh.len()].copy_from_slice(&fresh);
            known.changed.insert(group);
        }
    }

    /// Forgets the checksums of a loaded group from `within` on.
    pub(super) fn blank_from(&self, group: usize, within: usize) {
        let mut known = self.known_mut();
        if let Some(Some(sums)) = known.groups.get_mut(group) {
            let behind = &mut sums.0[within..];
            if behind.iter().any(|sum| *sum != 0) {
                behind.fill(0);
                known.changed.insert(group);
            }
        }
    }

    /// Keeps so many groups and adds blank ones.
    pub(super) fn resize(&self, kept: usize, groups: usize) {
        let mut known = self.known_mut();
        known.groups.truncate(kept);
        known.changed.split_off(&kept);
        known.groups.resize_with(groups.max(kept), || Some(Group::blank()));
    }

    pub(super) fn set_durable(&self, number: u64) {
        self.known_mut().durable = number;
    }

    /// What must be written before the next sync.
    pub(super) fn take_changed(&self) -> Vec<(usize, Box<[u8; BLOCK]>)> {
        let mut known = self.known_mut();
        let changed = std::mem::take(&mut known.changed);
        let bytes = |group: usize| {
            let sums = known.groups.get(group).and_then(Option::as_ref);
            sums.map(|sums| (group, sums.bytes(known.durable)))
        };
        changed.into_iter().filter_map(bytes).collect()
    }

    /// What [`Sums::take_changed`] gave and was not written after all.
    pub(super) fn keep_changed(&self, groups: impl Iterator<Item = usize>) {
        self.known_mut().changed.extend(groups);
    }
}
