//! Installs the product on the lab's hosts, by the command lines an operator would type.
//!
//! Why in one file: these lines are the lab's only knowledge of the installer. The
//! installer's commands finish what they began when repeated, and so does this.

use std::time::Duration;

use serde_json::Value;

use super::Lab;
use super::error::{LabError, files};
use super::host::Host;
use super::layout::cluster_file;
use super::root::{BUNDLE, TRUST};
use super::run::{run_accepting, run_on};
use super::up::Steps;
use crate::sys::tree;
use crate::sys::waiting::wait_until;

/// The cluster file on the first master.
const CLUSTER_FILE: &str = "/etc/holdfast-seed/cluster.yaml";
/// Written by the installer when a host belongs to a cluster.
const NODE_FILE: &str = "etc/holdfast/node.yaml";
const INSTALL_LIMIT: Duration = Duration::from_secs(900);
const ASK_LIMIT: Duration = Duration::from_secs(30);
/// Well, or in want of attention: a disk of this machine that is nearly full keeps no node
/// from being ready.
const STATUS_ANSWERS: [i32; 2] = [0, 2];
const READY_LIMIT: Duration = Duration::from_secs(300);

/// First master, then the others beside each other, then waits until all are ready.
pub(super) fn install(lab: &Lab, steps: &mut Steps<'_>) -> Result<(), LabError> {
    let hosts: Vec<Host<'_>> = lab.each_host().collect();
    let Some((first, others)) = hosts.split_first() else { return Ok(()) };
    steps.run(&format!("init on {}", first.name()), || init(lab, first))?;
    if !others.is_empty() {
        let names: Vec<&str> = others.iter().map(Host::name).collect();
        steps.run(&format!("join of {}", names.join(", ")), || join_all(first, others))?;
    }
    steps.run("wait until all nodes are ready", || wait_ready(first, &hosts))
}

fn init(lab: &Lab, first: &Host<'_>) -> Result<(), LabError> {
    let path = first.root().join(CLUSTER_FILE.trim_start_matches('/'));
    tree::replace(&path, cluster_file(&lab.record.hosts).as_bytes(), 0o644)
        .map_err(files("write the cluster file"))?;
    let verb = [
        "init",
        "--config",
        CLUSTER_FILE,
        "--bundle",
        BUNDLE,
        "--trust",
        TRUST,
        "--node",
        first.name(),
        "-o",
        "json",
    ];
    run_on(first, first.holdfast(&verb), INSTALL_LIMIT).map(drop)
}

fn join_all(first: &Host<'_>, others: &[Host<'_>]) -> Result<(), LabError> {
    let mut tokens = Vec::new();
    for host in others {
        // A repeated `lab up` needs no new token for those that have joined.
        let joined = host.root().join(NODE_FILE).exists();
        tokens.push(if joined { None } else { Some(token(first)?) });
    }
    std::thread::scope(|scope| {
        let work: Vec<_> = others
            .iter()
            .zip(tokens)
            .filter_map(|(host, token)| Some((host, token?)))
            .map(|(host, token)| scope.spawn(move || join(first, host, &token)))
            .collect();
        // All are waited for, so that the first error is not the only thing that ended.
        let results: Vec<_> = work.into_iter().map(|thread| thread.join()).collect();
        results.into_iter().try_for_each(|result| match result {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

fn token(first: &Host<'_>) -> Result<String, LabError> {
    let verb = ["token", "create", "--role", "control", "-o", "json"];
    let answer = run_on(first, first.holdfast(&verb), ASK_LIMIT)?;
    let value: Option<Value> = serde_json::from_str(&answer.stdout).ok();
    let token = value.as_ref().and_then(|value| value.get("token")?.as_str());
    token.map(str::to_owned).ok_or_else(|| LabError::Answer {
        host: first.name().to_owned(),
        command: "holdfast token create".to_owned(),
        reason: "it has no field token".to_owned(),
    })
}

fn join(first: &Host<'_>, host: &Host<'_>, token: &str) -> Result<(), LabError> {
    let server = format!("https://{}:6443", first.address());
    let verb = [
        "join",
        "--server",
        &server,
        "--token",
        token,
        "--bundle",
        BUNDLE,
        "--trust",
        TRUST,
        "--node",
        host.name(),
    ];
    run_on(host, host.holdfast(&verb), INSTALL_LIMIT).map(drop)
}

fn wait_ready(first: &Host<'_>, hosts: &[Host<'_>]) -> Result<(), LabError> {
    let names: Vec<&str> = hosts.iter().map(Host::name).collect();
    let mut last = "no answer yet".to_owned();
    let ready = wait_until(READY_LIMIT, Duration::from_millis(250), || {
        let question = first.holdfast(&["status", "-o", "json"]);
        match run_accepting(first, question, ASK_LIMIT, &STATUS_ANSWERS) {
            Ok(answer) => match missing(&answer.stdout, &names) {
                Ok(missing) if missing.is_empty() => return true,
                Ok(missing) => last = format!("not ready: {}", missing.join(", ")),
                Err(reason) => last = reason,
            },
            // Nobody answers yet; it may be young.
            Err(error) => last = error.to_string(),
        }
        false
    });
    let limit_seconds = READY_LIMIT.as_secs();
    if ready { Ok(()) } else { Err(LabError::NotReady { limit_seconds, last }) }
}

/// Which of `names` the status document does not call ready.
fn missing(document: &str, names: &[&str]) -> Result<Vec<String>, String> {
    let value: Value = serde_json::from_str(document).map_err(|error| error.to_string())?;
    let nodes = value.get("nodes").and_then(Value::as_array).ok_or("it names no nodes")?;
    let is_ready = |name: &str| {
        nodes.iter().any(|node| {
            node.get("name").and_then(Value::as_str) == Some(name)
                && node.get("ready").and_then(Value::as_bool) == Some(true)
        })
    };
    let names = names.iter().filter(|name| !is_ready(name));
    Ok(names.map(|name| (*name).to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_that_are_not_ready_or_not_there_are_missing() {
        let document = r#"{"nodes":[{"name":"a1","ready":true},{"name":"b1","ready":false}]}"#;
        assert_eq!(missing(document, &["a1", "b1", "c1"]).unwrap(), ["b1", "c1"]);
        assert!(missing("{}", &["a1"]).is_err());
    }
}
