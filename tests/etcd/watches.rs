//! What a watch promises: everything, in order, whole revisions, and no progress that is not
//! true, also for a client that reads slowly.

use std::collections::BTreeMap;

use etcd_client::{Client, Txn, TxnOp, WatchOptions, WatchResponse};
use tokio::task::JoinSet;

use crate::channel::client;
use crate::rust_client::{Both, next};
use crate::served::Served;

const WRITES: usize = 60;
const KEYS: usize = 100;

/// Many revisions of many keys each, larger together than what is kept ready for a reader.
async fn flood(c: &mut Client) {
    let value = "x".repeat(1_000);
    for _ in 0..WRITES {
        let puts: Vec<TxnOp> =
            (0..KEYS).map(|n| TxnOp::put(format!("f/{n:03}"), value.as_str(), None)).collect();
        c.txn(Txn::new().and_then(puts)).await.unwrap();
    }
}

/// Every event once and in order; the events of a revision in one answer.
fn check_whole(answers: &[WatchResponse]) {
    let mut seen: BTreeMap<i64, (usize, usize)> = BTreeMap::new();
    let mut last = 0;
    for (at, answer) in answers.iter().enumerate() {
        for event in answer.events() {
            let revision = event.kv().unwrap().mod_revision();
            assert!(revision >= last, "revision {revision} after {last}");
            last = revision;
            let (first, count) = seen.entry(revision).or_insert((at, 0));
            assert_eq!(*first, at, "revision {revision} is cut");
            *count += 1;
        }
    }
    assert_eq!(seen.len(), WRITES);
    assert!(seen.values().all(|(_, count)| *count == KEYS), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_gets_everything_whole_and_in_order() {
    let both = Both::start().await;
    for mut c in both.clients().await {
        let wanted = || Some(WatchOptions::new().with_prefix().with_start_revision(1));
        // A real etcd puts many revisions into one answer.
        let mut watching = c.watch_client().max_decoding_message_size(1 << 30);
        let mut slow = watching.watch("f/", wanted()).await.unwrap();
        assert!(next(&mut slow).await.created());
        flood(&mut c).await;
        let mut late = watching.watch("f/", wanted()).await.unwrap();
        assert!(next(&mut late).await.created());
        for stream in [&mut slow, &mut late] {
            let (mut answers, mut events) = (Vec::new(), 0);
            while events < WRITES * KEYS {
                let answer = next(stream).await;
                events += answer.events().len();
                answers.push(answer);
            }
            check_whole(&answers);
        }
    }
}

/// Progress of a whole stream of several watches, under writes: nothing that comes later is
/// at or below it.
#[tokio::test(flavor = "multi_thread")]
async fn progress_of_a_stream_is_behind_none_of_its_watches() {
    let served = Served::start().await;
    let dir = served.dir.path();
    let mut c = client(dir, "admin", &served.url(), None).await.unwrap();
    let mut writer = client(dir, "admin", &served.url(), None).await.unwrap();
    let prefix = || Some(WatchOptions::new().with_prefix().with_start_revision(1));
    let mut stream = c.watch("a/", prefix()).await.unwrap();
    for key in ["b/", "c/"] {
        stream.watch(key, prefix()).await.unwrap();
    }
    let mut writes = JoinSet::new();
    writes.spawn(async move {
        for n in 0..1_500 {
            let key = format!("{}/{}", ["a", "b", "c"][n % 3], n % 7);
            writer.put(key, n.to_string(), None).await.unwrap();
        }
        writer.put("a/end", "", None).await.unwrap();
    });
    let (mut told, mut events, mut notes) = (0, 0, 0);
    stream.request_progress().await.unwrap();
    while events < 1_501 {
        let answer = next(&mut stream).await;
        for event in answer.events() {
            let revision = event.kv().unwrap().mod_revision();
            assert!(revision > told, "revision {revision} after progress {told}");
            events += 1;
        }
        if answer.events().is_empty() && !answer.created() {
            told = told.max(answer.header().unwrap().revision());
            notes += 1;
            stream.request_progress().await.unwrap();
        }
    }
    assert!(notes > 5, "{notes} notes of progress");
    writes.join_next().await.unwrap().unwrap();
}

/// What was before the revision of a compaction is nobody's any more.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_at_the_compacted_revision_has_no_old_value() {
    let both = Both::start().await;
    for mut c in both.clients().await {
        for value in ["1", "2", "3", "4"] {
            c.put("k", value, None).await.unwrap();
        }
        c.compact(3, None).await.unwrap();
        let wanted = WatchOptions::new().with_prev_key().with_start_revision(3);
        let mut stream = c.watch("k", Some(wanted)).await.unwrap();
        assert!(next(&mut stream).await.created());
        let mut events = Vec::new();
        while events.len() < 3 {
            events.extend(next(&mut stream).await.events().to_vec());
        }
        let old = |at: usize| events[at].prev_kv().map(|kv| kv.value().to_vec());
        let values = [old(0), old(1), old(2)];
        assert_eq!(values, [None, Some(b"2".to_vec()), Some(b"3".to_vec())]);
    }
}
