//! `lab down` leaves nothing: no process, mount, namespace, cgroup, link or file.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::{Lab, Outcome, ensure, failed, succeed};
use crate::scenarios::Shared;

/// Command lines, mounts and cgroups that mention the lab.
fn remains(needle: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        let own = pid == std::process::id().to_string();
        if own || !pid.bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(needle) {
            found.push(format!("process {pid}: {line}"));
        }
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    found.extend(mounts.lines().filter(|line| line.contains(needle)).map(|l| format!("mount {l}")));
    found
}

/// The lab's own group: the topmost `holdfast-lab-…` that its first host's PID 1 is in.
fn own_group(lab: &Lab) -> Result<String, libtest_mimic::Failed> {
    let text = succeed(lab.command("status").args(["-o", "json"]))?;
    let status: Value = serde_json::from_str(&text).map_err(|e| failed("lab status", e))?;
    let pid = status["hosts"][0]["pid"].as_i64().ok_or_else(|| status.to_string())?;
    let groups =
        fs::read_to_string(format!("/proc/{pid}/cgroup")).map_err(|e| failed("cgroup", e))?;
    let named = groups.split(['/', '\n']).find(|part| part.starts_with("holdfast-lab-"));
    named.map(str::to_owned).ok_or_else(|| format!("pid {pid} is in no lab group: {groups}").into())
}

/// Where in the hierarchies a group of that name is.
fn groups_named(name: &str) -> BTreeSet<String> {
    fn walk(dir: &Path, name: &str, depth: usize, into: &mut BTreeSet<String>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                if entry.file_name().to_string_lossy() == name {
                    into.insert(path.to_string_lossy().into_owned());
                } else if depth > 0 {
                    walk(&path, name, depth - 1, into);
                }
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(Path::new("/sys/fs/cgroup"), name, 4, &mut found);
    found
}

fn links() -> Result<String, libtest_mimic::Failed> {
    succeed(Command::new("ip").args(["-o", "link"]))
}

fn down(lab: &Lab, links_before: &str) -> Outcome {
    let group = own_group(lab)?;
    ensure(!groups_named(&group).is_empty(), || format!("no group named {group}"))?;
    succeed(&mut lab.command("down"))?;
    let place = lab.dir().to_string_lossy().into_owned();
    let left = remains(&place);
    ensure(left.is_empty(), || format!("left behind: {left:#?}"))?;
    let groups = groups_named(&group);
    ensure(groups.is_empty(), || format!("cgroups left behind: {groups:?}"))?;
    let now = links()?;
    ensure(now == links_before, || format!("links changed:\n{links_before}\n{now}"))?;
    let files: Vec<_> = fs::read_dir(lab.dir()).map(|d| d.flatten().collect()).unwrap_or_default();
    ensure(files.is_empty(), || format!("files left behind: {files:?}"))
}

pub(crate) fn down_leaves_nothing(shared: &Shared) -> Outcome {
    down(shared.lab()?, &links()?)
}

/// Two bare labs beside each other; the daemon of one is killed before `down`.
pub(crate) fn crashed_lab() -> Outcome {
    let links = links()?;
    let first = Lab::up("one", true)?;
    let second = Lab::up("one", true)?;
    let place = first.dir().to_string_lossy().into_owned();
    let daemons: Vec<String> = remains(&place)
        .iter()
        .filter(|line| line.starts_with("process") && line.contains("daemon"))
        .filter_map(|line| line.split([' ', ':']).nth(1).map(str::to_owned))
        .collect();
    ensure(!daemons.is_empty(), || format!("no daemon found: {:?}", remains(&place)))?;
    for pid in daemons {
        succeed(Command::new("kill").args(["-9", &pid]))
            .map_err(|e| failed("kill", e.message().unwrap_or_default()))?;
    }
    succeed(&mut first.command("down"))?;
    let left = remains(&place);
    ensure(left.is_empty(), || format!("left behind: {left:#?}"))?;
    succeed(&mut second.on("a1", &["holdfast", "--version"]))?;
    down(&second, &links)
}
