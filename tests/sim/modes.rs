//! Two sites: `1` to `4` are the city, `5` to `7` the remote center, of which `5` votes.
//! The remote center is cut off, whole and in part, leaders change, everything is killed at
//! once, and an operator changes the mode meanwhile.
//!
//! Promises: (1) what a member shows under a mode that waits for the remote center is on two
//! of its members; (2) while one of them says that nothing can be lost, any two of them hold
//! all that anybody was ever answered, and of their disks, after all power went, any two
//! give it back; (3) a center that is well is taken back, and one that is cut off stops
//! nobody for longer than its promise, but in `max-protection`. Beside them everything that
//! the common run promises.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holdfast::base::ids::MemberId;
use holdfast::logic::remote_sync::{CommitMode, Footing, durable_on_two};
use holdfast::model::kv::{EventKind, KeyValue, Op, TxnRequest};
use holdfast::model::recovery::MemberSummary;
use holdfast::store::{Replay, Standing, StoppedMember, Store};
use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::time::sleep;

use crate::cluster::Sim;
use crate::history::{End, Question};
use crate::mixed::{Report, settle};
use crate::plant::Plant;
use crate::trace;
use crate::world::now_ms;

const CITY: [u64; 4] = [1, 2, 3, 4];
const REMOTE: [u64; 3] = [5, 6, 7];
pub(crate) const MEMBERS: u64 = 7;
/// Things that go wrong, one after another.
const TROUBLES: usize = 7;
/// Virtual time in which a healed cluster is synchronous again.
const RETURN_MS: u64 = 90_000;
/// Virtual time that a write may take while the remote center is cut off from a city that
/// is well: an election, the promise, and the look at it.
const PAUSE_MS: u64 = 12_000;

pub(crate) async fn run(sim: Sim) -> Result<Report, String> {
    let mut rng = crate::random::stream(sim.seed, "modes", 0);
    form(&sim).await?;
    sim.start_clients();
    drop(sim.world.spawn(sim.clone().power()));
    sim.clients.spawn_on(sim.clone().watchman(), &sim.world);
    until_synchronous(&sim).await?;
    cut_off(&sim).await?;
    for _ in 0..TROUBLES {
        trouble(&sim, &mut rng).await?;
        sleep(Duration::from_millis(rng.random_range(200..9_000))).await;
        if rng.random_bool(0.25) {
            kill_everything(&sim).await?;
        }
        if rng.random_bool(0.6) {
            heal(&sim).await?;
            sleep(Duration::from_millis(rng.random_range(500..14_000))).await;
        }
    }
    heal(&sim).await?;
    set_mode(&sim, CommitMode::RemoteSync).await?;
    until_synchronous(&sim).await?;
    kill_everything(&sim).await?;
    until_synchronous(&sim).await?;
    settle(&sim).await
}

async fn form(sim: &Sim) -> Result<(), String> {
    sim.form().await?;
    let places = |store: Arc<Store>| async move {
        let votes = (1..=5).map(MemberId).collect();
        store.set_voters(votes).await?;
        store.place_remote(CommitMode::RemoteSync, remote_members()).await
    };
    match sim.ask(1, places).await {
        Some(Ok(())) => Ok(()),
        other => Err(format!("the two sites do not form: {other:?}")),
    }
}

fn remote_members() -> BTreeSet<MemberId> {
    REMOTE.into_iter().map(MemberId).collect()
}

async fn heal(sim: &Sim) -> Result<(), String> {
    sim.mend();
    sim.start_all().await
}

async fn standing(sim: &Sim, place: u64) -> Option<Standing> {
    let mut standing = sim.ask(place, |store| async move { store.standing() }).await?;
    if sim.plant == Plant::FalseProof && REMOTE.contains(&place) {
        standing.proven_ms = 4_000;
    }
    Some(standing)
}

async fn until_synchronous(sim: &Sim) -> Result<(), String> {
    let end = now_ms() + RETURN_MS;
    loop {
        sim.start_all().await?;
        let leader = sim.leader();
        let standing = match leader {
            Some(leader) => standing(sim, leader).await,
            None => None,
        };
        if standing.as_ref().is_some_and(|now| now.waits) {
            return Ok(());
        }
        if now_ms() > end {
            return Err(format!("a remote center that is well is not taken back: {standing:?}"));
        }
        sleep(Duration::from_millis(500)).await;
    }
}

