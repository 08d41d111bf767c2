//! Snapshots in both formats, read back; damaged anywhere they are refused. etcd's own programs
//! judge its format in `tests/etcd`.

use std::io::Cursor;

use super::stopped_with;
use crate::model::kv::{KeyValue, Revision};
use crate::store::snapshot_file::{AnySnapshot, SnapshotError, SnapshotFile};
use crate::store::{Replay, SnapshotFormat, StoppedMember};

async fn saved(keys: usize, format: SnapshotFormat) -> (Vec<u8>, Revision) {
    let cluster = stopped_with(keys).await;
    let member = StoppedMember::open(&cluster.path(1)).unwrap();
    let mut bytes = Vec::new();
    member.write_snapshot(format, &mut bytes).await.unwrap();
    let revision = member.view(Replay::Committed).await.unwrap().image_marks().unwrap().revision;
    (bytes, revision)
}

#[tokio::test]
async fn our_file_in_etcds_format_is_read_back_and_any_flipped_byte_is_noticed() {
    let (good, revision) = saved(500, SnapshotFormat::Etcd).await;
    let mut read = AnySnapshot::open(Cursor::new(&good)).unwrap();
    assert_eq!((read.format(), read.check().unwrap()), ("etcd", 500));
    assert_eq!(read.header().revision, revision);
    let records: Vec<KeyValue> = read.records().unwrap().map(|kv| kv.unwrap()).collect();
    assert_eq!((&records[0].key[..], &records[0].value[..]), (&b"k0"[..], &b"v0"[..]));
    for at in (0..good.len()).step_by(101) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(AnySnapshot::open(Cursor::new(&bad)).is_err(), "{at}");
    }
}

#[tokio::test]
async fn a_snapshot_with_any_byte_changed_or_missing_is_refused() {
    let (good, _) = saved(20, SnapshotFormat::Holdfast).await;
    let mut file = SnapshotFile::open(Cursor::new(&good)).unwrap();
    assert_eq!((file.check().unwrap(), file.header.keys), (20, 20));
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        let refused = SnapshotFile::open(Cursor::new(&bad)).unwrap_err();
        let foreign = matches!(refused, SnapshotError::Foreign);
        assert!(foreign || matches!(refused, SnapshotError::Damaged { .. }), "{at}: {refused}");
        assert!(SnapshotFile::open(Cursor::new(&good[..at])).is_err(), "cut at {at}");
    }
}
