//! Who compacts and who changes the membership while everything breaks.

use std::sync::Arc;
use std::time::Duration;

use holdfast::base::ids::MemberId;
use holdfast::store::{Kv, Store};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::time::sleep;

use crate::cluster::Sim;

/// Revisions that a compaction leaves at most.
const KEPT: i64 = 60;

impl Sim {
    pub(crate) async fn compactor(self, seed: u64) {
        let mut rng = SmallRng::seed_from_u64(seed * 107);
        while !self.stop.is_cancelled() {
            sleep(Duration::from_millis(rng.random_range(500..5_000))).await;
            let newest = self.history.lock().unwrap().newest_answered;
            let revision = newest - rng.random_range(0..KEPT);
            if let Some(store) = self.any(&mut rng)
                && revision > 1
            {
                // It is done or not; that all members agree on it is checked at the end.
                let _ = store.compact(revision).await;
            }
        }
    }

    /// Grows the group to four, shrinks it by any member, and does both once more.
    pub(crate) async fn operator(self, seed: u64) {
        let mut rng = SmallRng::seed_from_u64(seed * 109);
        for joining in [4, 5] {
            sleep(Duration::from_millis(rng.random_range(500..9_000))).await;
            self.present.lock().unwrap().insert(joining);
            if let Err(violation) = self.start(joining).await {
                self.history.lock().unwrap().violations.push(violation);
                return;
            }
            self.join(joining, &mut rng).await;
            sleep(Duration::from_millis(rng.random_range(500..6_000))).await;
            let members = self.members();
            let leaving = members[rng.random_range(0..members.len())];
            self.leave(leaving, &mut rng).await;
        }
    }

    /// Any member that runs; it may be the one that joins or leaves.
    fn any(&self, rng: &mut SmallRng) -> Option<Arc<Store>> {
        let members = self.members();
        self.net.store(members[rng.random_range(0..members.len())])
    }

    async fn join(&self, joining: u64, rng: &mut SmallRng) {
        loop {
            if let Some(store) = self.any(rng) {
                let (member, address) = (MemberId(joining), joining.to_string());
                let added = store.add_member(member, &format!("n{joining}"), &address, true).await;
                if added.is_ok() {
                    break;
                }
            }
            sleep(Duration::from_millis(200)).await;
        }
        *self.changes.lock().unwrap() += 1;
    }

    /// What was reported as removed is destroyed at once: the others must do without it.
    async fn leave(&self, leaving: u64, rng: &mut SmallRng) {
        loop {
            if let Some(store) = self.any(rng)
                && store.remove_member(MemberId(leaving)).await.is_ok()
            {
                break;
            }
            sleep(Duration::from_millis(200)).await;
        }
        self.present.lock().unwrap().remove(&leaving);
        self.crash(leaving);
        *self.changes.lock().unwrap() += 1;
    }
}
