//! Each check with a host that is good but for one thing.

use super::*;
use crate::model::threshold::EvictionThresholds;

fn texts(all: &[&str]) -> Vec<String> {
    all.iter().map(|text| (*text).to_owned()).collect()
}

fn good() -> (HostFacts, HostNeeds) {
    let data = FileSystemFacts {
        dir: "/var/lib/holdfast".into(),
        kind: "ext4".into(),
        total_bytes: 200 << 30,
        free_bytes: 100 << 30,
        inodes: 1 << 24,
        free_inodes: 1 << 23,
        noexec: false,
        nosuid: false,
    };
    let host = HostFacts {
        lab: false,
        system: SystemFacts {
            root: true,
            machine: "x86_64".into(),
            hostname: "a1".into(),
            service_manager: Some("systemd".into()),
            programs: texts(&["chronyd"]),
            cpus: 8,
            cpu_flags: texts(&["sse2", "aes"]),
            machine_id: Some("0123456789abcdef0123456789abcdef".into()),
            container_mark: None,
            read_only: Vec::new(),
            shutdown_scheduled: false,
            reboot_required: false,
            fips: false,
            governor: Some("performance".into()),
            memory_errors: Some(0),
        },
        clock: ClockFacts {
            now_s: 1_795_900_000,
            ahead_s: Some(2),
            synchronized: Some(true),
            source: Some("tsc".into()),
        },
        kernel: KernelFacts {
            release: "6.1.0-18-amd64".into(),
            command_line: "root=/dev/sda2 ro quiet".into(),
            cgroups: Some(CgroupVersion::Two),
            controllers: texts(&["cpuset", "cpu", "io", "memory", "pids"]),
            overlay: true,
            bridge: true,
            veth: true,
            nftables: true,
            conntrack: true,
            nat: true,
            apparmor_alone: false,
            seccomp: true,
            namespaces: texts(&["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"]),
            modules_locked: false,
            selinux_enforcing: false,
        },
        settings: SettingFacts {
            ip_forward_in: Some(("/etc/sysctl.conf".into(), "1".into())),
            rp_filter: Some(2),
            pid_max: Some(4_194_304),
            file_max: Some(1 << 20),
            nr_open: Some(1 << 20),
            map_count: Some(65_530),
            conntrack_max: Some(262_144),
            somaxconn: Some(4_096),
            local_ports: Some((32_768, 60_999)),
            node_ports_reserved: false,
            overcommit: Some(0),
            panic_on_oom: Some(0),
            panic_s: Some(10),
            huge_pages: Some("madvise".into()),
            open_files: Some(1 << 20),
        },
        room: RoomFacts {
            memory_bytes: 8 << 30,
            memory_available_bytes: 6 << 30,
            swap_bytes: 0,
            data,
            engine: None,
            data_on_root: false,
            root_free_bytes: Some(10 << 30),
            log_free_bytes: Some(10 << 30),
            temporary: true,
            typed_entries: Some(true),
            rotational: false,
            sync_p99_us: Some(900),
            damaged: Vec::new(),
            degraded: Vec::new(),
        },
        network: NetworkFacts {
            addresses: texts(&["127.0.0.1", "10.0.0.1"]),
            interface: Some(Interface {
                name: "eth0".into(),
                mtu: Some(1_500),
                carrier: Some(true),
                speed: Some(10_000),
                half_duplex: false,
                packets: 1_000_000,
                errors: 50,
            }),
            busy_ports: Vec::new(),
            listening: vec![22],
            routes: vec!["10.0.0.0/24".parse().unwrap()],
            default_route: true,
            resolv_conf: true,
            localhost: vec!["127.0.0.1".parse().unwrap()],
            own_name: vec!["127.0.1.1".parse().unwrap()],
            legacy_iptables: false,
            proxies: Vec::new(),
            down_in_bonds: Vec::new(),
        },
        neighbours: NeighbourFacts::default(),
    };
    let needs = HostNeeds {
        node_name: "a1".into(),
        address: "10.0.0.1".into(),
        space_bytes: 1 << 30,
        pods_need_free: EvictionThresholds::default().nodefs_available,
        ranges: vec!["10.244.0.0/16".parse().unwrap(), "10.96.0.0/16".parse().unwrap()],
        resuming: false,
    };
    (host, needs)
}

