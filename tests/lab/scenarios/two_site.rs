//! Two sites and three centers: who votes where, and what the loss of a center changes.

use libtest_mimic::Failed;
use serde_json::Value;

use super::commit_modes;
use crate::harness::{Lab, Outcome, PATIENCE, ensure, eventually, failed, succeed};

/// A node that stays, and whom everybody is asked through.
const WITNESS: &str = "b1";

fn voters(lab: &Lab) -> Result<Vec<String>, Failed> {
    let status = lab.status(WITNESS)?;
    let members = status["members"].as_array().cloned().unwrap_or_default();
    let voters = members.iter().filter(|member| member["voter"] == true);
    let mut names: Vec<String> =
        voters.filter_map(|member| member["name"].as_str().map(ToOwned::to_owned)).collect();
    names.sort();
    Ok(names)
}

/// Waits until exactly these vote, and one of center C.
fn votes(lab: &Lab, city: &[&str]) -> Outcome {
    eventually(&format!("{city:?} and one of c vote"), PATIENCE, || {
        let names = voters(lab)?;
        let (remote, own): (Vec<&String>, Vec<&String>) =
            names.iter().partition(|name| name.starts_with('c'));
        ensure(own == city && remote.len() == 1, || format!("{names:?} do"))
    })
}

fn lab_status(lab: &Lab) -> Result<Value, Failed> {
    let text = succeed(lab.command("status").args(["-o", "json"]))?;
    serde_json::from_str(&text).map_err(|error| failed("lab status", error))
}

pub(crate) fn a_center_is_lost_and_comes_back(lab: &Lab) -> Outcome {
    votes(lab, &["a1", "a2", "b1", "b2"])?;
    let facts = lab_status(lab)?;
    ensure(facts["links"].as_array().is_some_and(|links| links.len() == 6), || facts.to_string())?;
    ensure(facts["outboundPackets"] == 0, || facts.to_string())?;
    // Pods of one center reach those of another through the routers.
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/bundle/samples/hello.yaml");
    succeed(&mut lab.holdfast(&["apply", "-f", sample])?)?;
    lab.pods_ready("hello", 3, |_| true)?;

    let before = lab.fresh_write()?;
    lab.fault("kill", "a")?;
    let after = eventually("a write without center a", PATIENCE, || lab.fresh_write())?;
    ensure(after > before, || format!("{after} came after {before}"))?;
    votes(lab, &["b1", "b2"])?;
    lab.pods_ready("hello", 3, |node| !node.starts_with('a'))?;

    // The votes change as well while answers wait for c; that c is counted takes as long.
    commit_modes::set_mode(lab, "remote-sync")?;
    lab.fault("start", "a")?;
    votes(lab, &["a1", "a2", "b1", "b2"])?;
    let last = eventually("a write", PATIENCE, || lab.fresh_write())?;
    for node in ["a1", "a2", "b1", "b2", "c1", "c2", "c3"] {
        eventually(&format!("{node} serves all of it"), PATIENCE, || lab.serves(node, last))?;
    }
    let facts = lab_status(lab)?;
    ensure(facts["outboundPackets"] == 0, || facts.to_string())
}
