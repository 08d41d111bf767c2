//! Everything that can be seen of a host from outside, to tell whether a command left the
//! host as it was: files, mounts, processes, control groups, links, addresses, routes,
//! packet filter rules and kernel settings of its network.
//!
//! Why as lines of text: the difference of two states then says itself what changed.
//! Not here: what the product says of itself (`harness`).

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use libtest_mimic::Failed;
use sha2::{Digest, Sha256};

use crate::harness::{Lab, Outcome, ensure, eventually, failed, succeed};

/// Larger files are told apart by their size and times alone.
const HASHED_BYTES: u64 = 256 << 10;
/// What a command left running for a moment (a process on its way out) may need to go.
const SETTLE: Duration = Duration::from_secs(10);

/// One look at a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostState(BTreeSet<String>);

impl HostState {
    /// Looks at a running host.
    pub(crate) fn of(lab: &Lab, node: &str) -> Result<Self, Failed> {
        let pid = lab.pid(node)?;
        let mut lines = BTreeSet::new();
        files(&PathBuf::from(format!("/proc/{pid}/root")), &mut lines);
        mounts(pid, &mut lines)?;
        groups(pid, node, &mut lines)?;
        network(pid, &mut lines)?;
        Ok(Self(lines))
    }

    /// Without the lines that hold the text: what something else on the host changes.
    pub(crate) fn without(mut self, texts: &[&str]) -> Self {
        self.0.retain(|line| !texts.iter().any(|text| line.contains(text)));
        self
    }

    /// Only the lines that hold one of the texts.
    pub(crate) fn only(mut self, texts: &[&str]) -> Self {
        self.0.retain(|line| texts.iter().any(|text| line.contains(text)));
        self
    }

    /// The lines that hold the text.
    pub(crate) fn with(&self, text: &str) -> Vec<&String> {
        self.0.iter().filter(|line| line.contains(text)).collect()
    }

    /// What of `self` is gone and what of `later` is new, one line each.
    pub(crate) fn changes(&self, later: &Self) -> Vec<String> {
        let gone = self.0.difference(&later.0).map(|line| format!("- {line}"));
        let new = later.0.difference(&self.0).map(|line| format!("+ {line}"));
        gone.chain(new).collect()
    }
}

/// Fails unless the host is now as it was then.
pub(crate) fn ensure_unchanged(
    lab: &Lab,
    node: &str,
    before: &HostState,
    by: &str,
    look: impl Fn(HostState) -> HostState,
) -> Outcome {
    eventually(&format!("{node} is as it was before {by}"), SETTLE, || {
        let changes = before.changes(&look(HostState::of(lab, node)?));
        ensure(changes.is_empty(), || format!("{by} changed:\n{}", changes.join("\n")))
    })
}

/// Every file below the root but those that the kernel or the lab makes up.
fn files(root: &Path, lines: &mut BTreeSet<String>) {
    fn walk(dir: &Path, root: &Path, lines: &mut BTreeSet<String>) {
        let Ok(entries) = fs::read_dir(dir) else { return };
        for entry in entries.flatten() {
            let path = entry.path();
            let shown = path.strip_prefix(root).unwrap_or(&path).to_path_buf();
            let made_up = ["proc", "sys", "dev"].iter().any(|top| shown == Path::new(top));
            let Ok(facts) = fs::symlink_metadata(&path) else { continue };
            if made_up {
                continue;
            }
            let mode = facts.permissions().mode();
            let content = if facts.is_symlink() {
                let target = fs::read_link(&path).unwrap_or_default();
                format!("-> {}", target.display())
            } else if facts.is_file() && facts.len() <= HASHED_BYTES {
                hex::encode(Sha256::digest(fs::read(&path).unwrap_or_default()))
            } else if facts.is_file() {
                format!("{} bytes of {}.{}", facts.len(), facts.mtime(), facts.mtime_nsec())
            } else {
                String::new()
            };
            let owner = (facts.uid(), facts.gid());
            lines.insert(format!("file /{} {mode:o} {owner:?} {content}", shown.display()));
            if facts.is_dir() {
                walk(&path, root, lines);
            }
        }
    }
    walk(root, root, lines);
}

