//! What Kubernetes' API server and confd send, call by call, to ours and to a real etcd.
//!
//! Source: k8s.io/apiserver `storage/etcd3` (store, watcher, compact, lease_manager,
//! feature support), etcd `client/v3/kubernetes`, confd `backends/etcdv3`.

use etcd_client::{
    Client, CompactionOptions, Compare, CompareOp, ConnectOptions, EventType, GetOptions,
    PutOptions, Txn, TxnOp, TxnOpResponse, WatchOptions,
};
use tonic::Code;

use crate::channel::client;
use crate::rust_client::{Both, next, refusal};

const REGISTRY: &str = "/registry/pods/";

/// `OptimisticPut`: writes if the key is as it was seen, answers what is there if not.
async fn optimistic_put(
    c: &mut Client,
    key: &str,
    value: &str,
    seen: i64,
    lease: i64,
) -> Result<i64, i64> {
    let put = PutOptions::new().with_lease(lease);
    let txn = Txn::new()
        .when([Compare::mod_revision(key, CompareOp::Equal, seen)])
        .and_then([TxnOp::put(key, value, Some(put))])
        .or_else([TxnOp::get(key, None)]);
    let done = c.txn(txn).await.unwrap();
    let revision = done.header().unwrap().revision();
    match &done.op_responses()[0] {
        TxnOpResponse::Put(_) => Ok(revision),
        TxnOpResponse::Get(got) => {
            Err(got.kvs().first().map_or(0, etcd_client::KeyValue::mod_revision))
        }
        other => panic!("{other:?}"),
    }
}

/// `OptimisticDelete`, which answers the object either way.
async fn optimistic_delete(c: &mut Client, key: &str, seen: i64) -> bool {
    let txn = Txn::new()
        .when([Compare::mod_revision(key, CompareOp::Equal, seen)])
        .and_then([TxnOp::delete(key, None)])
        .or_else([TxnOp::get(key, None)]);
    c.txn(txn).await.unwrap().succeeded()
}

