//! Judges whether a host can become a node, from facts that were gathered before.
//!
//! Why pure: every finding can be shown by a table of facts, and all findings come at
//! once. Codes are stable: scripts match on them.
//! Not here: gathering the facts (`install/preflight`).

use serde::Serialize;

use crate::model::threshold::Threshold;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The installation is refused.
    Error,
    Warning,
    Info,
}

/// One thing about the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Stable, `port-in-use`.
    pub code: &'static str,
    pub severity: Severity,
    pub what: String,
    #[serde(rename = "where")]
    pub place: String,
    pub fix: String,
}

/// What was found on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    pub root: bool,
    pub machine: String,
    /// `6.1.0-18-amd64`.
    pub kernel: String,
    pub hostname: String,
    pub cgroups: bool,
    pub overlay: bool,
    pub bridge: bool,
    pub veth: bool,
    pub nftables: bool,
    /// The kernel has AppArmor and the host no program that loads its profiles.
    pub apparmor_alone: bool,
    pub memory_bytes: u64,
    pub data_dir: String,
    pub data_free_bytes: u64,
    /// Size of the file system of the data directory.
    pub data_total_bytes: u64,
    pub data_file_system: String,
    /// Where the engine is unpacked.
    pub engine_dir: String,
    /// Free bytes there, if that is another file system than the data directory's.
    pub engine_free_bytes: Option<u64>,
    /// Ports that cannot be listened on, with the reason.
    pub busy_ports: Vec<(u16, String)>,
    pub addresses: Vec<String>,
    /// A sign of another or older installation.
    pub foreign_install: Option<String>,
    /// The host's own Docker, if one answers.
    pub host_docker: Option<String>,
    pub service_manager: Option<String>,
    /// Seconds that this clock is ahead of the cluster's; negative: behind.
    pub clock_ahead_s: Option<i64>,
}

/// What the node will need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostNeeds {
    pub node_name: String,
    pub address: String,
    pub space_bytes: u64,
    /// What must stay free on the data directory's file system for the node to take pods.
    pub pods_need_free: Threshold,
    /// A continued installation holds ports and files itself.
    pub resuming: bool,
}

/// Below this nothing works; with less than the double it is tight. Bytes.
const MEMORY_MIN_BYTES: u64 = 768 * 1024 * 1024;
/// More than this and certificates or leases are judged wrongly. Seconds.
const CLOCK_MAX_S: i64 = 60;
/// Oldest kernel: nftables, overlay and idmapped pieces are good enough from here on.
const KERNEL_MIN: (u32, u32) = (4, 19);
/// Room that must stay beside what the bundle needs. Bytes.
const SPACE_RESERVE_BYTES: u64 = 1024 * 1024 * 1024;
/// The same on a file system that holds the engine alone, which does not grow. Bytes.
const ENGINE_RESERVE_BYTES: u64 = 64 * 1024 * 1024;

fn finding(code: &'static str, what: String, place: &str, fix: &str) -> Finding {
    Finding { code, severity: Severity::Error, what, place: place.into(), fix: fix.into() }
}

/// Everything worth saying, errors first.
pub fn judge(facts: &HostFacts, needs: &HostNeeds) -> Vec<Finding> {
    let mut found = Vec::new();
    judge_system(facts, &mut found);
    judge_kernel(facts, &mut found);
    judge_room(facts, needs, &mut found);
    judge_network(facts, needs, &mut found);
    judge_neighbours(facts, needs, &mut found);
    found.sort_by_key(|finding| finding.severity);
    found
}

/// Whether the installation may go on.
pub fn passes(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.severity != Severity::Error)
}

