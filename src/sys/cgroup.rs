//! Control groups of both versions: making, joining, freezing, killing and removing them.
//!
//! Why both: distributions boot with the unified hierarchy, older ones and this
//! product's test machines with one hierarchy per controller. A [`Group`] is the same
//! name in every hierarchy, so that callers see one thing.
//!
//! A group is made below the caller's own (version 1), so that limits put on the caller
//! also hold for what it starts; below the root (version 2), because there only the root
//! may hold processes and hand controllers down at once.
//!
//! Invariants: only directories of the group's own name are ever touched; removing is
//! idempotent. Not here: limits of containers (the engine sets them).

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::sys::waiting::wait_until;

/// The leaf that a version 2 group's first process moves to, because groups that hand
/// controllers down may hold no process themselves.
pub const LEAF: &str = "init";

#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot make control group {path}")]
    Make {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write {path}")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot remove control group {path}")]
    Remove {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("no control group hierarchy is mounted on this machine")]
    NoHierarchy,
    #[error("processes {pids:?} in control group {name} did not die within {limit_seconds} s")]
    StillAlive { name: String, pids: Vec<i32>, limit_seconds: u64 },
}

/// One mounted hierarchy and where this process stands in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// `cpu,cpuacct`, `name=systemd`, or empty for version 2.
    pub controllers: String,
    pub mount: PathBuf,
    /// This process's own group, as a path in the file system.
    pub own: PathBuf,
}

impl Hierarchy {
    fn is_unified(&self) -> bool {
        self.controllers.is_empty()
    }

    fn base(&self) -> &Path {
        if self.is_unified() { &self.mount } else { &self.own }
    }
}

/// Reads which hierarchies this machine has mounted.
pub fn hierarchies() -> Result<Vec<Hierarchy>, CgroupError> {
    let read = |path: &str| {
        fs::read_to_string(path).map_err(|source| CgroupError::Read { path: path.into(), source })
    };
    let found = match_hierarchies(&read("/proc/self/cgroup")?, &read("/proc/self/mountinfo")?);
    if found.is_empty() { Err(CgroupError::NoHierarchy) } else { Ok(found) }
}

/// Joins `/proc/self/cgroup` (what there is) with `/proc/self/mountinfo` (where it is).
fn match_hierarchies(cgroups: &str, mountinfo: &str) -> Vec<Hierarchy> {
    let mut found = Vec::new();
    for line in cgroups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(own)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let mount = mountinfo.lines().find_map(|mount| cgroup_mount(mount, controllers));
        if let Some((mount, root)) = mount {
            let below = Path::new(own).strip_prefix(&root).unwrap_or(Path::new("")).to_owned();
            let own = if below.as_os_str().is_empty() { mount.clone() } else { mount.join(below) };
            found.push(Hierarchy { controllers: controllers.to_owned(), mount, own });
        }
    }
    found
}

/// Mount point and root of a mountinfo line, when it is the hierarchy of `controllers`.
fn cgroup_mount(line: &str, controllers: &str) -> Option<(PathBuf, PathBuf)> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let (root, mount) = (left.next()?, left.next()?);
    let mut right = right.split(' ');
    let kind = right.next()?;
    let options: Vec<&str> = right.nth(1)?.split(',').collect();
    let fits = if controllers.is_empty() {
        kind == "cgroup2"
    } else {
        kind == "cgroup" && controllers.split(',').all(|wanted| options.contains(&wanted))
    };
    fits.then(|| (mount.into(), root.into()))
}

/// The same named group in every hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// For messages.
    pub name: String,
    dirs: Vec<GroupDir>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroupDir {
    /// Below this nothing of ours exists yet.
    base: PathBuf,
    path: PathBuf,
    unified: bool,
}

impl Group {
    /// Plans group `name` (slashes make levels) without making anything.
    pub fn plan(name: &str) -> Result<Self, CgroupError> {
        let dirs = hierarchies()?
            .iter()
            .map(|hierarchy| GroupDir {
                base: hierarchy.base().to_owned(),
                path: hierarchy.base().join(name),
                unified: hierarchy.is_unified(),
            })
            .collect();
        Ok(Self { name: name.to_owned(), dirs })
    }

    /// A group one level further down.
    pub fn child(&self, name: &str) -> Self {
        let dirs = self
            .dirs
            .iter()
            .map(|dir| GroupDir { path: dir.path.join(name), ..dir.clone() })
            .collect();
        Self { name: format!("{}/{name}", self.name), dirs }
    }

