//! The installer's commands as the scenarios give them, and how a refusal must look.

use std::process::Output;

use libtest_mimic::Failed;
use serde_json::Value;

use crate::harness::{Lab, Outcome, PATIENCE, ensure, eventually, failed, output, succeed, text};
use crate::host_state::{HostState, ensure_unchanged};

/// Where every lab host finds the bundle that it was given, and the key it trusts.
pub(crate) const BUNDLE: &str = "/bundle.hfb";
pub(crate) const TRUST: &str = "/bundle.pub";
/// The first master's API.
pub(crate) const SERVER: &str = "https://10.77.0.11:6443";

/// `holdfast join …` with a bundle, for a node, through the first master.
pub(crate) fn join_command<'a>(node: &'a str, token: &'a str, bundle: &'a str) -> Vec<&'a str> {
    [vec!["holdfast"], join_verb(SERVER, node, token, bundle)].concat()
}

/// `join …` through any master.
pub(crate) fn join_verb<'a>(
    server: &'a str,
    node: &'a str,
    token: &'a str,
    bundle: &'a str,
) -> Vec<&'a str> {
    let verb = ["join", "--server", server, "--token", token, "--node", node];
    verb.into_iter().chain(["--bundle", bundle, "--trust", TRUST]).collect()
}

/// A new token of the master on `node`; `more` are further flags.
pub(crate) fn token(lab: &Lab, node: &str, more: &[&str]) -> Result<String, Failed> {
    let verb: Vec<&str> = ["holdfast", "token", "create", "-o", "json"]
        .into_iter()
        .chain(if more.contains(&"--role") { vec![] } else { vec!["--role", "control"] })
        .chain(more.iter().copied())
        .collect();
    let made = succeed(&mut lab.on(node, &verb))?;
    let answer: Value = serde_json::from_str(&made).map_err(|e| failed(made.clone(), e))?;
    let token = answer["token"].as_str().map(str::to_owned);
    token.ok_or_else(|| format!("no token in {made}").into())
}

/// Waits until the node's own status calls that many nodes ready.
pub(crate) fn ready_nodes(lab: &Lab, node: &str, count: usize) -> Outcome {
    eventually(&format!("{count} nodes are Ready"), PATIENCE, || {
        let status = lab.status(node)?;
        let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
        let ready = nodes.iter().filter(|node| node["ready"] == true).count();
        ensure(ready == count, || status.to_string())
    })
}

/// What a refused command must say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal<'a> {
    pub(crate) exit: i32,
    /// All of them, in the one error.
    pub(crate) says: &'a [&'a str],
}

/// Runs a command on a host that must be refused with one clear error, and must leave
/// everything on the host as it was.
pub(crate) fn refused(lab: &Lab, node: &str, command: &[&str], wanted: Refusal<'_>) -> Outcome {
    refused_beside(lab, node, command, wanted, |state| state)
}

/// The same where something else is at work: `look` leaves out what that changes.
pub(crate) fn refused_beside(
    lab: &Lab,
    node: &str,
    command: &[&str],
    wanted: Refusal<'_>,
    look: impl Fn(HostState) -> HostState,
) -> Outcome {
    let before = look(HostState::of(lab, node)?);
    let answer = output(&mut lab.on(node, command))?;
    judge(command, &answer, wanted)?;
    ensure_unchanged(lab, node, &before, &command.join(" "), look)
}

/// One error, with that exit code, that says all that it should.
pub(crate) fn judge(command: &[&str], answer: &Output, wanted: Refusal<'_>) -> Outcome {
    let said = text(answer);
    let shown = || format!("{command:?} should end with {wanted:?}:\n{said}");
    ensure(answer.status.code() == Some(wanted.exit), shown)?;
    for needle in wanted.says {
        ensure(said.contains(needle), || format!("{needle:?} is missing: {}", shown()))?;
    }
    let starts = ["holdfast: ", "error: ", "Error"];
    let errors = said.lines().filter(|line| starts.iter().any(|start| line.starts_with(start)));
    ensure(errors.count() == 1, || format!("not one error: {}", shown()))?;
    ensure(!said.contains("panicked"), shown)
}
