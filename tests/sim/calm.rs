//! One thing is slow or stands still, and everybody else must not mind.
//!
//! The promise is about elections: a slow disk or a frozen member that is not the leader
//! costs none, neither while it lasts nor when it is over. Everything else is checked as
//! in the common run.

use std::time::Duration;

use rand::RngExt;
use tokio::time::sleep;

use crate::cluster::Sim;
use crate::mixed::{Report, settle};
use crate::world::now_ms;

/// Virtual time before anything is slow, for the first election to be over.
const BEFORE: Duration = Duration::from_secs(2);
const TROUBLE_MS: u64 = 20_000;

#[derive(Debug, Clone, Copy)]
enum Slow {
    Follower,
    Leader,
    FrozenFollower,
}

fn terms(sim: &Sim) -> Vec<u64> {
    sim.statuses().into_iter().map(|(_, status)| status.term).collect()
}

pub(crate) async fn run(sim: Sim) -> Result<Report, String> {
    let mut rng = crate::random::stream(sim.seed, "calm", 0);
    sim.form().await?;
    sim.net.perfect();
    sim.start_clients();
    sleep(BEFORE).await;
    let slow = [Slow::Follower, Slow::Leader, Slow::FrozenFollower][rng.random_range(0..3)];
    let leader = sim.leader().ok_or("nobody leads a cluster that is well")?;
    let followers: Vec<u64> = sim.places().into_iter().filter(|place| *place != leader).collect();
    let follower = followers[rng.random_range(0..followers.len())];
    let before = terms(&sim);
    let end = now_ms() + TROUBLE_MS;
    let most = Duration::from_millis(rng.random_range(100..2_000));
    while now_ms() < end {
        match slow {
            Slow::Follower => sim.disk(follower).set_slowness(Some(most)),
            Slow::Leader => sim.disk(leader).set_slowness(Some(most)),
            Slow::FrozenFollower => {
                sim.freeze(follower, true);
                sleep(Duration::from_millis(rng.random_range(500..5_000))).await;
                sim.freeze(follower, false);
            }
        }
        sleep(Duration::from_millis(rng.random_range(500..3_000))).await;
        let now = terms(&sim);
        if now != before {
            return Err(format!("{slow:?} ({most:?}) cost an election: {before:?}, then {now:?}"));
        }
    }
    for place in sim.places() {
        sim.disk(place).mend();
    }
    sleep(Duration::from_secs(3)).await;
    let now = terms(&sim);
    if now != before {
        return Err(format!("the end of {slow:?} cost an election: {before:?}, then {now:?}"));
    }
    settle(&sim).await
}
