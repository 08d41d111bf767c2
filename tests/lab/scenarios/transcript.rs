//! Some hundreds of invocations of unmodified kubectl over everything that is served, against
//! what Kubernetes prints.
//!
//! The files of `tests/lab/transcripts` are written from what Kubernetes prints, not recorded
//! from what we print; differences that we mean stand in `src/docs/kubernetes.md`.
//! Not here: how the files are read and compared (`transcript`, `expected`).

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use libtest_mimic::Failed;
use serde_json::Value;

use crate::expected::planted_differences_are_seen;
use crate::harness::{Lab, Outcome, ensure, failed, output};
use crate::scenarios::replication::import;
use crate::{test_bundle, transcript};

/// These may run side by side; each has a namespace of its own.
const AREAS: [(&str, &str); 7] = [
    ("cluster", include_str!("../transcripts/cluster.txt")),
    ("objects", include_str!("../transcripts/objects.txt")),
    ("policy", include_str!("../transcripts/policy.txt")),
    ("network", include_str!("../transcripts/network.txt")),
    ("storage", include_str!("../transcripts/storage.txt")),
    ("workloads", include_str!("../transcripts/workloads.txt")),
    ("pods", include_str!("../transcripts/pods.txt")),
];
/// A node is drained in it.
const NODES: (&str, &str) = ("nodes", include_str!("../transcripts/nodes.txt"));
/// Fewer would not be everything.
const LEAST: usize = 80;
/// The oldest kubectl whose words are those of the files.
const LEAST_MINOR: u32 = 31;

/// The minor version of the kubectl on the PATH.
fn kubectl_minor() -> Option<u32> {
    let answer =
        output(Command::new("kubectl").args(["version", "--client", "-o", "json"])).ok()?;
    let version: Value = serde_json::from_slice(&answer.stdout).ok()?;
    let minor = version["clientVersion"]["minor"].as_str()?;
    minor.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().ok()
}

fn run(kubeconfig: &Path, (area, text): (&str, &str)) -> Result<usize, Failed> {
    let place = tempfile::tempdir().map_err(|error| failed("temporary folder", error))?;
    let copied = fs::copy(kubeconfig, place.path().join("kubeconfig"));
    copied.map_err(|error| failed("kubeconfig", error))?;
    let done = transcript::run(text, place.path());
    done.map_err(|error| failed(format!("{area}.txt"), error.message().unwrap_or_default()))
}

pub(crate) fn everything_served(lab: &Lab) -> Outcome {
    planted_differences_are_seen()?;
    let minor = kubectl_minor();
    if minor.is_none_or(|minor| minor < LEAST_MINOR) {
        println!("SKIPPED t54: no kubectl of 1.{LEAST_MINOR} or later on the PATH ({minor:?})");
        return Ok(());
    }
    import(lab, "a1", "tools-transcript", |file| test_bundle::with_tools(file, "tools"))?;
    let kubeconfig = lab.kubeconfig()?;
    let begun = Instant::now();
    let done = std::thread::scope(|scope| {
        let runs = AREAS.map(|area| {
            scope.spawn({
                let kubeconfig = &kubeconfig;
                move || run(kubeconfig, area)
            })
        });
        runs.map(|one| one.join().unwrap_or_else(|_| Err("a transcript panicked".into())))
    });
    let mut invocations = 0;
    let mut problems = String::new();
    for one in done.into_iter().chain([run(&kubeconfig, NODES)]) {
        match one {
            Ok(count) => invocations += count,
            Err(error) => problems.push_str(error.message().unwrap_or_default()),
        }
    }
    ensure(problems.is_empty(), || problems)?;
    let took = begun.elapsed().as_secs();
    println!("t54: {invocations} invocations of kubectl 1.{} in {took} s", minor.unwrap_or(0));
    ensure(invocations >= LEAST, || format!("{invocations} are not {LEAST}"))
}
