//! What etcd's clients ask of one member: sorted and streamed ranges, watch streams,
//! users.

use bytes::Bytes;

use super::{Cluster, put};
use crate::model::auth::{AuthChange, Caller, Permission, PermissionKind};
use crate::model::kv::{
    DeleteRangeRequest, EventKind, PutRequest, RangeRequest, SortOrder, SortTarget, WatchItem,
    WatchRequest,
};
use crate::model::refusal::Refusal;
use crate::store::admin_api::{Auth, Maintenance};
use crate::store::api::WHOLE_STREAM;
use crate::store::{EtcdKv, Kv, Store, StoreError};

const ME: Caller = Caller::Internal;

async fn one() -> (Cluster, std::sync::Arc<Store>) {
    let mut cluster = Cluster::new();
    let store = cluster.open(1).await;
    store.initialize_single("n1", "one").await.unwrap();
    (cluster, store)
}

#[tokio::test]
async fn ranges_are_bounded_sorted_and_cut_off_in_etcds_order() {
    let (_cluster, store) = one().await;
    for key in ["k1", "k2", "k3", "k1"] {
        store.txn(put(key, "v")).await.unwrap();
    }
    let keys = async |request: RangeRequest| {
        let answer = store.range_as(&ME, request).await.unwrap();
        let keys = answer.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned());
        (keys.collect::<Vec<_>>().join(" "), answer.more, answer.count)
    };
    let by = |sort_target, sort_order, limit| RangeRequest {
        sort_target,
        sort_order,
        limit,
        ..RangeRequest::prefix("k")
    };
    let all = keys(by(SortTarget::Key, SortOrder::Descend, 2)).await;
    assert_eq!(all, ("k3 k2".into(), true, 3));
    let newest = keys(by(SortTarget::Mod, SortOrder::Descend, 1)).await;
    assert_eq!(newest, ("k1".into(), true, 3));
    let unordered = keys(by(SortTarget::Mod, SortOrder::None, 0)).await;
    assert_eq!(unordered, ("k2 k3 k1".into(), false, 3));
    let bounded = RangeRequest { max_mod_revision: 4, limit: 1, ..RangeRequest::prefix("k") };
    assert_eq!(keys(bounded).await, ("k2".into(), true, 3));
}

#[tokio::test]
async fn a_streamed_range_is_of_one_revision_however_long_it_takes() {
    let (_cluster, store) = one().await;
    let value = "x".repeat(3_000);
    for number in 0..700 {
        store.txn(put(&format!("k{number:04}"), &value)).await.unwrap();
    }
    let mut chunks = store.range_stream(&ME, RangeRequest::prefix("k")).await.unwrap();
    store
        .delete_as(
            &ME,
            DeleteRangeRequest { key: "k".into(), range_end: "l".into(), prev_kv: false },
        )
        .await
        .unwrap();
    let newest = store.status().revision;
    store.compact_as(&ME, newest, true).await.unwrap();
    let (mut seen, mut last, mut number) = (Vec::new(), None, 0);
    while let Some(chunk) = chunks.recv().await {
        let chunk = chunk.unwrap();
        assert_eq!(chunk.revision, newest - 1);
        seen.extend(chunk.kvs.iter().map(|kv| kv.key.clone()));
        number += 1;
        last = Some((chunk.count, chunk.more));
    }
    assert!(number > 2, "{number} chunks");
    assert_eq!((seen.len(), last), (700, Some((700, false))));
    assert!(seen.is_sorted());
    let limited = RangeRequest { limit: 3, revision: newest, ..RangeRequest::prefix("k") };
    let mut chunks = store.range_stream(&ME, limited).await.unwrap();
    assert_eq!(chunks.recv().await.unwrap().unwrap().count, 0);
}

