//! SPDY's header blocks: name and value pairs, compressed with one context a direction.
//!
//! ```text
//! on the wire   zlib stream with SPDY's dictionary, flushed after every block
//! inside        [count u32][length u32][name][length u32][value] …
//! ```
//! Why the dictionary is fed as if it had been sent: the compression library takes no
//! dictionary in its pure form. A decompressor that is given the dictionary in a stored
//! block, and a compressor that has compressed it before anything else, hold it in their
//! windows, which is all that a dictionary is.
//! Invariant: a block is bounded however well it was compressed.

use bytes::{Buf, Bytes};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use super::dictionary::dictionary;
use super::frame::SpdyError;

/// Longest header block, unpacked, bytes.
const BLOCK_MAX_BYTES: usize = 64 * 1024;
/// zlib's header for a stream with a dictionary: 32 KiB window, dictionary, best level.
const ZLIB_HEAD: [u8; 2] = [0x78, 0xf9];
/// That and the dictionary's checksum.
const HEAD_BYTES: usize = 6;

/// Names and values, in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderList(pub Vec<(String, String)>);

impl HeaderList {
    /// The first value of a name, which is compared without regard to case.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    fn pack(&self) -> Vec<u8> {
        let mut block = Vec::new();
        let number = |block: &mut Vec<u8>, value: usize| {
            block.extend_from_slice(&u32::try_from(value).unwrap_or(u32::MAX).to_be_bytes());
        };
        number(&mut block, self.0.len());
        for (name, value) in &self.0 {
            let name = name.to_ascii_lowercase();
            number(&mut block, name.len());
            block.extend_from_slice(name.as_bytes());
            number(&mut block, value.len());
            block.extend_from_slice(value.as_bytes());
        }
        block
    }

    fn unpack(mut block: &[u8]) -> Result<Self, SpdyError> {
        let count = number(&mut block)?;
        let mut list = Vec::new();
        for _ in 0..count {
            let name = text(&mut block)?;
            let value = text(&mut block)?;
            list.push((name, value));
        }
        if block.is_empty() { Ok(Self(list)) } else { Err(SpdyError::Headers) }
    }
}

fn number(block: &mut &[u8]) -> Result<usize, SpdyError> {
    if block.len() < 4 {
        return Err(SpdyError::Headers);
    }
    usize::try_from(block.get_u32()).map_err(|_| SpdyError::Headers)
}

fn text(block: &mut &[u8]) -> Result<String, SpdyError> {
    let length = number(block)?;
    let (text, rest) = block.split_at_checked(length).ok_or(SpdyError::Headers)?;
    *block = rest;
    String::from_utf8(text.to_vec()).map_err(|_| SpdyError::Headers)
}

fn adler32(bytes: &[u8]) -> u32 {
    const BASE: u32 = 65_521;
    let (mut low, mut high) = (1u32, 0u32);
    for byte in bytes {
        low = (low + u32::from(*byte)) % BASE;
        high = (high + low) % BASE;
    }
    (high << 16) | low
}

/// Packs the header blocks of one direction.
#[derive(Debug)]
pub(super) struct Packer {
    deflate: Compress,
    begun: bool,
}

impl Packer {
    pub(super) fn new() -> Self {
        let mut deflate = Compress::new(Compression::best(), false);
        // What this gives is thrown away; what it leaves in the window counts.
        let mut nowhere = Vec::new();
        compress(&mut deflate, &dictionary(), &mut nowhere);
        Self { deflate, begun: false }
    }

    pub(super) fn pack(&mut self, headers: &HeaderList) -> Vec<u8> {
        let mut packed = Vec::new();
        if !self.begun {
            self.begun = true;
            packed.extend_from_slice(&ZLIB_HEAD);
            packed.extend_from_slice(&adler32(&dictionary()).to_be_bytes());
        }
        compress(&mut self.deflate, &headers.pack(), &mut packed);
        packed
    }
}

