//! Snapshots that were damaged anywhere are refused.

use std::io::Cursor;

use super::{SnapshotError, SnapshotFile};
use crate::store::offline::tests::a_snapshot;

#[tokio::test]
async fn a_snapshot_with_any_byte_changed_or_missing_is_refused() {
    let good = a_snapshot(20).await;
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