    /// Makes the group in every hierarchy; what exists is kept.
    pub fn make(&self) -> Result<(), CgroupError> {
        for dir in &self.dirs {
            let below = dir.path.strip_prefix(&dir.base).unwrap_or(&dir.path);
            let mut path = dir.base.clone();
            for level in below {
                // The base belongs to the machine and stays as it is.
                if dir.unified && path != dir.base {
                    hand_controllers_down(&path);
                }
                let parent = path.clone();
                path.push(level);
                make_dir(&path)?;
                inherit_cpuset(&parent, &path)?;
            }
        }
        Ok(())
    }

    /// Opens the files through which a process joins: writing `0` moves the writer. Once
    /// the group's first process has made a leaf for itself, others join it there.
    pub fn entrances(&self) -> Result<Vec<File>, CgroupError> {
        let mut files = Vec::new();
        for dir in &self.dirs {
            let leaf = dir.path.join(LEAF);
            let at = if dir.unified && leaf.is_dir() { &leaf } else { &dir.path };
            let path = at.join("cgroup.procs");
            let file = OpenOptions::new().write(true).open(&path);
            files.push(file.map_err(|source| CgroupError::Write { path, source })?);
        }
        Ok(files)
    }

    /// Every process in the group and below it.
    pub fn processes(&self) -> BTreeSet<i32> {
        let mut pids = BTreeSet::new();
        for dir in &self.dirs {
            walk(&dir.path, &mut |at| {
                let text = fs::read_to_string(at.join("cgroup.procs")).unwrap_or_default();
                pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
            });
        }
        pids.remove(&0);
        pids
    }

    pub fn is_empty(&self) -> bool {
        self.processes().is_empty()
    }

    /// Whether a process is in the group itself; cheaper than looking at all below it.
    pub fn is_inhabited(&self) -> bool {
        let holds = |path: PathBuf| {
            fs::read_to_string(path.join("cgroup.procs")).is_ok_and(|text| !text.is_empty())
        };
        self.dirs
            .iter()
            .any(|dir| holds(dir.path.clone()) || (dir.unified && holds(dir.path.join(LEAF))))
    }

    /// Stops or continues every process at once, without any of them noticing.
    pub fn freeze(&self, frozen: bool) -> Result<(), CgroupError> {
        let mut done = false;
        for dir in &self.dirs {
            let (file, text) = if dir.unified {
                ("cgroup.freeze", if frozen { "1" } else { "0" })
            } else {
                ("freezer.state", if frozen { "FROZEN" } else { "THAWED" })
            };
            let path = dir.path.join(file);
            if path.exists() && !done {
                fs::write(&path, text).map_err(|source| CgroupError::Write { path, source })?;
                done = !dir.unified;
            }
        }
        Ok(())
    }

    /// Whether [`Group::freeze`] holds its processes.
    pub fn is_frozen(&self) -> bool {
        self.dirs.iter().any(|dir| {
            let read = |name: &str| fs::read_to_string(dir.path.join(name)).unwrap_or_default();
            match dir.unified {
                true => read("cgroup.freeze").trim() == "1",
                false => matches!(read("freezer.state").trim(), "FROZEN" | "FREEZING"),
            }
        })
    }

    /// Kills every process in the group until none is left; thaws frozen ones, because
    /// they could not die.
    pub fn kill_all(&self, limit: Duration) -> Result<(), CgroupError> {
        let own = std::process::id() as i32;
        let mut left = Vec::new();
        let gone = wait_until(limit, Duration::from_millis(20), || {
            left = self.processes().into_iter().filter(|pid| *pid != own).collect();
            for pid in &left {
                // A process that is gone by now is what we want.
                let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
                // Those that this process started itself would stay as zombies.
                let _ = waitpid(Pid::from_raw(*pid), Some(WaitPidFlag::WNOHANG));
            }
            if self.is_frozen() {
                // Repeated by the next round when it fails.
                let _ = self.freeze(false);
            }
            left.is_empty()
        });
        if gone {
            return Ok(());
        }
        let limit_seconds = limit.as_secs();
        Err(CgroupError::StillAlive { name: self.name.clone(), pids: left, limit_seconds })
    }

    /// The process that is PID 1 of a PID namespace directly below the caller's, if one is
    /// in the group: what a host's first process is, and its containers' are not.
    pub fn first_process(&self) -> Option<i32> {
        let own = nesting(std::process::id() as i32)?.len();
        self.processes().into_iter().find(|pid| {
            nesting(*pid).is_some_and(|pids| pids.len() == own + 1 && pids.last() == Some(&1))
        })
    }

    /// Ends every process in the group and removes it with all below it. Both are repeated
    /// together: a child that was just forked may join after the last look, and can no more
    /// once the group is gone.
    pub fn clear(&self, limit: Duration) -> Result<(), CgroupError> {
        let begun = Instant::now();
        let mut last = Ok(());
        let gone = wait_until(limit, Duration::from_millis(20), || {
            let left = limit.saturating_sub(begun.elapsed());
            last = self.kill_all(left).and_then(|()| self.remove());
            last.is_ok()
        });
        if gone { Ok(()) } else { last }
    }