#[tokio::test]
async fn a_stream_of_watches_filters_begins_anywhere_and_tells_progress_last() {
    let (_cluster, store) = one().await;
    for value in ["1", "2", "3"] {
        store.txn(put("a", value)).await.unwrap();
    }
    let mut stream = store.watch_stream(&ME).await.unwrap();
    let key = |key: &'static str| WatchRequest { key: key.into(), ..WatchRequest::default() };
    let past = WatchRequest { start_revision: 3, prev_kv: true, ..key("a") };
    stream.add(1, past).await.unwrap();
    stream.add(2, WatchRequest { no_put: true, ..key("a") }).await.unwrap();
    stream.add(3, WatchRequest { start_revision: 6, ..key("a") }).await.unwrap();
    assert!(stream.add(3, key("a")).await.is_err(), "the id is in use");
    store.txn(put("a", "4")).await.unwrap();
    store
        .delete_as(&ME, DeleteRangeRequest { key: "a".into(), ..Default::default() })
        .await
        .unwrap();
    stream.request_progress();
    let mut seen: std::collections::BTreeMap<i64, Vec<(i64, EventKind)>> = Default::default();
    loop {
        match stream.next().await.unwrap() {
            (WHOLE_STREAM, WatchItem::Progress(revision)) if revision >= 6 => break,
            (WHOLE_STREAM, _) => stream.request_progress(),
            (id, WatchItem::Events { revision, events }) => {
                if id == 1 {
                    assert!(events[0].prev_kv.is_some());
                }
                seen.entry(id).or_default().push((revision, events[0].kind));
            }
            other => panic!("{other:?}"),
        }
    }
    use EventKind::{Delete, Put};
    assert_eq!(seen[&1], [(3, Put), (4, Put), (5, Put), (6, Delete)]);
    assert_eq!(seen[&2], [(6, Delete)]);
    assert_eq!(seen[&3], [(6, Delete)]);
    assert!(stream.cancel(1) && !stream.cancel(1));
    store.compact(5).await.unwrap();
    stream.add(4, WatchRequest { start_revision: 2, ..key("a") }).await.unwrap();
    assert_eq!(stream.next().await, Some((4, WatchItem::Compacted { compact_revision: 5 })));
}

/// A watch of all keys from a revision on.
fn everything(start_revision: i64) -> WatchRequest {
    let all = Bytes::from_static(&[0]);
    WatchRequest { key: all.clone(), range_end: all, start_revision, ..WatchRequest::default() }
}

