//! `reset` leaves a host exactly as it was before `init`: files, mounts, processes,
//! control groups, links, addresses, routes, packet filter rules and kernel settings.

use std::fs;

use crate::harness::{Lab, Outcome, ensure, failed, succeed};
use crate::host_state::{HostState, ensure_unchanged};
use crate::install::{BUNDLE, TRUST, ready_nodes};
use crate::scenarios::interrupted::{CLUSTER, init_command, write_cluster};

const SAMPLE: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/bundle/samples/hello.yaml"));

pub(crate) fn leaves_nothing() -> Outcome {
    let lab = Lab::up("one", true)?;
    write_cluster(&lab, "a1", CLUSTER)?;
    let sample = lab.root("a1").join("var/seed/hello.yaml");
    fs::write(&sample, SAMPLE).map_err(|error| failed("sample", error))?;
    let before = HostState::of(&lab, "a1")?;
    let init = init_command(BUNDLE, TRUST);
    succeed(&mut lab.on("a1", &init))?;
    succeed(&mut lab.on("a1", &["holdfast", "apply", "-f", "/var/seed/hello.yaml"]))?;
    lab.pods_ready("hello", 3, |_| true)?;
    // The look must be able to see what an installation leaves, or it proves nothing.
    let during = HostState::of(&lab, "a1")?;
    for kind in ["file", "mount", "process", "group", "link", "address", "route", "rules"] {
        let seen =
            before.changes(&during).iter().any(|line| line.starts_with(&format!("+ {kind}")));
        ensure(seen, || format!("an installed node should show another {kind}"))?;
    }
    succeed(&mut lab.on("a1", &["holdfast", "reset", "--yes", "--force"]))?;
    ensure_unchanged(&lab, "a1", &before, "init, three pods and reset", |state| state)?;
    let again = succeed(&mut lab.on("a1", &["holdfast", "reset", "--yes"]))?;
    ensure(again.contains("nothing is installed here"), || again)?;
    succeed(&mut lab.on("a1", &init))?;
    ready_nodes(&lab, "a1", 1)
}