    fn remove(&self) -> Result<(), CgroupError> {
        self.dirs.iter().try_for_each(|dir| remove_tree(&dir.path))
    }

    /// Whether any directory of it is left.
    pub fn exists(&self) -> bool {
        self.dirs.iter().any(|dir| dir.path.exists())
    }

    /// Finds groups by their last name in every hierarchy, wherever they hang: the way to
    /// clean up when the record of what was made is lost.
    pub fn discover(name: &str) -> Result<Self, CgroupError> {
        let mut dirs = Vec::new();
        for hierarchy in hierarchies()? {
            walk(&hierarchy.mount, &mut |at| {
                if at.file_name().is_some_and(|last| last == name) {
                    let base = at.parent().unwrap_or(at).to_owned();
                    let unified = hierarchy.is_unified();
                    dirs.push(GroupDir { base, path: at.to_owned(), unified });
                }
            });
        }
        Ok(Self { name: name.to_owned(), dirs })
    }
}

/// Removes the group at this absolute path, as the engine's `--cgroup-parent` has it, from
/// every hierarchy; the kernel refuses one that still holds a process.
pub fn remove_uninhabited(path: &str) -> Result<(), CgroupError> {
    let below = path.trim_start_matches('/');
    if below.is_empty() {
        return Ok(());
    }
    hierarchies()?.iter().try_for_each(|hierarchy| remove_tree(&hierarchy.mount.join(below)))
}

/// A process's numbers in all PID namespaces that it is in, outermost first.
fn nesting(pid: i32) -> Option<Vec<i32>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    Some(line.split_whitespace().filter_map(|number| number.parse().ok()).collect())
}

/// Lets a forked child join the group before it becomes another program.
pub fn enter(entrances: &mut [File]) -> io::Result<()> {
    entrances.iter_mut().try_for_each(|file| file.write_all(b"0"))
}

fn make_dir(path: &Path) -> Result<(), CgroupError> {
    match fs::create_dir(path) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            Err(CgroupError::Make { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// A new cpuset group has neither processors nor memory nodes and would take no process.
fn inherit_cpuset(parent: &Path, path: &Path) -> Result<(), CgroupError> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let file = path.join(name);
        if !path.join("cpuset.sched_load_balance").exists() {
            continue;
        }
        let value = fs::read_to_string(parent.join(name))
            .map_err(|source| CgroupError::Read { path: parent.join(name), source })?;
        fs::write(&file, value.trim())
            .map_err(|source| CgroupError::Write { path: file, source })?;
    }
    Ok(())
}

/// Best effort: a controller that the machine keeps elsewhere is not to be had here.
fn hand_controllers_down(path: &Path) {
    let listed = fs::read_to_string(path.join("cgroup.controllers")).unwrap_or_default();
    for controller in listed.split_whitespace() {
        let _ = fs::write(path.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

/// Visits a directory and all below it, parents first.
fn walk(path: &Path, visit: &mut dyn FnMut(&Path)) {
    if !path.is_dir() {
        return;
    }
    visit(path);
    let Ok(entries) = fs::read_dir(path) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), visit);
        }
    }
}

/// Removes directories bottom up; one that is gone is no error. The kernel may refuse for
/// a moment after the last process died.
fn remove_tree(path: &Path) -> Result<(), CgroupError> {
    let mut all = Vec::new();
    walk(path, &mut |at| all.push(at.to_owned()));
    all.into_iter().rev().try_for_each(|path| match fs::remove_dir(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(CgroupError::Remove { path, source })
        }
        _ => Ok(()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn hierarchies_are_matched_with_their_mounts() {
        let cgroups = "3:cpu,cpuacct:/\n4:memory:/user/7\n9:name=systemd:/\n8:pids:/\n0::/\n";
        let found = match_hierarchies(cgroups, MOUNTS);
        let paths: Vec<_> = found.iter().map(|one| one.own.display().to_string()).collect();
        assert_eq!(
            paths,
            [
                "/sys/fs/cgroup/cpu,cpuacct",
                "/sys/fs/cgroup/memory/user/7",
                "/sys/fs/cgroup/systemd",
                "/sys/fs/cgroup/unified"
            ]
        );
        assert!(found[3].is_unified());
    }

    #[test]
    fn a_unified_machine_has_one_hierarchy_based_at_its_root() {
        let mounts = "30 23 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = match_hierarchies("0::/user.slice/session-1.scope\n", mounts);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].base(), Path::new("/sys/fs/cgroup"));
    }
}
