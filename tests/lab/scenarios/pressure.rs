//! A node's disk really runs out: its data directory is a small file system of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Failed;
use serde_json::Value;

use crate::harness::{
    Lab, Outcome, PATIENCE, brief, contains, ensure, eventually, failed, is_ready, succeed,
};
use crate::install::{BUNDLE, TRUST};
use crate::scenarios::interrupted::{init_command, write_cluster};
use crate::scenarios::replaced::{TWO_LISTED, join_as};
use crate::scenarios::replication::import;
use crate::test_bundle;

const DATA: &str = "/var/lib/holdfast";
/// The node's file system; sparse, so that it takes of the machine what is written to it.
const DISK_BYTES: u64 = 3 << 30;
/// Below this the node is under pressure.
const KEPT_BYTES: u64 = 256 << 20;
/// What is taken away from that: more than the greedy pod gives back, so that the pressure
/// goes on until somebody makes room.
const BEYOND_BYTES: u64 = 128 << 20;
const EVICTION: [&str; 2] =
    ["nodefsInodesFree: 10000}", "nodefsInodesFree: 1%, pressureTransitionPeriod: 5s}"];

/// A pod on the small disk that writes so many blocks of 512 bytes.
fn writer(name: &str, blocks: u32) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  \
         terminationGracePeriodSeconds: 1\n  nodeSelector: {{kubernetes.io/hostname: c1}}\n  \
         containers:\n    - name: main\n      image: tools-0:1\n      \
         args: [-c, '(ulimit -f {blocks}; cat /dev/zero > /data/file); : > /data/done; exec sleep 100000']\n      \
         readinessProbe: {{exec: {{command: [/bin/ls, /data/done]}}, periodSeconds: 1}}\n      \
         volumeMounts: [{{name: data, mountPath: /data}}]\n  \
         volumes: [{{name: data, emptyDir: {{}}}}]\n---\n"
    )
}

/// Pods that may run anywhere, or on the small disk alone.
fn free(name: &str, selector: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: default}}\n\
         spec:\n  replicas: 2\n  selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    \
         metadata: {{labels: {{app: {name}}}}}\n    \
         spec: {{{selector}containers: [{{name: main, image: 'hello:1'}}]}}\n"
    )
}

/// A device of the machine with an empty file system, freed when its last mount goes.
#[derive(Debug)]
struct Disk(String);

