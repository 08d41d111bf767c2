//! HashKV against values that etcd 3.4.23 (Debian) answered for the same history, and what
//! compaction and defragmentation leave of it.

use super::{Cluster, put};
use crate::model::auth::Caller;
use crate::model::kv::{Op, TxnRequest};
use crate::store::admin_api::Maintenance;
use crate::store::{EtcdKv, Kv, Store};

const ME: Caller = Caller::Internal;

async fn hashed(store: &Store, revision: i64) -> (u32, i64) {
    let answer = store.hash_kv(&ME, revision).await.unwrap();
    (answer.hash, answer.compact_revision)
}

async fn write(store: &Store, ops: Vec<Op>) {
    store.txn(TxnRequest { success: ops, ..TxnRequest::default() }).await.unwrap();
}

#[tokio::test]
async fn hashes_are_etcds_before_and_after_compaction_and_defragmentation() {
    let mut cluster = Cluster::new();
    let store = cluster.open(1).await;
    store.initialize_single("n1", "one").await.unwrap();
    for (key, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
        store.txn(put(key, value)).await.unwrap();
    }
    write(&store, vec![Op::delete("b")]).await;
    write(&store, vec![Op::put("c", "5"), Op::put("d", "6"), Op::delete("a")]).await;
    assert_eq!(hashed(&store, 0).await, (1_778_539_342, -1));
    assert_eq!(hashed(&store, 4).await, (2_069_675_932, -1));
    assert_eq!(hashed(&store, 5).await, (1_125_682_900, -1));
    assert_eq!(hashed(&store, 6).await, (1_778_539_342, -1));
    store.txn(put("a", "7")).await.unwrap();
    store.txn(put("e", "8")).await.unwrap();
    write(&store, vec![Op::delete("e")]).await;
    assert_eq!(hashed(&store, 0).await, (3_445_736_000, -1));

    store.compact_as(&ME, 5, true).await.unwrap();
    for _ in 0..2 {
        assert_eq!(hashed(&store, 0).await, (2_826_962_352, 5));
        assert_eq!(hashed(&store, 6).await, (157_146_953, 5));
        assert_eq!(hashed(&store, 7).await, (1_626_812_310, 5));
        store.defragment(&ME).await.unwrap();
    }
    store.compact_as(&ME, 8, true).await.unwrap();
    store.defragment(&ME).await.unwrap();
    assert_eq!(hashed(&store, 0).await, (885_417_545, 8));
    assert_eq!(hashed(&store, 9).await, (885_417_545, 8));
    drop(store);
    cluster.kill(1);
    let store = cluster.open(1).await;
    assert_eq!(hashed(&store, 0).await, (885_417_545, 8), "the copy took the file's place");
}

#[tokio::test]
async fn defragmenting_gives_space_back_and_holds_up_nobody() {
    let mut cluster = Cluster::new();
    let store = cluster.open(1).await;
    store.initialize_single("n1", "one").await.unwrap();
    let value = "x".repeat(64 * 1024);
    for number in 0..300 {
        store.txn(put(&format!("k{}", number % 10), &value)).await.unwrap();
    }
    let newest = store.status().revision;
    store.compact_as(&ME, newest, true).await.unwrap();
    let before = store.member_status().db_size_bytes;
    let writer = store.clone();
    let (done, written) = tokio::join!(store.defragment(&ME), async move {
        for number in 0..50 {
            writer.txn(put(&format!("during/{number}"), "v")).await.unwrap();
        }
    });
    done.unwrap();
    let () = written;
    let after = store.member_status().db_size_bytes;
    assert!(after < before / 2, "{before} bytes became {after}");
    drop(store);
    cluster.kill(1);
    let store = cluster.open(1).await;
    let found = store.range(crate::model::kv::RangeRequest::prefix("during/")).await.unwrap();
    assert_eq!((found.count, store.status().revision), (50, newest + 50));
}
