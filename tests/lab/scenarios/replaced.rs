//! A control node is lost for good, taken out, and its name joins again.

use libtest_mimic::Failed;
use serde_json::Value;

use crate::harness::{Lab, Outcome, PATIENCE, ensure, eventually, failed, output, succeed, text};
use crate::install::{self, BUNDLE, TRUST, join_verb};
use crate::scenarios::certificates;
use crate::scenarios::interrupted::{init_command, write_cluster};
use crate::scenarios::masters::{Writer, ask_sample, clean_up, deploy_sample, nothing_lost};

const NODES: [(&str, &str); 3] = [("a1", "10.77.0.11"), ("b1", "10.77.0.21"), ("c1", "10.77.0.31")];

/// `holdfast node …` on a host must end with this code and say this.
pub(super) fn says(lab: &Lab, on: &str, verb: &[&str], exit: i32, needle: &str) -> Outcome {
    let answer = output(&mut lab.on(on, &[&["holdfast"], verb].concat()))?;
    let said = text(&answer);
    ensure(answer.status.code() == Some(exit) && said.contains(needle), || {
        format!("{verb:?} on {on} does not end with {exit} and {needle:?}:\n{said}")
    })
}

fn nodes(lab: &Lab, on: &str) -> Result<Vec<Value>, Failed> {
    let made = succeed(&mut lab.on(on, &["holdfast", "node", "list", "-o", "json"]))?;
    let list: Value = serde_json::from_str(&made).map_err(|error| failed(made.clone(), error))?;
    Ok(list["nodes"].as_array().cloned().unwrap_or_default())
}

fn member_id(lab: &Lab, on: &str, name: &str) -> Result<u64, Failed> {
    let list = nodes(lab, on)?;
    let node = list.iter().find(|node| node["name"] == name);
    node.and_then(|node| node["memberId"].as_u64())
        .ok_or_else(|| format!("no member of {name} in {list:?}").into())
}

/// Joins with a token made on `from`.
pub(super) fn join(lab: &Lab, name: &str, from: (&str, &str)) -> Outcome {
    join_as(lab, name, from, &["--role", "control"])
}

/// The same with another token.
pub(super) fn join_as(lab: &Lab, name: &str, from: (&str, &str), token: &[&str]) -> Outcome {
    let token = install::token(lab, from.0, token)?;
    let server = format!("https://{}:6443", from.1);
    let join = [vec!["holdfast"], join_verb(&server, name, &token, BUNDLE)].concat();
    succeed(&mut lab.on(name, &join)).map(|_| ())
}

/// The sample runs on the node, and answers from there.
fn serves_pods(lab: &Lab, node: &str, address: &str) -> Outcome {
    for pod in lab.pods_ready("hello", 3, |_| true)? {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        succeed(&mut lab.holdfast(&["delete", "pod", name])?)?;
    }
    eventually(&format!("{node} runs a replica"), PATIENCE, || {
        let pods = lab.pods_ready("hello", 3, |_| true)?;
        ensure(pods.iter().any(|pod| pod["spec"]["nodeName"] == node), || {
            crate::harness::brief(&pods)
        })
    })?;
    eventually(&format!("the Service answers on {node}"), PATIENCE, || {
        ask_sample(lab, node, address).map(|_| ())
    })
}

pub(crate) fn lost_for_good(lab: &Lab) -> Outcome {
    let address = deploy_sample(lab)?;
    lab.settled(3)?;
    let lost = lab.leader("a1")?;
    let left: Vec<(&str, &str)> = NODES.into_iter().filter(|(name, _)| *name != lost).collect();
    let (first, second) = (left[0], left[1]);
    says(lab, first.0, &["node", "remove", "z9"], 1, "it has a1, b1, c1")?;
    says(lab, first.0, &["node", "remove", &lost], 1, "is still there")?;
    let before = member_id(lab, first.0, &lost)?;
    let writer = Writer::start(lab, "replaced")?;
    lab.fault("kill", &lost)?;
    // With one of three dead, no live one may go, whatever is forced.
    eventually("a new leader knows who is silent", PATIENCE, || {
        let verb = ["node", "remove", second.0, "--force"];
        says(lab, first.0, &verb, 1, "would lose its majority")
    })?;
    eventually("the dead node is removed without --force", PATIENCE, || {
        succeed(&mut lab.on(first.0, &["holdfast", "node", "remove", &lost])).map(|_| ())
    })?;
    says(lab, second.0, &["node", "remove", &lost], 0, "was removed before")?;
    ensure(nodes(lab, first.0)?.len() == 2, || "the removed node is still listed".into())?;
    lab.pods_ready("hello", 3, |node| node != lost)?;
    returns_as_removed(lab, &lost, first)?;

    lab.fault("wipe", &lost)?;
    lab.fault("start", &lost)?;
    join(lab, &lost, first)?;
    lab.settled(3)?;
    let again = member_id(lab, first.0, &lost)?;
    ensure(again > before, || format!("member id {again} after {before}"))?;
    serves_pods(lab, &lost, &address)?;

    // A healthy one leaves by itself when it is reset, and may come back as well.
    succeed(&mut lab.on(&lost, &["holdfast", "reset", "--yes"]))?;
    eventually("two voters are left", PATIENCE, || {
        let list = nodes(lab, first.0)?;
        ensure(list.len() == 2, || format!("{list:?}"))
    })?;
    join(lab, &lost, second)?;
    lab.settled(3)?;
    let acknowledged = writer.finish()?;
    ensure(!acknowledged.is_empty(), || "nothing was acknowledged".into())?;
    nothing_lost(lab, &acknowledged)?;
    clean_up(lab, &acknowledged)?;
    lab.pods_ready("hello", 3, |_| true).map(|_| ())
}

