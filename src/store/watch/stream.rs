//! One stream of watches: what its reader does.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Interval;
use tokio_util::sync::CancellationToken;

use super::directory::Place;
use super::hub::{Mailbox, Waiting, WatchHub};
use crate::base::chain::chain;
use crate::base::limits::WATCH_BUFFER_EVENTS;
use crate::logic::auth::Access;
use crate::logic::mvcc::KeyRange;
use crate::model::auth::Caller;
use crate::model::kv::{Event, EventKind, Revision, WatchItem, WatchRequest};
use crate::store::api::{Interest, StoreError, WHOLE_STREAM, WatchStream};
use crate::store::disk::{StoreDisk, run_on};
use crate::store::health::Health;
use crate::store::state::{Reader, RevisionEvents, StateError, StateStore};

/// Revisions read from the disk at a time.
const READ_AHEAD: usize = 256;
/// How often a watch without matching events hears how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// How far a watch is.
#[derive(Debug)]
enum Standing {
    /// The dispatcher gives it what comes, under this number.
    With(u64),
    /// It has everything below.
    Behind(Revision),
}

#[derive(Debug)]
struct Watch {
    place: Place,
    request: WatchRequest,
    standing: Standing,
    /// First revision that it is asked to give.
    begins: Revision,
    /// Last revision its reader was told of.
    told: Revision,
}

/// The reader's side of one stream.
pub(in crate::store) struct Stream {
    state: Arc<StateStore>,
    disk: Arc<dyn StoreDisk>,
    hub: Arc<WatchHub>,
    caller: Caller,
    mailbox: Arc<Mailbox>,
    watches: BTreeMap<i64, Watch>,
    behind: VecDeque<i64>,
    asked: bool,
    tick: Interval,
    health: watch::Receiver<Health>,
    cancel: CancellationToken,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("watches", &self.watches.len()).finish()
    }
}

impl Stream {
    /// A stream without watches yet.
    pub(in crate::store) fn new(
        hub: Arc<WatchHub>,
        disk: Arc<dyn StoreDisk>,
        health: watch::Receiver<Health>,
        cancel: CancellationToken,
        caller: Caller,
    ) -> Self {
        let mut tick = tokio::time::interval(PROGRESS_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        Self {
            state: hub.state(),
            hub,
            disk,
            health,
            cancel,
            caller,
            mailbox: Arc::default(),
            watches: BTreeMap::new(),
            behind: VecDeque::new(),
            asked: false,
            tick,
        }
    }
}

#[async_trait]
impl WatchStream for Stream {
    async fn add(&mut self, id: i64, request: WatchRequest) -> Result<(), StoreError> {
        self.enter(id, request, None)
    }

    fn cancel(&mut self, id: i64) -> bool {
        let Some(watch) = self.watches.remove(&id) else { return false };
        if let Standing::With(number) = watch.standing {
            self.hub.leave(number);
        }
        self.behind.retain(|behind| *behind != id);
        let mut queue = self.mailbox.queue();
        queue.items.retain(|(of, _)| *of != id);
        queue.behind.retain(|(of, _)| *of != id);
        true
    }

    fn request_progress(&mut self) {
        self.asked = true;
        self.mailbox.filled.notify_one();
    }

