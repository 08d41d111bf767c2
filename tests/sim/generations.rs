//! A majority is lost for good, the product's own recovery makes a new generation from
//! what is left, and the old members and disks come back.
//!
//! Promises: nothing is lost that the plan does not say; what is kept is a beginning of
//! what was acknowledged, never one with a hole; the revision never goes back; whoever is
//! of the old generation and can reach the new one is refused and knows it for good, also
//! the very disk that the new generation was made from, and one that could not note it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use holdfast::base::ids::{ClusterId, Generation, MemberId};
use holdfast::logic::recovery::{Loss, Plan, plan};
use holdfast::model::kv::{Op, RangeRequest, TxnRequest};
use holdfast::model::recovery::{GenerationRecord, SignedGeneration};
use holdfast::store::{
    Founding, GenerationTrust, Kv, Replay, StoppedMember, Store, StoreError, found_member,
};
use rand::RngExt;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use tokio::time::sleep;

use crate::check::ends;
use crate::cluster::{Sim, Tenant};
use crate::disk::Disk;
use crate::mixed::Report;
use crate::world::now_ms;

/// How long members of an old generation may go on before they know.
const LEARNS_MS: u64 = 60_000;
/// Places of what comes back on another computer, and of new members.
const ELSEWHERE: u64 = 50;
const NEW: u64 = 60;

/// Trusts what says that it is signed.
#[derive(Debug)]
struct Trusting;

impl GenerationTrust for Trusting {
    fn is_signed(&self, record: &SignedGeneration) -> bool {
        record.signature == "signed"
    }
}

/// What was acknowledged: the revision of each key that was written once.
type Acknowledged = BTreeMap<String, i64>;

fn put(key: &str) -> TxnRequest {
    TxnRequest { success: vec![Op::put(key.to_owned(), "once")], ..TxnRequest::default() }
}

pub(crate) async fn run(sim: Sim) -> Result<Report, String> {
    let mut rng = crate::random::stream(sim.seed, "generations", 0);
    for tenant in sim.tenants().values_mut() {
        tenant.trust = Some(Arc::new(Trusting));
    }
    sim.form().await?;
    drop(sim.world.spawn(sim.clone().power()));
    let acknowledged = write_under_trouble(&sim, &mut rng).await?;
    let mut places = sim.places();
    places.shuffle(&mut rng);
    let left = rng.random_range(1..=(places.len() - 1) / 2);
    let (survivors, lost) = places.split_at(left);
    places.iter().for_each(|place| sim.crash(*place));
    let (made, chosen) = recover(&sim, survivors)?;
    sim.net.perfect();
    let old_disk = found(&sim, &made, chosen).await?;
    sim.start(chosen).await?;
    let kept = kept(&sim, chosen).await?;
    check_loss(&made, &acknowledged, &kept)?;
    // The old ones come back, in any order and some of them at once.
    let elsewhere = ELSEWHERE;
    let copied = Disk::new(sim.seed, elsewhere, sim.plant);
    old_disk.copy_to(&copied);
    let old = Tenant {
        member: made.chosen,
        generation: Generation(1),
        disk: copied,
        present: true,
        trust: Some(Arc::new(Trusting)),
        record: None,
    };
    sim.tenants().insert(elsewhere, old);
    let mut returning: Vec<u64> = lost.to_vec();
    returning.extend(survivors.iter().filter(|place| **place != chosen));
    returning.push(elsewhere);
    returning.shuffle(&mut rng);
    come_back(&sim, &returning, chosen, &mut rng).await?;
    grow(&sim, chosen, &made).await?;
    Ok(Report {
        answered: acknowledged.len(),
        revision: made.new_revision,
        counts: sim.counts().clone(),
        ..Report::default()
    })
}

/// Writes keys once each while members crash; answers what was acknowledged.
async fn write_under_trouble(sim: &Sim, rng: &mut SmallRng) -> Result<Acknowledged, String> {
    let mut acknowledged = BTreeMap::new();
    for number in 0..rng.random_range(20..120) {
        let key = format!("g/{number}");
        let place = sim.any_place(rng);
        let request = put(&key);
        let write = move |store: Arc<Store>| async move { store.txn(request).await };
        if let Some(Ok(answer)) = sim.ask(place, write).await {
            acknowledged.insert(key, answer.revision);
        }
        if rng.random_bool(0.05) {
            sim.crash(sim.any_place(rng));
        }
        if rng.random_bool(0.1) {
            sim.start_all().await?;
        }
    }
    if rng.random_bool(0.7) {
        // Some of it reaches only some of the members.
        sim.net.set_loss(0.3);
        for number in 0..10 {
            let (key, request) = (format!("h/{number}"), put(&format!("h/{number}")));
            let place = sim.any_place(rng);
            let write = move |store: Arc<Store>| async move { store.txn(request).await };
            if let Some(Ok(answer)) = sim.ask(place, write).await {
                acknowledged.insert(key, answer.revision);
            }
        }
    }
    Ok(acknowledged)
}

