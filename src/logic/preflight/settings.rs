//! Settings of the kernel and limits of processes.

use super::Severity::{Info, Warning};
use super::{Check, Faults, known, of_machine, when};

/// First and last port of Services of type NodePort.
const NODE_PORTS: (u16, u16) = (30_000, 32_767);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettingFacts {
    /// The last file of the host's settings that names `net.ipv4.ip_forward`, and its value.
    pub ip_forward_in: Option<(String, String)>,
    pub rp_filter: Option<u8>,
    pub pid_max: Option<u64>,
    pub file_max: Option<u64>,
    pub nr_open: Option<u64>,
    pub map_count: Option<u64>,
    pub conntrack_max: Option<u64>,
    pub somaxconn: Option<u64>,
    pub local_ports: Option<(u16, u16)>,
    /// `ip_local_reserved_ports` covers the ports of Services.
    pub node_ports_reserved: bool,
    pub overcommit: Option<u8>,
    pub panic_on_oom: Option<u8>,
    /// Seconds until a reboot after a panic; 0 is never.
    pub panic_s: Option<i64>,
    /// `always`, `madvise`, `never`.
    pub huge_pages: Option<String>,
    /// Hard limit of open files of this process.
    pub open_files: Option<u64>,
}

fn at_least(value: Option<u64>, least: u64, place: &str, why: &str) -> Faults {
    known(
        value,
        place,
        |value| value < least,
        |value| format!("{place} is {value}, less than {least}: {why}"),
    )
}

pub(super) const CHECKS: &[Check] = &[
    of_machine(
        "sysctl-ip-forward",
        Warning,
        "remove the line; else the next `sysctl --system` cuts pods off from each other",
        |seen| {
            let found = seen.host.settings.ip_forward_in.as_ref();
            let off = found.filter(|(_, value)| value == "0");
            let fault = off.map(|(file, _)| {
                ("net.ipv4.ip_forward is set to 0 there".to_owned(), file.clone())
            });
            fault.into_iter().collect()
        },
    ),
    of_machine(
        "rp-filter",
        Info,
        "set net.ipv4.conf.all.rp_filter to 2 if this host has several ways to the others",
        |seen| {
            known(
                seen.host.settings.rp_filter,
                "net.ipv4.conf.all.rp_filter",
                |value| value == 1,
                |_| "packets that come by another way than answers would go are dropped".into(),
            )
        },
    ),
    of_machine("pid-max", Warning, "sysctl -w kernel.pid_max=4194304", |seen| {
        let why = "few pods can use them all up";
        at_least(seen.host.settings.pid_max, 32_768, "kernel.pid_max", why)
    }),
    of_machine("file-max", Warning, "sysctl -w fs.file-max=1048576", |seen| {
        let why = "all processes share that many open files";
        at_least(seen.host.settings.file_max, 262_144, "fs.file-max", why)
    }),
    of_machine("nr-open", Warning, "sysctl -w fs.nr_open=1048576", |seen| {
        let why = "the engine's limit of open files cannot be raised so far";
        at_least(seen.host.settings.nr_open, 1_048_576, "fs.nr_open", why)
    }),
    of_machine("map-count", Info, "sysctl -w vm.max_map_count=262144 for search engines", |seen| {
        let why = "some databases refuse to start";
        at_least(seen.host.settings.map_count, 65_530, "vm.max_map_count", why)
    }),
    of_machine(
        "conntrack-max",
        Warning,
        "sysctl -w net.netfilter.nf_conntrack_max=262144",
        |seen| {
            let why = "new connections are dropped when that many are open";
            let place = "net.netfilter.nf_conntrack_max";
            at_least(seen.host.settings.conntrack_max, 65_536, place, why)
        },
    ),
    of_machine("somaxconn", Info, "sysctl -w net.core.somaxconn=4096", |seen| {
        let why = "bursts of connections are refused";
        at_least(seen.host.settings.somaxconn, 1_024, "net.core.somaxconn", why)
    }),
    of_machine(
        "local-ports",
        Warning,
        "sysctl -w net.ipv4.ip_local_reserved_ports=30000-32767",
        |seen| {
            let place = "net.ipv4.ip_local_port_range";
            let settings = &seen.host.settings;
            let wrong = |(first, last): (u16, u16)| {
                !settings.node_ports_reserved && first <= NODE_PORTS.1 && last >= NODE_PORTS.0
            };
            known(settings.local_ports, place, wrong, |(first, last)| {
                format!("ports {first} to {last} go to clients, among them Services' node ports")
            })
        },
    ),
    of_machine("overcommit", Warning, "sysctl -w vm.overcommit_memory=0", |seen| {
        known(
            seen.host.settings.overcommit,
            "vm.overcommit_memory",
            |value| value == 2,
            |_| {
                "programs are refused memory that is free, which the engine does not survive".into()
            },
        )
    }),
    of_machine("panic-on-oom", Warning, "sysctl -w vm.panic_on_oom=0", |seen| {
        known(
            seen.host.settings.panic_on_oom,
            "vm.panic_on_oom",
            |value| value > 0,
            |_| "one pod that takes too much memory takes the host down".into(),
        )
    }),
    of_machine("kernel-panic", Info, "sysctl -w kernel.panic=10", |seen| {
        known(
            seen.host.settings.panic_s,
            "kernel.panic",
            |value| value == 0,
            |_| "after a panic the host stays down until somebody comes".into(),
        )
    }),
    of_machine(
        "huge-pages",
        Info,
        "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        |seen| {
            let value = seen.host.settings.huge_pages.as_deref();
            when(value == Some("always"), "/sys/kernel/mm/transparent_hugepage", || {
                "huge pages are given to all; databases answer unevenly with them".into()
            })
        },
    ),
    of_machine("open-files", Warning, "raise nofile in /etc/security/limits.conf", |seen| {
        let why = "this shell's programs run out of them";
        at_least(seen.host.settings.open_files, 4_096, "ulimit -Hn", why)
    }),
];
