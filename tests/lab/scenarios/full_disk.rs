//! Disks that fill up in the middle: one clear error, and once there is room again the
//! same command finishes. (A disk that is too small from the start is preflight's: t62.)

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use libtest_mimic::Failed;

use crate::harness::{Lab, Outcome, PATIENCE, ensure, eventually, failed, output, succeed};
use crate::install::{BUNDLE, Refusal, TRUST, judge, ready_nodes};
use crate::scenarios::interrupted::{CLUSTER, init_command, write_cluster};
use crate::test_bundle;

/// Room that preflight accepts for the engine.
const ENGINE_MIB: &str = "600";
/// Room for one of the three images below, not for all.
const REGISTRY_MIB: &str = "16";
const LAYER_BYTES: usize = 7 << 20;

/// Writes into a directory until nothing more goes in; returns the file.
fn fill(dir: &Path) -> Result<PathBuf, Failed> {
    let path = dir.join("filler");
    let mut file = File::create(&path).map_err(|error| failed("the filler", error))?;
    let block = vec![0_u8; 1 << 20];
    while file.write_all(&block).is_ok() {}
    // What is left is less than a block; single pages take the rest.
    while file.write_all(&block[..4096]).is_ok() {}
    Ok(path)
}

/// A place of a host as the host sees it, mounts included.
fn seen(lab: &Lab, node: &str, path: &str) -> Result<PathBuf, Failed> {
    Ok(PathBuf::from(format!("/proc/{}/root{path}", lab.pid(node)?)))
}

pub(crate) fn during_init() -> Outcome {
    let lab = Lab::up("one", true)?;
    write_cluster(&lab, "a1", CLUSTER)?;
    succeed(&mut lab.on("a1", &["holdfast", "probe", "cover", "/opt/holdfast", ENGINE_MIB]))?;
    let init = init_command(BUNDLE, TRUST);
    let mut child = lab
        .on("a1", &init)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed("init", error))?;
    let stderr = child.stderr.take().ok_or("no stderr")?;
    let dir = seen(&lab, "a1", "/opt/holdfast")?;
    let mut filler = None;
    let mut said = String::new();
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        if line.starts_with("preflight done") {
            // It stands still meanwhile, or it could be done with the disk before it is full.
            lab.fault("stop", "a1")?;
            filler = Some(fill(&dir)?);
            lab.fault("start", "a1")?;
        }
        said.push_str(&line);
        said.push('\n');
    }
    let status = child.wait().map_err(|error| failed("init", error))?;
    let filler = filler.ok_or_else(|| format!("preflight was not passed:\n{said}"))?;
    let answer = std::process::Output { status, stdout: Vec::new(), stderr: said.into_bytes() };
    let says = ["No space left on device", "/opt/holdfast"];
    judge(&init, &answer, Refusal { exit: 1, says: &says })?;
    fs::remove_file(filler).map_err(|error| failed("remove the filler", error))?;
    succeed(&mut lab.on("a1", &init))?;
    ready_nodes(&lab, "a1", 1)
}

pub(crate) fn during_import() -> Outcome {
    let lab = Lab::up("one", true)?;
    write_cluster(&lab, "a1", CLUSTER)?;
    succeed(&mut lab.on("a1", &init_command(BUNDLE, TRUST)))?;
    let seed = lab.root("a1").join("var/seed");
    let public = test_bundle::with_images(&seed.join("more.hfb"), "full", 3, LAYER_BYTES)?;
    fs::rename(&public, seed.join("more.pub")).map_err(|error| failed("key", error))?;
    eventually("the first import is over", PATIENCE, || {
        let waiting = fs::read_dir(lab.root("a1").join("var/lib/holdfast/registry/import"));
        let waiting = waiting.map(|entries| entries.count()).unwrap_or_default();
        ensure(waiting == 0, || format!("{waiting} layouts wait"))
    })?;
    let registry = "/var/lib/holdfast/registry";
    succeed(&mut lab.on("a1", &["holdfast", "probe", "cover", registry, REGISTRY_MIB]))?;
    let small = seen(&lab, "a1", registry)?;
    for dir in ["blobs/sha256", "incoming", "uploads"] {
        fs::create_dir_all(small.join(dir)).map_err(|error| failed(dir, error))?;
    }
    let import = ["holdfast", "registry", "import", "--bundle", "/var/seed/more.hfb"];
    let import: Vec<&str> = import.into_iter().chain(["--trust", "/var/seed/more.pub"]).collect();
    let answer = output(&mut lab.on("a1", &import))?;
    judge(&import, &answer, Refusal { exit: 1, says: &["space"] })?;
    let torn: Vec<_> = fs::read_dir(small.join("incoming"))
        .map_err(|error| failed("incoming", error))?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    ensure(torn.is_empty(), || format!("half-written content stays: {torn:?}"))?;
    // The node itself goes on, and with room again the same command finishes.
    ready_nodes(&lab, "a1", 1)?;
    succeed(&mut lab.on("a1", &["holdfast", "probe", "uncover", registry]))?;
    let finished: Vec<&str> = import.iter().copied().chain(["-o", "json"]).collect();
    let report = succeed(&mut lab.on("a1", &finished))?;
    let report: serde_json::Value =
        serde_json::from_str(&report).map_err(|error| failed(report.clone(), error))?;
    let images = report["imagesChanged"].as_u64().zip(report["imagesUnchanged"].as_u64());
    ensure(images.is_some_and(|(a, b)| a + b == 3), || report.to_string())
}