/// A change of a good host, and the codes that it must bring, in order of their checks.
type Break = (&'static [&'static str], fn(&mut HostFacts, &mut HostNeeds));

const BREAKS: &[Break] = &[
    (&["not-root"], |host, _| host.system.root = false),
    (&["architecture"], |host, _| host.system.machine = "aarch64".into()),
    (&["service-manager"], |host, _| host.system.service_manager = None),
    (&["processors"], |host, _| host.system.cpus = 1),
    (&["processor-aes"], |host, _| host.system.cpu_flags = texts(&["sse2"])),
    (&["processor-governor"], |host, _| host.system.governor = Some("powersave".into())),
    (&["memory-errors"], |host, _| host.system.memory_errors = Some(1)),
    (&["hostname"], |_, needs| needs.node_name = "a2".into()),
    (&["hostname-form", "hostname"], |host, _| host.system.hostname = "My_Host".into()),
    (&["hostname-localhost", "hostname"], |host, _| {
        host.system.hostname = "localhost.localdomain".into();
    }),
    (&["machine-id"], |host, _| host.system.machine_id = Some("uninitialized".into())),
    (&["in-container"], |host, _| host.system.container_mark = Some("/.dockerenv".into())),
    (&["read-only", "read-only"], |host, _| {
        host.system.read_only = texts(&["/etc/holdfast", "/opt/holdfast"]);
    }),
    (&["shutdown-scheduled"], |host, _| host.system.shutdown_scheduled = true),
    (&["reboot-required"], |host, _| host.system.reboot_required = true),
    (&["fips"], |host, _| host.system.fips = true),
    (&["clock"], |host, _| host.clock.ahead_s = Some(61)),
    (&["clock"], |host, _| host.clock.ahead_s = Some(-61)),
    (&["clock-past"], |host, _| host.clock.now_s = 1_700_000_000),
    (&["clock-unsynchronized"], |host, _| host.clock.synchronized = Some(false)),
    (&["clock-source"], |host, _| host.clock.source = Some("acpi_pm".into())),
    (&["time-service"], |host, _| host.system.programs = texts(&["sshd"])),
    (&["time-services"], |host, _| host.system.programs = texts(&["chronyd", "ntpd"])),
    (&["kernel"], |host, _| host.kernel.release = "4.18.0".into()),
    (&["kernel"], |host, _| host.kernel.release = "unheard".into()),
    (&["cgroups"], |host, _| host.kernel.cgroups = None),
    (&["overlay"], |host, _| host.kernel.overlay = false),
    (&["bridge"], |host, _| host.kernel.bridge = false),
    (&["veth"], |host, _| host.kernel.veth = false),
    (&["nftables"], |host, _| host.kernel.nftables = false),
    (&["conntrack"], |host, _| host.kernel.conntrack = false),
    (&["nat"], |host, _| host.kernel.nat = false),
    (&["apparmor"], |host, _| host.kernel.apparmor_alone = true),
    (&["selinux"], |host, _| host.kernel.selinux_enforcing = true),
    (&["cgroup-cpu"], |host, _| {
        host.kernel.controllers = texts(&["cpuset", "memory", "pids"]);
    }),
    (&["cgroup-memory"], |host, _| host.kernel.controllers = texts(&["cpuset", "cpu", "pids"])),
    (&["cgroup-pids"], |host, _| host.kernel.controllers = texts(&["cpuset", "cpu", "memory"])),
    (&["cgroup-cpuset"], |host, _| host.kernel.controllers = texts(&["cpu", "memory", "pids"])),
    (&["cgroup-version"], |host, _| host.kernel.cgroups = Some(CgroupVersion::One)),
    (&["seccomp"], |host, _| host.kernel.seccomp = false),
    (&["namespaces"], |host, _| host.kernel.namespaces = texts(&["ipc", "mnt", "net", "uts"])),
    (&["modules-locked"], |host, _| host.kernel.modules_locked = true),
    (&["command-line-cgroup"], |host, _| {
        host.kernel.command_line = "quiet cgroup_disable=memory".into();
    }),
    (&["command-line-mitigations"], |host, _| {
        host.kernel.command_line = "mitigations=off".into();
    }),
    (&["sysctl-ip-forward"], |host, _| {
        host.settings.ip_forward_in = Some(("/etc/sysctl.d/99-hard.conf".into(), "0".into()));
    }),
    (&["rp-filter"], |host, _| host.settings.rp_filter = Some(1)),
    (&["pid-max"], |host, _| host.settings.pid_max = Some(4_096)),
    (&["file-max"], |host, _| host.settings.file_max = Some(65_536)),
    (&["nr-open"], |host, _| host.settings.nr_open = Some(65_536)),
    (&["map-count"], |host, _| host.settings.map_count = Some(65_529)),
    (&["conntrack-max"], |host, _| host.settings.conntrack_max = Some(8_192)),
    (&["somaxconn"], |host, _| host.settings.somaxconn = Some(128)),
    (&["local-ports"], |host, _| host.settings.local_ports = Some((1_024, 65_535))),
    (&[], |host, _| {
        host.settings.local_ports = Some((1_024, 65_535));
        host.settings.node_ports_reserved = true;
    }),
    (&["overcommit"], |host, _| host.settings.overcommit = Some(2)),
    (&["panic-on-oom"], |host, _| host.settings.panic_on_oom = Some(1)),
    (&["kernel-panic"], |host, _| host.settings.panic_s = Some(0)),
    (&["huge-pages"], |host, _| host.settings.huge_pages = Some("always".into())),
    (&["open-files"], |host, _| host.settings.open_files = Some(1_024)),
    (&["memory"], |host, _| host.room.memory_bytes = 700 << 20),
    (&["memory"], |host, _| host.room.memory_bytes = 1 << 30),
    (&["memory-available"], |host, _| host.room.memory_available_bytes = 300 << 20),
    (&["swap"], |host, _| host.room.swap_bytes = 1 << 30),
    (&["disk-space", "disk-pressure"], |host, _| host.room.data.free_bytes = 1 << 30),
    (&["disk-space"], |host, _| {
        host.room.engine = Some(FileSystemFacts {
            dir: "/opt/holdfast/engine".into(),
            free_bytes: 1 << 30,
            ..host.room.data.clone()
        });
    }),
    (&["disk-pressure"], |host, _| host.room.data.free_bytes = 10 << 30),
    (&["file-system"], |host, _| host.room.data.kind = "tmpfs".into()),
    (&["inodes"], |host, _| host.room.data.free_inodes = 19_999),
    (&[], |host, _| (host.room.data.inodes, host.room.data.free_inodes) = (0, 0)),
    (&["noexec"], |host, _| host.room.data.noexec = true),
    (&["nosuid"], |host, _| host.room.data.nosuid = true),
    (&["directory-types"], |host, _| host.room.typed_entries = Some(false)),
    (&["sync-time"], |host, _| host.room.sync_p99_us = Some(80_000)),
    (&["rotating-disk"], |host, _| host.room.rotational = true),
    (&["data-on-root"], |host, _| host.room.data_on_root = true),
    (&["root-space"], |host, _| host.room.root_free_bytes = Some(1 << 20)),
    (&["log-space"], |host, _| host.room.log_free_bytes = Some(1 << 20)),
    (&["temporary"], |host, _| host.room.temporary = false),
    (&["damaged-file-system"], |host, _| host.room.damaged = texts(&["sda2"])),
    (&["degraded-array"], |host, _| host.room.degraded = texts(&["md0"])),
    (&["address"], |_, needs| needs.address = "10.0.0.2".into()),
    (&["address-kind"], |_, needs| needs.address = "127.0.0.1".into()),
    (&["port-in-use", "port-in-use"], |host, _| {
        host.network.busy_ports = vec![(6443, "in use".into()), (5000, "in use".into())];
    }),
    (&["ingress-port"], |host, _| host.network.listening = vec![22, 443]),
    (&["node-port"], |host, _| host.network.listening = vec![22, 30_080]),
    (&["range-overlap"], |host, _| {
        host.network.routes.push("10.244.7.0/24".parse().unwrap());
    }),
    (&["range-overlap", "range-overlap"], |host, _| {
        host.network.routes.push("10.0.0.0/8".parse().unwrap());
    }),
    (&["range-overlap"], |host, _| host.network.addresses.push("10.96.3.1".into())),
    (&["link-down"], |host, _| eth(host).carrier = Some(false)),
    (&["link-speed"], |host, _| eth(host).speed = Some(100)),
    (&[], |host, _| eth(host).speed = Some(-1)),
    (&["link-duplex"], |host, _| eth(host).half_duplex = true),
    (&["link-errors"], |host, _| eth(host).errors = 5_000),
    (&["mtu"], |host, _| eth(host).mtu = Some(1_400)),
    (&["mtu"], |host, _| eth(host).mtu = Some(576)),
    (&["bond-link"], |host, _| host.network.down_in_bonds = texts(&["bond0/eth1"])),
    (&["default-route"], |host, _| host.network.default_route = false),
    (&["resolv-conf"], |host, _| host.network.resolv_conf = false),
    (&["hosts-localhost"], |host, _| host.network.localhost = Vec::new()),
    (&["hosts-own-name"], |host, _| {
        host.network.own_name = vec!["10.0.0.9".parse().unwrap()];
    }),
    (&["legacy-iptables"], |host, _| host.network.legacy_iptables = true),
    (&["proxy"], |host, _| host.network.proxies = texts(&["HTTPS_PROXY"])),
    (&["existing-installation"], |host, _| {
        host.neighbours.foreign_install = Some("/etc/holdfast/node.yaml".into());
    }),
    (&["host-docker"], |host, _| {
        host.neighbours.host_docker = Some("/var/run/docker.sock".into());
    }),
    (&["docker-directory"], |host, _| host.neighbours.docker_dir_read_only = true),
    (&["other-kubernetes", "other-kubernetes"], |host, _| {
        host.neighbours.paths = texts(&["/var/lib/kubelet"]);
        host.system.programs.push("kubelet".into());
    }),
    (&["other-pod-network"], |host, _| host.neighbours.paths = texts(&["/etc/cni/net.d"])),
    (&["other-etcd"], |host, _| host.system.programs.push("etcd".into())),
    (&["firewalld"], |host, _| host.neighbours.paths = texts(&["/run/firewalld"])),
    (&["ufw"], |host, _| host.neighbours.ufw_enabled = true),
    (&["keepalived"], |host, _| host.system.programs.push("keepalived".into())),
    (&["libvirt"], |host, _| host.neighbours.paths = texts(&["/sys/class/net/virbr0"])),
    (&["memory-killer"], |host, _| host.system.programs.push("earlyoom".into())),
    (&["automatic-upgrades"], |host, _| {
        host.system.programs.push("unattended-upgr".into());
    }),
    (&["preloaded-library"], |host, _| host.neighbours.preloaded = texts(&["/lib/edr.so"])),
];

