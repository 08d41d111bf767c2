//! Tells replicas the safe index where no append takes it along soon.
//!
//! Why: a follower shows a write only when it knows that it is safe, and the next entry or
//! heartbeat may be long in coming. One word at a time to each, so that a busy leader says
//! the newest once and not each one.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use tokio::sync::Notify;

use crate::store::message::Request;
use crate::store::shared::Shared;

/// How long an append is waited for that takes the word along.
const TAKEN_ALONG: Duration = Duration::from_millis(2);
/// How long a word may take.
const WORD: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct UnderWay {
    peers: Mutex<BTreeSet<u64>>,
    done: Notify,
}

impl UnderWay {
    fn peers(&self) -> std::sync::MutexGuard<'_, BTreeSet<u64>> {
        self.peers.lock().expect("no holder of the words under way panics")
    }
}

impl Shared {
    /// Tells the safe index as long as this member leads and answers wait for it.
    pub(in crate::store) async fn tell_safe(self: Arc<Self>) {
        let mut safe = self.modes.safe.subscribe();
        let under_way = Arc::new(UnderWay::default());
        loop {
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return,
                told = safe.changed() => if told.is_err() { return },
                () = under_way.done.notified() => {}
            }
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return,
                () = tokio::time::sleep(TAKEN_ALONG) => {}
            }
            let newest = *safe.borrow_and_update();
            if self.state.waits_for_remote() && self.raft.is_leader() {
                self.tell_all(newest, &under_way);
            }
        }
    }

    fn tell_all(self: &Arc<Self>, newest: u64, under_way: &Arc<UnderWay>) {
        let members: Vec<u64> = {
            let metrics = self.raft.metrics();
            let now = metrics.borrow_watched();
            now.membership_config.nodes().map(|(member, _)| *member).collect()
        };
        for member in members {
            let own = member == self.identity.member.0;
            if own || self.outbound.was_told(member, newest) {
                continue;
            }
            if !under_way.peers().insert(member) {
                continue;
            }
            self.outbound.note_told(member, newest);
            let (shared, under_way) = (self.clone(), under_way.clone());
            self.tracker.spawn(async move {
                let word = Request::Safe { index: newest };
                // Lost words are made good by the next heartbeat.
                let told = tokio::select! {
                    biased;
                    () = shared.cancel.cancelled() => return,
                    told = shared.call_within(member, word, WORD) => told,
                };
                if let Some(Err(error)) = told {
                    tracing::trace!(%error, "a word of what may be shown was lost");
                }
                under_way.peers().remove(&member);
                under_way.done.notify_one();
            });
        }
    }
}
