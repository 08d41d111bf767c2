//! What the kernel offers to containers.

use super::Severity::{Error, Info, Warning};
use super::{Check, Faults, Seen, check, of_machine, when};

/// Oldest kernel: nftables, overlay and idmapped pieces are good enough from here on.
const KERNEL_MIN: (u32, u32) = (4, 19);

/// Which hierarchy of cgroups is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupVersion {
    One,
    Two,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelFacts {
    /// `6.1.0-18-amd64`.
    pub release: String,
    pub command_line: String,
    pub cgroups: Option<CgroupVersion>,
    /// `cpu`, `memory`, …; empty where nothing says.
    pub controllers: Vec<String>,
    pub overlay: bool,
    pub bridge: bool,
    pub veth: bool,
    pub nftables: bool,
    pub conntrack: bool,
    pub nat: bool,
    /// The kernel has AppArmor and the host no program that loads its profiles.
    pub apparmor_alone: bool,
    pub seccomp: bool,
    /// Of `/proc/self/ns`.
    pub namespaces: Vec<String>,
    pub modules_locked: bool,
    pub selinux_enforcing: bool,
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn missing(present: bool, name: &str, place: &str) -> Faults {
    when(!present, place, || format!("the kernel offers no {name}"))
}

fn controller(seen: &Seen<'_>, name: &str) -> Faults {
    let all = &seen.host.kernel.controllers;
    let wrong = !all.is_empty() && all.iter().all(|one| one != name);
    when(wrong, "/sys/fs/cgroup", || format!("the cgroup controller {name} is off"))
}

pub(super) const CHECKS: &[Check] = &[
    check("kernel", Error, "boot a newer kernel", |seen| {
        let release = &seen.host.kernel.release;
        let old = version(release).is_none_or(|version| version < KERNEL_MIN);
        when(old, "uname -r", || format!("kernel {release} is older than 4.19"))
    }),
    check("cgroups", Error, "mount the cgroup hierarchy", |seen| {
        missing(seen.host.kernel.cgroups.is_some(), "cgroups", "/sys/fs/cgroup")
    }),
    check("overlay", Error, "load the module overlay", |seen| {
        missing(seen.host.kernel.overlay, "overlay", "/proc/filesystems")
    }),
    check("bridge", Error, "load the module bridge", |seen| {
        missing(seen.host.kernel.bridge, "bridge", "/sys/module")
    }),
    check("veth", Error, "load the module veth", |seen| {
        missing(seen.host.kernel.veth, "veth", "/sys/module")
    }),
    check("nftables", Error, "load the module nf_tables", |seen| {
        missing(seen.host.kernel.nftables, "nftables", "/sys/module")
    }),
    of_machine("conntrack", Warning, "load the module nf_conntrack", |seen| {
        missing(seen.host.kernel.conntrack, "connection tracking", "/sys/module")
    }),
    of_machine("nat", Warning, "load the module nf_nat", |seen| {
        missing(seen.host.kernel.nat, "address translation", "/sys/module")
    }),
    check(
        "apparmor",
        Error,
        "install the distribution's package apparmor, or boot with apparmor=0",
        |seen| {
            when(seen.host.kernel.apparmor_alone, "/sys/kernel/security/apparmor", || {
                "AppArmor is on and there is no apparmor_parser, so that no container could start"
                    .into()
            })
        },
    ),
    of_machine(
        "selinux",
        Warning,
        "put SELinux in permissive mode (setenforce 0, and in /etc/selinux/config)",
        |seen| {
            when(seen.host.kernel.selinux_enforcing, "/sys/fs/selinux/enforce", || {
                "SELinux is enforced, and the bundle brings no policy for its engine".into()
            })
        },
    ),
    of_machine("cgroup-cpu", Warning, "boot without cgroup_disable=cpu", |seen| {
        controller(seen, "cpu")
    }),
    of_machine(
        "cgroup-memory",
        Warning,
        "boot with cgroup_enable=memory; without it no limit of memory is kept",
        |seen| controller(seen, "memory"),
    ),
    of_machine("cgroup-pids", Warning, "boot without cgroup_disable=pids", |seen| {
        controller(seen, "pids")
    }),
    of_machine("cgroup-cpuset", Warning, "boot without cgroup_disable=cpuset", |seen| {
        controller(seen, "cpuset")
    }),
    of_machine(
        "cgroup-version",
        Info,
        "boot with systemd.unified_cgroup_hierarchy=1 where the distribution allows it",
        |seen| {
            when(seen.host.kernel.cgroups == Some(CgroupVersion::One), "/sys/fs/cgroup", || {
                "the old cgroup hierarchy is mounted; pressure is reported by the new one only"
                    .into()
            })
        },
    ),
    of_machine("seccomp", Warning, "boot a kernel with CONFIG_SECCOMP_FILTER", |seen| {
        when(!seen.host.kernel.seccomp, "/proc/self/status", || {
            "the kernel has no seccomp: containers may call all of it".into()
        })
    }),
    check("namespaces", Error, "boot the distribution's standard kernel", |seen| {
        let all = &seen.host.kernel.namespaces;
        let lacks = |name: &&str| all.iter().all(|one| one != name);
        let gone: Vec<&str> =
            ["ipc", "mnt", "net", "pid", "uts"].into_iter().filter(lacks).collect();
        when(!all.is_empty() && !gone.is_empty(), "/proc/self/ns", || {
            format!("the kernel has no namespaces of kind {}", gone.join(", "))
        })
    }),
    of_machine(
        "modules-locked",
        Warning,
        "load overlay, bridge, veth, nf_tables, nf_nat and nf_conntrack before locking, at boot",
        |seen| {
            when(seen.host.kernel.modules_locked, "/proc/sys/kernel/modules_disabled", || {
                "no kernel module can be loaded until the next boot".into()
            })
        },
    ),
    of_machine(
        "command-line-cgroup",
        Warning,
        "remove it from the boot loader's settings",
        |seen| {
            let words = seen.host.kernel.command_line.split_whitespace();
            let found: Vec<&str> =
                words.filter(|word| word.starts_with("cgroup_disable=")).collect();
            when(!found.is_empty(), "/proc/cmdline", || format!("booted with {}", found.join(" ")))
        },
    ),
    of_machine(
        "command-line-mitigations",
        Info,
        "remove it unless the pods of this host trust each other",
        |seen| {
            let words = &mut seen.host.kernel.command_line.split_whitespace();
            when(words.any(|word| word == "mitigations=off"), "/proc/cmdline", || {
                "booted with mitigations=off: containers can read each other's memory".into()
            })
        },
    ),
];