async fn set_mode(sim: &Sim, mode: CommitMode) -> Result<(), String> {
    let end = now_ms() + RETURN_MS;
    loop {
        let set = move |store: Arc<Store>| async move {
            store.set_commit_mode(mode, remote_members(), "the simulation", "a test").await
        };
        sim.start_all().await?;
        let leader = sim.leader().unwrap_or(1);
        let answer = sim.ask(leader, set).await;
        if let Some(Ok(())) = answer {
            return Ok(());
        }
        if now_ms() > end {
            let name = mode.name();
            return Err(format!("{leader} answers to {name}: {answer:?}; {:?}", sim.statuses()));
        }
        sleep(Duration::from_millis(500)).await;
    }
}

fn cut(sim: &Sim, some: &[u64], others: &[u64]) {
    for one in some {
        for other in others.iter().filter(|other| *other != one) {
            sim.net.cut(*one, *other);
        }
    }
}

/// The remote center is cut off for a while, and the city writes on.
async fn cut_off(sim: &Sim) -> Result<(), String> {
    cut(sim, &CITY, &REMOTE);
    cut(sim, &REMOTE, &CITY);
    let begun = now_ms();
    for number in 0..3 {
        let success = vec![Op::put("k/cut", format!("cut {number}"))];
        let put = Question::Txn(TxnRequest { success, ..TxnRequest::default() });
        while !matches!(sim.put_question(1, put.clone()).await, End::Answered(_)) {
            if now_ms() > begun + PAUSE_MS {
                return Err("a remote center that is cut off stops the city".into());
            }
        }
    }
    if now_ms() > begun + PAUSE_MS {
        return Err(format!("the city waited for {} ms", now_ms() - begun));
    }
    heal(sim).await?;
    until_synchronous(sim).await
}

async fn trouble(sim: &Sim, rng: &mut SmallRng) -> Result<(), String> {
    let kind = rng.random_range(0..13);
    trace::say("modes' trouble", kind, &sim.leader());
    let any = rng.random_range(1..=MEMBERS);
    let leader = sim.leader().unwrap_or(any);
    let remote = REMOTE[rng.random_range(0..REMOTE.len())];
    let whole: Vec<u64> = (1..=MEMBERS).collect();
    match kind {
        0 | 1 => {
            cut(sim, &CITY, &REMOTE);
            cut(sim, &REMOTE, &CITY);
        }
        2 => cut(sim, &CITY, &REMOTE),
        3 => cut(sim, &REMOTE, &CITY),
        4 => {
            cut(sim, &[remote], &whole);
            cut(sim, &whole, &[remote]);
        }
        5 => {
            let two: Vec<u64> = REMOTE.into_iter().filter(|place| *place != remote).collect();
            cut(sim, &two, &whole);
            cut(sim, &whole, &two);
        }
        6 => sim.crash(leader),
        7 => {
            sim.freeze(leader, true);
            let (sim, rest) = (sim.clone(), rng.random_range(500..9_000));
            let world = sim.world.clone();
            sim.clients.clone().spawn_on(
                async move {
                    sleep(Duration::from_millis(rest)).await;
                    sim.freeze(leader, false);
                },
                &world,
            );
        }
        8 => sim.crash(remote),
        9 => sim.crash(any),
        // The leader alone with the remote center, or without it.
        10 => {
            let others: Vec<u64> = CITY.into_iter().filter(|place| *place != leader).collect();
            cut(sim, &[leader], &others);
            cut(sim, &others, &[leader]);
        }
        11 => sim.net.set_loss(rng.random_range(0.05..0.3)),
        _ => {
            let mode = CommitMode::ALL[rng.random_range(0..3)];
            let set = move |store: Arc<Store>| async move {
                store.set_commit_mode(mode, remote_members(), "the simulation", "a test").await
            };
            // It is done or not; what holds is looked at by the watchman.
            if let Some(Ok(())) = sim.ask(leader, set).await {
                sim.counts().changes += 1;
            }
        }
    }
    Ok(())
}

impl Sim {
    /// Looks again and again whether what is shown is where it has to be.
    async fn watchman(self) {
        while !self.stop.is_cancelled() {
            sleep(Duration::from_millis(25)).await;
            if let Err(violation) = self.look().await {
                self.history().violate(violation);
                return;
            }
        }
    }