    async fn next(&mut self) -> Option<(i64, WatchItem)> {
        loop {
            if self.cancel.is_cancelled() || self.health.borrow().check().is_err() {
                return None;
            }
            self.take_sent_away();
            let room = self.mailbox.queue().items.len() < WATCH_BUFFER_EVENTS / 2;
            if room
                && let Some(id) = self.behind.front().copied()
                && let Err(error) = self.catch_up(id).await
            {
                tracing::error!(error = chain(&error), "a watch ended because the disk failed");
                return None;
            }
            if self.asked && self.behind.is_empty() {
                let begins = self.watches.values().map(|watch| watch.begins).max().unwrap_or(0);
                self.asked = !self.hub.note_all(&self.mailbox, begins);
            }
            let item = self.mailbox.queue().items.pop_front();
            if let Some((id, waiting)) = item {
                if let Some(item) = self.unwrap(id, waiting) {
                    return Some((id, item));
                }
                continue;
            }
            if !self.behind.is_empty() {
                continue;
            }
            self.wait().await?;
        }
    }
}

impl Stream {
    /// Adds a watch that may leave out what is of no interest.
    pub(in crate::store) fn enter(
        &mut self,
        id: i64,
        mut request: WatchRequest,
        interest: Option<Interest>,
    ) -> Result<(), StoreError> {
        self.health.borrow().check()?;
        if request.key.is_empty() {
            // As in etcd, no key is the smallest one.
            request.key = Bytes::from_static(&[0]);
        }
        if let Some(by) = self.caller.info() {
            let (key, range_end) = (&request.key, &request.range_end);
            self.state.auth().check(&by, Access::Read, key, range_end)?;
        }
        if id < 0 || self.watches.contains_key(&id) {
            let reason = format!("watch id {id} is in use or negative");
            return Err(StoreError::BadRequest { reason });
        }
        let newest = self.state.progress().borrow().revision;
        let next = if request.start_revision > 0 { request.start_revision } else { newest + 1 };
        let range = KeyRange::new(request.key.clone(), request.range_end.clone());
        let (place, standing) = (Place { range, interest }, Standing::Behind(next));
        let watch = Watch { place, request, standing, begins: next, told: 0 };
        self.watches.insert(id, watch);
        self.withdraw_progress();
        let compact_revision = self.state.revisions().compacted;
        if next < compact_revision {
            // Memory may still have it, but nobody is to rely on that.
            let item = Waiting::Ready(WatchItem::Compacted { compact_revision });
            self.mailbox.queue().items.push_back((id, item));
        } else if !self.join(id, next) {
            self.behind.push_back(id);
        }
        Ok(())
    }

