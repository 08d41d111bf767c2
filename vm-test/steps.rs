//! The steps of a scenario and how long each took.

use std::time::Instant;

use libtest_mimic::Failed;

/// Runs one step, says how long it took, and names it in its failure.
pub(crate) fn step<T>(name: &str, work: impl FnOnce() -> Result<T, Failed>) -> Result<T, Failed> {
    let started = Instant::now();
    let result = work();
    let seconds = started.elapsed().as_secs_f32();
    let end = if result.is_ok() { "done" } else { "FAILED" };
    println!("  {name}: {end} in {seconds:.1} s");
    result.map_err(|error| format!("{name}: {}", error.message().unwrap_or_default()).into())
}
