//! Wrong input: one clear error, and the host is as it was.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{
    Lab, Outcome, binary, bundle, ensure, failed, output, succeed, text, trusted_key,
};
use crate::scenarios::interrupted::{CLUSTER, init_command, write_cluster};

/// Path and size of every file below a host's root, without what the kernel makes up.
fn files(root: &Path) -> BTreeMap<PathBuf, u64> {
    fn walk(dir: &Path, root: &Path, into: &mut BTreeMap<PathBuf, u64>) {
        let Ok(entries) = fs::read_dir(dir) else { return };
        for entry in entries.flatten() {
            let path = entry.path();
            let relative = path.strip_prefix(root).unwrap_or(&path).to_path_buf();
            let Ok(facts) = fs::symlink_metadata(&path) else { continue };
            if facts.is_dir() {
                walk(&path, root, into);
                into.insert(relative, 0);
            } else {
                into.insert(relative, facts.len());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(root, root, &mut found);
    found
}

fn host_root(lab: &Lab, node: &str) -> PathBuf {
    lab.dir().join("hosts").join(node).join("root")
}

/// Runs `init` on a1, which must fail with the exit code and say every needle; nothing
/// on the host may have changed.
fn refused(lab: &Lab, arguments: &[&str], exit: i32, needles: &[&str]) -> Outcome {
    let before = files(&host_root(lab, "a1"));
    let answer = output(&mut lab.on("a1", arguments))?;
    let said = text(&answer);
    ensure(answer.status.code() == Some(exit), || format!("expected exit {exit}: {said}"))?;
    for needle in needles {
        ensure(said.contains(needle), || {
            format!("{arguments:?} does not say {needle:?}:\n{said}")
        })?;
    }
    ensure(!said.contains("panicked"), || said.clone())?;
    let after = files(&host_root(lab, "a1"));
    let changed: Vec<_> =
        after.iter().filter(|(path, size)| before.get(*path) != Some(size)).collect();
    ensure(changed.is_empty(), || format!("{arguments:?} left {changed:?}"))
}

pub(crate) fn bundles() -> Outcome {
    let lab = Lab::up("one", true)?;
    write_cluster(&lab, "a1", CLUSTER)?;
    let original = fs::read(bundle()).map_err(|error| failed("read the bundle", error))?;
    let place = host_root(&lab, "a1").join("var/bad.hfb");
    let with = |bytes: &[u8]| fs::write(&place, bytes).map_err(|e| failed("write a bad bundle", e));
    let command = init_command("/var/bad.hfb", "/bundle.pub");
    let length = original.len();
    for at in [40, length / 3, length / 2, length - 2_000] {
        let mut bytes = original.clone();
        bytes[at] ^= 0x10;
        with(&bytes)?;
        refused(&lab, &command, 1, &["/var/bad.hfb"])?;
    }
    for keep in [0, 10, 5_000, length / 2, length - 1] {
        with(&original[..keep])?;
        refused(&lab, &command, 1, &["/var/bad.hfb"])?;
    }
    with(&original)?;
    let key = lab.dir().join("other.key");
    succeed(std::process::Command::new(binary()).args(["bundle", "keygen"]).arg(&key))?;
    fs::copy(lab.dir().join("other.key.pub"), host_root(&lab, "a1").join("var/other.pub"))
        .map_err(|error| failed("copy the other key", error))?;
    refused(&lab, &init_command("/var/bad.hfb", "/var/other.pub"), 1, &["sign"])?;
    refused(&lab, &init_command("/var/missing.hfb", "/bundle.pub"), 1, &["/var/missing.hfb"])?;
    let verified = output(
        std::process::Command::new(binary())
            .args(["bundle", "verify"])
            .arg(bundle())
            .arg("--trust")
            .arg(trusted_key()),
    )?;
    ensure(verified.status.success(), || text(&verified))
}

pub(crate) fn hosts() -> Outcome {
    let lab = Lab::up("one", true)?;
    let command = init_command("/bundle.hfb", "/bundle.pub");
    write_cluster(&lab, "a1", &CLUSTER.replace("serviceRange:", "servceRange:"))?;
    refused(&lab, &command, 64, &["servceRange", "line"])?;
    let two_faults = CLUSTER
        .replace("10.96.0.0/16", "10.244.128.0/17")
        .replace("{name: b1, address: 10.77.0.21", "{name: a1, address: 10.77.0.21");
    write_cluster(&lab, "a1", &two_faults)?;
    refused(&lab, &command, 64, &["line", "overlap", "a1"])?;
    write_cluster(&lab, "a1", CLUSTER)?;
    let nobody: Vec<&str> =
        ["holdfast", "probe", "as-nobody", "--"].into_iter().chain(command.clone()).collect();
    refused(&lab, &nobody, 1, &["root"])?;
    let taken: Vec<&str> =
        ["holdfast", "probe", "holding", "6443", "--"].into_iter().chain(command.clone()).collect();
    refused(&lab, &taken, 1, &["6443"])?;
    let small: Vec<&str> = ["holdfast", "probe", "small-disk", "/var/lib/holdfast", "--"]
        .into_iter()
        .chain(command.clone())
        .collect();
    refused(&lab, &small, 1, &["space"])
}

pub(crate) fn tokens(lab: &Lab) -> Outcome {
    let made = succeed(
        &mut lab.on("a1", &["holdfast", "token", "create", "--role", "control", "-o", "json"]),
    )?;
    let token: serde_json::Value =
        serde_json::from_str(&made).map_err(|e| failed(made.clone(), e))?;
    let token = token["token"].as_str().ok_or("no token")?.to_owned();
    let parts: Vec<&str> = token.split('.').collect();
    ensure(parts.len() == 4, || token.clone())?;
    let foreign = format!("{}.{}.{}.{}", parts[0], parts[1], parts[2], "0".repeat(64));
    let unknown = format!("{}.{}.{}.{}", parts[0], "ffffffffff", parts[2], parts[3]);
    for (bad, needle) in
        [(foreign, "authority"), (unknown, "token"), ("nonsense".to_owned(), "token")]
    {
        let join = [
            "holdfast",
            "join",
            "--server",
            "https://10.77.0.11:6443",
            "--token",
            &bad,
            "--bundle",
            "/bundle.hfb",
            "--trust",
            "/bundle.pub",
            "--node",
            "b1",
            "--config-dir",
            "/var/scratch/etc",
            "--data-dir",
            "/var/scratch/lib",
        ];
        let answer = output(&mut lab.on("b1", &join))?;
        let said = text(&answer);
        ensure(!answer.status.success() && said.contains(needle), || format!("{bad}: {said}"))?;
        ensure(!said.contains("panicked"), || said.clone())?;
    }
    Ok(())
}