fn eth(host: &mut HostFacts) -> &mut Interface {
    host.network.interface.as_mut().unwrap()
}

fn codes(host: &HostFacts, needs: &HostNeeds) -> Vec<&'static str> {
    judge(host, needs).iter().map(|finding| finding.code).collect()
}

#[test]
fn a_good_host_has_no_findings() {
    let (host, needs) = good();
    assert_eq!(judge(&host, &needs), []);
    let all = judge_all(&host, &needs);
    assert_eq!(all.len(), count());
    assert!(all.iter().all(|finding| finding.severity == Severity::Ok));
}

#[test]
fn each_fault_brings_its_own_finding_and_no_other() {
    for (wanted, change) in BREAKS {
        let (mut host, mut needs) = good();
        change(&mut host, &mut needs);
        assert_eq!(codes(&host, &needs), *wanted);
        for finding in judge(&host, &needs) {
            let told = [&finding.what, &finding.place, &finding.fix];
            assert!(told.iter().all(|text| !text.is_empty()), "{finding:?}");
        }
        let all = judge_all(&host, &needs);
        let different: BTreeSet<&str> = all.iter().map(|finding| finding.code).collect();
        assert_eq!(different.len(), count(), "{wanted:?}");
    }
}

#[test]
fn every_check_has_a_fault_that_it_finds_and_there_are_eighty() {
    let broken: BTreeSet<&str> =
        BREAKS.iter().flat_map(|(codes, _)| codes.iter().copied()).collect();
    let all: BTreeSet<&str> = checks().map(|check| check.code).collect();
    assert_eq!(broken, all);
    assert!(all.len() >= 80, "{}", all.len());
    // A fault of each severity that a code can have.
    let severities: BTreeSet<(&str, Severity)> =
        checks().map(|check| (check.code, check.severity)).collect();
    let mut found = BTreeSet::new();
    for (_, change) in BREAKS {
        let (mut host, mut needs) = good();
        change(&mut host, &mut needs);
        found.extend(judge(&host, &needs).iter().map(|one| (one.code, one.severity)));
    }
    assert_eq!(found, severities);
}

