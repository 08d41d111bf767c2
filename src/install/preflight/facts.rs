//! The facts themselves: from the host's files where they tell, else by asking the system.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::PreflightInput;
use crate::logic::preflight::{
    CgroupVersion, ClockFacts, FileSystemFacts, HostFacts, Interface, KernelFacts, NeighbourFacts,
    NetworkFacts, RoomFacts, SettingFacts, SystemFacts, neighbour_paths,
};
use crate::model::node_config::{Paths, Ports};
use crate::sys::host::{self, Cgroups};
use crate::sys::host_files::HostFiles;
use crate::sys::{clock, files, host_disk, services, systemd};

/// Synced writes that the disk is tried with, and how long at most.
const SYNCS: u32 = 100;
const SYNC_PATIENCE: Duration = Duration::from_secs(2);
/// Where a distribution's kernel keeps its AppArmor.
const APPARMOR: &str = "/sys/kernel/security/apparmor";
/// What sends programs by a proxy.
const PROXIES: [&str; 6] =
    ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];

pub(super) fn gather(files: &HostFiles, input: &PreflightInput) -> HostFacts {
    HostFacts {
        lab: host::is_lab_host(),
        system: system(files, input),
        clock: clock(files, input),
        kernel: kernel(files),
        settings: settings(files),
        room: room(files, input),
        network: network(files, input),
        neighbours: neighbours(files, &input.paths),
    }
}

fn system(files: &HostFiles, input: &PreflightInput) -> SystemFacts {
    let name = host::system_name();
    let controllers = files.names("/sys/devices/system/edac/mc");
    let counted = controllers.iter().filter_map(|controller| {
        files.value::<u64>(&format!("/sys/devices/system/edac/mc/{controller}/ue_count"))
    });
    let dirs = [&input.paths.config, &input.paths.data, &input.paths.run, &input.engine];
    let read_only = dirs.into_iter().filter(|dir| !host_disk::is_writable(dir));
    SystemFacts {
        root: host::is_root(),
        machine: name.machine,
        hostname: name.hostname,
        service_manager: service_manager(),
        programs: files.programs(),
        cpus: std::thread::available_parallelism().map_or(0, usize::from),
        cpu_flags: files.cpu_flags(),
        machine_id: files.text("/etc/machine-id"),
        container_mark: ["/.dockerenv", "/run/.containerenv"]
            .into_iter()
            .find(|path| files.exists(path))
            .map(str::to_owned),
        read_only: read_only.map(|dir| dir.display().to_string()).collect(),
        shutdown_scheduled: files.exists("/run/systemd/shutdown/scheduled"),
        reboot_required: files.exists("/run/reboot-required"),
        fips: files.value::<u8>("/proc/sys/crypto/fips_enabled") == Some(1),
        governor: files.text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        memory_errors: counted.reduce(|one, other| one + other),
    }
}

fn service_manager() -> Option<String> {
    if Path::new(services::CONTROL_SOCKET).exists() {
        Some("holdfast-init".into())
    } else if systemd::Systemd::is_running_here() {
        Some("systemd".into())
    } else {
        None
    }
}

fn clock(files: &HostFiles, input: &PreflightInput) -> ClockFacts {
    let now_s = clock::now().as_second();
    ClockFacts {
        now_s,
        ahead_s: input.cluster_time.map(|theirs| now_s - theirs.as_second()),
        synchronized: clock::is_synchronized(),
        source: files.text("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
    }
}

/// What the running kernel can do with its modules; a host of a lab asks the machine's.
fn kernel(files: &HostFiles) -> KernelFacts {
    let has = |module: &str| host::has_module(module) || host::can_load_module(module);
    let built_in = |module: &str, function: &str| has(module) || host::has_kernel_symbol(function);
    let (cgroups, controllers) = match host::cgroups() {
        Cgroups::V2 => {
            let text = files.text("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
            (Some(CgroupVersion::Two), text.split_whitespace().map(str::to_owned).collect())
        }
        Cgroups::V1 => (Some(CgroupVersion::One), enabled_controllers(files)),
        Cgroups::None => (None, Vec::new()),
    };
    let status = files.text("/proc/self/status").unwrap_or_default();
    KernelFacts {
        release: host::system_name().kernel,
        command_line: files.text("/proc/cmdline").unwrap_or_default(),
        cgroups,
        controllers,
        overlay: host::knows_file_system("overlay") || has("overlay"),
        bridge: built_in("bridge", "br_add_if"),
        // A host whose only way out is a veth pair proves that the kernel has them.
        veth: built_in("veth", "veth_newlink") || host::is_lab_host(),
        nftables: built_in("nf_tables", "nft_do_chain"),
        conntrack: built_in("nf_conntrack", "nf_conntrack_in"),
        nat: built_in("nf_nat", "nf_nat_inet_fn"),
        apparmor_alone: files.exists(APPARMOR) && !host::has_program("apparmor_parser"),
        seccomp: status.lines().any(|line| line.starts_with("Seccomp:")),
        namespaces: files.names("/proc/self/ns"),
        modules_locked: files.value::<u8>("/proc/sys/kernel/modules_disabled") == Some(1),
        selinux_enforcing: files.value::<u8>("/sys/fs/selinux/enforce") == Some(1),
    }
}

/// Lines of `/proc/cgroups`: name, hierarchy, groups, enabled.
fn enabled_controllers(files: &HostFiles) -> Vec<String> {
    let text = files.text("/proc/cgroups").unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let on = lines.filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words.get(3) == Some(&"1")).then(|| words[0].to_owned())
    });
    on.collect()
}