/// One page of a list: all from a key to the prefix's end, at one revision.
fn page(limit: i64, revision: i64) -> GetOptions {
    GetOptions::new().with_range("/registry/pods0").with_limit(limit).with_revision(revision)
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_created_updated_listed_in_pages_and_deleted() {
    let both = Both::start().await;
    for mut c in both.clients().await {
        let key = |n: usize| format!("{REGISTRY}default/p{n:02}");
        let mut last = 0;
        for n in 0..25 {
            last = optimistic_put(&mut c, &key(n), "v1", 0, 0).await.unwrap();
        }
        // Created twice: the answer is the object that is there.
        assert_eq!(optimistic_put(&mut c, &key(3), "v1", 0, 0).await, Err(last - 21));
        let updated = optimistic_put(&mut c, &key(3), "v2", last - 21, 0).await.unwrap();
        assert_eq!(updated, last + 1);
        // Pages at the revision of the first, though somebody writes in between.
        let first = c.get(REGISTRY, Some(page(10, 0))).await.unwrap();
        let at = first.header().unwrap().revision();
        assert_eq!((first.kvs().len(), first.more(), first.count()), (10, true, 25));
        optimistic_put(&mut c, &key(99), "late", 0, 0).await.unwrap();
        let mut seen = first.kvs().to_vec();
        let mut more = first.more();
        while more {
            let from = [seen.last().unwrap().key(), b"\0"].concat();
            let next = c.get(from, Some(page(10, at))).await.unwrap();
            assert_eq!(usize::try_from(next.count()).unwrap(), 25 - seen.len());
            seen.extend(next.kvs().to_vec());
            more = next.more();
        }
        assert_eq!(seen.len(), 25);
        let count = GetOptions::new().with_prefix().with_count_only();
        let count = c.get(REGISTRY, Some(count)).await.unwrap();
        assert!(count.count() == 26 && count.kvs().is_empty());
        // An old page after compaction: "the continue parameter is too old".
        assert!(optimistic_delete(&mut c, &key(3), updated).await);
        assert!(!optimistic_delete(&mut c, &key(3), updated).await);
        c.compact(at + 1, Some(CompactionOptions::new())).await.unwrap();
        let old = refusal(c.get(REGISTRY, Some(page(10, at))).await.unwrap_err());
        let text = "etcdserver: mvcc: required revision has been compacted";
        assert_eq!(old, (Code::OutOfRange, text.into()));
        let future = refusal(c.get(REGISTRY, Some(page(10, at + 9_999))).await.unwrap_err());
        let text = "etcdserver: mvcc: required revision is a future revision";
        assert_eq!(future, (Code::OutOfRange, text.into()));
    }
}

/// The watch cache: from the list's revision, with what was there before, a leader asked
/// for, progress on request.
#[tokio::test(flavor = "multi_thread")]
async fn the_watch_cache_sees_every_change_and_progress_that_is_true() {
    let both = Both::start().await;
    let dir = both.served.dir.path();
    for url in both.urls() {
        let asks = ConnectOptions::new().with_require_leader(true);
        let mut c = client(dir, "admin", &url, Some(asks)).await.unwrap();
        let key = format!("{REGISTRY}default/p");
        let created = optimistic_put(&mut c, &key, "v1", 0, 0).await.unwrap();
        let list = c.get(REGISTRY, Some(page(0, 0))).await.unwrap();
        let from = list.header().unwrap().revision() + 1;
        let wanted = WatchOptions::new()
            .with_prefix()
            .with_start_revision(from)
            .with_prev_key()
            .with_progress_notify()
            .with_fragment();
        let mut stream = c.watch(REGISTRY, Some(wanted)).await.unwrap();
        assert!(next(&mut stream).await.created());
        let updated = optimistic_put(&mut c, &key, "v2", created, 0).await.unwrap();
        assert!(optimistic_delete(&mut c, &key, updated).await);
        let mut events = Vec::new();
        while events.len() < 2 {
            events.extend(next(&mut stream).await.events().to_vec());
        }
        let [update, delete] = &events[..] else { panic!("{events:?}") };
        assert_eq!(update.prev_kv().unwrap().value(), b"v1");
        assert!(update.kv().unwrap().create_revision() != update.kv().unwrap().mod_revision());
        assert_eq!(delete.event_type(), EventType::Delete);
        assert_eq!(delete.prev_kv().unwrap().value(), b"v2");
        // Kubernetes reads from its cache once progress has passed the list's revision.
        let other = c.put("/elsewhere", "x", None).await.unwrap().header().unwrap().revision();
        let mut told = 0;
        while told < other {
            stream.request_progress().await.unwrap();
            let answer = next(&mut stream).await;
            assert!(answer.events().is_empty());
            told = answer.header().unwrap().revision();
        }
        assert_eq!(told, other);
    }
}

/// Several API servers compact by turns: the one that moves the key's version compacts.
#[tokio::test(flavor = "multi_thread")]
async fn the_compaction_key_is_moved_by_one_of_two_at_a_time() {
    let both = Both::start().await;
    for mut c in both.clients().await {
        const KEY: &str = "compact_rev_key";
        let step = async |c: &mut Client, time: i64, revision: i64| {
            let txn = Txn::new()
                .when([Compare::version(KEY, CompareOp::Equal, time)])
                .and_then([TxnOp::put(KEY, revision.to_string(), None)])
                .or_else([TxnOp::get(KEY, None)]);
            let done = c.txn(txn).await.unwrap();
            let current = done.header().unwrap().revision();
            match &done.op_responses()[0] {
                TxnOpResponse::Get(got) => (got.kvs()[0].version(), current, false),
                _ => (time + 1, current, true),
            }
        };
        let (time, revision, first) = step(&mut c, 0, 0).await;
        assert!(first && time == 1);
        for n in 0..5 {
            c.put("k", n.to_string(), None).await.unwrap();
        }
        let (late, _, won) = step(&mut c, 0, 0).await;
        assert_eq!((late, won), (1, false));
        let (time, newest, won) = step(&mut c, time, revision).await;
        assert!(won && time == 2);
        c.compact(newest - 1, None).await.unwrap();
        let again = refusal(c.compact(newest - 1, None).await.unwrap_err());
        let text = "etcdserver: mvcc: required revision has been compacted";
        assert_eq!(again, (Code::OutOfRange, text.into()));
    }
}

/// Events live on a lease that many of them share.
#[tokio::test(flavor = "multi_thread")]
async fn many_objects_share_a_lease_and_go_with_it() {
    let both = Both::start().await;
    for mut c in both.clients().await {
        let lease = c.lease_grant(3_600, None).await.unwrap().id();
        for n in 0..100 {
            let key = format!("/registry/events/default/e{n:03}");
            optimistic_put(&mut c, &key, "v", 0, lease).await.unwrap();
        }
        let wanted = WatchOptions::new().with_prefix().with_prev_key();
        let mut stream = c.watch("/registry/events/", Some(wanted)).await.unwrap();
        assert!(next(&mut stream).await.created());
        c.lease_revoke(lease).await.unwrap();
        let gone = next(&mut stream).await;
        assert_eq!(gone.events().len(), 100, "one revision, whole");
        assert!(gone.events().iter().all(|event| event.prev_kv().is_some()));
    }
}

/// The version decides what the API server asks for: progress from 3.4.31 and 3.5.13 on,
/// streamed ranges from 3.7 on. Both then have to work.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_version_promises_is_there() {
    let both = Both::start().await;
    let mut c = both.clients().await.remove(0);
    assert_eq!(c.status().await.unwrap().version(), "3.7.0");
    // Large enough for several messages.
    let value = "x".repeat(100_000);
    for n in 0..40 {
        c.put(format!("/big/{n:02}"), value.as_str(), None).await.unwrap();
    }
    let mut kv = c.kv_client();
    let wanted = GetOptions::new().with_prefix();
    let mut stream = kv.get_stream("/big/", Some(wanted)).await.unwrap();
    let mut chunks = Vec::new();
    while let Some(chunk) = stream.message().await.unwrap() {
        chunks.push(chunk);
    }
    let keys: usize = chunks.iter().map(|chunk| chunk.kvs().len()).sum();
    assert!(keys == 40 && chunks.len() > 1, "{keys} keys in {} messages", chunks.len());
    let (last, others) = chunks.split_last().unwrap();
    assert!(others.iter().all(|chunk| chunk.header().is_none() && chunk.count() == 0));
    assert_eq!((last.header().unwrap().revision(), last.count(), last.more()), (41, 40, false));
}

