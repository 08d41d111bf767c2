//! The whole host killed at many points of an import; the same command again finishes it
//! and moves nothing twice.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use libtest_mimic::Failed;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use crate::harness::{Lab, Outcome, PATIENCE, ensure, eventually, failed, succeed};
use crate::install::{BUNDLE, TRUST, ready_nodes};
use crate::scenarios::interrupted::{CLUSTER, init_command, write_cluster};
use crate::test_bundle;

const IMAGES: usize = 10;
const LAYER_BYTES: usize = 6 << 20;

/// Complete content on the host's disk: which file it is and when it was made. (Its time
/// of change says nothing: content that is asked for is marked as used.)
fn content(registry: &Path) -> BTreeMap<PathBuf, (u64, Option<SystemTime>)> {
    let mut found = BTreeMap::new();
    for dir in fs::read_dir(registry.join("blobs/sha256")).into_iter().flatten().flatten() {
        for file in fs::read_dir(dir.path()).into_iter().flatten().flatten() {
            let Ok(facts) = file.metadata() else { continue };
            found.insert(file.path(), (facts.ino(), facts.created().ok()));
        }
    }
    found
}

fn import<'a>() -> Vec<&'a str> {
    let verb = ["holdfast", "registry", "import", "-o", "json"];
    verb.into_iter()
        .chain(["--bundle", "/var/seed/more.hfb", "--trust", "/var/seed/more.pub"])
        .collect()
}

fn report(lab: &Lab) -> Result<Value, Failed> {
    eventually("the import finishes", PATIENCE, || {
        let text = succeed(&mut lab.on("a1", &import()))?;
        serde_json::from_str(&text).map_err(|error| failed(text.clone(), error))
    })
}

/// Starts the import and kills the host once `more` further files are complete and a
/// little while has passed; true when the import was faster than that.
fn killed_after(lab: &Lab, more: usize, pause: Duration) -> Result<bool, Failed> {
    let registry = lab.root("a1").join("var/lib/holdfast/registry");
    let goal = content(&registry).len() + more;
    let mut child = lab
        .on("a1", &import())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| failed("start the import", error))?;
    let mut over = false;
    eventually("the import is under way", PATIENCE, || {
        over = child.try_wait().map_err(|error| failed("wait", error))?.is_some();
        let now = content(&registry).len();
        ensure(over || now >= goal, || format!("{now} of {goal} files"))
    })?;
    // The kill's moment is the test's input, not a wait for anything.
    std::thread::park_timeout(pause);
    over |= child.try_wait().map_err(|error| failed("wait", error))?.is_some();
    lab.fault("kill", "a1")?;
    child.wait().map_err(|error| failed("wait", error))?;
    lab.fault("start", "a1")?;
    ready_nodes(lab, "a1", 1)?;
    Ok(over)
}

pub(crate) fn import_finishes() -> Outcome {
    let seed: u64 =
        std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random);
    println!("seed {seed} (SEED={seed} repeats it)");
    let mut random = SmallRng::seed_from_u64(seed);
    let lab = Lab::up("one", true)?;
    write_cluster(&lab, "a1", CLUSTER)?;
    succeed(&mut lab.on("a1", &init_command(BUNDLE, TRUST)))?;
    ready_nodes(&lab, "a1", 1)?;
    let place = lab.root("a1").join("var/seed");
    let public = test_bundle::with_images(&place.join("more.hfb"), "killed", IMAGES, LAYER_BYTES)?;
    fs::rename(&public, place.join("more.pub")).map_err(|error| failed("key", error))?;

    let registry = lab.root("a1").join("var/lib/holdfast/registry");
    let mut written = content(&registry);
    let mut kills = 0;
    for round in 0..8 {
        let pause = Duration::from_millis(random.random_range(0..120));
        let over = killed_after(&lab, usize::from(round > 0) * 2, pause)?;
        let now = content(&registry);
        let again: Vec<_> =
            written.iter().filter(|(path, id)| now.get(*path) != Some(id)).collect();
        ensure(again.is_empty(), || format!("written twice or lost: {again:?}"))?;
        println!("round {round}: killed with {} files complete (over: {over})", now.len());
        written = now;
        if over {
            break;
        }
        kills += 1;
    }
    ensure(kills >= 3, || format!("only {kills} kills fell into the import"))?;
    let report_now = report(&lab)?;
    let now = content(&registry);
    let again: Vec<_> = written.iter().filter(|(path, id)| now.get(*path) != Some(id)).collect();
    ensure(again.is_empty(), || format!("the last run wrote again: {again:?}"))?;
    let (moved, present) = (&report_now["blobsMoved"], &report_now["blobsPresent"]);
    let total = moved.as_u64().zip(present.as_u64()).map(|(moved, present)| moved + present);
    // One layer and one configuration for each image.
    ensure(total == Some(2 * IMAGES as u64), || report_now.to_string())?;
    let second = report(&lab)?;
    ensure(second["blobsMoved"] == 0 && second["imagesUnchanged"] == IMAGES, || second.to_string())
}