fn settings(files: &HostFiles) -> SettingFacts {
    let reserved = files.text("/proc/sys/net/ipv4/ip_local_reserved_ports").unwrap_or_default();
    SettingFacts {
        ip_forward_in: files.sysctl_set("net.ipv4.ip_forward"),
        rp_filter: files.value("/proc/sys/net/ipv4/conf/all/rp_filter"),
        pid_max: files.value("/proc/sys/kernel/pid_max"),
        file_max: files.value("/proc/sys/fs/file-max"),
        nr_open: files.value("/proc/sys/fs/nr_open"),
        map_count: files.value("/proc/sys/vm/max_map_count"),
        conntrack_max: files.value("/proc/sys/net/netfilter/nf_conntrack_max"),
        somaxconn: files.value("/proc/sys/net/core/somaxconn"),
        local_ports: files.pair("/proc/sys/net/ipv4/ip_local_port_range"),
        node_ports_reserved: reserved.split(',').any(|range| range == "30000-32767"),
        overcommit: files.value("/proc/sys/vm/overcommit_memory"),
        panic_on_oom: files.value("/proc/sys/vm/panic_on_oom"),
        panic_s: files.value("/proc/sys/kernel/panic"),
        huge_pages: files.choice("/sys/kernel/mm/transparent_hugepage/enabled"),
        open_files: host::open_files_max(),
    }
}

/// Nothing can be put where nothing can be asked.
fn file_system(dir: &Path) -> FileSystemFacts {
    let named = FileSystemFacts {
        dir: dir.display().to_string(),
        kind: "unknown".into(),
        ..FileSystemFacts::default()
    };
    match host::file_system(dir) {
        Ok(found) => FileSystemFacts {
            kind: found.kind,
            total_bytes: found.total_bytes,
            free_bytes: found.free_bytes,
            inodes: found.inodes,
            free_inodes: found.free_inodes,
            noexec: found.noexec,
            nosuid: found.nosuid,
            ..named
        },
        Err(_) => named,
    }
}

fn room(files: &HostFiles, input: &PreflightInput) -> RoomFacts {
    let (data, engine) = (&input.paths.data, &input.engine);
    let free = |path: &str| host::file_system(Path::new(path)).ok().map(|found| found.free_bytes);
    let apart = !host::same_file_system(data, engine);
    let arrays = files.names("/sys/block").into_iter().filter(|disk| {
        files.value::<u32>(&format!("/sys/block/{disk}/md/degraded")).is_some_and(|lost| lost > 0)
    });
    let damaged = files.names("/sys/fs/ext4").into_iter().filter(|device| {
        files
            .value::<u64>(&format!("/sys/fs/ext4/{device}/errors_count"))
            .is_some_and(|all| all > 0)
    });
    RoomFacts {
        memory_bytes: files.memory("MemTotal").unwrap_or_default(),
        memory_available_bytes: files.memory("MemAvailable").unwrap_or_default(),
        swap_bytes: files.memory("SwapTotal").unwrap_or_default(),
        data: file_system(data),
        engine: apart.then(|| file_system(engine)),
        data_on_root: host::same_file_system(data, Path::new("/")),
        root_free_bytes: free("/"),
        log_free_bytes: free("/var/log"),
        temporary: host_disk::takes_files(Path::new("/tmp")),
        typed_entries: host_disk::has_typed_entries(data),
        rotational: host_disk::rotates(data),
        // Of a lab the disk is the machine's, which would be tried by all hosts at once.
        sync_p99_us: if host::is_lab_host() { None } else { sync_p99_us(data) },
        damaged: damaged.collect(),
        degraded: arrays.collect(),
    }
}

/// Microseconds.
fn sync_p99_us(dir: &Path) -> Option<u64> {
    let mut times = host_disk::sync_times(dir, SYNCS, SYNC_PATIENCE).ok()?;
    times.sort();
    let at = (times.len() * 99).div_ceil(100).saturating_sub(1);
    u64::try_from(times.get(at)?.as_micros()).ok()
}

