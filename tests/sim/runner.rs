//! Runs seeds, each in a process of its own, as many at a time as there are cores.
//!
//! Why processes: whatever libraries keep for a whole process (hash keys, counters) begins
//! anew in each, so a replay is the same run byte for byte; and a run that aborts or eats
//! memory takes nobody with it. The process is this program, asked for its ignored test
//! `one_run`, with the run in its environment.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::kind::Kind;
use crate::mixed::Report;
use crate::plant::Plant;
use crate::{random, trace, world};

/// One run and nothing else about it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job {
    pub(crate) seed: u64,
    pub(crate) kind: Kind,
    pub(crate) plant: Plant,
}

/// What a run's process said.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) job: Job,
    /// The line of a whole run, with its digest; else what was violated.
    pub(crate) said: Result<String, String>,
}

impl Job {
    pub(crate) fn replay(&self) -> String {
        format!("make sim SEEDS=1 FIRST={} KIND={}", self.seed, self.kind.name())
    }
}

pub(crate) fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Marks the lines that a run's process says to the one that started it.
const WHOLE: &str = "WHOLE RUN ";
const BROKEN: &str = "BROKEN RUN ";

static WORKING: Mutex<usize> = Mutex::new(0);
static FREE: Condvar = Condvar::new();

fn cores() -> usize {
    let known = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    number("SIM_JOBS").map_or(known, |jobs| jobs as usize)
}

/// Holds one core among all tests of this program while it lives.
struct Core;

impl Core {
    fn take() -> Self {
        let mut working = WORKING.lock().unwrap();
        while *working >= cores() {
            working = FREE.wait(working).unwrap();
        }
        *working += 1;
        Self
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        *WORKING.lock().unwrap() -= 1;
        FREE.notify_one();
    }
}

/// Runs one job in a process of its own.
pub(crate) fn run(job: Job) -> Outcome {
    let _core = Core::take();
    let program = std::env::current_exe().unwrap();
    let plant = Plant::ALL.iter().find(|(plant, _)| *plant == job.plant);
    let output = Command::new(program)
        .args(["--exact", "one_run", "--ignored", "--nocapture", "--test-threads=1"])
        .env("SIM_SEED", job.seed.to_string())
        .env("SIM_KIND", job.kind.name())
        .env("SIM_PLANT", plant.map_or("", |(_, name)| *name))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let line = |mark: &str| {
        text.lines().find_map(|line| line.split_once(mark)).map(|(_, said)| said.to_owned())
    };
    let said = match line(WHOLE) {
        Some(whole) if output.status.success() => Ok(whole),
        _ => Err(line(BROKEN).unwrap_or_else(|| {
            let errors = String::from_utf8_lossy(&output.stderr);
            format!("the process ended with {}: {text}{errors}", output.status)
        })),
    };
    Outcome { job, said }
}

/// Runs many jobs; `each` hears of every end, and says whether to go on.
pub(crate) fn run_all(jobs: &[Job], each: impl Fn(&Outcome) -> bool + Sync) {
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..cores().min(jobs.len()) {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::SeqCst) as usize) {
                    if !each(&run(*job)) {
                        next.store(jobs.len() as u64, Ordering::SeqCst);
                    }
                }
            });
        }
    });
}

/// Runs the job of this process's environment, on a thread of its own, and says its end.
#[expect(clippy::print_stdout, reason = "the process that started this one reads it")]
pub(crate) fn run_here() {
    let Some(seed) = number("SIM_SEED") else {
        println!("SIM_SEED names the run");
        return;
    };
    let kind = std::env::var("SIM_KIND").ok().and_then(|name| Kind::named(&name));
    let plant = std::env::var("SIM_PLANT").ok().and_then(|name| Plant::named(&name));
    let job =
        Job { seed, kind: kind.unwrap_or(Kind::Mixed), plant: plant.unwrap_or(Plant::Nothing) };
    let run = std::thread::spawn(move || in_this_thread(job));
    match run.join().unwrap() {
        Ok((report, (digest, notes))) => {
            println!("{WHOLE}seed {seed} digest {digest:016x} of {notes}: {report:?}");
        }
        Err(violation) => {
            let line = violation.replace('\n', " ");
            println!("{BROKEN}{line}");
            panic!("seed {seed}: {violation}\n{}", job.replay());
        }
    }
}

/// What panicked first. A runtime catches what its tasks throw, and a member that goes on
/// without one of its tasks has failed all the same.
static PANIC: Mutex<Option<String>> = Mutex::new(None);

fn note_panics() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANIC.lock().unwrap().get_or_insert_with(|| panic.to_string());
        print(panic);
    }));
}

fn log_if_asked() {
    if let Ok(filter) = std::env::var("SIM_LOG") {
        let filter: Targets = filter.parse().expect("SIM_LOG names modules and levels");
        let lines = tracing_subscriber::fmt::layer().with_ansi(false).without_time();
        tracing_subscriber::registry().with(filter).with(lines).init();
    }
}

fn in_this_thread(job: Job) -> Result<(Report, (u64, u64)), String> {
    note_panics();
    // Elsewhere, so that the run draws the same whether it is logged or not.
    std::thread::spawn(log_if_asked).join().expect("a filter that can be read");
    random::seed_this_thread(job.seed);
    trace::begin();
    let report = world::run(move |hosts, world| job.kind.run(job, hosts, world))?;
    if let Some(panic) = PANIC.lock().unwrap().take() {
        return Err(format!("a task panicked: {panic}"));
    }
    Ok((report, trace::digest()))
}
