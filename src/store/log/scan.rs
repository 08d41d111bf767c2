//! Reads all segments when the log is opened, and tells a cut-off write from damage.
//!
//! The last commit before a crash may be torn: it was never answered, and what is left of
//! it is ignored. Anything else that is not whole was whole once, so it is damage, and the
//! member must not vote on a log with a hole.

use std::sync::Arc;

use redb::StorageBackend;

use super::frame::{HEADER_BYTES, SegmentHeader, decode_body};
use super::head::{Head, segment_file};
use super::segment_log::{Index, Place, Segment};
use super::{LogError, access};
use crate::store::disk::StoreDisk;

/// Fills `index`; where the next frame goes and its number.
pub(super) fn scan(
    disk: &dyn StoreDisk,
    head: &Head,
    index: &mut Index,
) -> Result<(usize, u64), LogError> {
    let mut next_frame = None;
    let mut position = HEADER_BYTES;
    for number in head.first..=head.last {
        let (segment, bytes) = open(disk, number)?;
        let header = segment.header;
        index.segments.push_back(segment);
        position = HEADER_BYTES;
        while let Some(frame) = header.frame(&bytes, position) {
            if next_frame.is_some_and(|expected| frame.number != expected) {
                return Err(hole(number, position));
            }
            let changes = decode_body(frame.body).map_err(|source| LogError::Decode {
                what: format!("{} at {position}", segment_file(number)),
                source,
            })?;
            let place = Place { segment: number, position, bytes: frame.next - position };
            index.note(place, &changes);
            next_frame = Some(frame.number + 1);
            position = frame.next;
        }
        let Some(expected) = next_frame else { return Err(hole(number, position)) };
        if header.has_later_frame(&bytes, position, expected - 1) {
            return Err(hole(number, position));
        }
    }
    Ok((position, next_frame.unwrap_or(1)))
}

fn hole(number: u64, position: usize) -> LogError {
    LogError::Damaged { what: format!("{} at byte {position}", segment_file(number)) }
}

fn open(disk: &dyn StoreDisk, number: u64) -> Result<(Segment, Vec<u8>), LogError> {
    let name = segment_file(number);
    if !disk.exists(&name).map_err(access("look at"))? {
        return Err(LogError::Damaged { what: format!("{name}, which is missing") });
    }
    let file: Arc<dyn StorageBackend> = disk.open(&name).map_err(access("open"))?.into();
    let size = usize::try_from(file.len().map_err(access("look at"))?).unwrap_or(usize::MAX);
    let mut bytes = vec![0; size];
    file.read(0, &mut bytes).map_err(access("read"))?;
    let header = SegmentHeader::read(&bytes, number)
        .ok_or_else(|| LogError::Damaged { what: format!("the header of {name}") })?;
    Ok((Segment { header, file, size, highest: 0 }, bytes))
}
