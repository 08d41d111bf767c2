//! Wrong cluster files and unfit hosts: everything is said at once, and nothing is written.

use crate::harness::{Lab, Outcome, ensure, output, text};
use crate::install::{BUNDLE, Refusal, TRUST, refused};
use crate::scenarios::interrupted::{CLUSTER, init_command, write_cluster};

/// The lines of a file, with some replaced: number from one, new text.
fn with_lines(changes: &[(usize, &str)]) -> String {
    let line = |(i, old): (usize, &'static str)| {
        let change = changes.iter().find(|(number, _)| *number == i + 1);
        change.map_or(old, |(_, new)| *new).to_owned() + "\n"
    };
    CLUSTER.lines().enumerate().map(line).collect()
}

/// One mistake of each kind, all in one file: each with its line, in one answer.
pub(crate) fn cluster_file() -> Outcome {
    let lab = Lab::up("one", true)?;
    let network = "  network: {podRange: 10.244.0.0/16, nodePrefix: 24, serviceRange: \
                   10.244.128.0/17, clusterDomain: cluster.local, servceRange: 10.96.0.0/16}";
    let text_with_all = with_lines(&[
        (5, network),
        (12, "          nodes: [{name: a1, address: 10.77.0.21, roles: [control, worker]}]"),
        (14, "          nodes: [{name: c1, address: 10.77.0.11, roles: [captain]}]"),
    ]);
    write_cluster(&lab, "a1", &text_with_all)?;
    let says = ["line 5", "servceRange", "overlaps", "line 12", "a1", "line 14", "captain"];
    let init = init_command(BUNDLE, TRUST);
    refused(&lab, "a1", &init, Refusal { exit: 64, says: &says })?;

    let check = ["holdfast", "config", "check", "/var/seed/cluster.yaml", "-o", "json"];
    let answer = output(&mut lab.on("a1", &check))?;
    ensure(answer.status.code() == Some(64), || text(&answer))?;
    let document: serde_json::Value = serde_json::from_slice(&answer.stdout)
        .map_err(|error| format!("{error}: {}", text(&answer)))?;
    let found = document["problems"].as_array().cloned().unwrap_or_default();
    let lines: Vec<_> = found.iter().filter_map(|problem| problem["line"].as_u64()).collect();
    ensure([5, 12, 14].iter().all(|line| lines.contains(line)), || document.to_string())?;

    write_cluster(&lab, "a1", "kind: [")?;
    refused(&lab, "a1", &init, Refusal { exit: 64, says: &["line 1"] })?;
    write_cluster(&lab, "a1", &CLUSTER.replace("name: a1", "name: a9"))?;
    refused(&lab, "a1", &init, Refusal { exit: 64, says: &["no node named a1", "a9, b1, c1"] })
}

/// An unfit host: not root, a taken port, too little room on any of the file systems.
pub(crate) fn unfit_hosts() -> Outcome {
    let lab = Lab::up("one", true)?;
    write_cluster(&lab, "a1", CLUSTER)?;
    let init = init_command(BUNDLE, TRUST);
    let under = |condition: &[&'static str]| -> Vec<&str> {
        let probe = ["holdfast", "probe"].into_iter().chain(condition.iter().copied());
        probe.chain(["--"]).chain(init.iter().copied()).collect()
    };
    let says = |condition: &[&'static str], says: &[&str]| {
        refused(&lab, "a1", &under(condition), Refusal { exit: 1, says })
    };
    says(&["as-nobody"], &["not-root"])?;
    for (port, name) in [("6443", "6443"), ("2379", "2379"), ("2380", "2380"), ("5000", "5000")] {
        says(&["holding", port], &["port-in-use", name])?;
    }
    says(&["small-disk", "/var/lib/holdfast"], &["space", "/var/lib/holdfast"])?;
    says(&["small-disk", "/opt/holdfast"], &["space", "/opt/holdfast"])?;
    // All that is wrong comes at once.
    let nested = ["small-disk", "/var/lib/holdfast", "--", "holdfast", "probe", "holding", "6443"];
    says(&nested, &["space", "port-in-use"])
}
