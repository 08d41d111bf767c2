//! The log in preallocated segments that are written round and round.
//!
//! ```text
//!  log.head            log.0000000007       log.0000000008            log.spare0
//!  identity, boots     header, marks,       header, marks, frames …   purged segment,
//!  first = 7 last = 8  frames … (full)      free room ─────────────►  the next one's file
//! ```
//!
//! Why not a B-tree: a commit is one write and one sync in a file whose size and blocks
//! do not change, so the file system has nothing of its own to make durable.
//!
//! What may take long, giving up old segments and filling the file of the next one, is
//! `tidy`, which goes on beside commits.
//!
//! A commit is one frame (`frame`). One that does not fit opens the next segment, whose
//! first frame repeats vote, commit mark and purge mark, so that older segments can go
//! when their entries are purged.
//! Invariants: `commit` returns only when its frame is on disk; frames are numbered
//! without a gap, so what is missing in the middle is noticed at the next start; an entry
//! is checked again whenever it is read.
//! Not found: damage to the very last frame looks like a write that a crash cut short.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;

use super::frame::{
    FRAME_BYTES, HEADER_BYTES, SegmentHeader, decode_body, encode_body, entry_of, frame_bytes,
};
use super::head::{HEAD_FILE, HeadFile, segment_file};
use super::identity::{Claim, Identity};
use super::{LogChange, LogError, LogFile, LogHead, Marks, access};
use crate::base::chain::chain;
use crate::base::ids::{ClusterId, Generation, MemberId};
use crate::store::codec::decode;
use crate::store::disk::StoreDisk;
use crate::store::runtime::random_u64;
use crate::store::types::{Entry, Lineage};

/// Files of purged segments that are kept for the next ones.
const SPARES: [&str; 2] = ["log.spare0", "log.spare1"];
/// A spare file that is being filled.
const FILLING: &str = "log.filling";
/// The file of a segment is filled in steps of this size.
const FILL_BYTES: usize = 1024 * 1024;

/// One open segment.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) header: SegmentHeader,
    pub(super) file: Arc<dyn StorageBackend>,
    pub(super) size: usize,
    /// The highest entry that was ever appended to it.
    pub(super) highest: u64,
}

/// Where an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u64,
    /// Of its frame.
    pub(super) position: usize,
    pub(super) bytes: usize,
}

/// What is known of the log without the disk.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) segments: VecDeque<Segment>,
    pub(super) entries: BTreeMap<u64, Place>,
    pub(super) marks: Marks,
}

impl Index {
    /// Takes up what a frame at `place` holds.
    pub(super) fn note(&mut self, place: Place, changes: &[LogChange]) {
        for change in changes {
            match change {
                LogChange::Append { index, .. } => {
                    self.entries.insert(*index, place);
                    if let Some(segment) = self.segments.back_mut() {
                        segment.highest = segment.highest.max(*index);
                    }
                }
                LogChange::TruncateFrom(from) => drop(self.entries.split_off(from)),
                LogChange::Purge(upto) => {
                    self.entries = self.entries.split_off(&(upto.index + 1));
                    self.marks.purged = self.marks.purged.max(Some(*upto));
                }
                LogChange::Vote(vote) => self.marks.vote = Some(*vote),
                LogChange::Committed(mark) => self.marks.committed = *mark,
                LogChange::Marks(marks) => self.marks = *marks,
            }
        }
    }
}

/// Where the next frame goes.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) position: usize,
    pub(super) frame: u64,
}

/// Fills a file up to `size`, so that writing to it changes nothing but its content; says
/// how long it is.
fn fill(file: &dyn StorageBackend, size: usize) -> Result<usize, LogError> {
    let mut filled = file.len().map_err(access("look at"))? as usize;
    let zeros = vec![0; FILL_BYTES.min(size)];
    while filled < size {
        let step = zeros.len().min(size - filled);
        file.set_len((filled + step) as u64).map_err(access("fill a segment of"))?;
        file.write(filled as u64, &zeros[..step]).map_err(access("fill a segment of"))?;
        filled += step;
    }
    Ok(filled)
}

/// The log over segments.
#[derive(Debug)]
pub(crate) struct SegmentLog {
    disk: Arc<dyn StoreDisk>,
    segment_bytes: usize,
    /// Held during a commit; taken before the head and the index.
    tail: Mutex<Tail>,
    /// Taken before the index.
    head: Mutex<HeadFile>,
    /// Held while tidying.
    tidying: Mutex<()>,
    pub(super) index: Mutex<Index>,
}

impl SegmentLog {
    /// Whose disk it is as the log says; `None` if there is no log. Changes nothing.
    pub(crate) fn owner(disk: &dyn StoreDisk) -> Result<Option<Identity>, LogError> {
        if !disk.exists(HEAD_FILE).map_err(access("look at"))? {
            return Ok(None);
        }
        let nobody = Claim {
            cluster: ClusterId(uuid::Uuid::nil()),
            generation: Generation(0),
            member: MemberId(0),
        };
        let head = HeadFile::open(disk, Identity::fresh(nobody, 1))?;
        Ok((!head.is_new()).then_some(head.head.identity))
    }

