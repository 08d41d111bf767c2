//! Watches that ask for one value: what concerns it they are told, whatever happens meanwhile.

use std::sync::Arc;

use tokio::sync::mpsc::Receiver;

use super::{Cluster, PATIENCE, put};
use crate::model::kv::{Event, EventKind, Op, Revision, TxnRequest, WatchItem, WatchRequest};
use crate::store::{Facet, Interest, Kv, Store};

/// The value itself.
#[derive(Debug)]
struct Whole;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Facet for Whole {
    fn name(&self) -> &str {
        "whole"
    }

    fn values(&self, event: &Event) -> Option<Vec<String>> {
        let now = (event.kind == EventKind::Put).then(|| text(&event.kv.value));
        let before = event.prev_kv.as_ref().map(|before| text(&before.value));
        Some(now.into_iter().chain(before).collect())
    }
}

async fn watch(store: &Store, value: &str, start: Revision) -> Receiver<WatchItem> {
    let request = WatchRequest { prev_kv: true, ..WatchRequest::prefix("pods/", start) };
    let interest = Interest { facet: Arc::new(Whole), value: value.to_owned() };
    store.watch_value(request, interest).await.unwrap()
}

/// What concerns the value, up to the key `pods/end`; revisions must grow.
async fn told(items: &mut Receiver<WatchItem>, value: &str) -> Vec<String> {
    let (mut found, mut last) = (Vec::new(), 0);
    loop {
        let item = tokio::time::timeout(PATIENCE, items.recv()).await.unwrap().unwrap();
        let WatchItem::Events { revision, events } = item else { continue };
        assert!(revision > last, "{revision} after {last}");
        last = revision;
        for event in events {
            let key = text(&event.kv.key);
            if !Whole.values(&event).unwrap().iter().any(|own| own == value) {
                continue;
            }
            found.push(match event.kind {
                EventKind::Put => format!("{key}={}", text(&event.kv.value)),
                EventKind::Delete => format!("{key} gone"),
            });
            if key == "pods/end" {
                return found;
            }
        }
    }
}

#[tokio::test]
async fn a_watch_of_a_value_hears_of_it_through_every_member_and_from_the_next_leader() {
    let mut cluster = Cluster::three().await;
    let leader = cluster.leader().await;
    let others: Vec<u64> = [1, 2, 3].into_iter().filter(|member| *member != leader).collect();
    let (here, there) = (cluster.stores[&others[0]].clone(), cluster.stores[&others[1]].clone());
    let mut items = watch(&here, "n1", 0).await;
    let first = cluster.stores[&leader].clone();
    first.txn(put("pods/a", "n2")).await.unwrap();
    there.txn(put("pods/b", "n1")).await.unwrap();
    first.txn(put("pods/b", "n2")).await.unwrap();
    drop(first);
    cluster.kill(leader);
    there.txn(put("pods/c", "n1")).await.unwrap();
    let gone = TxnRequest { success: vec![Op::delete("pods/c")], ..TxnRequest::default() };
    there.txn(gone).await.unwrap();
    here.txn(put("pods/d", "n3")).await.unwrap();
    there.txn(put("pods/end", "n1")).await.unwrap();
    let wanted = ["pods/b=n1", "pods/b=n2", "pods/c=n1", "pods/c gone", "pods/end=n1"];
    assert_eq!(told(&mut items, "n1").await, wanted);
}

#[tokio::test]
async fn a_watch_of_a_value_that_was_left_behind_loses_nothing() {
    let mut cluster = Cluster::new();
    let store = cluster.open(1).await;
    store.initialize_single("n1", "one").await.unwrap();
    let start = store.status().revision + 1;
    let mut items = watch(&store, "n1", start).await;
    // More than any queue holds, and nobody reads.
    for number in 0..2_000 {
        let value = if number % 2 == 0 { "n1" } else { "n2" };
        store.txn(put(&format!("pods/{number:04}"), value)).await.unwrap();
    }
    store.txn(put("pods/end", "n1")).await.unwrap();
    let mut wanted: Vec<String> =
        (0..2_000).step_by(2).map(|number| format!("pods/{number:04}=n1")).collect();
    wanted.push("pods/end=n1".into());
    assert_eq!(told(&mut items, "n1").await, wanted);
    let mut late = watch(&store, "n1", start).await;
    assert_eq!(told(&mut late, "n1").await, wanted, "from the past");
    let newest = store.status().revision;
    store.compact(newest).await.unwrap();
    let mut late = watch(&store, "n1", start).await;
    assert_eq!(late.recv().await, Some(WatchItem::Compacted { compact_revision: newest }));
}
