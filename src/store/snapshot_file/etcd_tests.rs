//! etcd's format, read back by ourselves; etcd's own programs judge it in `tests/etcd`.

use std::io::Cursor;

use super::*;
use crate::store::offline::tests::stopped_with;
use crate::store::{Replay, SnapshotFormat, StoppedMember};

async fn etcd_snapshot(keys: usize) -> (Vec<u8>, Revision) {
    let cluster = stopped_with(keys).await;
    let member = StoppedMember::open(&cluster.path(1)).unwrap();
    let mut bytes = Vec::new();
    member.write_snapshot(SnapshotFormat::Etcd, &mut bytes).await.unwrap();
    let revision = member.view(Replay::Committed).await.unwrap().image_marks().unwrap().revision;
    (bytes, revision)
}

#[tokio::test]
async fn our_file_in_etcds_format_is_read_back_and_any_flipped_byte_is_noticed() {
    let (good, revision) = etcd_snapshot(500).await;
    let mut read = EtcdSnapshot::open(Cursor::new(&good)).unwrap();
    assert_eq!((read.header.keys, read.header.revision), (500, revision));
    let records: Vec<KeyValue> = read.take_records().collect();
    assert_eq!((&records[0].key[..], &records[0].value[..]), (&b"k0"[..], &b"v0"[..]));
    for at in (0..good.len()).step_by(101) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(EtcdSnapshot::open(Cursor::new(&bad)).is_err(), "{at}");
    }
}