/// Appends `bytes` compressed and flushed to a whole byte.
fn compress(deflate: &mut Compress, bytes: &[u8], into: &mut Vec<u8>) {
    let begun = deflate.total_in();
    loop {
        let done = usize::try_from(deflate.total_in() - begun).unwrap_or(bytes.len());
        into.reserve(bytes.len().max(256));
        let room = into.capacity() - into.len();
        let before = deflate.total_out();
        // A raw stream that only goes on cannot be told anything wrong.
        let _ = deflate.compress_vec(&bytes[done..], into, FlushCompress::Sync);
        let written = usize::try_from(deflate.total_out() - before).unwrap_or(room);
        let taken = usize::try_from(deflate.total_in() - begun).unwrap_or(bytes.len());
        if taken == bytes.len() && written < room {
            return;
        }
    }
}

/// Unpacks the header blocks of one direction.
#[derive(Debug)]
pub(super) struct Unpacker {
    inflate: Decompress,
    /// What has come of the stream's head.
    head: Vec<u8>,
}

impl Unpacker {
    pub(super) fn new() -> Self {
        Self { inflate: Decompress::new(false), head: Vec::new() }
    }

    pub(super) fn unpack(&mut self, block: &Bytes) -> Result<HeaderList, SpdyError> {
        let mut packed = block.as_ref();
        while self.head.len() < HEAD_BYTES {
            let Some((byte, rest)) = packed.split_first() else { break };
            self.head.push(*byte);
            packed = rest;
            if self.head.len() == HEAD_BYTES {
                self.begin()?;
            }
        }
        let unpacked = self.inflate(packed)?;
        HeaderList::unpack(&unpacked)
    }

    /// Checks the head and puts the dictionary into the window.
    fn begin(&mut self) -> Result<(), SpdyError> {
        let [method, flags, checksum @ ..] = self.head.as_slice() else {
            return Err(SpdyError::Compression);
        };
        let head = u16::from_be_bytes([*method, *flags]);
        let words = dictionary();
        let right = method & 0x0f == 8
            && head % 31 == 0
            && flags & 0x20 != 0
            && checksum == adler32(&words).to_be_bytes();
        if !right {
            return Err(SpdyError::Compression);
        }
        let length = u16::try_from(words.len()).map_err(|_| SpdyError::Compression)?;
        let mut stored = vec![0];
        stored.extend_from_slice(&length.to_le_bytes());
        stored.extend_from_slice(&(!length).to_le_bytes());
        stored.extend_from_slice(&words);
        self.inflate(&stored).map(drop)
    }

    fn inflate(&mut self, packed: &[u8]) -> Result<Vec<u8>, SpdyError> {
        let mut unpacked = Vec::new();
        let begun = self.inflate.total_in();
        loop {
            let done = usize::try_from(self.inflate.total_in() - begun).unwrap_or(packed.len());
            unpacked.reserve(1_024);
            let before = (self.inflate.total_in(), self.inflate.total_out());
            self.inflate
                .decompress_vec(&packed[done..], &mut unpacked, FlushDecompress::Sync)
                .map_err(|_| SpdyError::Compression)?;
            if unpacked.len() > BLOCK_MAX_BYTES {
                return Err(SpdyError::TooLarge);
            }
            let after = (self.inflate.total_in(), self.inflate.total_out());
            let taken = usize::try_from(after.0 - begun).unwrap_or(packed.len());
            if taken == packed.len() && unpacked.len() < unpacked.capacity() {
                return Ok(unpacked);
            }
            if before == after {
                return Err(SpdyError::Compression);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dictionary_is_spdys() {
        assert_eq!(dictionary().len(), 1_423);
        assert_eq!(adler32(&dictionary()), 0xe3c6_a7c2);
        assert_eq!(u16::from_be_bytes(ZLIB_HEAD) % 31, 0);
    }
}
