//! The commit modes on two sites: the remote center is cut off under `max-protection`, an
//! operator lets the city go on alone, and when the center counts again the whole city is
//! killed while it writes.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Instant;

use holdfast::store::{Replay, StoppedMember};
use serde_json::Value;

use crate::harness::{Lab, Outcome, PATIENCE, ensure, eventually, failed, output, succeed, text};

/// What the writer changes; the harness makes it.
const KEY: &[u8] = b"/registry/core/configmaps/default/harness";
/// Acknowledged writes before the city is killed.
const WRITES: usize = 4;

/// `holdfast dr status -o json` on a node, and its exit code.
fn dr_status(lab: &Lab, node: &str) -> Result<(Value, Option<i32>), libtest_mimic::Failed> {
    let told = output(&mut lab.on(node, &["holdfast", "dr", "status", "-o", "json"]))?;
    let status = serde_json::from_slice(&told.stdout)
        .map_err(|error| failed(format!("dr status on {node}: {}", text(&told)), error))?;
    Ok((status, told.status.code()))
}

fn footing(lab: &Lab, node: &str, wanted: &str) -> Result<Value, libtest_mimic::Failed> {
    eventually(&format!("{node} says {wanted}"), PATIENCE, || {
        let (status, code) = dr_status(lab, node)?;
        // What is no problem of the footing may last longer.
        let attention = wanted == "fallen-back";
        let said = status["footing"] == wanted && status["isCurrent"] == true;
        ensure(said && (!attention || code == Some(2)), || format!("{code:?}: {status}"))?;
        Ok(status)
    })
}

fn cut(lab: &Lab) -> Outcome {
    for center in ["a", "b"] {
        lab.cut(center, "c")?;
    }
    Ok(())
}

pub(super) fn set_mode(lab: &Lab, mode: &str) -> Outcome {
    succeed(
        &mut lab
            .on("b1", &["holdfast", "dr", "mode", "set", mode, "--reason", "a test of the lab"]),
    )
    .map(drop)
}

pub(crate) fn the_remote_center_counts_as_the_mode_says(lab: &Lab) -> Outcome {
    eventually("a write", PATIENCE, || lab.fresh_write())?;
    eventually("the remote center can be counted", PATIENCE, || set_mode(lab, "remote-sync"))?;
    footing(lab, "b1", "synchronous")?;
    eventually("nothing is wrong", PATIENCE, || {
        let (status, code) = dr_status(lab, "b1")?;
        let proven = status["rpo"]["kind"] == "proven" && status["mode"] == "remote-sync";
        ensure(code == Some(0) && proven, || format!("{code:?}: {status}"))
    })?;
    cut_off_in_max_protection(lab)?;
    let since = Instant::now();
    the_city_goes_on_alone(lab)?;
    println!("let go, the city wrote on within {:.1} s", since.elapsed().as_secs_f64());
    succeed(&mut lab.command("heal"))?;
    let status = footing(lab, "b1", "synchronous")?;
    let journal = status["journal"].to_string();
    ensure(journal.contains("fallen-back"), || journal.clone())?;
    the_city_is_killed(lab)?;
    let facts = lab.facts()?;
    ensure(facts["outboundPackets"] == 0, || facts.to_string())
}

/// Writes are refused with the reason, and what was written before is read.
fn cut_off_in_max_protection(lab: &Lab) -> Outcome {
    // Refused while the center has not kept up.
    eventually("max-protection is set", PATIENCE, || set_mode(lab, "max-protection"))?;
    let kept = eventually("a write under max-protection", PATIENCE, || lab.fresh_write())?;
    cut(lab)?;
    eventually("a write is refused and why is said", PATIENCE, || match lab.fresh_write() {
        Ok(revision) => Err(format!("written at {revision}").into()),
        Err(refused) => {
            let said = format!("{refused:?}");
            ensure(said.contains("max-protection"), || said.clone())
        }
    })?;
    let get = ["get", "configmap", "harness", "-n", "default", "-o", "json"];
    let object = succeed(&mut lab.holdfast(&get)?)?;
    let object: Value = serde_json::from_str(&object).map_err(|error| failed("get", error))?;
    let version = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    ensure(version.parse() == Ok(kept), || format!("{version} is read, {kept} was written"))
}

/// An operator gives up the remote center, which is still cut off.
fn the_city_goes_on_alone(lab: &Lab) -> Outcome {
    set_mode(lab, "remote-sync")?;
    eventually("a write without the remote center", PATIENCE, || lab.fresh_write())?;
    footing(lab, "b1", "fallen-back")?;
    // What is left knows by itself how much it may lack.
    eventually("the remote center tells its bound", PATIENCE, || {
        let (status, code) = dr_status(lab, "c1")?;
        let bounded = status["rpo"]["kind"] == "bounded"
            && status["rpo"]["atMostMs"].as_u64().is_some_and(|bound| bound > 0)
            && status["isCurrent"] == false
            && status["role"] == "remote";
        ensure(bounded && code == Some(2), || format!("{code:?}: {status}"))
    })?;
    eventually("each node of the remote center has an event", PATIENCE, || {
        let events = lab.objects("events")?;
        let fallen = events.iter().filter(|event| event["reason"] == "RemoteFallenBack");
        let about: BTreeSet<&str> =
            fallen.filter_map(|event| event["involvedObject"]["name"].as_str()).collect();
        ensure(about == BTreeSet::from(["c1", "c2", "c3"]), || format!("{about:?} have"))
    })
}

/// Writes until the city is dead; then two of the remote center's three disks have all that
/// was acknowledged.
fn the_city_is_killed(lab: &Lab) -> Outcome {
    let (acknowledged, count) = (AtomicI64::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| -> Outcome {
        let writer = scope.spawn(|| {
            // It ends when the city does.
            while let Ok(revision) = lab.fresh_write() {
                acknowledged.store(revision, Ordering::SeqCst);
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        let written = eventually("the writer writes", PATIENCE, || {
            let now = count.load(Ordering::SeqCst);
            ensure(now >= WRITES || writer.is_finished(), || format!("{now} writes"))
        });
        lab.fault("kill", "a")?;
        lab.fault("kill", "b")?;
        writer.join().map_err(|_| "the writer panicked")?;
        written
    })?;
    ensure(count.into_inner() > 0, || "nothing was written".into())?;
    let acknowledged = acknowledged.into_inner();
    let (status, code) = dr_status(lab, "c1")?;
    let kind = status["rpo"]["kind"].as_str().unwrap_or_default();
    ensure(matches!(kind, "proven" | "bounded") && code == Some(2), || status.to_string())?;
    println!("at c1 the loss is {}", status["rpo"]);
    lab.fault("kill", "c")?;
    let mut holders = Vec::new();
    for node in ["c1", "c2", "c3"] {
        let path = lab.root(node).join("var/lib/holdfast/store");
        let member = StoppedMember::open(&path).map_err(|error| failed(node, error))?;
        let mut records = futures::executor::block_on(member.live_records(Replay::Everything))
            .map_err(|error| failed(node, error))?;
        let found = records.find_map(|record| record.ok().filter(|kv| &kv.key[..] == KEY));
        if found.is_some_and(|kv| kv.mod_revision >= acknowledged) {
            holders.push(node);
        }
    }
    // Where a busy machine had the city fall back before it died, a loss is bounded and not
    // proven to be none; C says which it is.
    let enough = holders.len() >= 2 || kind != "proven";
    ensure(enough, || format!("{acknowledged} is only on {holders:?}"))
}
