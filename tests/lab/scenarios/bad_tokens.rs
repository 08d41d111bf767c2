//! Tokens that admit nobody: used, expired, revoked, of another cluster, for another role.
//! Each gives one clear error and leaves the host as it was, so that a good one then works.

use crate::harness::{Lab, Outcome, PATIENCE, ensure, eventually, succeed};
use crate::install::{BUNDLE, Refusal, TRUST, join_command, ready_nodes, refused, token};
use crate::scenarios::interrupted::{CLUSTER, init_command, write_cluster};

/// A token of another cluster that once was on c1.
fn foreign_token(lab: &Lab) -> Result<String, libtest_mimic::Failed> {
    write_cluster(lab, "c1", &CLUSTER.replace("{name: lab}", "{name: other}"))?;
    let mut init = init_command(BUNDLE, TRUST);
    init.pop();
    init.push("c1");
    succeed(&mut lab.on("c1", &init))?;
    let foreign = token(lab, "c1", &[])?;
    succeed(&mut lab.on("c1", &["holdfast", "reset", "--yes", "--force"]))?;
    Ok(foreign)
}

/// A token that lived for a second, once the cluster calls it expired.
fn expired_token(lab: &Lab) -> Result<String, libtest_mimic::Failed> {
    let expired = token(lab, "a1", &["--ttl", "1s"])?;
    let id = expired.split('.').nth(1).ok_or("no id in the token")?.to_owned();
    eventually("the token's second is over", PATIENCE, || {
        let list = succeed(&mut lab.on("a1", &["holdfast", "token", "list"]))?;
        let line = list.lines().find(|line| line.contains(&id)).unwrap_or_default();
        ensure(line.contains("expired"), || list.clone())
    })?;
    Ok(expired)
}

pub(crate) fn every_kind() -> Outcome {
    let lab = Lab::up("three", true)?;
    write_cluster(&lab, "a1", CLUSTER)?;
    succeed(&mut lab.on("a1", &init_command(BUNDLE, TRUST)))?;
    let foreign = foreign_token(&lab)?;
    let used = token(&lab, "a1", &[])?;
    succeed(&mut lab.on("c1", &join_command("c1", &used, BUNDLE)))?;
    let expired = expired_token(&lab)?;
    let revoked = token(&lab, "a1", &[])?;
    let id = revoked.split('.').nth(1).ok_or("no id in the token")?;
    succeed(&mut lab.on("a1", &["holdfast", "token", "revoke", id]))?;
    let worker = token(&lab, "a1", &["--role", "worker"])?;
    // Another cluster's secret under this cluster's name.
    let parts = |token: &str| token.split('.').map(str::to_owned).collect::<Vec<_>>();
    let (ours, theirs) = (parts(&used), parts(&foreign));
    ensure(ours.len() == 4 && theirs.len() == 4, || format!("{used} {foreign}"))?;
    let forged = [&theirs[..3], &ours[3..]].concat().join(".");

    let cases: [(&str, i32, &[&str]); 7] = [
        (&used, 1, &["has been used by node c1"]),
        (&expired, 1, &["the token expired at", "holdfast token create"]),
        (&foreign, 1, &["belongs to another cluster than the token"]),
        (&forged, 1, &["not one of this cluster"]),
        (&revoked, 1, &["not one of this cluster, or it was revoked"]),
        (&worker, 1, &["for the role worker", "asks for control"]),
        ("nonsense", 64, &["token"]),
    ];
    for (bad, exit, says) in cases {
        refused(&lab, "b1", &join_command("b1", bad, BUNDLE), Refusal { exit, says })?;
    }
    let good = token(&lab, "a1", &[])?;
    succeed(&mut lab.on("b1", &join_command("b1", &good, BUNDLE)))?;
    ready_nodes(&lab, "a1", 3)
}
