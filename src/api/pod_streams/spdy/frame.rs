//! SPDY's frames and their bytes.
//!
//! ```text
//! control  1 [version 15 bits = 3] [type u16] [flags u8] [length u24] body
//! data     0 [stream 31 bits]                 [flags u8] [length u24] bytes
//! ```
//! Invariants: no input panics; a frame that is too long or too short is refused before
//! it is held; a header block is unpacked whatever its frame is about, because the
//! compression's context goes on over all of them.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use super::headers::{HeaderList, Packer, Unpacker};
use crate::base::limits::POD_STREAM_MESSAGE_MAX_BYTES;

const VERSION: u16 = 3;
const FIN: u8 = 1;
const HEAD_BYTES: usize = 8;
/// Longest control frame, bytes; those of Kubernetes' clients have some hundred.
const CONTROL_MAX_BYTES: usize = 64 * 1024;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GO_AWAY: u16 = 7;
const HEADERS: u16 = 8;

/// Why a stream is reset.
pub(super) const REFUSED_STREAM: u32 = 3;
pub(super) const INVALID_STREAM: u32 = 2;

/// One frame; `fin` says that its sender sends no more on the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    Open {
        stream: u32,
        headers: HeaderList,
        fin: bool,
    },
    Reply {
        stream: u32,
        headers: HeaderList,
        fin: bool,
    },
    Reset {
        stream: u32,
        status: u32,
    },
    Ping {
        id: u32,
    },
    GoAway {
        last: u32,
        status: u32,
    },
    Headers {
        stream: u32,
        headers: HeaderList,
        fin: bool,
    },
    Data {
        stream: u32,
        bytes: Bytes,
        fin: bool,
    },
    /// SETTINGS, WINDOW_UPDATE and what may come: nothing here depends on them.
    Other {
        kind: u16,
    },
}

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SpdyError {
    #[error("the connection broke")]
    Io(#[from] std::io::Error),
    #[error("a frame of version {0}")]
    Version(u16),
    #[error("a frame or header block is too large")]
    TooLarge,
    #[error("a frame of type {0} is too short")]
    TooShort(u16),
    #[error("a header block cannot be decompressed")]
    Compression,
    #[error("a header block cannot be read")]
    Headers,
}

/// Both directions of one connection.
#[derive(Debug)]
pub struct Codec {
    packer: Packer,
    unpacker: Unpacker,
}

impl Default for Codec {
    fn default() -> Self {
        Self { packer: Packer::new(), unpacker: Unpacker::new() }
    }
}

impl Decoder for Codec {
    type Item = Frame;
    type Error = SpdyError;

    fn decode(&mut self, source: &mut BytesMut) -> Result<Option<Frame>, SpdyError> {
        let Some(head) = source.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let first = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let flags = head[4];
        let length = u32::from_be_bytes([0, head[5], head[6], head[7]]);
        let length = usize::try_from(length).map_err(|_| SpdyError::TooLarge)?;
        let is_control = first >> 31 == 1;
        let most = if is_control { CONTROL_MAX_BYTES } else { POD_STREAM_MESSAGE_MAX_BYTES };
        if length > most {
            return Err(SpdyError::TooLarge);
        }
        if source.len() < HEAD_BYTES + length {
            return Ok(None);
        }
        source.advance(HEAD_BYTES);
        let body = source.split_to(length).freeze();
        let fin = flags & FIN != 0;
        if !is_control {
            return Ok(Some(Frame::Data { stream: first, bytes: body, fin }));
        }
        let version = u16::try_from((first >> 16) & 0x7fff).unwrap_or_default();
        if version != VERSION {
            return Err(SpdyError::Version(version));
        }
        let kind = u16::try_from(first & 0xffff).unwrap_or_default();
        self.control(kind, fin, body).map(Some)
    }
}

impl Codec {
    fn control(&mut self, kind: u16, fin: bool, mut body: Bytes) -> Result<Frame, SpdyError> {
        let number = |body: &mut Bytes| {
            if body.len() < 4 { Err(SpdyError::TooShort(kind)) } else { Ok(body.get_u32()) }
        };
        let stream_of = |number: u32| number & 0x7fff_ffff;
        match kind {
            SYN_STREAM => {
                let stream = stream_of(number(&mut body)?);
                let _associated = number(&mut body)?;
                if body.len() < 2 {
                    return Err(SpdyError::TooShort(kind));
                }
                let _priority_and_slot = body.get_u16();
                let headers = self.unpacker.unpack(&body)?;
                Ok(Frame::Open { stream, headers, fin })
            }
            SYN_REPLY => {
                let stream = stream_of(number(&mut body)?);
                Ok(Frame::Reply { stream, headers: self.unpacker.unpack(&body)?, fin })
            }
            HEADERS => {
                let stream = stream_of(number(&mut body)?);
                Ok(Frame::Headers { stream, headers: self.unpacker.unpack(&body)?, fin })
            }
            RST_STREAM => {
                let stream = stream_of(number(&mut body)?);
                Ok(Frame::Reset { stream, status: number(&mut body)? })
            }
            PING => Ok(Frame::Ping { id: number(&mut body)? }),
            GO_AWAY => {
                let last = stream_of(number(&mut body)?);
                Ok(Frame::GoAway { last, status: number(&mut body)? })
            }
            kind => Ok(Frame::Other { kind }),
        }
    }
}

fn control_head(into: &mut BytesMut, kind: u16, fin: bool, length: usize) -> Result<(), SpdyError> {
    into.put_u16(0x8000 | VERSION);
    into.put_u16(kind);
    head_end(into, fin, length)
}

fn head_end(into: &mut BytesMut, fin: bool, length: usize) -> Result<(), SpdyError> {
    let length = u32::try_from(length).ok().filter(|length| *length < 1 << 24);
    let flags = if fin { u32::from(FIN) << 24 } else { 0 };
    into.put_u32(flags | length.ok_or(SpdyError::TooLarge)?);
    Ok(())
}

impl Encoder<Frame> for Codec {
    type Error = SpdyError;

    fn encode(&mut self, frame: Frame, into: &mut BytesMut) -> Result<(), SpdyError> {
        match frame {
            Frame::Open { stream, headers, fin } => {
                let block = self.packer.pack(&headers);
                control_head(into, SYN_STREAM, fin, 10 + block.len())?;
                into.put_u32(stream);
                into.put_u32(0);
                into.put_u16(0);
                into.put_slice(&block);
            }
            Frame::Reply { stream, headers, fin } => {
                let block = self.packer.pack(&headers);
                control_head(into, SYN_REPLY, fin, 4 + block.len())?;
                into.put_u32(stream);
                into.put_slice(&block);
            }
            Frame::Headers { stream, headers, fin } => {
                let block = self.packer.pack(&headers);
                control_head(into, HEADERS, fin, 4 + block.len())?;
                into.put_u32(stream);
                into.put_slice(&block);
            }
            Frame::Reset { stream, status } => {
                control_head(into, RST_STREAM, false, 8)?;
                into.put_u32(stream);
                into.put_u32(status);
            }
            Frame::Ping { id } => {
                control_head(into, PING, false, 4)?;
                into.put_u32(id);
            }
            Frame::GoAway { last, status } => {
                control_head(into, GO_AWAY, false, 8)?;
                into.put_u32(last);
                into.put_u32(status);
            }
            Frame::Data { stream, bytes, fin } => {
                into.put_u32(stream & 0x7fff_ffff);
                head_end(into, fin, bytes.len())?;
                into.put_slice(&bytes);
            }
            Frame::Other { kind } => control_head(into, kind, false, 0)?,
        }
        Ok(())
    }
}
