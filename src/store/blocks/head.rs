//! redb's block 0 in two blocks that are written in turn.
//!
//! ```text
//!      0 magic "HFBLOCKS" │ 8 CRC-32C u32 │ 12 version u32 │ 16 salt u64
//!     24 number u64 │ 32 blocks u64 │ 40 the first 472 bytes of redb's block 0     (512)
//! ```
//! Little-endian; the checksum covers all but itself and the magic. The slot of number n
//! stands in block n modulo 2.
//!
//! Why in turn: redb writes this block in place, and a write that a crash cuts short must
//! not look like damage. The slot that was last made durable is never written to, so one
//! whole slot is always there, and it is the newer one unless that was not durable yet.
//! Why 512 bytes: no sector of a disk holds parts of two writes.
//! A newer slot that rots looks like one that was cut short, and the older one stands in.
//! That is a state which was whole once; what was written after it says so (`sums`).

use super::layout::BLOCK;

const MAGIC: &[u8; 8] = b"HFBLOCKS";
/// Version 1 was redb's file as it is.
const VERSION: u32 = 2;
/// Bytes of a slot.
pub(super) const SLOT: usize = 512;
const CONTENT_AT: usize = 40;
/// What is kept of redb's block 0; it uses 320 bytes and leaves the rest zero.
const CONTENT: usize = SLOT - CONTENT_AT;

/// What a slot says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// Drawn when the file was made; part of every checksum in it.
    pub(super) salt: u64,
    /// Counts the durable writes of the block; 0 is none.
    pub(super) number: u64,
    /// Blocks that redb saw at least when it was written.
    pub(super) blocks: u64,
    content: [u8; CONTENT],
}

/// What stands where a slot should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Slot(Box<Slot>),
    /// Nothing was ever written there.
    Blank,
    /// A slot of another release.
    Version(u32),
    Garbled,
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("a slice of eight bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("a slice of four bytes"))
}

impl Slot {
    pub(super) fn fresh(salt: u64) -> Self {
        Self { salt, number: 0, blocks: 0, content: [0; CONTENT] }
    }

    /// Where a slot of this number stands in the file.
    pub(super) fn offset(number: u64) -> u64 {
        number % 2 * BLOCK as u64
    }

    pub(super) fn bytes(&self) -> [u8; SLOT] {
        let mut bytes = [0; SLOT];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[12..16].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.salt.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.number.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.blocks.to_le_bytes());
        bytes[CONTENT_AT..].copy_from_slice(&self.content);
        let sum = crc32c::crc32c(&bytes[12..]);
        bytes[8..12].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads the slot of the even or the odd numbers.
    pub(super) fn read(bytes: &[u8; SLOT], odd: bool) -> Found {
        if bytes.iter().all(|byte| *byte == 0) {
            return Found::Blank;
        }
        if &bytes[..8] != MAGIC || u32_at(bytes, 8) != crc32c::crc32c(&bytes[12..]) {
            return Found::Garbled;
        }
        let version = u32_at(bytes, 12);
        if version != VERSION {
            return Found::Version(version);
        }
        let number = u64_at(bytes, 24);
        if number == 0 || (number % 2 == 1) != odd {
            return Found::Garbled;
        }
        let mut content = [0; CONTENT];
        content.copy_from_slice(&bytes[CONTENT_AT..]);
        let (salt, blocks) = (u64_at(bytes, 16), u64_at(bytes, 32));
        Found::Slot(Box::new(Self { salt, number, blocks, content }))
    }

    /// Copies a part of redb's block 0.
    pub(super) fn copy_to(&self, offset: usize, out: &mut [u8]) {
        out.fill(0);
        let kept = self.content.get(offset..).unwrap_or_default();
        let bytes = kept.len().min(out.len());
        out[..bytes].copy_from_slice(&kept[..bytes]);
    }

    /// Changes a part of redb's block 0; says whether there is room for it.
    pub(super) fn copy_from(&mut self, offset: usize, data: &[u8]) -> bool {
        let Some(kept) = self.content.get_mut(offset..offset + data.len()) else { return false };
        kept.copy_from_slice(data);
        true
    }
}
