//! The seeded simulation: the real store on simulated disks, network and time.
//!
//! `SIM_SEED=n` replays one run, `SIM_SEEDS=n` sets how many are made, `SIM_LOG=filter`
//! prints what the members log.

#![expect(clippy::unwrap_used, reason = "a simulation that cannot go on has failed")]

mod cluster;
mod disk;
mod history;
mod net;

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
        None => 1..1 + number("SIM_SEEDS").unwrap_or(15),
    };
    let mut acknowledged = 0;
    for seed in seeds {
        match run(seed, false) {
            Ok(stats) => {
                println!("seed {seed}: {stats:?}");
                acknowledged += stats.acknowledged;
            }
            Err(violation) => panic!("SIM_SEED={seed}: {violation}"),
        }
    }
    assert!(acknowledged > 0, "nothing was acknowledged in any run");
}

/// The planted fault: disks that call a write safe before it is.
#[test]
fn a_disk_that_lies_is_caught() {
    let caught = (1..=10).filter_map(|seed| run(seed, true).err()).next();
    let violation = caught.expect("ten runs on lying disks broke no promise");
    println!("caught: {violation}");
}
