//! The common run: a group, clients, trouble by the seed's profile, then peace and checks.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::check::{self, ends};
use crate::cluster::{Counts, Sim};
use crate::history::{End, History};
use crate::world::now_ms;

/// Virtual time after the trouble in which clients go on.
const PEACE: Duration = Duration::from_secs(5);
/// Virtual time in which a healed cluster must answer or refuse all that was asked.
const CLIENTS_END_MS: u64 = 400_000;
/// Virtual time in which a healed cluster must agree and end what nobody renews.
const RECOVERY_MS: u64 = 120_000;

/// What a run came to.
#[expect(dead_code, reason = "shown, not compared")]
#[derive(Debug, Clone, Default)]
pub(crate) struct Report {
    pub(crate) answered: usize,
    pub(crate) unknown: usize,
    pub(crate) watched: usize,
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
    pub(crate) leases: usize,
    /// Entries of logs that were compared with others.
    pub(crate) entries: usize,
    pub(crate) counts: Counts,
}

pub(crate) async fn run(sim: Sim) -> Result<Report, String> {
    sim.form().await?;
    sim.start_clients();
    drop(sim.world.spawn(sim.clone().power()));
    sim.trouble().await?;
    sim.mend();
    sim.start_all().await?;
    sleep(PEACE).await;
    settle(&sim).await
}

/// Waits until the healed members agree, then checks everything.
pub(crate) async fn settle(sim: &Sim) -> Result<Report, String> {
    sim.mend();
    sim.stop.cancel();
    sim.clients.close();
    let end = now_ms() + CLIENTS_END_MS;
    while timeout(Duration::from_secs(1), sim.clients.wait()).await.is_err() {
        // A disk may still die of what was done to it before.
        sim.start_all().await?;
        if now_ms() > end {
            return Err(format!("clients do not end: {:#?}", sim.statuses()));
        }
    }
    let end = now_ms() + RECOVERY_MS;
    // A write of unknown fate may still come late, so two looks must agree.
    let mut before = Vec::new();
    loop {
        sim.start_all().await?;
        let dumps = dumps(sim).await;
        let level = dumps.len() == sim.places().len()
            && dumps.windows(2).all(|pair| pair[0].revision == pair[1].revision)
            && dumps.windows(2).all(|pair| pair[0].compacted == pair[1].compacted)
            && dumps.iter().all(|dump| dump.leases.is_empty());
        if level && dumps == before {
            for place in sim.places() {
                sim.read_log(place).await;
            }
            let mut history = sim.history();
            complete(&mut history, &dumps);
            check::check(&history, &dumps)?;
            return Ok(report(sim, &history, &dumps));
        }
        if now_ms() > end {
            let leases: Vec<_> = dumps.iter().map(|dump| &dump.leases).collect();
            let statuses = sim.statuses();
            return Err(format!(
                "the healed cluster does not settle; leases left: {leases:?}: {statuses:#?}"
            ));
        }
        before = dumps;
        sleep(Duration::from_secs(3)).await;
    }
}

async fn dumps(sim: &Sim) -> Vec<ends::Dump> {
    let mut dumps = Vec::new();
    for place in sim.places() {
        if let Some(Ok(dump)) =
            sim.ask(place, |store| async move { ends::dump(&store).await }).await
        {
            dumps.push(dump);
        }
    }
    dumps
}

/// The archive's end may be short of what came after its last look.
fn complete(history: &mut History, dumps: &[ends::Dump]) {
    for (revision, events) in dumps.iter().flat_map(|dump| &dump.changes) {
        history.archive.entry(*revision).or_insert_with(|| events.clone());
    }
}

fn report(sim: &Sim, history: &History, dumps: &[ends::Dump]) -> Report {
    let ended = |of: fn(&End) -> bool| history.asked.iter().filter(|asked| of(&asked.end)).count();
    Report {
        answered: ended(|end| matches!(end, End::Answered(_))),
        unknown: ended(|end| matches!(end, End::Unknown)),
        watched: history.watched.iter().map(|watched| watched.given.len()).sum(),
        revision: dumps[0].revision,
        compacted: dumps[0].compacted,
        leases: history.leases.len(),
        entries: history.logs.compared,
        counts: sim.counts().clone(),
    }
}