fn judge_system(facts: &HostFacts, found: &mut Vec<Finding>) {
    if !facts.root {
        let what = "this is not root".to_owned();
        found.push(finding("not-root", what, "process", "run the command as root"));
    }
    if facts.machine != "x86_64" {
        let what = format!("the machine is {}, the bundle is for x86_64", facts.machine);
        found.push(finding("architecture", what, "uname -m", "use an x86_64 host"));
    }
    if facts.service_manager.is_none() {
        let what = "neither systemd nor Holdfast's own PID 1 runs here".to_owned();
        let fix = "use a host that systemd started";
        found.push(finding("service-manager", what, "PID 1", fix));
    }
    if let Some(ahead) = facts.clock_ahead_s.filter(|ahead| ahead.abs() > CLOCK_MAX_S) {
        let side = if ahead > 0 { "ahead of" } else { "behind" };
        let what = format!("the clock is {} s {side} the cluster's", ahead.abs());
        found.push(finding("clock", what, "date", "set the clock, best by NTP"));
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn judge_kernel(facts: &HostFacts, found: &mut Vec<Finding>) {
    if version(&facts.kernel).is_none_or(|version| version < KERNEL_MIN) {
        let what = format!("kernel {} is older than 4.19", facts.kernel);
        found.push(finding("kernel", what, "uname -r", "boot a newer kernel"));
    }
    let missing = [
        (facts.cgroups, "cgroups", "/sys/fs/cgroup", "mount the cgroup hierarchy"),
        (facts.overlay, "overlay", "/proc/filesystems", "load the module overlay"),
        (facts.bridge, "bridge", "/sys/module", "load the module bridge"),
        (facts.veth, "veth", "/sys/module", "load the module veth"),
        (facts.nftables, "nftables", "/sys/module", "load the module nf_tables"),
    ];
    for (present, code, place, fix) in missing {
        if !present {
            let what = format!("the kernel offers no {code}");
            found.push(finding(code, what, place, fix));
        }
    }
    if facts.apparmor_alone {
        let what = "AppArmor is on and there is no apparmor_parser, so that no container could \
                    start";
        let fix = "install the distribution's package apparmor, or boot with apparmor=0";
        found.push(finding("apparmor", what.into(), "/sys/kernel/security/apparmor", fix));
    }
}

fn mib(bytes: u64) -> u64 {
    bytes / 1_048_576
}

fn judge_room(facts: &HostFacts, needs: &HostNeeds, found: &mut Vec<Finding>) {
    if facts.memory_bytes < MEMORY_MIN_BYTES {
        let what = format!(
            "{} MiB of memory, at least {} are needed",
            mib(facts.memory_bytes),
            mib(MEMORY_MIN_BYTES)
        );
        found.push(finding("memory", what, "/proc/meminfo", "give the host more memory"));
    } else if facts.memory_bytes < 2 * MEMORY_MIN_BYTES {
        let what = format!("{} MiB of memory is tight", mib(facts.memory_bytes));
        let fix = "give the host more memory for more than a trial";
        let tight = finding("memory", what, "/proc/meminfo", fix);
        found.push(Finding { severity: Severity::Warning, ..tight });
    }
    let mut judge_space = |free: u64, reserve: u64, place: &str| {
        let space = needs.space_bytes + reserve;
        if !needs.resuming && free < space {
            let what = format!("{} MiB are free, {} are needed", mib(free), mib(space));
            found.push(finding("disk-space", what, place, "free or add disk space"));
        }
    };
    judge_space(facts.data_free_bytes, SPACE_RESERVE_BYTES, &facts.data_dir);
    if let Some(free) = facts.engine_free_bytes {
        judge_space(free, ENGINE_RESERVE_BYTES, &facts.engine_dir);
    }
    judge_pods_room(facts, needs, found);
    let kind = facts.data_file_system.as_str();
    if ["tmpfs", "nfs", "cifs", "overlay", "fuse"].contains(&kind) {
        let what = format!("the data directory is on {kind}, which is not durable or not fit");
        let fix = "put it on ext4 or xfs (--data-dir)";
        found.push(finding("file-system", what, &facts.data_dir, fix));
    }
}

/// Whether there will be so little left that the node takes no pods.
fn judge_pods_room(facts: &HostFacts, needs: &HostNeeds, found: &mut Vec<Finding>) {
    let kept = needs.pods_need_free.of(facts.data_total_bytes);
    let left = facts.data_free_bytes.saturating_sub(needs.space_bytes);
    if !needs.resuming && left < kept {
        let what = format!(
            "{} MiB of {} will be free; with less than {} ({} MiB) the node takes no pods",
            mib(left),
            mib(facts.data_total_bytes),
            String::from(needs.pods_need_free),
            mib(kept)
        );
        let fix = "free or add disk space, or lower spec.eviction.nodefsAvailable of the cluster";
        let pressure = finding("disk-pressure", what, &facts.data_dir, fix);
        found.push(Finding { severity: Severity::Warning, ..pressure });
    }
}

fn judge_network(facts: &HostFacts, needs: &HostNeeds, found: &mut Vec<Finding>) {
    if !facts.addresses.contains(&needs.address) {
        let what =
            format!("no interface has {}; there are {}", needs.address, facts.addresses.join(", "));
        let fix = "correct the cluster file or configure the interface";
        found.push(finding("address", what, "ip address", fix));
    }
    if !needs.resuming {
        for (port, reason) in &facts.busy_ports {
            let what = format!("port {port} cannot be used: {reason}");
            let place = format!("{}:{port}", needs.address);
            found.push(finding("port-in-use", what, &place, "stop what listens there"));
        }
    }
    if facts.hostname != needs.node_name {
        let what = format!("the host is named {}, the node {}", facts.hostname, needs.node_name);
        let fix = "nothing must be done; equal names are easier to read";
        let differs = finding("hostname", what, "hostname", fix);
        found.push(Finding { severity: Severity::Info, ..differs });
    }
}

fn judge_neighbours(facts: &HostFacts, needs: &HostNeeds, found: &mut Vec<Finding>) {
    if let Some(sign) = facts.foreign_install.as_ref().filter(|_| !needs.resuming) {
        let what = format!("{sign} is there already");
        let fix = "run `holdfast reset` for an old installation, or choose other directories";
        found.push(finding("existing-installation", what, sign, fix));
    }
    if let Some(socket) = &facts.host_docker {
        let what = "the host runs its own Docker; it stays untouched".to_owned();
        let docker = finding("host-docker", what, socket, "nothing must be done");
        found.push(Finding { severity: Severity::Info, ..docker });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::threshold::EvictionThresholds;

    fn good() -> (HostFacts, HostNeeds) {
        let facts = HostFacts {
            root: true,
            machine: "x86_64".into(),
            kernel: "6.1.0-18-amd64".into(),
            hostname: "a1".into(),
            cgroups: true,
            overlay: true,
            bridge: true,
            veth: true,
            nftables: true,
            apparmor_alone: false,
            memory_bytes: 8 << 30,
            data_dir: "/var/lib/holdfast".into(),
            data_free_bytes: 100 << 30,
            data_total_bytes: 200 << 30,
            data_file_system: "ext4".into(),
            engine_dir: "/opt/holdfast/engine".into(),
            engine_free_bytes: None,
            busy_ports: Vec::new(),
            addresses: vec!["127.0.0.1".into(), "10.0.0.1".into()],
            foreign_install: None,
            host_docker: None,
            service_manager: Some("systemd".into()),
            clock_ahead_s: Some(2),
        };
        let needs = HostNeeds {
            node_name: "a1".into(),
            address: "10.0.0.1".into(),
            space_bytes: 1 << 30,
            pods_need_free: EvictionThresholds::default().nodefs_available,
            resuming: false,
        };
        (facts, needs)
    }

    fn codes(facts: &HostFacts, needs: &HostNeeds) -> Vec<&'static str> {
        judge(facts, needs).iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn a_good_host_has_no_findings() {
        let (facts, needs) = good();
        assert_eq!(judge(&facts, &needs), []);
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let (mut facts, mut needs) = good();
        facts.root = false;
        facts.machine = "aarch64".into();
        facts.kernel = "4.18.0".into();
        facts.cgroups = false;
        facts.overlay = false;
        facts.bridge = false;
        facts.veth = false;
        facts.nftables = false;
        facts.apparmor_alone = true;
        facts.memory_bytes = 1 << 20;
        facts.data_free_bytes = 1 << 30;
        facts.engine_free_bytes = Some(16 << 20);
        facts.data_file_system = "tmpfs".into();
        facts.busy_ports = vec![(6443, "in use".into()), (5000, "in use".into())];
        facts.foreign_install = Some("/etc/holdfast/node.yaml".into());
        facts.host_docker = Some("/var/run/docker.sock".into());
        facts.service_manager = None;
        facts.clock_ahead_s = Some(-61);
        needs.address = "10.0.0.2".into();
        needs.node_name = "a2".into();
        let all = codes(&facts, &needs);
        for code in [
            "not-root",
            "architecture",
            "service-manager",
            "clock",
            "kernel",
            "cgroups",
            "overlay",
            "bridge",
            "veth",
            "nftables",
            "apparmor",
            "memory",
            "disk-space",
            "disk-pressure",
            "file-system",
            "address",
            "port-in-use",
            "hostname",
            "existing-installation",
            "host-docker",
        ] {
            assert!(all.contains(&code), "{code} in {all:?}");
        }
        assert_eq!(all.iter().filter(|code| **code == "port-in-use").count(), 2);
        assert!(!passes(&judge(&facts, &needs)));
    }

    #[test]
    fn a_host_with_docker_passes_and_a_resumed_one_may_hold_its_ports() {
        let (mut facts, mut needs) = good();
        facts.host_docker = Some("/var/run/docker.sock".into());
        assert!(passes(&judge(&facts, &needs)));
        facts.busy_ports = vec![(6443, "in use".into())];
        facts.foreign_install = Some("/etc/holdfast".into());
        assert!(!passes(&judge(&facts, &needs)));
        needs.resuming = true;
        assert!(passes(&judge(&facts, &needs)));
    }
}
