//! A store in memory for tests, with the real one's semantics: revisions, history,
//! compaction, transactions, watches from a revision.

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::model::kv::{
    Compare, CompareOp, CompareTarget, Event, EventKind, KeyValue, Op, OpResponse, RangeRequest,
    RangeResponse, Revision, TxnRequest, TxnResponse, WatchItem, WatchRequest,
};
use crate::store::{Interest, Kv, StoreError};

type Keys = BTreeMap<Bytes, KeyValue>;

#[derive(Debug, Default)]
struct State {
    revision: Revision,
    compacted: Revision,
    /// The whole state at each revision; tests are small.
    history: BTreeMap<Revision, Keys>,
    events: Vec<(Revision, Vec<Event>)>,
    watchers: Vec<(Wanted, mpsc::UnboundedSender<WatchItem>)>,
}

/// What a watcher asked for.
#[derive(Debug)]
struct Wanted {
    request: WatchRequest,
    interest: Option<Interest>,
}

/// The test store.
#[derive(Debug)]
pub(crate) struct MemoryKv {
    state: Mutex<State>,
    feeders: Mutex<tokio::task::JoinSet<()>>,
}

impl MemoryKv {
    pub(crate) fn new() -> Self {
        let mut state = State { revision: 1, ..State::default() };
        state.history.insert(1, Keys::new());
        Self { state: Mutex::new(state), feeders: Mutex::default() }
    }

    pub(crate) fn revision(&self) -> Revision {
        self.state.lock().unwrap().revision
    }

    /// Tells every watcher that it has seen everything.
    pub(crate) fn progress(&self) {
        let state = self.state.lock().unwrap();
        for (_, watcher) in &state.watchers {
            let _ = watcher.send(WatchItem::Progress(state.revision));
        }
    }
}

fn contains(key: &[u8], start: &Bytes, end: &Bytes) -> bool {
    match &end[..] {
        [] => key == &start[..],
        [0] => key >= &start[..],
        end => key >= &start[..] && key < end,
    }
}

fn read(state: &State, keys: &Keys, request: &RangeRequest) -> RangeResponse {
    let all: Vec<&KeyValue> =
        keys.values().filter(|kv| contains(&kv.key, &request.key, &request.range_end)).collect();
    let limit = if request.limit == 0 { usize::MAX } else { request.limit as usize };
    RangeResponse {
        revision: state.revision,
        count: all.len() as i64,
        more: all.len() > limit,
        kvs: all.into_iter().take(limit).cloned().collect(),
    }
}

fn holds(keys: &Keys, compare: &Compare) -> bool {
    if compare.range_end.is_empty() {
        return holds_of(keys.get(&compare.key).cloned(), compare);
    }
    let inside = keys.values().filter(|kv| contains(&kv.key, &compare.key, &compare.range_end));
    inside.cloned().all(|kv| holds_of(Some(kv), compare))
}

fn holds_of(kv: Option<KeyValue>, compare: &Compare) -> bool {
    let number = |own: i64, given: i64| match compare.op {
        CompareOp::Equal => own == given,
        CompareOp::NotEqual => own != given,
        CompareOp::Greater => own > given,
        CompareOp::Less => own < given,
    };
    let own = |field: fn(&KeyValue) -> i64| kv.as_ref().map_or(0, field);
    match &compare.target {
        CompareTarget::Version(given) => number(own(|kv| kv.version), *given),
        CompareTarget::CreateRevision(given) => number(own(|kv| kv.create_revision), *given),
        CompareTarget::ModRevision(given) => number(own(|kv| kv.mod_revision), *given),
        CompareTarget::Lease(given) => number(own(|kv| kv.lease), *given),
        CompareTarget::Value(given) => kv.is_some_and(|kv| kv.value == *given),
    }
}

fn deliver(wanted: &Wanted, revision: Revision, events: &[Event]) -> Option<WatchItem> {
    let request = &wanted.request;
    if revision < request.start_revision {
        return None;
    }
    // The real one may leave out what concerns nobody; this one always does.
    let interests = |event: &Event| match &wanted.interest {
        Some(Interest { facet, value }) => {
            facet.values(event).is_none_or(|values| values.contains(value))
        }
        None => true,
    };
    let events: Vec<Event> = events
        .iter()
        .filter(|event| contains(&event.kv.key, &request.key, &request.range_end))
        .filter(|event| interests(event))
        .cloned()
        .collect();
    (!events.is_empty()).then_some(WatchItem::Events { revision, events })
}

