//! Reads a snapshot: its hash first, then its records.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::rest::take_up;
use super::{
    FIELD_MAX_BYTES, HASH_BYTES, HEADER_MAX_BYTES, KIND_END, KIND_EXTRA, KIND_LIVE, MAGIC,
    SnapshotError, SnapshotHeader, access,
};
use crate::model::kv::KeyValue;
use crate::store::state::{StateError, StateRest};

/// A snapshot whose hash was found right.
#[derive(Debug)]
pub struct SnapshotFile<F> {
    file: F,
    /// Where the records begin and end.
    start: u64,
    end: u64,
    /// Size of the file, bytes.
    pub bytes: u64,
    pub hash: [u8; 32],
    pub header: SnapshotHeader,
    /// Leases, users and alarms.
    pub rest: StateRest,
}

impl<F: Read + Seek> SnapshotFile<F> {
    /// Reads the whole file once and checks it.
    pub fn open(mut file: F) -> Result<Self, SnapshotError> {
        let bytes = file.seek(SeekFrom::End(0)).map_err(access("measure"))?;
        file.rewind().map_err(access("read"))?;
        let mut begin = [0; 12];
        if bytes < 12 + HASH_BYTES {
            return Err(SnapshotError::Foreign);
        }
        file.read_exact(&mut begin).map_err(access("read"))?;
        if begin[..8] != MAGIC {
            return Err(SnapshotError::Foreign);
        }
        let length = u32::from_le_bytes([begin[8], begin[9], begin[10], begin[11]]);
        let start = 12 + u64::from(length);
        if length > HEADER_MAX_BYTES || start + HASH_BYTES > bytes {
            return Err(damaged("the header's length cannot be"));
        }
        let end = bytes - HASH_BYTES;
        file.rewind().map_err(access("read"))?;
        let mut hash = Sha256::new();
        io::copy(&mut (&mut file).take(end), &mut HashOnly(&mut hash)).map_err(access("read"))?;
        let mut expected = [0; HASH_BYTES as usize];
        file.read_exact(&mut expected).map_err(access("read"))?;
        if hash.finalize()[..] != expected {
            return Err(damaged("its SHA-256 is not the one at its end"));
        }
        file.seek(SeekFrom::Start(12)).map_err(access("read"))?;
        let mut json = vec![0; length as usize];
        file.read_exact(&mut json).map_err(access("read"))?;
        let header = serde_json::from_slice(&json)
            .map_err(|error| damaged(format!("its header cannot be read: {error}")))?;
        let rest = StateRest::default();
        let mut found = Self { file, start, end, bytes, hash: expected, header, rest };
        let (_, rest) = found.begin()?;
        found.rest = rest;
        Ok(found)
    }

    /// The live records, in key order; each call begins anew.
    pub fn records(&mut self) -> Result<Records<'_, F>, SnapshotError> {
        Ok(self.begin()?.0)
    }

    /// Reads what stands before the live records.
    fn begin(&mut self) -> Result<(Records<'_, F>, StateRest), SnapshotError> {
        self.file.seek(SeekFrom::Start(self.start)).map_err(access("read"))?;
        let compressed = BufReader::new((&mut self.file).take(self.end - self.start));
        let stream = zstd::Decoder::with_buffer(compressed).map_err(access("read"))?;
        let mut records = Records { stream: BufReader::new(stream), seen: 0, ended: false };
        let rest = records.rest()?;
        Ok((records, rest))
    }

    /// Reads all records and counts them.
    pub fn check(&mut self) -> Result<u64, SnapshotError> {
        let mut keys = 0;
        for record in self.records()? {
            record?;
            keys += 1;
        }
        if keys != self.header.keys {
            let announced = self.header.keys;
            return Err(damaged(format!("it holds {keys} keys, announced were {announced}")));
        }
        Ok(keys)
    }
}

fn damaged(reason: impl Into<String>) -> SnapshotError {
    SnapshotError::Damaged { reason: reason.into() }
}

/// Hashes what is written to it.
pub(super) struct HashOnly<'a>(pub(super) &'a mut Sha256);

impl io::Write for HashOnly<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The records of a snapshot one after another.
pub struct Records<'a, F: Read> {
    stream: BufReader<zstd::Decoder<'a, BufReader<io::Take<&'a mut F>>>>,
    seen: u64,
    ended: bool,
}

impl<F: Read> std::fmt::Debug for Records<'_, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").field("seen", &self.seen).finish_non_exhaustive()
    }
}

impl<F: Read> Records<'_, F> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).map_err(|error| damaged(error.to_string()))?;
        Ok(bytes)
    }

    fn number(&mut self) -> Result<i64, SnapshotError> {
        self.bytes().map(i64::from_le_bytes)
    }

    fn field(&mut self) -> Result<Bytes, SnapshotError> {
        let length = u32::from_le_bytes(self.bytes()?);
        if length > FIELD_MAX_BYTES {
            return Err(damaged("a field's length cannot be"));
        }
        let mut field = vec![0; length as usize];
        self.stream.read_exact(&mut field).map_err(|error| damaged(error.to_string()))?;
        Ok(field.into())
    }

    fn live(&mut self) -> Result<KeyValue, SnapshotError> {
        Ok(KeyValue {
            key: self.field()?,
            create_revision: self.number()?,
            mod_revision: self.number()?,
            version: self.number()?,
            lease: self.number()?,
            value: self.field()?,
        })
    }

    /// The rows in front of the live records.
    fn rest(&mut self) -> Result<StateRest, SnapshotError> {
        let mut rest = StateRest::default();
        loop {
            let ahead = self.stream.fill_buf().map_err(|error| damaged(error.to_string()))?;
            if ahead.first() != Some(&KIND_EXTRA) {
                return Ok(rest);
            }
            self.stream.consume(1);
            self.seen += 1;
            let (table, key, value) = (self.field()?, self.field()?, self.field()?);
            take_up(&mut rest, &table, &key, &value)?;
        }
    }

    fn step(&mut self) -> Result<Option<KeyValue>, SnapshotError> {
        match self.bytes::<1>()?[0] {
            KIND_LIVE => {
                self.seen += 1;
                self.live().map(Some)
            }
            KIND_END => {
                let announced = u64::from_le_bytes(self.bytes()?);
                if announced != self.seen {
                    let seen = self.seen;
                    return Err(damaged(format!("{announced} records became {seen}")));
                }
                Ok(None)
            }
            other => Err(damaged(format!("a record of kind {other} among the keys"))),
        }
    }
}

impl<F: Read> Iterator for Records<'_, F> {
    type Item = Result<KeyValue, SnapshotError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let record = self.step().transpose();
        self.ended = !matches!(record, Some(Ok(_)));
        record
    }
}

impl From<SnapshotError> for StateError {
    fn from(error: SnapshotError) -> Self {
        StateError::Snapshot { reason: crate::base::chain::chain(&error) }
    }
}
