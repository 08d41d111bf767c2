//! Disks are nearly full for a while: of a follower, of the leader, of a majority.
//!
//! Promises: a follower's hinders nobody; while the leader's or a majority's are full, what
//! needs space is refused and says so, and reads, deletions and compaction go on; with
//! space writes go on too, and nobody was started again for it.

use std::sync::Arc;
use std::time::Duration;

use holdfast::base::ids::BootCount;
use holdfast::model::kv::{DeleteRangeRequest, Op, RangeRequest, TxnRequest};
use holdfast::store::{Kv, Store, StoreError};
use rand::RngExt;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use tokio::time::sleep;

use crate::cluster::Sim;
use crate::disk::Space;
use crate::history::{End, Question};
use crate::mixed::{Report, settle};
use crate::world::now_ms;

/// Virtual time before any disk is full, for the first election to be over.
const BEFORE: Duration = Duration::from_secs(2);
/// Virtual time in which everybody must know that there is no space, or that there is again.
const KNOWN_MS: u64 = 15_000;
const FULL_MS: u64 = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Full {
    Follower,
    Leader,
    Majority,
}

fn txn(op: Op) -> Question {
    Question::Txn(TxnRequest { success: vec![op], ..TxnRequest::default() })
}

fn put(number: usize) -> Question {
    txn(Op::put("k/full", format!("full {number}")))
}

fn delete() -> Question {
    txn(Op::DeleteRange(DeleteRangeRequest { key: "k/full".into(), ..Default::default() }))
}

fn boots(sim: &Sim) -> Vec<BootCount> {
    sim.statuses().into_iter().map(|(_, status)| status.boot).collect()
}

pub(crate) async fn run(sim: Sim) -> Result<Report, String> {
    let mut rng = crate::random::stream(sim.seed, "full", 0);
    sim.form().await?;
    sim.net.perfect();
    sim.start_clients();
    sleep(BEFORE).await;
    let leader = sim.leader().ok_or("nobody leads a cluster that is well")?;
    let mut followers: Vec<u64> =
        sim.places().into_iter().filter(|place| *place != leader).collect();
    followers.shuffle(&mut rng);
    let full = [Full::Follower, Full::Leader, Full::Majority][rng.random_range(0..3)];
    let places = match full {
        Full::Follower => &followers[..1],
        Full::Leader => &[leader],
        Full::Majority => &followers[..sim.places().len() / 2 + 1],
    };
    let before = boots(&sim);
    for place in places {
        sim.disk(*place).set_space(Space::Low);
        sim.counts().full_disks += 1;
    }
    while_full(&sim, full, &mut rng).await.map_err(|what| format!("{full:?}: {what}"))?;
    for place in places {
        sim.disk(*place).set_space(Space::Plenty);
    }
    let place = sim.any_place(&mut rng);
    wait(&sim, place, |end| matches!(end, End::Answered(_)))
        .await
        .map_err(|end| format!("{full:?}: with space a put still ends as {end:?}"))?;
    let now = boots(&sim);
    if now != before {
        return Err(format!("{full:?}: members were started again: {before:?}, then {now:?}"));
    }
    settle(&sim).await
}

/// Puts until one ends as it must.
async fn wait(sim: &Sim, place: u64, as_it_must: impl Fn(&End) -> bool) -> Result<(), End> {
    let until = now_ms() + KNOWN_MS;
    for number in 0.. {
        let end = sim.put_question(place, put(number)).await;
        if as_it_must(&end) {
            return Ok(());
        }
        if now_ms() > until {
            return Err(end);
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn while_full(sim: &Sim, full: Full, rng: &mut SmallRng) -> Result<(), String> {
    let refused = |end: &End| matches!(end, End::Refused(StoreError::NoSpace { .. }));
    let answered = |end: &End| matches!(end, End::Answered(_));
    let place = sim.any_place(rng);
    if full != Full::Follower {
        let known = wait(sim, place, refused).await;
        known.map_err(|end| format!("a put is not refused but ends as {end:?}"))?;
    }
    let until = now_ms() + FULL_MS;
    while now_ms() < until {
        let place = sim.any_place(rng);
        let end = sim.put_question(place, put(1_000)).await;
        let right = if full == Full::Follower { answered(&end) } else { refused(&end) };
        if !right {
            return Err(format!("a put at {place} ends as {end:?}"));
        }
        let end = sim.put_question(place, delete()).await;
        if !answered(&end) {
            return Err(format!("a deletion at {place} ends as {end:?}"));
        }
        let end = sim.put_question(place, Question::Range(RangeRequest::prefix("k/"))).await;
        if !answered(&end) {
            return Err(format!("a read at {place} ends as {end:?}"));
        }
        compact(sim, place).await?;
        sleep(Duration::from_millis(rng.random_range(1..300))).await;
    }
    Ok(())
}

/// Compacts a revision more than was, if the archive has it.
async fn compact(sim: &Sim, place: u64) -> Result<(), String> {
    let revision = {
        let mut history = sim.history();
        let revision = history.compacted.max(1) + 1;
        if revision > history.archived() {
            return Ok(());
        }
        history.compacted = revision;
        revision
    };
    let compact = move |store: Arc<Store>| async move { store.compact(revision).await };
    match sim.ask(place, compact).await {
        // Another one compacted further meanwhile.
        Some(Ok(()) | Err(StoreError::Compacted { .. })) => Ok(()),
        other => Err(format!("the compaction of {revision} at {place} ends as {other:?}")),
    }
}
