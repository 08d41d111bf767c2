//! `make bench`: measures the main line on the lab and prints a table.
//!
//! Figures live here and not in tests, because a test must not depend on how fast the
//! machine is. Prints Markdown, so that the output can stand in `src/docs/benchmarks.md`.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::exit,
    reason = "the table is what it is for; its clients end with the program"
)]

mod nodes;
mod store;

#[path = "../lab/harness.rs"]
#[expect(dead_code, reason = "the harness serves the lab tests too")]
mod harness;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use harness::{Lab, PATIENCE, binary, bundle, ensure, eventually, failed, succeed};

/// How often the kill of the leader is repeated.
const KILLS: usize = 5;
/// Objects written while a node is dead.
const MISSED: usize = 300;
/// How long the idle masters are watched.
const IDLE: Duration = Duration::from_secs(20);

struct Row {
    what: &'static str,
    measured: String,
    goal: &'static str,
}

/// As in the product, whose members this program also runs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `bench`, `bench lab`, `bench nodes [NODES PODS]`, `bench store [GROUP …]`; `bench member DIRECTORY` is a process of
/// the latter.
fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|word| word != "--quiet").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        [] => lab().and_then(|()| store::measure(&[])),
        ["lab"] => lab(),
        ["nodes"] => simulated(1_000, 30_000),
        ["nodes", nodes, pods] => match (nodes.parse(), pods.parse()) {
            (Ok(nodes), Ok(pods)) if nodes > 0 && pods > 0 => simulated(nodes, pods),
            _ => Err(anyhow::anyhow!("{nodes:?} and {pods:?} must be numbers above 0")),
        },
        ["store", groups @ ..] => store::measure(groups),
        ["member", directory] => store::members::member::run(Path::new(directory)),
        other => Err(anyhow::anyhow!("unknown: {other:?}; say nothing, lab, nodes or store")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("bench failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn lab() -> Result<(), anyhow::Error> {
    let rows = measure()
        .map_err(|error| anyhow::anyhow!(error.message().unwrap_or_default().to_owned()))?;
    println!("\n| what | measured | goal |\n|---|---|---|");
    for row in rows {
        println!("| {} | {} | {} |", row.what, row.measured, row.goal);
    }
    println!();
    Ok(())
}

fn simulated(nodes: usize, pods: usize) -> Result<(), anyhow::Error> {
    let said = |error: Failed| anyhow::anyhow!(error.message().unwrap_or_default().to_owned());
    let lab = Lab::up("three", false).map_err(said)?;
    let kubeconfig = lab.kubeconfig().map_err(said)?;
    let largest = || servers().into_iter().map(resident_kb).max().unwrap_or_default();
    let lines = nodes::measure(&kubeconfig, lab.dir(), nodes, pods, largest)?;
    println!("\n| what | measured | goal |\n|---|---|---|");
    for (what, measured, goal) in lines {
        println!("| {what} | {measured} | {goal} |");
    }
    println!();
    Ok(())
}

fn measure() -> Result<Vec<Row>, Failed> {
    let mut rows = vec![
        row("size of the binary", megabytes(&binary())?, "≤ 40 MB"),
        row("size of the bundle", megabytes(&bundle())?, "–"),
        row("bundle build (packages cached)", seconds(build_bundle()?), "–"),
    ];
    let started = Instant::now();
    let lab = Lab::up("three", false)?;
    rows.push(row("lab up to three Ready masters", seconds(started.elapsed()), "–"));
    let started = Instant::now();
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/bundle/samples/hello.yaml");
    succeed(&mut lab.holdfast(&["apply", "-f", sample])?)?;
    lab.pods_ready("hello", 3, |_| true)?;
    rows.push(row("apply of the sample to 3 Ready pods", seconds(started.elapsed()), "–"));
    lab.settled(3)?;
    let (memory, cpu) = idle(&lab)?;
    rows.push(row("resident memory of an idle master, largest of three", memory, "150 MB"));
    rows.push(row("CPU of an idle master, mean of three", cpu, "2 % of a core"));
    let mut next_write = Vec::new();
    let mut pods = Vec::new();
    let mut rejoin = Vec::new();
    for round in 0..KILLS {
        let (write, ready, back) = kill_leader(&lab, round)?;
        next_write.push(write);
        pods.push(ready);
        rejoin.push(back);
    }
    rows.push(row(
        "leader's node killed: to the next acknowledged write",
        spread(next_write),
        "5 s",
    ));
    rows.push(row("leader's node killed: to its pods Ready elsewhere", spread(pods), "20 s"));
    rows.push(row("killed node started: to Ready and caught up", spread(rejoin), "30 s"));
    Ok(rows)
}

fn row(what: &'static str, measured: String, goal: &'static str) -> Row {
    Row { what, measured, goal }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// Minimum, median and maximum.
fn spread(mut samples: Vec<Duration>) -> String {
    samples.sort();
    let at = |index: usize| samples[index].as_secs_f64();
    let last = samples.len() - 1;
    format!(
        "{:.1} / {:.1} / {:.1} s (min / median / max of {})",
        at(0),
        at(last / 2),
        at(last),
        last + 1
    )
}

fn megabytes(path: &Path) -> Result<String, Failed> {
    let facts = fs::metadata(path).map_err(|error| failed(path.display(), error))?;
    Ok(format!("{:.1} MB", facts.len() as f64 / 1e6))
}

fn build_bundle() -> Result<Duration, Failed> {
    let place = tempfile::tempdir().map_err(|error| failed("temporary folder", error))?;
    let started = Instant::now();
    succeed(
        Command::new(binary())
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(["bundle", "build", "--appliance", "bundle/appliance.yaml"])
            .args(["--lock", "bundle/packages.lock", "--key", ".build/signing.key"])
            .args(["--cache", ".build/cache", "--binary"])
            .arg(binary())
            .arg("-o")
            .arg(place.path().join("bench.hfb")),
    )?;
    Ok(started.elapsed())
}

/// Process ids of the lab's `holdfast serve` processes, as the machine sees them.
fn servers() -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
    pids.filter(|pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        words.len() > 1 && words[0].ends_with(b"holdfast") && words[1] == b"serve"
    })
    .collect()
}

fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<&str> = after.split_whitespace().collect();
    [11, 12].into_iter().filter_map(|at| fields.get(at)?.parse::<u64>().ok()).sum()
}

fn resident_kb(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

fn idle(lab: &Lab) -> Result<(String, String), Failed> {
    let pids = servers();
    ensure(pids.len() >= 3, || format!("found only {pids:?} in {}", lab.dir().display()))?;
    let before: u64 = pids.iter().map(|pid| ticks(*pid)).sum();
    // The watched span is the measurement itself.
    let until = Instant::now() + IDLE;
    while Instant::now() < until {
        std::thread::park_timeout(until.saturating_duration_since(Instant::now()));
    }
    let after: u64 = pids.iter().map(|pid| ticks(*pid)).sum();
    // Linux counts these in hundredths of a second on every architecture it serves here.
    let share = (after - before) as f64 / IDLE.as_secs_f64() / pids.len() as f64;
    let largest = pids.iter().map(|pid| resident_kb(*pid)).max().unwrap_or_default();
    Ok((format!("{:.0} MB", largest as f64 * 1.024 / 1e3), format!("{share:.1} %")))
}

/// Times from the kill to the next write and to the pods, and from the start to rejoined.
fn kill_leader(lab: &Lab, round: usize) -> Result<(Duration, Duration, Duration), Failed> {
    let leader = ["a1", "b1", "c1"]
        .into_iter()
        .find_map(|node| lab.leader(node).ok())
        .ok_or("no node knows a leader")?;
    let manifest = lab.dir().join("bench.yaml");
    let text = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: bench-{round}, namespace: default}}\n"
    );
    fs::write(&manifest, text).map_err(|error| failed("manifest", error))?;
    let path = manifest.to_string_lossy().into_owned();
    lab.fault("kill", &leader)?;
    let killed = Instant::now();
    eventually("a write is acknowledged", PATIENCE, || {
        succeed(&mut lab.holdfast(&["apply", "-f", &path])?).map(|_| ())
    })?;
    let write = killed.elapsed();
    lab.pods_ready("hello", 3, |node| node != leader)?;
    let ready = killed.elapsed();
    let last = write_many(lab, round)?;
    lab.fault("start", &leader)?;
    let started = Instant::now();
    // Its own replica must serve the last of what was written while it was away.
    eventually("the started node has caught up", PATIENCE, || lab.serves(&leader, last))?;
    lab.settled(3)?;
    Ok((write, ready, started.elapsed()))
}

/// Writes that a dead node misses, so that rejoining means to catch up; answers the last
/// revision.
fn write_many(lab: &Lab, round: usize) -> Result<i64, Failed> {
    let mut text = String::new();
    for number in 0..MISSED {
        text.push_str(&format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: missed-{number}, namespace: \
             default}}\ndata: {{round: \"{round}\"}}\n"
        ));
    }
    let manifest = lab.dir().join("missed.yaml");
    fs::write(&manifest, text).map_err(|error| failed("manifest", error))?;
    let path = manifest.to_string_lossy().into_owned();
    succeed(&mut lab.holdfast(&["apply", "-f", &path])?)?;
    lab.fresh_write()
}
