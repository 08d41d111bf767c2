//! Watches: streams of several watches that begin in the past, now and in the future.
//!
//! A stream is read on its member's computer, so that it freezes and dies with it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holdfast::model::auth::Caller;
use holdfast::model::kv::{WatchItem, WatchRequest};
use holdfast::store::api::{WHOLE_STREAM, WatchStream};
use holdfast::store::{EtcdKv, Store};
use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::time::{Instant, sleep, timeout_at};

use crate::cluster::Sim;
use crate::history::{Given, Watched};
use crate::plant::Plant;
use crate::random::chance;
use crate::trace;

fn request(rng: &mut SmallRng, newest: i64, compacted: i64) -> WatchRequest {
    let (key, range_end) = match rng.random_range(0..4) {
        0 => (Bytes::from(format!("k/{}", rng.random_range(0..8))), Bytes::new()),
        1 => (Bytes::from_static(b"k/2"), Bytes::from_static(b"k/5")),
        _ => (Bytes::from_static(&[0]), Bytes::from_static(&[0])),
    };
    let start_revision = match rng.random_range(0..5) {
        0 => 0,
        1 => newest + rng.random_range(1..30),
        2 => (compacted - 2 + rng.random_range(0..6)).max(1),
        _ => rng.random_range(compacted.max(1)..=newest.max(compacted.max(1))),
    };
    WatchRequest {
        key,
        range_end,
        start_revision,
        prev_kv: rng.random_bool(0.3),
        no_put: rng.random_bool(0.1),
        no_delete: rng.random_bool(0.1),
        progress_notify: rng.random_bool(0.5),
    }
}

/// One stream and the watches on it that were not ended.
struct Session {
    sim: Sim,
    place: u64,
    store: Arc<Store>,
    stream: Box<dyn WatchStream>,
    /// Where in the history each watch stands.
    watches: BTreeMap<i64, usize>,
    next_id: i64,
}

impl Session {
    async fn add(&mut self, rng: &mut SmallRng) {
        let compacted = self.store.status().compacted;
        let request = request(rng, self.store.header().revision, compacted);
        let id = self.next_id;
        self.next_id += 1;
        // What the member has applied now is what a watch without a start begins behind.
        let newest = self.store.header().revision;
        if self.stream.add(id, request.clone()).await.is_err() {
            return;
        }
        let from = if request.start_revision > 0 { request.start_revision } else { newest + 1 };
        let mut history = self.sim.history();
        history.watched.push(Watched { place: self.place, request, from, given: Vec::new() });
        self.watches.insert(id, history.watched.len() - 1);
    }

    fn note(&mut self, id: i64, item: WatchItem) {
        let applied = self.store.header().revision;
        trace::say("watched", self.place, &(id, &item));
        let given = match item {
            WatchItem::Events { revision, events } => Given::Events(revision, events),
            WatchItem::Progress(revision) => Given::Progress(revision),
            WatchItem::Compacted { compact_revision } => Given::Compacted(compact_revision),
        };
        let ends = matches!(given, Given::Compacted(_));
        let mut history = self.sim.history();
        let now = history.now();
        if id == WHOLE_STREAM {
            for watch in self.watches.values() {
                history.watched[*watch].given.push((now, applied, given.clone()));
            }
            return;
        }
        let Some(watch) = self.watches.get(&id).copied() else {
            history.violate(format!("an item for watch {id}, which was ended: {given:?}"));
            return;
        };
        if let Given::Events(revision, _) = &given {
            history.see(*revision, now);
        }
        let pieces = match (self.sim.plant, given) {
            (Plant::LostEvent, Given::Events(..)) if chance(20) => Vec::new(),
            (Plant::TornEvents, Given::Events(revision, mut events)) if events.len() > 1 => {
                let rest = events.split_off(1);
                vec![Given::Events(revision, events), Given::Events(revision, rest)]
            }
            (Plant::EarlyProgress, Given::Progress(revision)) => {
                vec![Given::Progress(revision + 3)]
            }
            (_, given) => vec![given],
        };
        for given in pieces {
            history.watched[watch].given.push((now, applied, given));
        }
        if ends {
            self.watches.remove(&id);
        }
    }

    fn cancel(&mut self, rng: &mut SmallRng) {
        let ids: Vec<i64> = self.watches.keys().copied().collect();
        if ids.len() > 1 {
            let id = ids[rng.random_range(0..ids.len())];
            if !self.stream.cancel(id) {
                self.sim.history().violate(format!("watch {id} could not be ended"));
            }
            self.watches.remove(&id);
        }
    }

    async fn run(mut self, mut rng: SmallRng, until: Instant) {
        for _ in 0..rng.random_range(1..4) {
            self.add(&mut rng).await;
        }
        while Instant::now() < until && !self.sim.stop.is_cancelled() {
            let rest = Instant::now() + Duration::from_millis(rng.random_range(20..900));
            while let Ok(item) = timeout_at(rest.min(until), self.stream.next()).await {
                let Some((id, item)) = item else { return };
                self.note(id, item);
                // Sometimes it reads slowly, and much gathers.
                if rng.random_bool(0.02) {
                    sleep(Duration::from_millis(rng.random_range(100..1_500))).await;
                }
            }
            match rng.random_range(0..6) {
                0 => self.add(&mut rng).await,
                1 => self.cancel(&mut rng),
                2 | 3 => self.stream.request_progress(),
                _ => {}
            }
        }
    }
}

impl Sim {
    pub(super) async fn watcher(self, number: u64) {
        let mut rng = crate::random::stream(self.seed, "watcher", number);
        while !self.stop.is_cancelled() {
            sleep(Duration::from_millis(rng.random_range(20..400))).await;
            let place = self.any_place(&mut rng);
            let (sim, fork) = (self.clone(), crate::random::stream(rng.random(), "stream", number));
            let lasts = Duration::from_millis(rng.random_range(500..12_000));
            let watch = move |store: Arc<Store>| async move {
                let Ok(stream) = store.watch_stream(&Caller::Internal).await else { return };
                let watches = BTreeMap::new();
                let session = Session { sim, place, store, stream, watches, next_id: 0 };
                session.run(fork, Instant::now() + lasts).await;
            };
            // It may end in any way.
            let _: Option<()> = self.ask(place, watch).await;
        }
    }
}