    /// Opens or makes the log, checks whose it is and counts this start. `fresh` is the
    /// incarnation that a new log gets, `session` names this start.
    pub(crate) fn open(
        disk: Arc<dyn StoreDisk>,
        claim: Claim,
        segment_bytes: usize,
        fresh: u64,
        session: u64,
    ) -> Result<(Self, Identity), LogError> {
        let mut head = HeadFile::open(&*disk, Identity::fresh(claim, fresh))?;
        head.head.identity.check(claim)?;
        head.count_start(session)?;
        let identity = head.head.identity;
        let mut index = Index::default();
        let (position, frame) = super::scan::scan(&*disk, &head.head, &mut index)?;
        let is_new = index.segments.is_empty();
        let first = head.head.first;
        let log = Self {
            disk,
            segment_bytes,
            tail: Mutex::new(Tail { position, frame }),
            head: Mutex::new(head),
            tidying: Mutex::new(()),
            index: Mutex::new(index),
        };
        if is_new {
            log.roll(&mut log.tail(), 0)?;
        }
        // What a crash left behind when it had just been given up.
        for number in (1..first).rev() {
            if !log.disk.exists(&segment_file(number)).map_err(access("look at"))? {
                break;
            }
            log.retire(&segment_file(number))?;
        }
        Ok((log, identity))
    }

    /// The newest starts of this disk, this one last.
    pub(crate) fn starts(&self) -> Lineage {
        self.head_file().head.starts.clone()
    }

    fn head_file(&self) -> MutexGuard<'_, HeadFile> {
        self.head.lock().expect("no holder of the log's head panics")
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().expect("no holder of the log's tail panics")
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().expect("no holder of the log's index panics")
    }

    /// Opens the next segment, with room for a frame of `room` bytes.
    fn roll(&self, tail: &mut Tail, room: usize) -> Result<(), LogError> {
        let number = self.head_file().head.last + 1;
        let marks = self.index().marks;
        let body = encode_body(vec![LogChange::Marks(marks)]);
        let size =
            self.segment_bytes.max(HEADER_BYTES + frame_bytes(body.len()) + room + FRAME_BYTES);
        let (file, size) = self.segment_file(number, size)?;
        let header = SegmentHeader { number, salt: random_u64() };
        let mut bytes = header.bytes().to_vec();
        header.put(&mut bytes, HEADER_BYTES, tail.frame, &body);
        file.write(0, &bytes).map_err(access("begin a segment of"))?;
        file.sync_data().map_err(access("sync"))?;
        let mut head = self.head_file();
        head.head.last = number;
        head.save()?;
        drop(head);
        tail.frame += 1;
        tail.position = bytes.len();
        self.index().segments.push_back(Segment { header, file, size, highest: 0 });
        Ok(())
    }

    /// The file of a new segment: one that a crash left half made, else a spare one, else
    /// a new one; filled, so that writing to it changes nothing but its content.
    fn segment_file(
        &self,
        number: u64,
        size: usize,
    ) -> Result<(Arc<dyn StorageBackend>, usize), LogError> {
        let name = segment_file(number);
        if !self.disk.exists(&name).map_err(access("look at"))? {
            for spare in SPARES {
                if self.disk.exists(spare).map_err(access("look at"))? {
                    self.disk.rename(spare, &name).map_err(access("reuse a segment of"))?;
                    break;
                }
            }
        }
        let file: Arc<dyn StorageBackend> =
            self.disk.open(&name).map_err(access("make a segment of"))?.into();
        let filled = fill(&*file, size)?;
        Ok((file, filled))
    }

    /// Has a filled file ready for the next segment, so that no commit waits for it.
    fn make_spare(&self) -> Result<(), LogError> {
        for spare in SPARES {
            if self.disk.exists(spare).map_err(access("look at"))? {
                return Ok(());
            }
        }
        // Under a name of its own, or a commit could take it while it is being filled.
        let file = self.disk.open(FILLING).map_err(access("make a segment of"))?;
        fill(&*file, self.segment_bytes)?;
        file.sync_data().map_err(access("fill a segment of"))?;
        self.disk.rename(FILLING, SPARES[0]).map_err(access("fill a segment of"))
    }

    /// Gives up the segments whose entries are all purged.
    fn give_up_segments(&self) -> Result<(), LogError> {
        let given_up: Vec<u64> = {
            let index = self.index();
            let purged = index.marks.purged.map_or(0, |purged| purged.index);
            let kept = index.segments.len().saturating_sub(1);
            let older = index.segments.iter().take(kept);
            older
                .take_while(|segment| segment.highest <= purged)
                .map(|segment| segment.header.number)
                .collect()
        };
        let Some(newest) = given_up.last() else { return Ok(()) };
        let mut head = self.head_file();
        head.head.first = newest + 1;
        head.save()?;
        drop(head);
        self.index().segments.drain(..given_up.len());
        for number in given_up {
            self.retire(&segment_file(number))?;
        }
        Ok(())
    }

    fn retire(&self, name: &str) -> Result<(), LogError> {
        for spare in SPARES {
            if !self.disk.exists(spare).map_err(access("look at"))? {
                return self.disk.rename(name, spare).map_err(access("keep a segment of"));
            }
        }
        self.disk.remove(name).map_err(access("remove a segment of"))
    }

    /// Reads and checks one frame; `None` if its entry has gone meanwhile.
    fn frame(&self, index: u64, place: Place) -> Result<Option<Vec<LogChange>>, LogError> {
        let segment = {
            let known = self.index();
            known.segments.iter().find(|found| found.header.number == place.segment).cloned()
        };
        let Some(segment) = segment else { return Ok(None) };
        let mut bytes = vec![0; place.bytes];
        segment.file.read(place.position as u64, &mut bytes).map_err(access("read"))?;
        match segment.header.frame_at(&bytes, place.position) {
            Some(frame) => decode_body(frame.body)
                .map(Some)
                .map_err(|source| LogError::Decode { what: format!("entry {index}"), source }),
            // Its file may have become another segment while it was read.
            None if self.index().entries.get(&index) != Some(&place) => Ok(None),
            None => Err(LogError::Damaged {
                what: format!("entry {index} in {}", segment_file(place.segment)),
            }),
        }
    }
}

