//! The bytes of a segment: a header, then frames, each of which is one commit.
//!
//! ```text
//! header (32 bytes)               frame (16 bytes and the body, padded to 8)
//!  0 magic "HFLOG\0\0\x01"         0 body's length u32
//!  8 segment's number u64          4 CRC-32 u32 of salt, position, number and body
//! 16 salt u64                      8 frame's number u64
//! 24 CRC-32 u32 of the above      16 body: version byte and the changes (postcard)
//! 28 zero
//! ```
//!
//! Why one frame for a commit: it is on disk whole or not at all. Frames are numbered
//! through all segments, so that a lost one is noticed. The salt is drawn for each
//! segment, so that neither what an earlier use of the file left behind nor what a client
//! made the store write is ever taken for a frame.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::LogChange;
use crate::store::codec::{CodecError, decode, encode_into};

/// Where the first frame of a segment stands.
pub(super) const HEADER_BYTES: usize = 32;
/// What a frame takes beside its body.
pub(super) const FRAME_BYTES: usize = 16;
const MAGIC: [u8; 8] = *b"HFLOG\0\0\x01";
const ALIGN: usize = 8;

/// One change as the disk has it; the entry is encoded already.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Body(pub(super) Vec<LogChange>);

/// A segment's own header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) number: u64,
    pub(super) salt: u64,
}

impl SegmentHeader {
    pub(super) fn bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&self.number.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.salt.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..24]);
        bytes[24..28].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The header of segment `number`, if it is whole.
    pub(super) fn read(bytes: &[u8], number: u64) -> Option<Self> {
        let header = bytes.get(..HEADER_BYTES)?;
        if header[..8] != MAGIC || u32_at(header, 24) != crc32fast::hash(&header[..24]) {
            return None;
        }
        let found = Self { number: u64_at(header, 8), salt: u64_at(header, 16) };
        (found.number == number).then_some(found)
    }

    fn crc(&self, position: usize, number: u64, body: &[u8]) -> u32 {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&self.salt.to_le_bytes());
        crc.update(&(position as u64).to_le_bytes());
        crc.update(&number.to_le_bytes());
        crc.update(body);
        crc.finalize()
    }

    /// Appends a frame that will stand at `position`.
    pub(super) fn put(&self, out: &mut Vec<u8>, position: usize, number: u64, body: &[u8]) {
        out.extend((body.len() as u32).to_le_bytes());
        out.extend(self.crc(position, number, body).to_le_bytes());
        out.extend(number.to_le_bytes());
        out.extend(body);
        out.resize(out.len().next_multiple_of(ALIGN), 0);
    }

    /// The frame at `position` of a whole segment, if it is whole.
    pub(super) fn frame<'a>(&self, bytes: &'a [u8], position: usize) -> Option<Frame<'a>> {
        self.frame_at(bytes.get(position..)?, position)
    }

    /// The frame that `bytes` begins with and that stands at `position`, if it is whole.
    pub(super) fn frame_at<'a>(&self, bytes: &'a [u8], position: usize) -> Option<Frame<'a>> {
        let found = FoundFrame::at(bytes, 0)?;
        (found.crc == self.crc(position, found.number, found.body)).then_some(Frame {
            number: found.number,
            body: found.body,
            next: position + frame_bytes(found.body.len()),
        })
    }

    /// Whether a whole frame with a number above `number` stands anywhere after `position`.
    pub(super) fn has_later_frame(&self, bytes: &[u8], position: usize, number: u64) -> bool {
        (position..bytes.len().saturating_sub(FRAME_BYTES)).step_by(ALIGN).any(|at| {
            FoundFrame::at(bytes, at).is_some_and(|found| {
                found.number > number && found.crc == self.crc(at, found.number, found.body)
            })
        })
    }
}

/// What a whole frame holds.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    pub(super) number: u64,
    pub(super) body: &'a [u8],
    /// Where the next one would stand.
    pub(super) next: usize,
}

struct FoundFrame<'a> {
    crc: u32,
    number: u64,
    body: &'a [u8],
}

impl<'a> FoundFrame<'a> {
    fn at(bytes: &'a [u8], position: usize) -> Option<Self> {
        let fixed = bytes.get(position..position + FRAME_BYTES)?;
        let length = u32_at(fixed, 0) as usize;
        let start = position + FRAME_BYTES;
        let body = bytes.get(start..start.checked_add(length)?)?;
        // A body has at least its version byte.
        let whole = !body.is_empty();
        whole.then_some(Self { crc: u32_at(fixed, 4), number: u64_at(fixed, 8), body })
    }
}

/// What a frame takes on disk.
pub(super) fn frame_bytes(body: usize) -> usize {
    (FRAME_BYTES + body).next_multiple_of(ALIGN)
}

pub(super) fn encode_body(changes: Vec<LogChange>) -> Vec<u8> {
    let records = changes.iter().map(LogChange::bytes).sum();
    encode_into(&Body(changes), Vec::with_capacity(records))
}

pub(super) fn decode_body(body: &[u8]) -> Result<Vec<LogChange>, CodecError> {
    decode::<Body>(body).map(|body| body.0)
}

/// The encoded entry `index` of a frame, if the frame has it; of two, the later one.
pub(super) fn entry_of(changes: &[LogChange], index: u64) -> Option<&Bytes> {
    changes.iter().rev().find_map(|change| match change {
        LogChange::Append { index: found, record } if *found == index => Some(record),
        _ => None,
    })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("a slice of four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("a slice of eight bytes"))
}
