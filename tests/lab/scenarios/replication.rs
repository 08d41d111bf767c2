//! An image pushed to one master is pullable by digest from all the others, and from one
//! that was down meanwhile once it is back.

use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Failed;
use serde_json::Value;

use crate::harness::{Lab, Outcome, PATIENCE, ensure, eventually, failed, output, succeed, text};
use crate::scenarios::NODES;
use crate::test_bundle;

const LAYER_BYTES: usize = 3 << 20;

/// `127.0.0.1:PORT` of a host's registry, from outside of the lab.
fn registry(lab: &Lab, node: &str) -> Result<String, Failed> {
    let facts = lab.facts()?;
    let port = facts["forwards"]["hosts"][node]["registry"].as_u64();
    port.map(|port| format!("127.0.0.1:{port}")).ok_or_else(|| facts.to_string().into())
}

/// Makes a new image in a bundle on that host and imports it into that host's registry.
fn push(lab: &Lab, node: &str, name: &str) -> Result<(), Failed> {
    import(lab, node, name, |file| test_bundle::with_images(file, name, 1, LAYER_BYTES))
}

/// Makes a bundle on that host and imports it into that host's registry.
pub(crate) fn import(
    lab: &Lab,
    node: &str,
    name: &str,
    make: impl FnOnce(&Path) -> Result<PathBuf, Failed>,
) -> Result<(), Failed> {
    let place = lab.root(node).join("var/seed");
    std::fs::create_dir_all(&place).map_err(|error| failed("seed folder", error))?;
    let file = place.join(format!("{name}.hfb"));
    make(&file)?;
    let bundle = format!("/var/seed/{name}.hfb");
    let key = format!("/var/seed/{name}.pub");
    let address = lab.facts()?["hosts"]
        .as_array()
        .and_then(|hosts| hosts.iter().find(|host| host["name"] == node))
        .and_then(|host| host["address"].as_str().map(str::to_owned))
        .ok_or("no address")?;
    let registry = format!("{address}:5000");
    let import = ["holdfast", "registry", "import", "--bundle", &bundle, "--trust", &key];
    let import: Vec<&str> = import.into_iter().chain(["--registry", &registry]).collect();
    std::fs::rename(place.join(format!("{name}.key.pub")), place.join(format!("{name}.pub")))
        .map_err(|error| failed("key", error))?;
    // The one that was just killed may have led; until there is another, the command says
    // to try again, which is what a user does.
    eventually(&format!("{name} is pushed to {node}"), PATIENCE, || {
        succeed(&mut lab.on(node, &import)).map(drop)
    })
}

/// The image's digest and the nodes that say that they hold it, as one node lists them.
fn listed(lab: &Lab, node: &str, name: &str) -> Result<(String, Vec<String>), Failed> {
    let said = succeed(&mut lab.on(node, &["holdfast", "registry", "list", "-o", "json"]))?;
    let list: Value = serde_json::from_str(&said).map_err(|e| failed(said.clone(), e))?;
    let images = list["images"].as_array().cloned().unwrap_or_default();
    let image = images.iter().find(|image| image["repository"] == format!("{name}-0"));
    let image = image.ok_or_else(|| format!("{name}-0 is not listed: {list}"))?;
    let nodes = image["nodes"].as_array().cloned().unwrap_or_default();
    let names = nodes.iter().filter_map(|node| node.as_str().map(str::to_owned)).collect();
    let digest = image["digest"].as_str().ok_or("no digest")?;
    Ok((digest.to_owned(), names))
}

/// Pulls by digest with skopeo, which checks every digest itself; returns all bytes.
fn pull(lab: &Lab, node: &str, name: &str, digest: &str, to: &Path) -> Result<u64, Failed> {
    let source = format!("docker://{}/{name}-0@{digest}", registry(lab, node)?);
    let target = to.join(format!("{name}-{node}"));
    let credentials = format!("admin:{}", lab.env("HOLDFAST_ADMIN_PASSWORD")?);
    let copied = output(
        Command::new("skopeo")
            .args(["--insecure-policy", "copy", "--src-tls-verify=false", "--src-creds"])
            .arg(credentials)
            .arg(&source)
            .arg(format!("dir:{}", target.display())),
    )?;
    ensure(copied.status.success(), || format!("{source}: {}", text(&copied)))?;
    let files = std::fs::read_dir(&target).map_err(|error| failed("pulled", error))?;
    Ok(files.flatten().filter_map(|file| file.metadata().ok()).map(|facts| facts.len()).sum())
}

/// The layer's file on the host's own disk, so that no peer was asked for it.
fn holds_itself(lab: &Lab, node: &str) -> u64 {
    fn bytes(dir: &Path) -> u64 {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let size = |entry: std::fs::DirEntry| match entry.metadata() {
            Ok(facts) if facts.is_dir() => bytes(&entry.path()),
            Ok(facts) => facts.len(),
            Err(_) => 0,
        };
        entries.map(size).sum()
    }
    bytes(&lab.root(node).join("var/lib/holdfast/registry/blobs"))
}

fn everywhere(lab: &Lab, name: &str) -> Result<String, Failed> {
    eventually(&format!("all masters hold {name}"), PATIENCE, || {
        let (digest, nodes) = listed(lab, "a1", name)?;
        ensure(NODES.iter().all(|node| nodes.iter().any(|n| n == node)), || {
            format!("{name} is on {nodes:?}")
        })?;
        Ok(digest)
    })
}

pub(crate) fn pullable_from_all(lab: &Lab) -> Outcome {
    let place = tempfile::tempdir().map_err(|error| failed("temporary folder", error))?;
    let before: Vec<u64> = NODES.iter().map(|node| holds_itself(lab, node)).collect();
    push(lab, "b1", "one")?;
    // At once, before replication can be over: what is missing is fetched for the asker.
    let (digest, _) = listed(lab, "c1", "one")?;
    for node in NODES {
        let size = pull(lab, node, "one", &digest, place.path())?;
        ensure(size > LAYER_BYTES as u64, || format!("{node} gave {size} bytes"))?;
    }
    everywhere(lab, "one")?;

    lab.fault("kill", "c1")?;
    push(lab, "a1", "two")?;
    lab.fault("start", "c1")?;
    lab.settled(3)?;
    let digest = everywhere(lab, "two")?;
    for (node, before) in NODES.iter().zip(before) {
        let more = holds_itself(lab, node).saturating_sub(before);
        ensure(more > 2 * LAYER_BYTES as u64, || format!("{node} holds only {more} bytes more"))?;
        pull(lab, node, "two", &digest, place.path())?;
    }
    Ok(())
}
