//! Who compacts, changes the membership, hands the lead over and defragments while
//! everything breaks; and the archive that remembers every revision.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holdfast::base::ids::MemberId;
use holdfast::model::auth::Caller;
use holdfast::model::kv::{WatchItem, WatchRequest};
use holdfast::store::admin_api::Maintenance;
use holdfast::store::{Kv, LogLine, Store, StoreError};
use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::time::sleep;

use crate::cluster::Sim;
use crate::plant::Plant;

/// Revisions that a compaction leaves at most.
const KEPT: i64 = 60;
/// Pause between two attempts.
const AGAIN: Duration = Duration::from_millis(200);

impl Sim {
    pub(crate) fn any_place(&self, rng: &mut SmallRng) -> u64 {
        let places = self.places();
        places[rng.random_range(0..places.len())]
    }

    /// Compacts only what the archive has, so that nothing is lost to the checks.
    pub(crate) async fn compactor(self) {
        let mut rng = crate::random::stream(self.seed, "compactor", 0);
        while !self.stop.is_cancelled() {
            sleep(Duration::from_millis(rng.random_range(300..4_000))).await;
            let revision = self.history().archived() - rng.random_range(0..KEPT);
            if revision <= 1 {
                continue;
            }
            {
                let mut history = self.history();
                history.compacted = history.compacted.max(revision);
            }
            let compact = move |store: Arc<Store>| async move { store.compact(revision).await };
            // It is done or not; that all members agree on it is checked at the end.
            drop(self.ask(self.any_place(&mut rng), compact).await);
        }
    }

    /// Keeps what happened in every revision, from whichever member tells.
    pub(crate) async fn archivist(self) {
        let mut rng = crate::random::stream(self.seed, "archivist", 0);
        while !self.stop.is_cancelled() {
            sleep(Duration::from_millis(50)).await;
            let place = self.any_place(&mut rng);
            let sim = self.clone();
            let read = move |store: Arc<Store>| async move { sim.archive_from(&store).await };
            let _: Option<()> = self.ask(place, read).await;
        }
    }

    /// Looks into the members' logs, one after the other.
    pub(crate) async fn librarian(self) {
        let mut rng = crate::random::stream(self.seed, "librarian", 0);
        while !self.stop.is_cancelled() {
            sleep(Duration::from_millis(rng.random_range(50..400))).await;
            self.read_log(self.any_place(&mut rng)).await;
        }
    }

    pub(crate) async fn read_log(&self, place: u64) {
        let read = |store: Arc<Store>| async move { (store.status(), store.log_lines().await) };
        // One whose log cannot be read says so by itself.
        let Some((status, Ok(mut lines))) = self.ask(place, read).await else { return };
        self.falsify(&mut lines);
        let mut history = self.history();
        if let Err(violation) = history.logs.compare(status.generation, &lines) {
            history.violate(format!("the log of member {}: {violation}", status.member));
        }
    }

    /// The planted fault: an entry is another one than the leader's.
    fn falsify(&self, lines: &mut [LogLine]) {
        let compared = self.history().logs.compared;
        if self.plant == Plant::ForkedLog
            && compared > 100
            && let Some(line) = lines.last_mut()
        {
            line.checksum ^= 1;
        }
    }

    async fn archive_from(&self, store: &Store) {
        let next = self.history().archived() + 1;
        let everything = WatchRequest {
            key: Bytes::from_static(&[0]),
            range_end: Bytes::from_static(&[0]),
            start_revision: next,
            prev_kv: true,
            ..WatchRequest::default()
        };
        let Ok(mut watch) = store.watch(everything).await else { return };
        let rest = Duration::from_secs(3);
        while let Ok(Some(item)) = tokio::time::timeout(rest, watch.recv()).await {
            let WatchItem::Events { revision, events } = item else { return };
            let mut history = self.history();
            let now = history.now();
            history.see(revision, now);
            let known = history.archive.entry(revision).or_insert_with(|| events.clone());
            if *known != events {
                let text = format!("revision {revision} was {known:?} and then {events:?}");
                history.violate(text);
            }
        }
    }

    /// Hands the lead over and defragments now and then.
    pub(crate) async fn upkeep(self) {
        let mut rng = crate::random::stream(self.seed, "upkeep", 0);
        while !self.stop.is_cancelled() {
            sleep(Duration::from_millis(rng.random_range(500..4_000))).await;
            let place = self.any_place(&mut rng);
            if rng.random_bool(0.5) {
                let defragment =
                    |store: Arc<Store>| async move { store.defragment(&Caller::Internal).await };
                let done = self.ask(place, defragment).await;
                self.counts().defragmentations += usize::from(matches!(done, Some(Ok(()))));
            } else if let Some(leader) = self.leader() {
                let to = self.tenants()[&place].member;
                let hand_over = move |store: Arc<Store>| async move {
                    store.move_leader(&Caller::Internal, to).await
                };
                let done = self.ask(leader, hand_over).await;
                self.counts().transfers += usize::from(matches!(done, Some(Ok(()))));
            }
        }
    }

    /// Grows the group by one, shrinks it by any member, and does both once more.
    pub(crate) async fn operator(self) {
        let mut rng = crate::random::stream(self.seed, "operator", 0);
        for joining in self.profile.members + 1..=self.profile.members + self.profile.joiners {
            sleep(Duration::from_millis(rng.random_range(500..5_000))).await;
            self.set_present(joining, true);
            if let Err(violation) = self.start(joining).await {
                self.history().violate(violation);
                return;
            }
            self.join(joining, &mut rng).await;
            sleep(Duration::from_millis(rng.random_range(500..3_000))).await;
            let leaving = self.any_place(&mut rng);
            self.leave(leaving, &mut rng).await;
        }
    }

    async fn join(&self, joining: u64, rng: &mut SmallRng) {
        loop {
            let add = move |store: Arc<Store>| async move {
                let (name, address) = (format!("n{joining}"), joining.to_string());
                store.add_member(MemberId(joining), &name, &address, true).await
            };
            if let Some(Ok(())) = self.ask(self.any_place(rng), add).await {
                break;
            }
            sleep(AGAIN).await;
        }
        self.counts().changes += 1;
    }

    /// What was reported as removed is destroyed at once: the others must do without it.
    /// Nobody may ever join under its id again.
    async fn leave(&self, leaving: u64, rng: &mut SmallRng) {
        let member = self.tenants()[&leaving].member;
        loop {
            let remove = move |store: Arc<Store>| async move { store.remove_member(member).await };
            if let Some(Ok(())) = self.ask(self.any_place(rng), remove).await {
                break;
            }
            sleep(AGAIN).await;
        }
        self.set_present(leaving, false);
        self.crash(leaving);
        self.counts().changes += 1;
        for _ in 0..3 {
            let add = move |store: Arc<Store>| async move {
                store.add_member(member, "again", &leaving.to_string(), false).await
            };
            let mut answer = self.ask(self.any_place(rng), add).await;
            if self.plant == Plant::ReusedId {
                answer = Some(Ok(()));
            }
            match answer {
                Some(Ok(())) => {
                    self.history().violate(format!("the removed member {member} was added again"));
                    return;
                }
                Some(Err(StoreError::BadRequest { .. })) => return,
                Some(Err(_)) | None => sleep(AGAIN).await,
            }
        }
    }
}
