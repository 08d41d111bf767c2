//! Writes a snapshot from a view of the state.

use std::io::{self, Write};

use sha2::{Digest, Sha256};

use super::rest::extras;
use super::{KIND_END, KIND_EXTRA, KIND_LIVE, MAGIC, SnapshotError, SnapshotHeader, access};
use crate::model::kv::KeyValue;
use crate::store::log::Identity;
use crate::store::state::{DiskView, ImageMarks};

/// Strength of the compression: the fastest, because the store waits for nothing longer.
const LEVEL: i32 = 1;

/// Hashes what passes through.
pub(super) struct Hashing<W> {
    out: W,
    hash: Sha256,
}

impl<W: Write> Hashing<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, hash: Sha256::new() }
    }

    /// Writes the hash of all that passed behind it.
    pub(super) fn finish(mut self) -> io::Result<()> {
        let hash = self.hash.finalize();
        self.out.write_all(&hash)?;
        self.out.flush()
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Writes the view's leases, users and alarms, then its live records; what the file says of itself is the answer.
pub(crate) fn write_snapshot(
    view: &DiskView,
    of: &Identity,
    out: impl Write,
) -> Result<SnapshotHeader, SnapshotError> {
    let marks = view.image_marks()?;
    let header = header_of(&marks, of);
    let json = serde_json::to_vec(&header).map_err(|error| SnapshotError::Access {
        action: "describe",
        source: io::Error::other(error),
    })?;
    let mut out = Hashing::new(out);
    let mut begin = MAGIC.to_vec();
    put(&mut begin, &json);
    out.write_all(&begin).map_err(access("write"))?;
    let mut stream = zstd::Encoder::new(&mut out, LEVEL).map_err(access("write"))?;
    let mut records = 0_u64;
    let mut record = Vec::new();
    for (table, key, value) in extras(&view.rest()?) {
        record.clear();
        record.push(KIND_EXTRA);
        for field in [table.as_bytes(), &key, &value] {
            put(&mut record, field);
        }
        records += 1;
        stream.write_all(&record).map_err(access("write"))?;
    }
    view.each_live(|kv| {
        record.clear();
        put_live(&mut record, &kv);
        records += 1;
        stream.write_all(&record).map_err(access("write"))
    })?;
    let mut end = vec![KIND_END];
    end.extend(records.to_le_bytes());
    stream.write_all(&end).map_err(access("write"))?;
    stream.finish().map_err(access("write"))?;
    out.finish().map_err(access("write"))?;
    Ok(header)
}

/// What a snapshot of a state at these marks says of itself.
pub(super) fn header_of(marks: &ImageMarks, of: &Identity) -> SnapshotHeader {
    SnapshotHeader {
        cluster: of.cluster,
        generation: of.generation,
        member: of.member,
        revision: marks.revision,
        compacted: marks.compacted,
        term: marks.applied.map_or(0, |applied| applied.leader_id.term),
        index: marks.applied.map_or(0, |applied| applied.index),
        keys: marks.keys,
        program: format!("holdfast {}", env!("CARGO_PKG_VERSION")),
    }
}

fn put_live(record: &mut Vec<u8>, kv: &KeyValue) {
    record.push(KIND_LIVE);
    put(record, &kv.key);
    for number in [kv.create_revision, kv.mod_revision, kv.version, kv.lease] {
        record.extend(number.to_le_bytes());
    }
    put(record, &kv.value);
}

fn put(record: &mut Vec<u8>, field: &[u8]) {
    // Requests are bounded far below four gigabytes.
    record.extend((field.len() as u32).to_le_bytes());
    record.extend(field);
}
