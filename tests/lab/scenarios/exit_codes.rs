//! Exit codes 69 (cannot reach) and 75 (try again), as a script meets them.

use std::fs::{self, File};

use crate::harness::{Lab, Outcome, PATIENCE, ensure, eventually, failed, output, succeed};
use crate::install::{BUNDLE, Refusal, TRUST, join_command, judge, ready_nodes, refused, token};
use crate::scenarios::interrupted::{CLUSTER, init_command, write_cluster};

/// Verbs that talk to somebody who is not there.
fn unreachable(lab: &Lab) -> Outcome {
    let seed = lab.root("b1").join("var/seed");
    let config = lab.root("a1").join("etc/holdfast/admin.kubeconfig");
    let text = fs::read_to_string(config).map_err(|error| failed("kubeconfig", error))?;
    let laid = fs::create_dir_all(&seed)
        .and_then(|()| fs::write(seed.join("nobody"), text.replace(":6443", ":1")));
    laid.map_err(|error| failed("kubeconfig of nobody", error))?;
    let token = token(lab, "a1", &[])?;
    let mut join = join_command("b1", &token, BUNDLE);
    join[3] = "https://10.77.0.11:1";
    let kubeconfig = ["--kubeconfig", "/var/seed/nobody"];
    let get: Vec<&str> = ["holdfast", "get", "nodes"].into_iter().chain(kubeconfig).collect();
    let list = ["holdfast", "registry", "list", "--registry", "10.77.0.11:1"];
    let list: Vec<&str> = list.into_iter().chain(kubeconfig).collect();
    for command in [join, get, list] {
        refused(lab, "b1", &command, Refusal { exit: 69, says: &["10.77.0.11:1"] })?;
    }
    Ok(())
}

/// Verbs that would work a little later.
fn try_again(lab: &Lab) -> Outcome {
    // Somebody else installs on this host.
    let path = lab.root("a1").join("etc/holdfast/install.lock");
    let lock = File::options().write(true).open(path).map_err(|e| failed("the lock", e))?;
    lock.lock().map_err(|error| failed("take the lock", error))?;
    let reset = ["holdfast", "reset", "--yes"];
    let busy = Refusal { exit: 75, says: &["another holdfast command"] };
    judge(&reset, &output(&mut lab.on("a1", &reset))?, busy)?;
    drop(lock);
    ready_nodes(lab, "a1", 2)?;

    // One of two members is gone, so there is no majority until it is back.
    let token = token(lab, "a1", &[])?;
    lab.fault("kill", "c1")?;
    eventually("a1 sees that there is no majority", PATIENCE, || {
        let status = lab.status("a1")?;
        ensure(status["quorum"] == false, || status.to_string())
    })?;
    let join = join_command("b1", &token, BUNDLE);
    let create = ["holdfast", "token", "create", "--role", "control"];
    let commands: [(&str, &[&str]); 2] = [("a1", &create), ("b1", &join)];
    for (node, command) in commands {
        let answer = output(&mut lab.on(node, command))?;
        judge(command, &answer, Refusal { exit: 75, says: &[] })?;
    }
    lab.fault("start", "c1")?;
    for (node, command) in commands {
        eventually("the same command works with a majority", PATIENCE, || {
            succeed(&mut lab.on(node, command)).map(drop)
        })?;
    }
    ready_nodes(lab, "a1", 3)
}

pub(crate) fn told_apart() -> Outcome {
    let lab = Lab::up("three", true)?;
    write_cluster(&lab, "a1", CLUSTER)?;
    succeed(&mut lab.on("a1", &init_command(BUNDLE, TRUST)))?;
    let first = token(&lab, "a1", &[])?;
    succeed(&mut lab.on("c1", &join_command("c1", &first, BUNDLE)))?;
    ready_nodes(&lab, "a1", 2)?;
    unreachable(&lab)?;
    try_again(&lab)
}