#[test]
fn everything_wrong_is_said_at_once_errors_first() {
    let (mut host, mut needs) = good();
    for (_, change) in BREAKS {
        change(&mut host, &mut needs);
    }
    let found = judge(&host, &needs);
    let different: BTreeSet<&str> = found.iter().map(|finding| finding.code).collect();
    // Later faults hide some of the earlier ones.
    assert!(different.len() > count() * 3 / 4, "{different:?}");
    assert!(found.is_sorted_by_key(|finding| finding.severity));
    assert!(!passes(&found));
}

#[test]
fn a_continued_installation_holds_its_own_ports_files_and_routes() {
    let (mut host, mut needs) = good();
    host.network.busy_ports = vec![(6443, "in use".into())];
    host.network.listening = vec![443, 30_080];
    host.network.routes.push("10.244.7.0/24".parse().unwrap());
    host.neighbours.foreign_install = Some("/etc/holdfast".into());
    host.room.data.free_bytes = 1 << 20;
    assert!(!passes(&judge(&host, &needs)));
    needs.resuming = true;
    assert_eq!(judge(&host, &needs), []);
}

#[test]
fn a_labs_host_answers_for_itself_and_not_for_the_machine() {
    let (mut host, needs) = good();
    host.lab = true;
    host.room.swap_bytes = 1 << 30;
    host.kernel.selinux_enforcing = true;
    assert_eq!(judge(&host, &needs), []);
    host.room.data.free_bytes = 1 << 30;
    assert_eq!(codes(&host, &needs), ["disk-space", "disk-pressure"]);
}

#[test]
fn what_could_not_be_learned_is_no_finding() {
    let (mut host, needs) = good();
    host.settings = SettingFacts::default();
    host.network.interface = None;
    host.clock.synchronized = None;
    host.clock.source = None;
    host.room.sync_p99_us = None;
    host.room.typed_entries = None;
    host.room.root_free_bytes = None;
    host.room.log_free_bytes = None;
    host.kernel.controllers = Vec::new();
    host.kernel.namespaces = Vec::new();
    host.system.cpu_flags = Vec::new();
    host.system.governor = None;
    host.system.memory_errors = None;
    assert_eq!(judge(&host, &needs), []);
}

#[test]
fn the_document_lists_every_check_with_what_to_do() {
    let document = include_str!("../../docs/preflight.md");
    for check in checks() {
        let rows: Vec<&str> =
            document.lines().filter(|row| row.contains(&format!("| `{}` |", check.code))).collect();
        let [row] = rows.as_slice() else { panic!("{}: {rows:?}", check.code) };
        let severity = format!("{:?}", check.severity).to_lowercase();
        assert!(row.contains(&severity), "{}: {row}", check.code);
    }
    let rows = document.lines().filter(|row| row.starts_with("| `")).count();
    assert_eq!(rows, count());
}
