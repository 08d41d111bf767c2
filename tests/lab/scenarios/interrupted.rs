//! Whole hosts killed in the middle of installing; the same command again finishes.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::harness::{Lab, Outcome, PATIENCE, ensure, eventually, failed, succeed};
use crate::install::{BUNDLE, TRUST, join_command, token};

/// The cluster file of the lab's three centers. Its nodes share the machine's disk, of which
/// a tenth need not be free for them.
pub(crate) const CLUSTER: &str = "apiVersion: holdfast.io/v1
kind: Cluster
metadata: {name: lab}
spec:
  network: {podRange: 10.244.0.0/16, nodePrefix: 24, serviceRange: 10.96.0.0/16, clusterDomain: cluster.local}
  sites:
    - name: city
      centers:
        - name: a
          nodes: [{name: a1, address: 10.77.0.11, roles: [control, worker]}]
        - name: b
          nodes: [{name: b1, address: 10.77.0.21, roles: [control, worker]}]
        - name: c
          nodes: [{name: c1, address: 10.77.0.31, roles: [control, worker]}]
  eviction: {nodefsAvailable: 256Mi, nodefsInodesFree: 10000}
";

/// Lays a cluster file down where `init_command` looks for it.
pub(crate) fn write_cluster(lab: &Lab, node: &str, text: &str) -> Outcome {
    let dir = lab.dir().join("hosts").join(node).join("root/var/seed");
    fs::create_dir_all(&dir).map_err(|error| failed("seed folder", error))?;
    fs::write(dir.join("cluster.yaml"), text).map_err(|error| failed("cluster file", error))
}

pub(crate) fn init_command<'a>(bundle: &'a str, trust: &'a str) -> Vec<&'a str> {
    vec![
        "holdfast",
        "init",
        "--config",
        "/var/seed/cluster.yaml",
        "--bundle",
        bundle,
        "--trust",
        trust,
        "--node",
        "a1",
    ]
}

/// Starts the command again and again, killing the whole host at random moments, then
/// lets it finish.
fn finish_despite_kills(lab: &Lab, node: &str, command: &[&str], random: &mut SmallRng) -> Outcome {
    for round in 0..5 {
        let after_ms = random.random_range(200..6_000);
        let mut child = lab
            .on(node, command)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| failed("start", error))?;
        // The kill's moment is the test's input, not a wait for anything.
        std::thread::park_timeout(Duration::from_millis(after_ms));
        lab.fault("kill", node)?;
        child.wait().map_err(|error| failed("wait", error))?;
        println!("{node}: round {round}, killed after {after_ms} ms");
        lab.fault("start", node)?;
    }
    eventually(&format!("{} finishes on {node}", command[1]), PATIENCE, || {
        succeed(&mut lab.on(node, command)).map(|_| ())
    })
}

pub(crate) fn init_and_join() -> Outcome {
    let seed: u64 =
        std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random);
    println!("seed {seed} (SEED={seed} repeats it)");
    let mut random = SmallRng::seed_from_u64(seed);
    let lab = Lab::up("three", true)?;
    write_cluster(&lab, "a1", CLUSTER)?;
    let init = init_command(BUNDLE, TRUST);
    finish_despite_kills(&lab, "a1", &init, &mut random)?;
    succeed(&mut lab.on("a1", &init))?;
    let token = eventually("a token", PATIENCE, || token(&lab, "a1", &[]))?;
    let join = join_command("b1", &token, BUNDLE);
    finish_despite_kills(&lab, "b1", &join, &mut random)?;
    eventually("both nodes are Ready and both members vote", PATIENCE, || {
        let status = lab.status("a1")?;
        let ready = status["nodes"]
            .as_array()
            .map_or(0, |n| n.iter().filter(|n| n["ready"] == true).count());
        let voters = status["members"]
            .as_array()
            .map_or(0, |m| m.iter().filter(|m| m["voter"] == true).count());
        ensure(ready == 2 && voters == 2, || status.to_string())
    })
}