/// Mount points with what is mounted there; ids differ from look to look and are left out.
fn mounts(pid: i64, lines: &mut BTreeSet<String>) -> Outcome {
    let text = read(&format!("/proc/{pid}/mountinfo"))?;
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let kind = line.split(" - ").nth(1).unwrap_or_default();
        lines.insert(format!("mount {} of {} {kind}", words[4], words[3]));
    }
    Ok(())
}

/// The host's control groups, in all hierarchies, and the processes in them.
fn groups(pid: i64, node: &str, lines: &mut BTreeSet<String>) -> Outcome {
    let own = format!("host-{node}");
    let places = read(&format!("/proc/{pid}/cgroup"))?;
    let hierarchies = fs::read_dir("/sys/fs/cgroup").map_err(|e| failed("control groups", e))?;
    let tops: Vec<PathBuf> = hierarchies.flatten().map(|entry| entry.path()).collect();
    let mut seen = BTreeSet::new();
    for place in places.lines().filter_map(|line| line.splitn(3, ':').nth(2)) {
        let Some(end) = place.find(&own).map(|at| at + own.len()) else { continue };
        let below = place[..end].trim_start_matches('/');
        for top in tops.iter().map(PathBuf::as_path).chain([Path::new("/sys/fs/cgroup")]) {
            walk_groups(&top.join(below), lines, &mut seen);
        }
    }
    for process in seen {
        let Ok(command) = fs::read(format!("/proc/{process}/cmdline")) else { continue };
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        // `lab exec` brings the command under test in and takes it out again.
        lines.insert(format!("process {process} {command}"));
    }
    Ok(())
}

fn walk_groups(dir: &Path, lines: &mut BTreeSet<String>, pids: &mut BTreeSet<String>) {
    if !dir.is_dir() {
        return;
    }
    let members = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    pids.extend(members.split_whitespace().map(str::to_owned));
    let shown = dir.strip_prefix("/sys/fs/cgroup").unwrap_or(dir);
    lines.insert(format!("group {}", shown.display()));
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            walk_groups(&entry.path(), lines, pids);
        }
    }
}

/// Links, addresses, routes, rules and settings of the host's network namespace.
fn network(pid: i64, lines: &mut BTreeSet<String>) -> Outcome {
    // Some settings cannot be read until they are set; grep's complaint about them is none.
    let settings = "cd /proc/sys/net && grep -rs '' ipv4/conf ipv6/conf ipv4/ip_forward; true";
    let looks: [(&str, &[&str]); 5] = [
        ("link", &["ip", "-br", "link"]),
        ("address", &["ip", "-br", "address"]),
        ("route", &["ip", "-4", "route", "show", "table", "all"]),
        ("rules", &["nft", "--stateless", "list", "ruleset"]),
        ("setting", &["sh", "-c", settings]),
    ];
    for (name, look) in looks {
        let text = inside(pid, look)?;
        let mut table = "";
        for line in text.lines() {
            if line.starts_with("table ") {
                table = line.trim_end_matches(" {");
            }
            // Rules are told apart by their table; the order within a chain is not kept.
            let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
            lines.insert(match name {
                "rules" => format!("rules in {table}: {line}"),
                _ => format!("{name} {line}"),
            });
        }
    }
    Ok(())
}

/// Runs a program of the machine in a host's network.
pub(crate) fn inside(pid: i64, command: &[&str]) -> Result<String, Failed> {
    succeed(Command::new("nsenter").args(["-t", &pid.to_string(), "-n", "--"]).args(command))
}

fn read(path: &str) -> Result<String, Failed> {
    fs::read_to_string(path).map_err(|error| failed(path, error))
}