#[async_trait]
impl Kv for MemoryKv {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        let state = self.state.lock().unwrap();
        let at = if request.revision == 0 { state.revision } else { request.revision };
        if at < state.compacted {
            return Err(StoreError::Compacted { requested: at, compacted: state.compacted });
        }
        let keys = state
            .history
            .get(&at)
            .ok_or(StoreError::Future { requested: at, current: state.revision })?;
        Ok(read(&state, keys, &request))
    }

    async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, StoreError> {
        let mut state = self.state.lock().unwrap();
        let mut keys = state.history[&state.revision].clone();
        let succeeded = request.compare.iter().all(|compare| holds(&keys, compare));
        let next = state.revision + 1;
        let (mut events, mut responses) = (Vec::new(), Vec::new());
        for op in if succeeded { request.success } else { request.failure } {
            responses.push(match op {
                Op::Range(range) => OpResponse::Range(read(&state, &keys, &range)),
                Op::Put(put) => {
                    let prev = keys.get(&put.key).cloned();
                    let kv = KeyValue {
                        key: put.key.clone(),
                        value: put.value,
                        create_revision: prev.as_ref().map_or(next, |kv| kv.create_revision),
                        mod_revision: next,
                        version: prev.as_ref().map_or(0, |kv| kv.version) + 1,
                        lease: 0,
                    };
                    keys.insert(put.key, kv.clone());
                    events.push(Event { kind: EventKind::Put, kv, prev_kv: prev.clone() });
                    OpResponse::Put { revision: next, prev_kv: prev }
                }
                Op::DeleteRange(delete) => {
                    let gone: Vec<KeyValue> = keys
                        .values()
                        .filter(|kv| contains(&kv.key, &delete.key, &delete.range_end))
                        .cloned()
                        .collect();
                    for kv in &gone {
                        keys.remove(&kv.key);
                        let mark = KeyValue {
                            key: kv.key.clone(),
                            mod_revision: next,
                            ..KeyValue::default()
                        };
                        let prev_kv = Some(kv.clone());
                        events.push(Event { kind: EventKind::Delete, kv: mark, prev_kv });
                    }
                    OpResponse::DeleteRange {
                        revision: next,
                        deleted: gone.len() as i64,
                        prev_kvs: gone,
                    }
                }
                Op::Txn(_) => unimplemented!("the object layer nests no transactions"),
            });
        }
        if !events.is_empty() {
            state.revision = next;
            state.history.insert(next, keys);
            state.watchers.retain(|(_, watcher)| !watcher.is_closed());
            for (watch, watcher) in &state.watchers {
                if let Some(item) = deliver(watch, next, &events) {
                    let _ = watcher.send(item);
                }
            }
            state.events.push((next, events));
        }
        Ok(TxnResponse { revision: state.revision, succeeded, responses })
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        let mut state = self.state.lock().unwrap();
        state.compacted = revision;
        state.history.retain(|at, _| *at >= revision);
        state.events.retain(|(at, _)| *at > revision);
        Ok(())
    }

    async fn watch(&self, request: WatchRequest) -> Result<mpsc::Receiver<WatchItem>, StoreError> {
        Ok(self.open_watch(request, None))
    }

    async fn watch_value(
        &self,
        request: WatchRequest,
        interest: Interest,
    ) -> Result<mpsc::Receiver<WatchItem>, StoreError> {
        Ok(self.open_watch(request, Some(interest)))
    }
}

impl MemoryKv {
    fn open_watch(
        &self,
        request: WatchRequest,
        interest: Option<Interest>,
    ) -> mpsc::Receiver<WatchItem> {
        let (sender, mut items) = mpsc::unbounded_channel();
        let mut state = self.state.lock().unwrap();
        if request.start_revision != 0 && request.start_revision <= state.compacted {
            let _ = sender.send(WatchItem::Compacted { compact_revision: state.compacted });
        } else {
            let mut request = request;
            if request.start_revision == 0 {
                request.start_revision = state.revision + 1;
            }
            let wanted = Wanted { request, interest };
            for (revision, events) in &state.events {
                if let Some(item) = deliver(&wanted, *revision, events) {
                    let _ = sender.send(item);
                }
            }
            state.watchers.push((wanted, sender));
        }
        drop(state);
        let (bounded, receiver) = mpsc::channel(16);
        self.feeders.lock().unwrap().spawn(async move {
            while let Some(item) = items.recv().await {
                if bounded.send(item).await.is_err() {
                    return;
                }
            }
        });
        receiver
    }
}
