//! The log on real files: reopened, overwritten, purged, damaged at every place.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use openraft::vote::RaftLeaderId;
use proptest::prelude::*;

use super::{Claim, LogChange, LogError, LogFile, SegmentLog};
use crate::base::ids::{ClusterId, Generation, MemberId};
use crate::model::kv::{Op, TxnRequest};
use crate::store::codec::encode;
use crate::store::disk::HostDisk;
use crate::store::types::{Command, Entry, LogId, RequestId, TypeConfig, Vote};

/// Small, so that a few entries fill one.
const SEGMENT_BYTES: usize = 2_000;

fn claim() -> Claim {
    Claim {
        cluster: ClusterId(uuid::Uuid::from_u128(7)),
        generation: Generation(1),
        member: MemberId(1),
    }
}

fn open(dir: &Path) -> Result<SegmentLog, LogError> {
    let disk = Arc::new(HostDisk::new(dir).unwrap());
    SegmentLog::open(disk, claim(), SEGMENT_BYTES, 5, 6).map(|(log, _)| log)
}

fn log_id(term: u64, index: u64) -> LogId {
    let leader = <TypeConfig as openraft::RaftTypeConfig>::LeaderId::new(term, 1);
    LogId::new(leader.to_committed(), index)
}

fn entry(term: u64, index: u64) -> Entry {
    let id = RequestId { origin: MemberId(1), run: 1, sequence: index };
    let value = "v".repeat(40 + index as usize % 90);
    let request =
        TxnRequest { success: vec![Op::put(format!("k{index}"), value)], ..Default::default() };
    let command = Command::Txn { id, issued_at: 0, by: None, request };
    Entry::new(log_id(term, index), EntryPayload::Normal(command))
}

fn append(term: u64, index: u64) -> LogChange {
    LogChange::Append { index, record: encode(&entry(term, index)).into() }
}

fn indexes(log: &SegmentLog) -> Vec<u64> {
    log.read(0, u64::MAX).unwrap().iter().map(|entry| entry.log_id.index).collect()
}

/// The log's segments on disk, oldest first.
fn segments(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains("log.00"))
        .collect();
    found.sort();
    found
}

#[test]
fn what_was_committed_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let vote = Vote::new(3, 1);
    {
        let log = open(dir.path()).unwrap();
        for index in 1..=60 {
            log.commit(vec![append(1, index)]).unwrap();
        }
        log.commit(vec![LogChange::Vote(vote), LogChange::Committed(Some(log_id(1, 40)))]).unwrap();
        log.commit(vec![LogChange::TruncateFrom(50), append(3, 50), append(3, 51)]).unwrap();
    }
    assert!(segments(dir.path()).len() > 3, "the entries fill several segments");
    let log = open(dir.path()).unwrap();
    assert_eq!(indexes(&log), (1..=51).collect::<Vec<_>>());
    let head = log.head().unwrap();
    assert_eq!((head.vote, head.committed), (Some(vote), Some(log_id(1, 40))));
    assert_eq!(head.last, Some(log_id(3, 51)));
    assert_eq!(log.read(50, 52).unwrap(), vec![entry(3, 50), entry(3, 51)]);
}

#[test]
fn purged_segments_become_the_next_ones_and_marks_outlive_them() {
    let dir = tempfile::tempdir().unwrap();
    let vote = Vote::new(9, 1);
    let log = open(dir.path()).unwrap();
    log.commit(vec![LogChange::Vote(vote)]).unwrap();
    for index in 1..=400 {
        log.commit(vec![append(1, index)]).unwrap();
        if index % 20 == 0 {
            assert!(log.commit(vec![LogChange::Purge(log_id(1, index - 10))]).unwrap());
            log.tidy().unwrap();
        }
    }
    let files = fs::read_dir(dir.path()).unwrap().count();
    assert!(files <= 8, "{files} files are left of some thirty");
    drop(log);
    let log = open(dir.path()).unwrap();
    assert_eq!(indexes(&log), (391..=400).collect::<Vec<_>>());
    let head = log.head().unwrap();
    assert_eq!((head.vote, head.purged), (Some(vote), Some(log_id(1, 390))));
}

#[test]
fn an_entry_larger_than_a_segment_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    let batch: Vec<LogChange> = (1..=200).map(|index| append(1, index)).collect();
    log.commit(batch).unwrap();
    log.commit(vec![append(1, 201)]).unwrap();
    drop(log);
    assert_eq!(indexes(&open(dir.path()).unwrap()).len(), 201);
}

#[test]
fn one_disk_has_one_user_and_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    assert!(matches!(open(dir.path()), Err(LogError::InUse)));
    drop(log);
    let disk = Arc::new(HostDisk::new(dir.path()).unwrap());
    let foreign = Claim { member: MemberId(2), ..claim() };
    let refused = SegmentLog::open(disk, foreign, SEGMENT_BYTES, 5, 6);
    assert!(matches!(refused, Err(LogError::Foreign { what: "member", .. })), "{refused:?}");
}

