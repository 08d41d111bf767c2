//! The seeded simulation: the real store on simulated computers, disks, network and time.
//!
//! ```text
//!  runner ─ a process for each seed ─► world: the runtimes of all computers in step
//!                                        ├─ cluster: members at places (disk, net)
//!                                        ├─ demon, operator: what goes wrong, what changes
//!                                        ├─ clients: ask and note (history)
//!                                        └─ check: linear, watches, leases, ends
//! ```
//! `SIM_SEEDS=n SIM_FIRST=m SIM_KIND=k` choose the runs of `seeds_keep_every_promise`
//! (`make sim`), `SIM_JOBS=n` how many at a time, `SIM_LOG=filter` prints what members log.

#![expect(clippy::unwrap_used, reason = "a simulation that cannot go on has failed")]

mod calm;
mod check;
mod clients;
mod cluster;
mod demon;
mod disk;
mod disk_file;
mod full;
mod generations;
mod history;
mod kind;
mod mixed;
mod model;
mod modes;
mod net;
mod operator;
mod paused;
mod plant;
mod profile;
mod random;
mod runner;
mod trace;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use kind::Kind;
use plant::Plant;
use runner::{Job, number, run_all};

/// Seeds within which a planted fault must be caught.
const PLANT_SEEDS: u64 = 12;

/// The other tests of this program start it with a run in its environment.
#[test]
#[ignore = "runs what its environment names"]
fn one_run() {
    runner::run_here();
}

#[test]
fn seeds_keep_every_promise() {
    let first = number("SIM_FIRST").unwrap_or(1);
    let seeds = |kind: &Kind| number("SIM_SEEDS").unwrap_or(kind.usual_seeds());
    let named = std::env::var("SIM_KIND").ok().filter(|name| !name.is_empty());
    let kinds = match named {
        Some(name) => vec![Kind::named(&name).unwrap_or_else(|| panic!("no kind {name}"))],
        None => Kind::ALL.to_vec(),
    };
    let job = |kind| move |seed| Job { seed, kind, plant: Plant::Nothing };
    let runs = kinds.into_iter().flat_map(|kind| (first..first + seeds(&kind)).map(job(kind)));
    let jobs: Vec<Job> = runs.collect();
    let broken = Mutex::new(Vec::new());
    let whole = AtomicUsize::new(0);
    run_all(&jobs, |outcome| {
        match &outcome.said {
            Ok(line) => {
                whole.fetch_add(1, Ordering::SeqCst);
                println!("{} {line}", outcome.job.kind.name());
            }
            Err(violation) => {
                println!("BROKEN: {}\n  {violation}", outcome.job.replay());
                broken.lock().unwrap().push(outcome.job.replay());
            }
        }
        true
    });
    let broken = broken.into_inner().unwrap();
    assert!(broken.is_empty(), "{} runs broke a promise; replay: {broken:#?}", broken.len());
    assert_eq!(whole.into_inner(), jobs.len());
}

#[test]
fn one_seed_is_one_run_byte_for_byte() {
    for kind in Kind::ALL {
        for seed in [3, 4] {
            let job = Job { seed, kind: *kind, plant: Plant::Nothing };
            let [first, second] = [runner::run(job), runner::run(job)];
            let first = first.said.unwrap_or_else(|broken| panic!("{}: {broken}", job.replay()));
            assert_eq!(Ok(first), second.said, "{}", job.replay());
        }
    }
}

#[test]
fn every_planted_fault_is_caught() {
    for (plant, name) in Plant::ALL {
        let kind = if *plant == Plant::FalseProof { Kind::Modes } else { Kind::Mixed };
        let job = |seed| Job { seed, kind, plant: *plant };
        let jobs: Vec<Job> = (1..=PLANT_SEEDS).map(job).collect();
        let caught = Mutex::new(None);
        run_all(&jobs, |outcome| {
            if let Err(violation) = &outcome.said {
                *caught.lock().unwrap() = Some((outcome.job.seed, violation.clone()));
            }
            outcome.said.is_ok()
        });
        let caught = caught.into_inner().unwrap();
        let (seed, violation) =
            caught.unwrap_or_else(|| panic!("{name} was not caught in {PLANT_SEEDS} seeds"));
        let short: String = violation.chars().take(300).collect();
        println!("{name}: seed {seed}: {short}");
    }
}
