//! The file systems that a host needs and that nobody else mounted.
//!
//! Why only the missing ones: in the lab the launcher has laid `/dev` and the root, on
//! the appliance the kernel and the early boot have done other parts.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;

use crate::sys::cgroup::LEAF;
use crate::sys::mounts::{MountError, is_mount_point, mount_fs, share};

const CGROUPS: &str = "/sys/fs/cgroup";

pub(super) fn mount_missing() -> Result<(), MountError> {
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let proc = Path::new("/proc");
    // The mount table itself is read from here, so it is mounted without looking.
    if !proc.join("self").exists() {
        mount_fs("proc", proc, quiet, "")?;
    }
    let wanted = [
        ("sysfs", "/sys", quiet, ""),
        (
            "devpts",
            "/dev/pts",
            MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
            "newinstance,ptmxmode=0666,mode=620,gid=5",
        ),
        ("tmpfs", "/dev/shm", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=1777"),
        ("mqueue", "/dev/mqueue", quiet, ""),
        ("tmpfs", "/run", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=755"),
        ("tmpfs", "/tmp", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=1777"),
    ];
    for (kind, target, flags, data) in wanted {
        let target = Path::new(target);
        if !is_mount_point(target)? {
            match mount_fs(kind, target, flags, data) {
                // Some kernels are built without message queues.
                Err(error) if kind == "mqueue" => tracing::debug!(%error, "no message queues"),
                other => other?,
            }
        }
    }
    if !is_mount_point(Path::new(CGROUPS))? {
        mount_cgroups()?;
    }
    share()
}

/// Mounts the hierarchies that this kernel runs, as seen from our own control group.
fn mount_cgroups() -> Result<(), MountError> {
    let text = fs::read_to_string("/proc/self/cgroup").map_err(MountError::Table)?;
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let plan = plan_cgroups(&text);
    if plan.iter().any(|one| one.0 == "cgroup") {
        mount_fs("tmpfs", Path::new(CGROUPS), quiet, "mode=755")?;
    }
    for (kind, target, data) in &plan {
        mount_fs(kind, target, quiet, data)?;
        link_single_names(target)?;
    }
    Ok(())
}

/// Kind, mount point and options of every hierarchy in `/proc/self/cgroup`'s text.
fn plan_cgroups(text: &str) -> Vec<(&'static str, PathBuf, String)> {
    let names: Vec<&str> = text.lines().filter_map(|line| line.split(':').nth(1)).collect();
    let base = Path::new(CGROUPS);
    let split = names.iter().any(|name| !name.is_empty());
    let mut plan = Vec::new();
    for name in names {
        plan.push(match name.strip_prefix("name=") {
            Some(plain) => ("cgroup", base.join(plain), format!("none,{name}")),
            None if !name.is_empty() => ("cgroup", base.join(name), name.to_owned()),
            None if split => ("cgroup2", base.join("unified"), String::new()),
            None => ("cgroup2", base.to_owned(), String::new()),
        });
    }
    plan
}

/// Controllers that share a hierarchy are looked for under each of their names.
fn link_single_names(target: &Path) -> Result<(), MountError> {
    let Some(name) = target.file_name().and_then(|name| name.to_str()) else { return Ok(()) };
    if !name.contains(',') {
        return Ok(());
    }
    for single in name.split(',') {
        let path = target.with_file_name(single);
        std::os::unix::fs::symlink(name, &path)
            .map_err(|source| MountError::Make { path, source })?;
    }
    Ok(())
}

/// On a unified hierarchy inner groups may hold no process once they hand controllers
/// down: moves everything of ours into a leaf and hands down what there is. Best effort,
/// because on older systems the engine uses the other hierarchies.
pub(super) fn settle_own_cgroup() {
    for root in [Path::new(CGROUPS), &Path::new(CGROUPS).join("unified")] {
        let Ok(controllers) = fs::read_to_string(root.join("cgroup.controllers")) else { continue };
        let leaf = root.join(LEAF);
        // The appliance finds one from before its restart.
        let _ = fs::create_dir(&leaf);
        let _ = fs::write(leaf.join("cgroup.procs"), "0");
        for controller in controllers.split_whitespace() {
            let _ = fs::write(root.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_hierarchies_get_a_directory_each() {
        let plan = plan_cgroups("9:name=systemd:/\n4:memory:/\n1:cpu,cpuacct:/\n0::/\n");
        let text: Vec<String> =
            plan.iter().map(|(kind, at, data)| format!("{kind} {} {data}", at.display())).collect();
        assert_eq!(
            text,
            [
                "cgroup /sys/fs/cgroup/systemd none,name=systemd",
                "cgroup /sys/fs/cgroup/memory memory",
                "cgroup /sys/fs/cgroup/cpu,cpuacct cpu,cpuacct",
                "cgroup2 /sys/fs/cgroup/unified "
            ]
        );
    }

    #[test]
    fn a_unified_hierarchy_is_mounted_at_the_top() {
        let plan = plan_cgroups("0::/\n");
        assert_eq!(plan, [("cgroup2", PathBuf::from(CGROUPS), String::new())]);
    }
}