fn failed(what: impl std::fmt::Display) -> String {
    format!("the recovery fails: {what}")
}

/// The product's plan from what is left, and the place of the member that goes on.
fn recover(sim: &Sim, survivors: &[u64]) -> Result<(Plan, u64), String> {
    let mut found = Vec::new();
    for place in survivors {
        let dir = tempfile::tempdir().map_err(failed)?;
        let path = dir.path().join("store");
        sim.disk(*place).export(&path).map_err(failed)?;
        let report = StoppedMember::check(&path).map_err(failed)?;
        if !report.findings.is_empty() {
            return Err(format!("the disk of {place} is not sound: {:?}", report.findings));
        }
        let member = StoppedMember::open(&path).map_err(failed)?;
        let summary = futures::executor::block_on(member.summary()).map_err(failed)?;
        found.push((*place, summary));
    }
    let summaries: Vec<_> = found.iter().map(|(_, summary)| summary.clone()).collect();
    let made = plan(&summaries).map_err(failed)?;
    let chosen = found.iter().find(|(_, summary)| summary.member == made.chosen);
    let chosen = chosen.ok_or("the plan chose a member that is not left")?.0;
    Ok((made, chosen))
}

/// Makes the new generation's first member on the chosen one's computer; answers the disk
/// that it was made from.
async fn found(sim: &Sim, made: &Plan, place: u64) -> Result<Disk, String> {
    let old = sim.disk(place);
    let dir = tempfile::tempdir().map_err(failed)?;
    let (from, to) = (dir.path().join("store"), dir.path().join("next"));
    old.export(&from).map_err(failed)?;
    let member = StoppedMember::open(&from).map_err(failed)?;
    let founding = Founding {
        cluster: ClusterId(uuid::Uuid::from_u128(7)),
        generation: made.to_generation,
        member: made.new_member,
        name: made.chosen_name.clone(),
        address: place.to_string(),
        revision: made.new_revision,
        log_position: (made.last.term + 1, made.last.index + 1),
    };
    let rest = member.rest(Replay::Everything).await.map_err(failed)?;
    let mut records = member.live_records(Replay::Everything).await.map_err(failed)?;
    found_member(&to, &founding, &rest, &mut records).map_err(failed)?;
    let disk = Disk::new(sim.seed, place + 100, sim.plant);
    disk.import(&to).map_err(failed)?;
    let summary = member.summary().await.map_err(failed)?;
    let record = GenerationRecord {
        cluster: founding.cluster,
        generation: made.to_generation,
        parents: vec![made.from_generation],
        fork: made.last,
        member: made.new_member,
        name: made.chosen_name.clone(),
        former: summary.members,
        reason: "the majority is lost".into(),
        at: jiff::Timestamp::UNIX_EPOCH,
    };
    let record = serde_json::to_string(&record).map_err(failed)?;
    let tenant = Tenant {
        member: made.new_member,
        generation: made.to_generation,
        disk,
        present: true,
        trust: Some(Arc::new(Trusting)),
        record: Some(SignedGeneration { record, signature: "signed".into() }),
    };
    sim.tenants().insert(place, tenant);
    Ok(old)
}

async fn kept(sim: &Sim, place: u64) -> Result<Acknowledged, String> {
    let read = |store: Arc<Store>| async move {
        let all = RangeRequest { range_end: vec![0].into(), ..RangeRequest::key(vec![0]) };
        store.range(all).await
    };
    let answer = sim.ask(place, read).await.ok_or("the new generation is silent")?;
    let answer = answer.map_err(|error| format!("the new generation does not serve: {error}"))?;
    let kvs = answer.kvs.into_iter();
    Ok(kvs.map(|kv| (String::from_utf8_lossy(&kv.key).into_owned(), kv.mod_revision)).collect())
}