    async fn look(&self) -> Result<(), String> {
        let mut shown = BTreeMap::new();
        for place in self.places() {
            // One that stands still answers later, and then it is no account of one moment.
            if let Some(Ok(Some(now))) =
                Some(tokio::time::timeout(Duration::from_millis(20), standing(self, place)).await)
            {
                shown.insert(place, now);
            }
        }
        let mut held = Vec::new();
        let mut proven = false;
        for place in REMOTE {
            let now = tokio::time::timeout(Duration::from_millis(20), standing(self, place)).await;
            if let Ok(Some(now)) = now {
                proven |= now.proven_ms > 0;
                held.push(now.last);
            }
        }
        // Of one that is down it is not known here; its disk is looked at when all are down.
        held.resize(REMOTE.len(), u64::MAX);
        let on_two = durable_on_two(&held);
        for (place, now) in &shown {
            let synchronous = now.waits && now.shown >= now.changed;
            if (synchronous || proven) && now.shown > on_two {
                let what = if proven { "proven" } else { "synchronous" };
                return Err(format!(
                    "{place} shows {} and the remote center, {what}, has {held:?}: {shown:?}",
                    now.shown
                ));
            }
        }
        let counts = &mut *self.counts();
        counts.proofs += usize::from(proven);
        counts.fallen_back |= shown
            .values()
            .any(|now| now.mode == CommitMode::RemoteSync && now.footing == Footing::FallenBack);
        Ok(())
    }
}

/// All power goes at once. If the remote center could prove a moment before that nothing can
/// be lost, any two of its disks give back all that anybody was answered.
async fn kill_everything(sim: &Sim) -> Result<(), String> {
    let mut proven = false;
    for place in REMOTE {
        let now = tokio::time::timeout(Duration::from_millis(20), standing(sim, place)).await;
        // It holds for as long as this look may take, and some more.
        proven |= matches!(now, Ok(Some(now)) if now.proven_ms > 100);
    }
    let answered = sim.history().newest_seen();
    for place in sim.places() {
        sim.crash(place);
    }
    if proven {
        for pair in [[5, 6], [5, 7], [6, 7]] {
            gives_back(sim, pair, answered)
                .await
                .map_err(|violation| format!("of the disks of {pair:?}: {violation}"))?;
        }
        sim.counts().recoveries += 1;
    }
    heal(sim).await
}

/// Whether the longer log of two disks holds all revisions up to `answered`.
async fn gives_back(sim: &Sim, pair: [u64; 2], answered: i64) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    let mut longest: Option<(_, MemberSummary, StoppedMember, tempfile::TempDir)> = None;
    for place in pair {
        let dir = tempfile::tempdir().map_err(|error| failed(&error))?;
        let path = dir.path().join("store");
        sim.disk(place).export(&path).map_err(|error| failed(&error))?;
        let member = StoppedMember::open(&path).map_err(|error| failed(&error))?;
        let summary = member.summary().await.map_err(|error| failed(&error))?;
        let end = (summary.last.term, summary.last.index);
        if longest.as_ref().is_none_or(|(longest, ..)| *longest < end) {
            longest = Some((end, summary, member, dir));
        }
    }
    let Some((_, summary, member, _dir)) = longest else { return Err("no disk".into()) };
    if summary.revision < answered {
        return Err(format!("{answered} was answered and {} is there", summary.revision));
    }
    let records = member.live_records(Replay::Everything).await.map_err(|error| failed(&error))?;
    let found: BTreeMap<Bytes, KeyValue> = records
        .map(|record| record.map(|kv| (kv.key.clone(), kv)))
        .collect::<Result<_, _>>()
        .map_err(|error| failed(&error))?;
    let history = sim.history();
    // The archive may not have had the last of it yet; their number was looked at above.
    let known = answered.min(history.archived());
    let mut newest: BTreeMap<&Bytes, (i64, Option<&KeyValue>)> = BTreeMap::new();
    for (revision, events) in history.archive.range(..=known) {
        for event in events {
            let live = (event.kind == EventKind::Put).then_some(&event.kv);
            newest.insert(&event.kv.key, (*revision, live));
        }
    }
    for (key, (revision, right)) in newest {
        match (found.get(key), right) {
            // It was changed again.
            (Some(kv), _) if kv.mod_revision > known => {}
            (None, Some(_)) if summary.revision > known => {}
            (found, right) if found == right => {}
            (found, right) => {
                return Err(format!("{key:?} at {revision} is {found:?}, right is {right:?}"));
            }
        }
    }
    Ok(())
}