#[test]
fn every_start_is_counted_also_when_one_head_slot_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..4 {
        drop(open(dir.path()).unwrap());
    }
    let disk = Arc::new(HostDisk::new(dir.path()).unwrap());
    let (log, identity) = SegmentLog::open(disk.clone(), claim(), SEGMENT_BYTES, 1, 2).unwrap();
    assert_eq!((identity.boot.0, identity.incarnation), (5, 5));
    drop(log);
    // Five starts and one segment: the sixth write is in slot 0, the fifth in slot 1.
    let head = dir.path().join("log.head");
    let mut bytes = fs::read(&head).unwrap();
    bytes[10] ^= 1;
    fs::write(&head, &bytes).unwrap();
    let (log, identity) = SegmentLog::open(disk.clone(), claim(), SEGMENT_BYTES, 1, 2).unwrap();
    assert_eq!(identity.boot.0, 5, "the older slot counts one start less than there were");
    drop(log);
    bytes.fill(0);
    fs::write(&head, &bytes).unwrap();
    let lost = SegmentLog::open(disk, claim(), SEGMENT_BYTES, 1, 2);
    assert!(matches!(lost, Err(LogError::Damaged { .. })), "{lost:?}");
}

/// Flips one bit of each byte in turn; the log may only be refused, or lose the last
/// commit, which cannot be told from one that a crash cut short.
#[test]
fn a_flipped_bit_is_found_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    for index in 1..=30 {
        log.commit(vec![append(1, index)]).unwrap();
    }
    drop(log);
    let (mut refused, mut shorter, mut harmless) = (0, 0, 0);
    for path in segments(dir.path()) {
        let whole = fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(3) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&path, &bytes).unwrap();
            match open(dir.path()) {
                Err(LogError::Damaged { .. }) => refused += 1,
                Err(error) => panic!("byte {at} of {}: {error:?}", path.display()),
                Ok(log) => match indexes(&log).len() {
                    30 => harmless += 1,
                    29 => shorter += 1,
                    left => panic!("byte {at} of {}: {left} are left", path.display()),
                },
            }
        }
        fs::write(&path, &whole).unwrap();
    }
    // Room that was never written, padding and the reserved bytes of the header.
    assert!(refused > 300 && shorter > 0 && harmless > 0, "{refused} {shorter} {harmless}");
}

#[test]
fn a_bit_that_flips_while_the_log_is_open_is_never_served() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    for index in 1..=30 {
        log.commit(vec![append(1, index)]).unwrap();
    }
    let path = &segments(dir.path())[0];
    let mut bytes = fs::read(path).unwrap();
    bytes[200] ^= 4;
    fs::write(path, &bytes).unwrap();
    let read = log.read(1, 31);
    assert!(matches!(read, Err(LogError::Damaged { .. })), "{read:?}");
}

#[test]
fn a_missing_or_emptied_segment_is_damage() {
    for empty in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let log = open(dir.path()).unwrap();
        for index in 1..=60 {
            log.commit(vec![append(1, index)]).unwrap();
        }
        drop(log);
        for path in segments(dir.path()) {
            let whole = fs::read(&path).unwrap();
            if empty {
                fs::write(&path, vec![0; whole.len()]).unwrap();
            } else {
                fs::remove_file(&path).unwrap();
            }
            let opened = open(dir.path());
            assert!(matches!(opened, Err(LogError::Damaged { .. })), "{opened:?}");
            fs::write(&path, &whole).unwrap();
        }
        assert_eq!(indexes(&open(dir.path()).unwrap()).len(), 60);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append(u8),
    Truncate(u8),
    Purge(u8),
    Reopen,
    /// Cuts the last commit short, as a crash may.
    Tear,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..8_u8).prop_map(Step::Append),
        1 => (0..6_u8).prop_map(Step::Truncate),
        1 => (0..30_u8).prop_map(Step::Purge),
        1 => Just(Step::Reopen),
        1 => Just(Step::Tear),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn it_holds_what_a_list_would(steps in prop::collection::vec(step(), 1..120)) {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Some(open(dir.path()).unwrap());
        let (mut first, mut last, mut term) = (1_u64, 0_u64, 1_u64);
        for step in steps {
            let open_log = log.as_ref().unwrap();
            match step {
                Step::Append(count) => {
                    let batch = (1..=u64::from(count)).map(|n| append(term, last + n)).collect();
                    open_log.commit(batch).unwrap();
                    last += u64::from(count);
                }
                Step::Truncate(count) => {
                    let from = (last + 1).saturating_sub(u64::from(count)).max(first);
                    open_log.commit(vec![LogChange::TruncateFrom(from)]).unwrap();
                    last = from - 1;
                    term += 1;
                }
                Step::Purge(keep) => {
                    let upto = last.saturating_sub(u64::from(keep));
                    if upto >= first {
                        open_log.commit(vec![LogChange::Purge(log_id(1, upto))]).unwrap();
                        open_log.tidy().unwrap();
                        first = upto + 1;
                    }
                }
                Step::Reopen => {
                    drop(log.take());
                    log = Some(open(dir.path()).unwrap());
                }
                Step::Tear => {
                    open_log.commit(vec![append(term, last + 1)]).unwrap();
                    let newest = {
                        let index = open_log.index.lock().unwrap();
                        index.entries[&(last + 1)]
                    };
                    drop(log.take());
                    let path = dir.path().join(format!("log.{:010}", newest.segment));
                    let mut bytes = fs::read(&path).unwrap();
                    bytes[newest.position + newest.bytes - 12] ^= 0xff;
                    fs::write(&path, &bytes).unwrap();
                    log = Some(open(dir.path()).unwrap());
                }
            }
            let found = indexes(log.as_ref().unwrap());
            prop_assert_eq!(found, (first..=last).collect::<Vec<_>>());
        }
    }
}