/// confd: all keys of its prefixes in one transaction each time, woken by a watch from the
/// revision of the last answer.
#[tokio::test(flavor = "multi_thread")]
async fn confd_reads_in_transactions_and_waits_by_watch() {
    let both = Both::start().await;
    for mut c in both.clients().await {
        c.put("/app/db/host", "a", None).await.unwrap();
        c.put("/app/web/port", "80", None).await.unwrap();
        let all = || {
            Some(
                GetOptions::new()
                    .with_prefix()
                    .with_sort(etcd_client::SortTarget::Key, etcd_client::SortOrder::Descend),
            )
        };
        let read =
            Txn::new().and_then([TxnOp::get("/app/db", all()), TxnOp::get("/app/web", all())]);
        let done = c.txn(read).await.unwrap();
        let revision = done.header().unwrap().revision();
        let values: Vec<_> = done
            .op_responses()
            .iter()
            .map(|response| match response {
                TxnOpResponse::Get(got) => got.kvs()[0].value().to_vec(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(values, [b"a".to_vec(), b"80".to_vec()]);
        let from = WatchOptions::new().with_prefix().with_start_revision(revision + 1);
        let mut stream = c.watch("/app", Some(from)).await.unwrap();
        assert!(next(&mut stream).await.created());
        c.put("/app/db/host", "b", None).await.unwrap();
        assert_eq!(next(&mut stream).await.events()[0].kv().unwrap().value(), b"b");
    }
}