/// The old disk comes back: it says what it is and serves nothing of the API.
fn returns_as_removed(lab: &Lab, lost: &str, first: (&str, &str)) -> Outcome {
    lab.fault("start", lost)?;
    eventually("the removed node says so", PATIENCE, || {
        says(lab, lost, &["status"], 2, "was removed from the cluster")
    })?;
    says(lab, lost, &["get", "pods"], 75, "was removed from the cluster")?;
    let server = format!("https://{}:6443", first.1);
    // Any well-formed token: it is refused before one is looked at.
    let token = format!("hf1.{}.{}.{}", "0".repeat(12), "0".repeat(40), "0".repeat(64));
    let verb = join_verb(&server, lost, &token, BUNDLE);
    says(lab, lost, &verb, 1, "was removed from the cluster")?;
    ensure(nodes(lab, first.0)?.len() == 2, || "the removed node is back in the list".into())
}

/// Two centers; b1 is not in the file.
pub(super) const TWO_LISTED: &str = "apiVersion: holdfast.io/v1
kind: Cluster
metadata: {name: lab}
spec:
  sites:
    - name: city
      centers:
        - name: a
          nodes: [{name: a1, address: 10.77.0.11, roles: [control, worker]}]
        - name: c
          nodes: [{name: c1, address: 10.77.0.31, roles: [worker]}]
  eviction: {nodefsAvailable: 256Mi, nodefsInodesFree: 10000}
";

/// Waits until a node of the list is Ready, as `on` sees it.
fn is_ready(lab: &Lab, on: &str, name: &str) -> Outcome {
    eventually(&format!("{name} is Ready"), PATIENCE, || {
        let list = nodes(lab, on)?;
        let ready = list.iter().any(|node| node["name"] == name && node["ready"] == true);
        ensure(ready, || format!("{list:?}"))
    })
}

pub(crate) fn worker_follows() -> Outcome {
    let lab = Lab::up("three", true)?;
    write_cluster(&lab, "a1", TWO_LISTED)?;
    succeed(&mut lab.on("a1", &init_command(BUNDLE, TRUST)))?;
    let a1 = NODES[0];
    join_as(&lab, "c1", a1, &["--role", "worker"])?;
    // A control node that no file lists and that the worker has never heard of.
    join_as(&lab, "b1", a1, &["--role", "control", "--center", "c"])?;
    for name in ["a1", "b1", "c1"] {
        is_ready(&lab, "a1", name)?;
    }
    let root = lab.dir().join("hosts/c1/root");
    eventually("the worker has noted the newcomer", PATIENCE, || {
        let path = root.join("var/lib/holdfast/control-nodes.json");
        let text = std::fs::read_to_string(&path).map_err(|error| failed("its note", error))?;
        ensure(text.contains("10.77.0.21:6443"), || text)
    })?;
    // The one that admitted both goes, by a command that is given to itself.
    succeed(&mut lab.on("a1", &["holdfast", "node", "remove", "a1", "--force"]))?;
    lab.fault("wipe", "a1")?;
    lab.fault("kill", "c1")?;
    // As if it had been off for so long that its certificate has ended.
    certificates::age(&lab.root("c1"), &lab.root("b1"), 400)?;
    lab.fault("start", "c1")?;
    eventually("the worker has a certificate again", PATIENCE, || {
        let left = certificates::days_left(&lab.root("c1"))?;
        ensure(left > 300, || format!("{left} days left"))
    })?;
    // Its node.yaml names nobody who is left; what it noted does.
    is_ready(&lab, "b1", "c1")?;
    let sample =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/bundle/samples/hello.yaml"));
    let place = lab.dir().join("hosts/b1/root/var/hello.yaml");
    std::fs::write(place, sample.map_err(|error| failed("the sample", error))?)
        .map_err(|error| failed("the sample", error))?;
    succeed(&mut lab.on("b1", &["holdfast", "apply", "-f", "/var/hello.yaml"]))?;
    eventually("the worker pulls from the newcomer and runs a replica", PATIENCE, || {
        let made = succeed(&mut lab.on("b1", &["holdfast", "get", "pods", "-o", "json"]))?;
        let list: Value = serde_json::from_str(&made).map_err(|e| failed(made.clone(), e))?;
        let pods = list["items"].as_array().cloned().unwrap_or_default();
        let runs = |pod: &Value| pod["spec"]["nodeName"] == "c1" && crate::harness::is_ready(pod);
        ensure(pods.iter().any(runs), || crate::harness::brief(&pods))
    })?;
    // It leaves as it came, and leaves nothing on its host of what it learned later.
    succeed(&mut lab.on("c1", &["holdfast", "reset", "--yes"]))?;
    ensure(!root.join("etc/docker/certs.d").exists(), || "certs.d is left on c1".into())?;
    let list = nodes(&lab, "b1")?;
    ensure(list.len() == 1 && list[0]["name"] == "b1", || format!("{list:?}"))?;
    says(&lab, "b1", &["reset", "--yes"], 1, "is the last control node")?;
    succeed(&mut lab.on("b1", &["holdfast", "reset", "--yes", "--force"])).map(|_| ())
}