impl Disk {
    fn new(file: &Path) -> Result<Self, Failed> {
        let made = File::create(file).and_then(|made| made.set_len(DISK_BYTES));
        made.map_err(|error| failed("the disk's file", error))?;
        let path = file.to_string_lossy();
        succeed(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0", &path]))?;
        let device = succeed(Command::new("losetup").args(["--find", "--show", &path]))?;
        Ok(Self(device.trim().to_owned()))
    }

    /// Puts it over the data directory of a bare host.
    fn under(&self, lab: &Lab, node: &str) -> Outcome {
        let there = PathBuf::from(format!("/proc/{}/root/dev/hf-disk", lab.pid(node)?));
        // Copied with its numbers: the host's /dev is its own.
        succeed(Command::new("cp").arg("-a").arg(&self.0).arg(&there))?;
        succeed(&mut lab.on(node, &["holdfast", "probe", "cover-by", "/dev/hf-disk", DATA]))?;
        fs::remove_file(&there).map_err(|error| failed("device", error))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // While it is mounted this only says that it may go then.
        let _best_effort = Command::new("losetup").args(["--detach", &self.0]).output();
    }
}

fn apply(lab: &Lab, text: &str) -> Outcome {
    let place = lab.dir().join("hosts/a1/root/var/pressure.yaml");
    fs::write(place, text).map_err(|error| failed("manifest", error))?;
    succeed(&mut lab.on("a1", &["holdfast", "apply", "-f", "/var/pressure.yaml"])).map(drop)
}

fn get(lab: &Lab, what: &[&str]) -> Result<Value, Failed> {
    let verb = ["holdfast", "get"].iter().chain(what).chain(&["-o", "json"]);
    let made = succeed(&mut lab.on("a1", &verb.copied().collect::<Vec<_>>()))?;
    serde_json::from_str(&made).map_err(|error| failed(made.clone(), error))
}

fn pods(lab: &Lab, app: &str) -> Result<Vec<Value>, Failed> {
    let list = get(lab, &["pods"])?;
    let all = list["items"].as_array().cloned().unwrap_or_default();
    Ok(all.into_iter().filter(|pod| pod["metadata"]["labels"]["app"] == app).collect())
}

/// What the node says of its disk, and whether it is tainted for it.
fn pressed(lab: &Lab) -> Result<(Value, bool), Failed> {
    let node = get(lab, &["node", "c1"])?;
    let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let condition = conditions.into_iter().find(|one| one["type"] == "DiskPressure");
    let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    let tainted = taints.iter().any(|taint| {
        taint["key"] == "node.kubernetes.io/disk-pressure" && taint["effect"] == "NoSchedule"
    });
    Ok((condition.unwrap_or_default(), tainted))
}

fn wait_for_pressure(lab: &Lab, status: &str, reason: &str, tainted: bool) -> Outcome {
    eventually(&format!("DiskPressure {status}"), PATIENCE, || {
        let (condition, has) = pressed(lab)?;
        let right = condition["status"] == status && condition["reason"] == reason;
        ensure(right && has == tainted, || format!("{condition}, tainted: {has}"))
    })
}

/// Takes all of the node's disk but what lies below the threshold; returns the file.
fn fill(lab: &Lab) -> Result<PathBuf, Failed> {
    let dir = PathBuf::from(format!("/proc/{}/root{DATA}", lab.pid("c1")?));
    let said = succeed(Command::new("stat").args(["-f", "-c", "%a %S"]).arg(&dir))?;
    let numbers: Vec<u64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [blocks, bytes] = numbers[..] else { return Err(format!("stat says {said}").into()) };
    let left = blocks * bytes;
    let taken = left.saturating_sub(KEPT_BYTES - BEYOND_BYTES).to_string();
    let filler = dir.join("filler");
    // Reserved and not written: it costs the machine's own disk nothing.
    succeed(Command::new("fallocate").args(["-l", &taken]).arg(&filler))?;
    Ok(filler)
}

pub(crate) fn a_full_disk() -> Outcome {
    let lab = Lab::up("three", true)?;
    let disk = Disk::new(&lab.dir().join("c1.ext4"))?;
    disk.under(&lab, "c1")?;
    write_cluster(&lab, "a1", &TWO_LISTED.replace(EVICTION[0], EVICTION[1]))?;
    succeed(&mut lab.on("a1", &init_command(BUNDLE, TRUST)))?;
    join_as(&lab, "c1", ("a1", "10.77.0.11"), &["--role", "worker"])?;
    import(&lab, "a1", "tools-pressure", |file| test_bundle::with_tools(file, "tools"))?;
    // Of greedy 64 MiB, of modest half of one; and an image of which nothing is left.
    apply(&lab, &format!("{}{}", writer("greedy", 131_072), writer("modest", 1_024)))?;
    apply(&lab, &free("once", "nodeSelector: {kubernetes.io/hostname: c1}, "))?;
    eventually("both have written", PATIENCE, || {
        let (greedy, modest) = (get(&lab, &["pod", "greedy"])?, get(&lab, &["pod", "modest"])?);
        let once = pods(&lab, "once")?;
        let all = is_ready(&greedy) && is_ready(&modest) && once.iter().all(is_ready);
        ensure(all && once.len() == 2, || brief(&[greedy, modest]))
    })?;
    succeed(&mut lab.on("a1", &["holdfast", "delete", "deployment", "once"]))?;
    eventually("its pods are gone", PATIENCE, || {
        let left = pods(&lab, "once")?;
        ensure(left.is_empty(), || brief(&left))
    })?;
    wait_for_pressure(&lab, "False", "KubeletHasNoDiskPressure", false)?;

    let filler = fill(&lab)?;
    wait_for_pressure(&lab, "True", "KubeletHasDiskPressure", true)?;
    eventually("the greedy pod is evicted", PATIENCE, || {
        let status = get(&lab, &["pod", "greedy"])?["status"].clone();
        let evicted = status["phase"] == "Failed" && status["reason"] == "Evicted";
        ensure(evicted, || status.to_string())?;
        let words =
            ["The node was low on resource: ephemeral-storage. Threshold quantity: 262144Ki"];
        contains("its message", status["message"].as_str().unwrap_or_default(), &words)
    })?;
    apply(&lab, &free("free", ""))?;
    eventually("new pods go elsewhere", PATIENCE, || {
        let all = pods(&lab, "free")?;
        let elsewhere = all.iter().filter(|pod| is_ready(pod) && pod["spec"]["nodeName"] == "a1");
        ensure(elsewhere.count() == 2, || brief(&all))
    })?;
    let modest = get(&lab, &["pod", "modest"])?;
    ensure(is_ready(&modest), || modest["status"].to_string())?;
    let log = fs::read_to_string(filler.with_file_name("log").join("holdfast.log"));
    let log = log.map_err(|error| failed("the node's log", error))?;
    contains("what went first", &log, &["images without a container were removed"])?;

    fs::remove_file(&filler).map_err(|error| failed("remove the filler", error))?;
    wait_for_pressure(&lab, "False", "KubeletHasNoDiskPressure", false)?;
    apply(&lab, &free("again", "nodeSelector: {kubernetes.io/hostname: c1}, "))?;
    eventually("pods come again, and their image", PATIENCE, || {
        let all = pods(&lab, "again")?;
        ensure(all.len() == 2 && all.iter().all(is_ready), || brief(&all))
    })
}