fn network(files: &HostFiles, input: &PreflightInput) -> NetworkFacts {
    let all = host::interface_addresses();
    let own = all.iter().find(|(_, ip)| *ip == input.address);
    let name = host::system_name().hostname;
    let routes = files.routes();
    NetworkFacts {
        interface: own.map(|(interface, _)| link(files, interface)),
        addresses: all.iter().map(|(_, ip)| ip.to_string()).collect(),
        busy_ports: busy_ports(input, &input.ports),
        listening: files.listening(),
        default_route: routes.iter().any(|route| route.prefix_len() == 0),
        routes: routes.into_iter().filter(|route| route.prefix_len() > 0).collect(),
        resolv_conf: files
            .text("/etc/resolv.conf")
            .is_some_and(|text| text.lines().any(|line| line.starts_with("nameserver"))),
        localhost: files.hosts("localhost"),
        own_name: files.hosts(&name),
        legacy_iptables: files
            .text("/proc/net/ip_tables_names")
            .is_some_and(|text| !text.is_empty()),
        proxies: host::set_variables(&PROXIES),
        down_in_bonds: down_in_bonds(files),
    }
}

fn link(files: &HostFiles, name: &str) -> Interface {
    let base = format!("/sys/class/net/{name}");
    let count = |counter: &str| {
        files.value::<u64>(&format!("{base}/statistics/{counter}")).unwrap_or_default()
    };
    Interface {
        name: name.to_owned(),
        mtu: files.value(&format!("{base}/mtu")),
        carrier: files.value::<u8>(&format!("{base}/carrier")).map(|carrier| carrier == 1),
        speed: files.value(&format!("{base}/speed")),
        half_duplex: files.text(&format!("{base}/duplex")).as_deref() == Some("half"),
        packets: count("rx_packets") + count("tx_packets"),
        errors: count("rx_errors") + count("tx_errors"),
    }
}

/// `/proc/net/bonding/bond0` has a paragraph for each part, `Slave Interface: eth1`, and in
/// it `MII Status: down`.
fn down_in_bonds(files: &HostFiles) -> Vec<String> {
    let mut found = Vec::new();
    for bond in files.names("/proc/net/bonding") {
        let text = files.text(&format!("/proc/net/bonding/{bond}")).unwrap_or_default();
        for part in text.split("Slave Interface:").skip(1) {
            let name = part.lines().next().unwrap_or_default().trim();
            let status = part.lines().find_map(|line| line.trim().strip_prefix("MII Status:"));
            if status.is_some_and(|status| status.trim() != "up") {
                found.push(format!("{bond}/{name}"));
            }
        }
    }
    found
}

fn busy_ports(input: &PreflightInput, ports: &Ports) -> Vec<(u16, String)> {
    let all = [ports.api, ports.etcd, ports.peer, ports.registry].into_iter();
    let tried = all.filter_map(|port| {
        let error = host::try_listen(SocketAddr::new(input.address, port)).err()?;
        // Said once, by the check of the address itself.
        let absent = error.kind() == std::io::ErrorKind::AddrNotAvailable;
        (!absent).then(|| (port, error.to_string()))
    });
    tried.collect()
}

fn neighbours(files: &HostFiles, paths: &Paths) -> NeighbourFacts {
    let there = neighbour_paths().filter(|path| files.exists(path));
    let ufw = files.text("/etc/ufw/ufw.conf").unwrap_or_default();
    let preloaded = files.text("/etc/ld.so.preload").unwrap_or_default();
    NeighbourFacts {
        foreign_install: foreign_install(paths),
        host_docker: ["/var/run/docker.sock", "/run/podman/podman.sock"]
            .into_iter()
            .find(|path| files.exists(path))
            .map(str::to_owned),
        paths: there.map(str::to_owned).collect(),
        preloaded: preloaded
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'))
            .flat_map(str::split_whitespace)
            .map(str::to_owned)
            .collect(),
        docker_dir_read_only: files.exists("/etc/docker")
            && !host_disk::is_writable(Path::new("/etc/docker")),
        ufw_enabled: ufw.lines().any(|line| line.trim().eq_ignore_ascii_case("enabled=yes")),
    }
}

/// Something under our directories that this installation did not put there. The
/// service directory may exist: our own PID 1 makes it. So may what a new file system has.
fn foreign_install(paths: &Paths) -> Option<String> {
    let own = Path::new(services::SERVICE_DIR);
    let first = |dir: &Path| {
        let found = files::list_dir(dir).unwrap_or_default().into_iter();
        let new = |path: &Path| path.file_name().is_some_and(|name| name == "lost+found");
        found.filter(|path| path != own && !new(path)).find(|path| !files::is_leftover(path))
    };
    first(&paths.config).or_else(|| first(&paths.data)).map(|path| path.display().to_string())
}