impl LogFile for SegmentLog {
    fn head(&self) -> Result<LogHead, LogError> {
        let (marks, last) = {
            let index = self.index();
            (index.marks, index.entries.last_key_value().map(|(index, _)| *index))
        };
        let last = match last {
            Some(last) => self.read(last, last + 1)?.pop().map(|entry| entry.log_id),
            None => marks.purged,
        };
        Ok(LogHead { vote: marks.vote, committed: marks.committed, purged: marks.purged, last })
    }

    fn commit(&self, changes: Vec<LogChange>) -> Result<bool, LogError> {
        let mut untidy = changes.iter().any(|change| matches!(change, LogChange::Purge(_)));
        let mut tail = self.tail();
        let noted = changes.iter().map(LogChange::without_record).collect::<Vec<_>>();
        let body = encode_body(changes);
        let bytes = frame_bytes(body.len());
        let newest = self.index().segments.back().cloned();
        let mut segment = newest.expect("an open log has a segment");
        if tail.position + bytes > segment.size {
            self.roll(&mut tail, bytes)?;
            untidy = true;
            segment = self.index().segments.back().cloned().expect("a segment was just added");
        }
        let mut frame = Vec::with_capacity(bytes);
        segment.header.put(&mut frame, tail.position, tail.frame, &body);
        segment.file.write(tail.position as u64, &frame).map_err(access("write to"))?;
        segment.file.sync_data().map_err(access("sync"))?;
        let place = Place { segment: segment.header.number, position: tail.position, bytes };
        self.index().note(place, &noted);
        tail.position += bytes;
        tail.frame += 1;
        Ok(untidy)
    }

    fn tidy(&self) -> Result<(), LogError> {
        let _tidying = self.tidying.lock().expect("nobody panics while tidying the log");
        self.give_up_segments()?;
        if let Err(error) = self.make_spare() {
            // The next segment makes its own file, or fails for the same reason.
            tracing::warn!(error = chain(&error), "no spare segment could be made");
            self.disk.remove(FILLING).map_err(access("remove a segment of"))?;
        }
        Ok(())
    }

    fn read(&self, from: u64, to: u64) -> Result<Vec<Entry>, LogError> {
        let places: Vec<(u64, Place)> =
            self.index().entries.range(from..to).map(|(index, place)| (*index, *place)).collect();
        let mut found = Vec::with_capacity(places.len());
        let mut open: Option<(Place, Vec<LogChange>)> = None;
        for (index, place) in places {
            if open.as_ref().is_none_or(|(known, _)| *known != place) {
                let Some(changes) = self.frame(index, place)? else { break };
                open = Some((place, changes));
            }
            let record = open.as_ref().and_then(|(_, changes)| entry_of(changes, index));
            let missing = || LogError::Damaged { what: format!("the place of entry {index}") };
            let entry = decode(record.ok_or_else(missing)?);
            found.push(
                entry.map_err(|source| LogError::Decode {
                    what: format!("entry {index}"),
                    source,
                })?,
            );
        }
        Ok(found)
    }

    fn bytes(&self) -> u64 {
        self.index().segments.iter().map(|segment| segment.size as u64).sum()
    }
}
