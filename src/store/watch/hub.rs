//! Gives each applied revision to the streams whose watches it concerns.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::directory::{Directory, Place};
use crate::base::limits::WATCH_BUFFER_EVENTS;
use crate::model::kv::{Revision, WatchItem};
use crate::store::api::WHOLE_STREAM;
use crate::store::state::{RevisionEvents, StateStore};

/// Revisions that are given out before others may have the lock.
const BATCH: usize = 64;

/// What waits for a stream's reader.
#[derive(Debug)]
pub(super) enum Waiting {
    /// Some events of one revision, as the dispatcher found them.
    Matched {
        events: Arc<RevisionEvents>,
        which: Vec<u32>,
    },
    Ready(WatchItem),
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) items: VecDeque<(i64, Waiting)>,
    /// Watches that were sent away, with the first revision they were not given.
    pub(super) behind: Vec<(i64, Revision)>,
}

/// What the dispatcher and a stream's reader share.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    queue: Mutex<Queue>,
    pub(super) filled: Notify,
}

impl Mailbox {
    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no holder of a watch queue panics")
    }
}

/// A watch that keeps up.
#[derive(Debug)]
struct Member {
    mailbox: Arc<Mailbox>,
    /// The watch's id on its stream.
    id: i64,
    place: Place,
    /// Earlier revisions are not for it.
    from: Revision,
}

#[derive(Debug)]
struct Hub {
    /// First revision that was not given out.
    next: Revision,
    directory: Directory,
    members: HashMap<u64, Member>,
}

/// The dispatcher of one member.
#[derive(Debug)]
pub(in crate::store) struct WatchHub {
    state: Arc<StateStore>,
    hub: Mutex<Hub>,
}

impl WatchHub {
    pub(in crate::store) fn new(state: Arc<StateStore>) -> Self {
        let next = state.progress().borrow().revision + 1;
        let hub = Hub { next, directory: Directory::default(), members: HashMap::new() };
        Self { state, hub: Mutex::new(hub) }
    }

    pub(super) fn state(&self) -> Arc<StateStore> {
        self.state.clone()
    }

    fn hub(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().expect("no holder of the watch hub panics")
    }

    /// Gives out what is applied, until cancelled.
    pub(in crate::store) async fn run(&self, cancel: CancellationToken) {
        let mut progress = self.state.progress();
        loop {
            let newest = progress.borrow_and_update().revision;
            while self.give_out(newest) {
                tokio::task::yield_now().await;
            }
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                changed = progress.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Gives out some revisions; says whether there are more.
    fn give_out(&self, newest: Revision) -> bool {
        let mut hub = self.hub();
        if hub.next > newest {
            return false;
        }
        if hub.members.is_empty() {
            hub.next = newest + 1;
            return false;
        }
        match self.state.recent_from(hub.next, newest, BATCH) {
            Some(span) => {
                for events in span {
                    hub.next = events.revision + 1;
                    hub.give(&events);
                }
            }
            // Memory has not all of it: everybody fetches it for himself.
            None => {
                let next = hub.next;
                let members = std::mem::take(&mut hub.members);
                hub.directory.clear();
                for member in members.into_values() {
                    member.mailbox.queue().behind.push((member.id, next.max(member.from)));
                    member.mailbox.filled.notify_one();
                }
                hub.next = newest + 1;
            }
        }
        hub.next <= newest
    }

    /// Lets a watch in that has been given everything below `next`; otherwise the answer
    /// is `None` and it has to fetch more first.
    pub(super) fn join(
        &self,
        mailbox: &Arc<Mailbox>,
        id: i64,
        place: &Place,
        next: Revision,
        tell: bool,
    ) -> Option<u64> {
        let mut hub = self.hub();
        if next < hub.next {
            return None;
        }
        let number = hub.directory.insert(place);
        let member = Member { mailbox: mailbox.clone(), id, place: place.clone(), from: next };
        hub.members.insert(number, member);
        // A watch that begins in the future has nothing to be told of yet.
        if tell && next <= self.state.progress().borrow().revision + 1 {
            let seen = Waiting::Ready(WatchItem::Progress(next - 1));
            mailbox.queue().items.push_back((id, seen));
            mailbox.filled.notify_one();
        }
        Some(number)
    }

    pub(super) fn leave(&self, number: u64) {
        let mut hub = self.hub();
        if let Some(member) = hub.members.remove(&number) {
            hub.directory.remove(&member.place, number);
        }
    }

    /// Puts a note of progress of the whole stream in the queue, whose watches begin at
    /// `begins` or before; false if it would not be true of all of them: one was sent away
    /// meanwhile, or is not asked to give anything yet.
    pub(super) fn note_all(&self, mailbox: &Mailbox, begins: Revision) -> bool {
        let hub = self.hub();
        let seen = hub.next - 1;
        let mut queue = mailbox.queue();
        if !queue.behind.is_empty() || seen + 1 < begins {
            return false;
        }
        queue.items.push_back((WHOLE_STREAM, Waiting::Ready(WatchItem::Progress(seen))));
        true
    }

    /// Puts a note of progress in the queue for each of the watches that was not told as
    /// much before and keeps up.
    pub(super) fn note(&self, mailbox: &Mailbox, watches: &[(i64, Revision)]) {
        let hub = self.hub();
        let seen = hub.next - 1;
        let mut queue = mailbox.queue();
        for (id, told) in watches {
            let is_behind = queue.behind.iter().any(|(behind, _)| behind == id);
            if !is_behind && seen > *told {
                queue.items.push_back((*id, Waiting::Ready(WatchItem::Progress(seen))));
            }
        }
    }
}

impl Hub {
    fn give(&mut self, revision: &Arc<RevisionEvents>) {
        let mut concerned: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
        for (number, event) in (0_u32..).zip(&revision.events) {
            self.directory.concerned(event, |watch| {
                concerned.entry(watch).or_default().push(number);
            });
        }
        for (number, which) in concerned {
            let Some(member) = self.members.get(&number) else { continue };
            if revision.revision < member.from {
                continue;
            }
            let mut queue = member.mailbox.queue();
            let full = queue.items.len() >= WATCH_BUFFER_EVENTS;
            if full {
                queue.behind.push((member.id, revision.revision));
            } else {
                let item = Waiting::Matched { events: revision.clone(), which };
                queue.items.push_back((member.id, item));
            }
            drop(queue);
            member.mailbox.filled.notify_one();
            if full && let Some(member) = self.members.remove(&number) {
                self.directory.remove(&member.place, number);
            }
        }
    }
}