    /// Waits until there may be something to do; `None` if there never will.
    async fn wait(&mut self) -> Option<()> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => None,
            changed = self.health.changed() => changed.ok(),
            () = self.mailbox.filled.notified() => Some(()),
            _ = self.tick.tick() => {
                let idle: Vec<(i64, Revision)> = self
                    .watches
                    .iter()
                    .filter(|(_, watch)| watch.request.progress_notify)
                    .filter(|(_, watch)| matches!(watch.standing, Standing::With(_)))
                    // Of what is before its beginning there is nothing to tell.
                    .map(|(id, watch)| (*id, watch.told.max(watch.begins - 2)))
                    .collect();
                if !idle.is_empty() {
                    self.hub.note(&self.mailbox, &idle);
                }
                Some(())
            }
        }
    }

    /// Takes back a note about all watches that its reader has not had yet, because it does
    /// not speak of a watch that is added now; it is made anew.
    fn withdraw_progress(&mut self) {
        let mut queue = self.mailbox.queue();
        let before = queue.items.len();
        queue.items.retain(|(of, _)| *of != WHOLE_STREAM);
        self.asked |= queue.items.len() < before;
    }

    fn take_sent_away(&mut self) {
        let sent_away = std::mem::take(&mut self.mailbox.queue().behind);
        for (id, next) in sent_away {
            if let Some(watch) = self.watches.get_mut(&id) {
                watch.standing = Standing::Behind(next);
                self.behind.push_back(id);
            }
        }
    }

    /// Tries to hand the watch to the dispatcher.
    fn join(&mut self, id: i64, next: Revision) -> bool {
        let Some(watch) = self.watches.get_mut(&id) else { return true };
        // Its reader hears at once that there is nothing before what comes.
        let tell = watch.request.progress_notify && watch.told == 0;
        match self.hub.join(&self.mailbox, id, &watch.place, next, tell) {
            Some(number) => {
                watch.standing = Standing::With(number);
                true
            }
            None => false,
        }
    }

    /// Fetches the next span for the watch that waits longest. Given up half-way, nothing
    /// is lost: where it stands is noted only with what it was given.
    async fn catch_up(&mut self, id: i64) -> Result<(), StateError> {
        let Some(watch) = self.watches.get(&id) else {
            self.behind.retain(|behind| *behind != id);
            return Ok(());
        };
        let Standing::Behind(next) = watch.standing else {
            self.behind.retain(|behind| *behind != id);
            return Ok(());
        };
        let (range, prev_kv) = (watch.place.range.clone(), watch.request.prev_kv);
        if self.join(id, next) {
            self.behind.retain(|behind| *behind != id);
            return Ok(());
        }
        let state = &self.state;
        let found = match state.recent_changes(&range, next, prev_kv) {
            Some(found) => found,
            None => {
                let state = state.clone();
                run_on(&*self.disk, move || state.changes(&range, next, prev_kv, READ_AHEAD))
                    .await
                    .map_err(|source| StateError::File { action: "read", source })??
            }
        };
        self.behind.pop_front();
        let Some(watch) = self.watches.get_mut(&id) else { return Ok(()) };
        match found {
            Reader::Compacted { compact_revision } => {
                let item = Waiting::Ready(WatchItem::Compacted { compact_revision });
                self.mailbox.queue().items.push_back((id, item));
            }
            Reader::Changes { changes, next } => {
                let mut queue = self.mailbox.queue();
                for change in changes {
                    let item =
                        WatchItem::Events { revision: change.revision, events: change.events };
                    queue.items.push_back((id, Waiting::Ready(item)));
                }
                drop(queue);
                watch.standing = Standing::Behind(next);
                if !self.join(id, next) {
                    self.behind.push_back(id);
                }
            }
        }
        Ok(())
    }

    /// What the watch asked for of an item; nothing if that leaves nothing.
    fn unwrap(&mut self, id: i64, waiting: Waiting) -> Option<WatchItem> {
        let Some(watch) = self.watches.get_mut(&id) else {
            return match waiting {
                Waiting::Ready(item @ WatchItem::Progress(_)) => Some(item),
                Waiting::Ready(_) | Waiting::Matched { .. } => None,
            };
        };
        let mut item = match waiting {
            Waiting::Matched { events, which } => pick(&watch.request, &events, &which)?,
            Waiting::Ready(WatchItem::Events { revision, events }) => {
                let events: Vec<Event> =
                    events.into_iter().filter(|event| wants(&watch.request, event)).collect();
                if events.is_empty() {
                    return None;
                }
                WatchItem::Events { revision, events }
            }
            Waiting::Ready(item) => item,
        };
        // This program's own readers need what was before a deletion, compacted or not.
        if watch.request.prev_kv && self.caller != Caller::Internal {
            forget_compacted(&mut item, self.state.revisions().compacted);
        }
        match &item {
            WatchItem::Events { revision, .. } | WatchItem::Progress(revision) => {
                watch.told = *revision;
            }
            WatchItem::Compacted { .. } => {
                self.watches.remove(&id);
            }
        }
        Some(item)
    }
}

/// Drops the old values of an event at a compacted revision: what was before it is nobody's
/// any more, though memory may still have it.
fn forget_compacted(item: &mut WatchItem, compacted: Revision) {
    if let WatchItem::Events { revision, events } = item
        && *revision <= compacted
    {
        events.iter_mut().for_each(|event| event.prev_kv = None);
    }
}

fn wants(request: &WatchRequest, event: &Event) -> bool {
    match event.kind {
        EventKind::Put => !request.no_put,
        EventKind::Delete => !request.no_delete,
    }
}

fn pick(request: &WatchRequest, of: &RevisionEvents, which: &[u32]) -> Option<WatchItem> {
    let chosen = which.iter().filter_map(|number| of.events.get(*number as usize));
    let events: Vec<Event> = chosen
        .filter(|event| wants(request, event))
        .map(|event| Event {
            kind: event.kind,
            kv: event.kv.clone(),
            prev_kv: if request.prev_kv { event.prev_kv.clone() } else { None },
        })
        .collect();
    (!events.is_empty()).then_some(WatchItem::Events { revision: of.revision, events })
}

impl Drop for Stream {
    fn drop(&mut self) {
        for watch in self.watches.values() {
            if let Standing::With(number) = watch.standing {
                self.hub.leave(number);
            }
        }
    }
}