#[tokio::test]
async fn the_progress_of_a_stream_speaks_of_a_watch_that_was_added_before_it_is_read() {
    let (_cluster, store) = one().await;
    store.txn(put("a", "1")).await.unwrap();
    let first = store.txn(put("a", "2")).await.unwrap().revision;
    let mut stream = store.watch_stream(&ME).await.unwrap();
    stream.add(1, everything(first)).await.unwrap();
    stream.request_progress();
    assert!(matches!(stream.next().await, Some((1, WatchItem::Events { .. }))));
    // The note stands in the queue behind that event; this watch has been given nothing yet.
    stream.add(2, everything(2)).await.unwrap();
    let mut given = 1;
    loop {
        match stream.next().await.unwrap() {
            (2, WatchItem::Events { revision, .. }) => given = revision,
            (WHOLE_STREAM, WatchItem::Progress(revision)) => {
                assert!(revision <= given, "progress {revision}, watch 2 was given {given}");
                break;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_watch_that_begins_in_the_future_is_told_of_no_progress_before_its_beginning() {
    let (_cluster, store) = one().await;
    let newest = store.txn(put("a", "1")).await.unwrap().revision;
    let begins = newest + 3;
    let mut stream = store.watch_stream(&ME).await.unwrap();
    let watch = WatchRequest { progress_notify: true, ..everything(begins) };
    stream.add(1, watch).await.unwrap();
    stream.request_progress();
    // Longer than the pause between two notes of progress.
    tokio::time::pause();
    let quiet = tokio::time::timeout(std::time::Duration::from_secs(20), stream.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    tokio::time::resume();
    for value in ["2", "3", "4"] {
        store.txn(put("a", value)).await.unwrap();
    }
    loop {
        match stream.next().await.unwrap() {
            (_, WatchItem::Progress(revision)) => {
                assert!(revision + 1 >= begins, "progress {revision} before {begins}");
                if revision >= begins {
                    break;
                }
            }
            (1, WatchItem::Events { revision, .. }) => assert!(revision >= begins),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_reader_that_sleeps_is_fed_from_the_disk_and_misses_nothing() {
    let (_cluster, store) = one().await;
    let mut stream = store.watch_stream(&ME).await.unwrap();
    stream.add(0, WatchRequest { key: "k".into(), ..WatchRequest::default() }).await.unwrap();
    let last = 1 + 3 * crate::base::limits::WATCH_BUFFER_EVENTS as i64;
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let store = store.clone();
        writers.spawn(async move {
            while store.status().revision < last {
                store.txn(put("k", "v")).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    let last = store.status().revision;
    for expected in 2..=last {
        match stream.next().await.unwrap() {
            (0, WatchItem::Events { revision, .. }) => assert_eq!(revision, expected),
            other => panic!("{other:?}"),
        }
    }
}

async fn change(store: &Store, by: &Caller, change: AuthChange) -> Result<(), StoreError> {
    store.auth_change(by, change).await
}

#[tokio::test]
async fn users_may_do_what_their_roles_say_and_no_more() {
    let (_cluster, store) = one().await;
    let name = |name: &str| name.to_owned();
    let add = |user: &str, word: &str| AuthChange::UserAdd {
        name: user.to_owned(),
        password: Some(word.to_owned()),
    };
    let refusal = |error: StoreError| match error {
        StoreError::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    };
    let (key, range_end) = (Bytes::from("a"), Bytes::from("b"));
    let permission = Permission { kind: PermissionKind::ReadWrite, key, range_end };
    for step in [
        add("root", "r"),
        add("ann", "secret"),
        AuthChange::UserGrantRole { user: name("root"), role: name("root") },
        AuthChange::RoleAdd { name: name("app") },
        AuthChange::RoleGrantPermission { role: name("app"), permission },
        AuthChange::UserGrantRole { user: name("ann"), role: name("app") },
        AuthChange::Enable,
    ] {
        change(&store, &Caller::Anonymous, step).await.unwrap();
    }
    let write = |key: &'static str| PutRequest { key: key.into(), ..PutRequest::default() };
    let denied = store.put_as(&Caller::Anonymous, write("a")).await.unwrap_err();
    assert_eq!(refusal(denied), Refusal::UserEmpty);
    let wrong = store.authenticate("ann", "guess").await.unwrap_err();
    assert_eq!(refusal(wrong), Refusal::AuthFailed);
    let token = store.authenticate("ann", "secret").await.unwrap();
    let ann = store.caller_of_token(&token).await.unwrap();
    store.put_as(&ann, write("a1")).await.unwrap();
    let denied = store.put_as(&ann, write("b1")).await.unwrap_err();
    assert_eq!(refusal(denied), Refusal::PermissionDenied);
    let denied = store.range_as(&ann, RangeRequest::prefix("")).await.unwrap_err();
    assert!(matches!(denied, StoreError::Refused(_)));
    assert_eq!(refusal(store.hash_kv(&ann, 0).await.unwrap_err()), Refusal::PermissionDenied);
    let mut stream = store.watch_stream(&ann).await.unwrap();
    let watch = WatchRequest { key: "z".into(), ..WatchRequest::default() };
    assert_eq!(refusal(stream.add(0, watch).await.unwrap_err()), Refusal::PermissionDenied);

    let root = store.caller_of_certificate("root");
    let revoke = AuthChange::UserRevokeRole { user: name("ann"), role: name("app") };
    change(&store, &root, revoke).await.unwrap();
    let late = store.put_as(&ann, write("a1")).await.unwrap_err();
    assert_eq!(refusal(late), Refusal::AuthOldRevision);
    let root = store.caller_of_certificate("root");
    change(&store, &root, AuthChange::UserDelete { name: name("ann") }).await.unwrap();
    let gone = store.caller_of_token(&token).await.unwrap_err();
    assert_eq!(refusal(gone), Refusal::InvalidAuthToken);
    store.txn(put("b1", "inside")).await.unwrap();
}
