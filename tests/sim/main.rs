//! The seeded simulation: the real store on simulated disks, network and time.
//!
//! `SIM_SEED=n` replays one run, `SIM_SEEDS=n` sets how many are made, `SIM_FIRST=n`
//! where they begin, `SIM_LOG=filter` prints what the members log.

#![expect(clippy::unwrap_used, reason = "a simulation that cannot go on has failed")]

mod cluster;
mod disk;
mod history;
mod net;
mod operator;

use cluster::Stats;

fn run(seed: u64, lie: bool) -> Result<Stats, String> {
    if let Ok(filter) = std::env::var("SIM_LOG") {
        // Already set by the run before this one.
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).try_init();
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(cluster::run(seed, lie))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn no_seed_breaks_a_promise() {
    let seeds = match number("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let first = number("SIM_FIRST").unwrap_or(1);
            first..first + number("SIM_SEEDS").unwrap_or(15)
        }
    };
    let (mut acknowledged, mut changes, mut compacted) = (0, 0, 0);
    for seed in seeds {
        match run(seed, false) {
            Ok(stats) => {
                println!("seed {seed}: {stats:?}");
                acknowledged += stats.acknowledged;
                changes += stats.changes;
                compacted += stats.compacted;
            }
            Err(violation) => panic!("SIM_SEED={seed}: {violation}"),
        }
    }
    assert!(acknowledged > 0, "nothing was acknowledged in any run");
    assert!(
        changes > 0 && compacted > 0,
        "{changes} changes of the members, compacted {compacted}"
    );
}

/// The planted fault: disks that call a write safe before it is.
#[test]
fn a_disk_that_lies_is_caught() {
    let caught = (1..=10).filter_map(|seed| run(seed, true).err()).next();
    let violation = caught.expect("ten runs on lying disks broke no promise");
    println!("caught: {violation}");
}
