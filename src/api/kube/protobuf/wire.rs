//! Protobuf's wire format: numbered fields of four kinds.
//!
//! Source: protobuf.dev/programming-guides/encoding.

use super::ProtobufError;

/// One field's bytes before its type is known.
#[derive(Clone, Copy, Debug)]
pub(super) enum Raw<'b> {
    Number(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'b [u8]),
}

/// The fields of a message in wire order; ends after the first error.
pub(super) struct Fields<'b> {
    rest: &'b [u8],
}

impl<'b> Fields<'b> {
    pub(super) fn new(message: &'b [u8]) -> Self {
        Self { rest: message }
    }

    fn varint(&mut self) -> Result<u64, ProtobufError> {
        let mut value = 0;
        for place in 0..10 {
            let (first, rest) = self.rest.split_first().ok_or(ProtobufError::Truncated)?;
            self.rest = rest;
            value |= u64::from(first & 0x7f) << (7 * place);
            if first & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ProtobufError::Truncated)
    }

    fn take(&mut self, count: usize) -> Result<&'b [u8], ProtobufError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(ProtobufError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn field(&mut self) -> Result<(u64, Raw<'b>), ProtobufError> {
        let tag = self.varint()?;
        let raw = match (tag & 7) as u8 {
            0 => Raw::Number(self.varint()?),
            1 => {
                let bytes = self.take(8)?.try_into().map_err(|_| ProtobufError::Truncated)?;
                Raw::Fixed64(u64::from_le_bytes(bytes))
            }
            2 => {
                let length = self.varint()?;
                let length = usize::try_from(length).map_err(|_| ProtobufError::Truncated)?;
                Raw::Bytes(self.take(length)?)
            }
            5 => {
                let bytes = self.take(4)?.try_into().map_err(|_| ProtobufError::Truncated)?;
                Raw::Fixed32(u32::from_le_bytes(bytes))
            }
            wire_type => return Err(ProtobufError::WireType { wire_type }),
        };
        Ok((tag >> 3, raw))
    }
}

impl<'b> Iterator for Fields<'b> {
    type Item = Result<(u64, Raw<'b>), ProtobufError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}