/// What the plan says of losses is true.
fn check_loss(made: &Plan, acknowledged: &Acknowledged, kept: &Acknowledged) -> Result<(), String> {
    let lost = acknowledged.iter().filter(|(key, _)| !kept.contains_key(*key));
    let first_lost = lost.map(|(key, revision)| (*revision, key.clone())).min();
    let Some((first_lost, key)) = first_lost else { return Ok(()) };
    if made.loss == Loss::Nothing {
        return Err(format!("{key} of {first_lost} is lost, and nothing was to be: {made:?}"));
    }
    let later = acknowledged
        .iter()
        .find(|(key, revision)| **revision > first_lost && kept.contains_key(*key));
    match later {
        Some(later) => Err(format!("{key} of {first_lost} is lost, and the later {later:?} kept")),
        None => Ok(()),
    }
}

async fn come_back(
    sim: &Sim,
    returning: &[u64],
    new: u64,
    rng: &mut SmallRng,
) -> Result<(), String> {
    let unlucky = returning[rng.random_range(0..returning.len())];
    for (number, place) in returning.iter().enumerate() {
        if *place == unlucky && rng.random_bool(0.5) {
            // It cannot write down that it ended when it is told the first time.
            sim.disk(*place).set_space(crate::disk::Space::None);
        }
        sim.start(*place).await?;
        if rng.random_bool(0.5) {
            sleep(Duration::from_millis(rng.random_range(0..3_000))).await;
        }
        let request = put(&format!("stray/{number}"));
        let stray = move |store: Arc<Store>| async move { store.txn(request).await };
        if let Some(Ok(answer)) = sim.ask(*place, stray).await {
            return Err(format!("{place}, of the old generation, wrote {}", answer.revision));
        }
    }
    for place in returning {
        let knows = |sim: &Sim| {
            sim.net
                .life(*place)
                .is_some_and(|life| life.store.status().health.starts_with("removed"))
        };
        learns(sim, *place, "is not told that its generation ended", knows).await?;
        sim.disk(*place).mend();
    }
    // Told again, whoever could not note it does so; then nobody is there to tell.
    sleep(Duration::from_secs(15)).await;
    sim.crash(new);
    for place in returning {
        sim.crash(*place);
        sim.start(*place).await?;
        let health = sim.net.life(*place).map(|life| life.store.status().health);
        if health.as_deref().is_none_or(|health| !health.starts_with("removed")) {
            return Err(format!("{place} forgot that its generation ended: {health:?}"));
        }
    }
    sim.start(new).await
}

async fn learns(
    sim: &Sim,
    place: u64,
    what: &str,
    knows: impl Fn(&Sim) -> bool,
) -> Result<(), String> {
    let end = now_ms() + LEARNS_MS;
    while !knows(sim) {
        if now_ms() > end {
            let status = sim.net.life(place).map(|life| life.store.status());
            return Err(format!("{place} {what}: {status:?}"));
        }
        sleep(Duration::from_millis(100)).await;
        if now_ms() + LEARNS_MS / 2 > end {
            // A disk that is full for good excuses everything.
            sim.disk(place).mend();
        }
        sim.start(place).await?;
    }
    Ok(())
}

/// The new generation takes members under new ids, and refuses the old ids.
async fn grow(sim: &Sim, place: u64, made: &Plan) -> Result<(), String> {
    for number in 1..=2 {
        let (at, member) = (NEW + number, MemberId(made.new_member.0 + number));
        let tenant = Tenant {
            member,
            generation: made.to_generation,
            disk: Disk::new(sim.seed, at, sim.plant),
            present: true,
            trust: Some(Arc::new(Trusting)),
            record: None,
        };
        sim.tenants().insert(at, tenant);
        sim.start(at).await?;
        let add = move |store: Arc<Store>| async move {
            store.add_member(member, "new", &at.to_string(), true).await
        };
        let added = sim.ask(place, add).await;
        if !matches!(added, Some(Ok(()))) {
            return Err(format!("the new generation does not grow: {added:?}"));
        }
    }
    let write = |store: Arc<Store>| async move { store.txn(put("after")).await };
    match sim.ask(NEW + 1, write).await {
        Some(Ok(answer)) if answer.revision > made.new_revision => {}
        other => return Err(format!("the new generation does not write on: {other:?}")),
    }
    let mut dumps = Vec::new();
    for at in [place, NEW + 1, NEW + 2] {
        let dump = sim.ask(at, |store| async move { ends::dump(&store).await }).await;
        dumps.push(dump.ok_or("silence")?.map_err(|error: StoreError| error.to_string())?);
    }
    if dumps.windows(2).any(|pair| pair[0] != pair[1]) {
        return Err(format!("members of the new generation differ: {dumps:?}"));
    }
    Ok(())
}
