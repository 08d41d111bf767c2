//! Two of three masters are lost for good; the third goes on and is given two others.

use libtest_mimic::Failed;
use serde_json::Value;

use crate::harness::{Lab, Outcome, PATIENCE, ensure, eventually, failed, output, succeed, text};
use crate::scenarios::masters::{Writer, clean_up, nothing_lost};
use crate::scenarios::replaced::{join, says};

const SURVIVOR: (&str, &str) = ("c1", "10.77.0.31");
const LOST: [&str; 2] = ["a1", "b1"];

fn plan(lab: &Lab) -> Result<Value, Failed> {
    let verb = ["holdfast", "store", "recover", "--plan", "-o", "json"];
    let made = succeed(&mut lab.on(SURVIVOR.0, &verb))?;
    serde_json::from_str(&made).map_err(|error| failed(made.clone(), error))
}

fn revision(status: &Value) -> i64 {
    status["store"]["revision"].as_i64().unwrap_or_default()
}

pub(crate) fn survivor(lab: &Lab) -> Outcome {
    lab.settled(3)?;
    let on = SURVIVOR.0;
    says(lab, on, &["store", "recover", "--plan"], 1, "which is a majority")?;
    says(lab, on, &["store", "check"], 75, "is running")?;
    let writer = Writer::start(lab, "recovery")?;
    eventually("something was written", PATIENCE, || {
        says(lab, on, &["get", "configmaps"], 0, "recovery")
    })?;
    let acknowledged = writer.finish()?;
    lab.settled(3)?;
    says(lab, on, &["store", "snapshot", "save", "-o", "/root/before.hfs"], 0, "saved")?;
    says(lab, on, &["store", "snapshot", "status", "/root/before.hfs"], 0, "Revision")?;
    let before = revision(&lab.status(on)?);
    for lost in LOST {
        lab.fault("kill", lost)?;
    }
    let document = plan(lab)?;
    let shown = &document["plan"];
    ensure(shown["chosenName"] == on && shown["loss"] == "unknown", || document.to_string())?;
    ensure(shown["lostCouldElect"] == true, || document.to_string())?;
    let generation = shown["toGeneration"].as_u64().ok_or("no generation")?;
    let verb = ["store", "recover", "--apply", "--yes-generation"];
    says(lab, on, &[&verb[..], &["77"]].concat(), 64, "nothing was done")?;
    let typed = generation.to_string();
    says(lab, on, &[&verb[..], &[&typed]].concat(), 0, "stands, with member")?;
    eventually("the survivor writes again", PATIENCE, || {
        let make = ["holdfast", "token", "create", "--role", "control"];
        let answer = output(&mut lab.on(on, &make))?;
        ensure(answer.status.success(), || text(&answer))
    })?;
    let status = lab.status(on)?;
    ensure(status["generation"] == generation, || status.to_string())?;
    ensure(before > 0 && revision(&status) > before, || format!("{before} before {status}"))?;

    // Both old disks together are a majority of what has ended.
    for lost in LOST {
        lab.fault("start", lost)?;
    }
    for lost in LOST {
        eventually(&format!("{lost} says that it is out"), PATIENCE, || {
            says(lab, lost, &["status"], 2, "was removed from the cluster")
        })?;
    }
    for lost in LOST {
        lab.fault("kill", lost)?;
        eventually(&format!("{lost} is taken out"), PATIENCE, || {
            let remove = ["holdfast", "node", "remove", lost, "--force"];
            succeed(&mut lab.on(on, &remove)).map(|_| ())
        })?;
        lab.fault("wipe", lost)?;
        lab.fault("start", lost)?;
        join(lab, lost, SURVIVOR)?;
    }
    lab.settled(3)?;
    ensure(!acknowledged.is_empty(), || "nothing was acknowledged".into())?;
    nothing_lost(lab, &acknowledged)?;
    clean_up(lab, &acknowledged)
}

/// The snapshot that [`survivor`] saved becomes the content of a cluster of its own.
pub(crate) fn restored(old: &Lab) -> Outcome {
    let saved = old.dir().join("hosts/c1/root/root/before.hfs");
    ensure(saved.exists(), || format!("{} is not there", saved.display()))?;
    let lab = Lab::up("one", false)?;
    let to = lab.dir().join("hosts/a1/root/root/before.hfs");
    std::fs::copy(&saved, &to).map_err(|error| failed(to.display(), error))?;
    let verb = ["store", "snapshot", "restore", "/root/before.hfs", "--yes-generation", "2"];
    says(&lab, "a1", &verb, 0, "stands, with member")?;
    eventually("the objects are there", PATIENCE, || {
        says(&lab, "a1", &["get", "configmaps"], 0, "recovery")
    })?;
    let (ours, theirs) = (lab.status("a1")?, old.status("c1")?);
    ensure(ours["clusterId"] != theirs["clusterId"], || format!("{ours} and {theirs}"))?;
    ensure(revision(&ours) > 1_000_000_000, || ours.to_string())
}
