//! Hosts whose files have one thing wrong: what was gathered says so.

use std::fs;
use std::path::Path;

use super::*;

/// A file of the host, and the code that it must bring.
const BREAKS: &[(&str, &str, &str)] = &[
    ("etc/machine-id", "uninitialized\n", "machine-id"),
    (".dockerenv", "", "in-container"),
    ("run/systemd/shutdown/scheduled", "USEC=1\n", "shutdown-scheduled"),
    ("run/reboot-required", "", "reboot-required"),
    ("proc/sys/crypto/fips_enabled", "1\n", "fips"),
    ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n", "processor-governor"),
    ("sys/devices/system/edac/mc/mc1/ue_count", "3\n", "memory-errors"),
    ("proc/cpuinfo", "flags : fpu sse2\n", "processor-aes"),
    ("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n", "clock-source"),
    ("proc/77/comm", "ntpd\n", "time-services"),
    ("proc/cmdline", "ro cgroup_disable=memory\n", "command-line-cgroup"),
    ("proc/cmdline", "ro mitigations=off\n", "command-line-mitigations"),
    ("proc/self/status", "Name:\tx\n", "seccomp"),
    ("proc/sys/kernel/modules_disabled", "1\n", "modules-locked"),
    ("sys/fs/selinux/enforce", "1", "selinux"),
    ("etc/sysctl.d/99-hard.conf", "net.ipv4.ip_forward=0\n", "sysctl-ip-forward"),
    ("proc/sys/net/ipv4/conf/all/rp_filter", "1\n", "rp-filter"),
    ("proc/sys/kernel/pid_max", "4096\n", "pid-max"),
    ("proc/sys/fs/file-max", "65536\n", "file-max"),
    ("proc/sys/fs/nr_open", "65536\n", "nr-open"),
    ("proc/sys/vm/max_map_count", "1000\n", "map-count"),
    ("proc/sys/net/netfilter/nf_conntrack_max", "4096\n", "conntrack-max"),
    ("proc/sys/net/core/somaxconn", "128\n", "somaxconn"),
    ("proc/sys/net/ipv4/ip_local_port_range", "1024\t65535\n", "local-ports"),
    ("proc/sys/vm/overcommit_memory", "2\n", "overcommit"),
    ("proc/sys/vm/panic_on_oom", "1\n", "panic-on-oom"),
    ("proc/sys/kernel/panic", "0\n", "kernel-panic"),
    ("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n", "huge-pages"),
    ("proc/meminfo", "MemTotal: 500000 kB\nMemAvailable: 450000 kB\n", "memory"),
    ("proc/meminfo", "MemTotal: 9000000 kB\nMemAvailable: 50000 kB\n", "memory-available"),
    ("proc/meminfo", "MemTotal: 9000000 kB\nMemAvailable: 8000000 kB\nSwapTotal: 9 kB\n", "swap"),
    ("sys/fs/ext4/sda2/errors_count", "1\n", "damaged-file-system"),
    ("sys/block/md0/md/degraded", "1\n", "degraded-array"),
    ("sys/class/net/lo/carrier", "0\n", "link-down"),
    ("sys/class/net/lo/speed", "100\n", "link-speed"),
    ("sys/class/net/lo/duplex", "half\n", "link-duplex"),
    ("sys/class/net/lo/mtu", "1300\n", "mtu"),
    ("sys/class/net/lo/statistics/rx_errors", "5000\n", "link-errors"),
    (
        "proc/net/bonding/bond0",
        "MII Status: up\n\nSlave Interface: eth0\nMII Status: up\n\nSlave Interface: eth1\nMII Status: down\n",
        "bond-link",
    ),
    ("etc/resolv.conf", "search bank\n", "resolv-conf"),
    ("etc/hosts", "10.0.0.1 localhost\n", "hosts-localhost"),
    ("proc/net/ip_tables_names", "filter\n", "legacy-iptables"),
    (
        "proc/net/tcp",
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
         0: 00000000:01BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 20 1 0 100 0 0 10 0\n",
        "ingress-port",
    ),
    (
        "proc/net/tcp",
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
         0: 00000000:7580 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 20 1 0 100 0 0 10 0\n",
        "node-port",
    ),
    (
        "proc/net/route",
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
         eth0\t0007F40A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n",
        "range-overlap",
    ),
    ("var/run/docker.sock", "", "host-docker"),
    ("proc/77/comm", "kubelet\n", "other-kubernetes"),
    ("var/lib/kubelet/config.yaml", "", "other-kubernetes"),
    ("etc/cni/net.d/10-flannel.conflist", "", "other-pod-network"),
    ("proc/77/comm", "etcd\n", "other-etcd"),
    ("run/firewalld/x", "", "firewalld"),
    ("etc/ufw/ufw.conf", "ENABLED=yes\n", "ufw"),
    ("proc/77/comm", "keepalived\n", "keepalived"),
    ("sys/class/net/virbr0/mtu", "1500\n", "libvirt"),
    ("proc/77/comm", "systemd-oomd\n", "memory-killer"),
    ("proc/77/comm", "unattended-upgr\n", "automatic-upgrades"),
    ("etc/ld.so.preload", "# ours\n/lib/edr.so\n", "preloaded-library"),
];

/// What a good host's files say.
const GOOD: &[(&str, &str)] = &[
    ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
    ("proc/cpuinfo", "flags : fpu sse2 aes\n"),
    ("proc/7/comm", "chronyd\n"),
    ("proc/cmdline", "ro quiet\n"),
    ("proc/self/status", "Name:\tx\nSeccomp:\t0\n"),
    ("proc/meminfo", "MemTotal: 9000000 kB\nMemAvailable: 8000000 kB\nSwapTotal: 0 kB\n"),
    ("sys/class/net/lo/carrier", "1\n"),
    ("sys/class/net/lo/speed", "10000\n"),
    ("sys/class/net/lo/duplex", "full\n"),
    ("sys/class/net/lo/mtu", "1500\n"),
    ("sys/class/net/lo/statistics/rx_packets", "100000\n"),
    ("etc/resolv.conf", "nameserver 10.0.0.53\n"),
    ("etc/hosts", "127.0.0.1 localhost\n"),
    ("etc/ufw/ufw.conf", "ENABLED=no\n"),
    (
        "proc/net/route",
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
         eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n",
    ),
];

fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// What is found on a host with these files, all else being this machine's.
fn codes(root: &Path) -> Vec<&'static str> {
    let dir = |name: &str| root.join("own").join(name);
    let input = PreflightInput {
        node_name: "a1".into(),
        address: "127.0.0.1".parse().unwrap(),
        paths: Paths { config: dir("etc"), data: dir("data"), run: dir("run") },
        ports: Ports::default(),
        engine: dir("engine"),
        space_bytes: 0,
        eviction: EvictionThresholds::default(),
        resuming: false,
        ranges: vec!["10.244.0.0/16".parse().unwrap()],
        cluster_time: None,
    };
    let mut facts = facts::gather(&HostFiles::below(root), &input);
    facts.lab = false;
    judge(&facts, &needs(&input)).iter().map(|finding| finding.code).collect()
}

fn good() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in GOOD {
        put(root.path(), path, text);
    }
    root
}

#[test]
fn each_file_that_is_wrong_is_found_and_a_good_one_is_not() {
    let before = codes(good().path());
    for (path, text, code) in BREAKS {
        assert!(!before.contains(code), "{code} without a cause");
        let root = good();
        put(root.path(), path, text);
        let found = codes(root.path());
        assert!(found.contains(code), "{path}: no {code} in {found:?}");
    }
}

#[test]
fn what_asks_the_system_is_found_too() {
    let root = good();
    let data = root.path().join("own/data");
    fs::create_dir_all(&data).unwrap();
    assert!(!codes(root.path()).contains(&"existing-installation"));
    put(&data, "store/log", "");
    assert!(codes(root.path()).contains(&"existing-installation"));
    fs::remove_dir_all(data.join("store")).unwrap();
    fs::create_dir(data.join("lost+found")).unwrap();
    assert!(!codes(root.path()).contains(&"existing-installation"));
}

#[test]
fn looking_leaves_the_host_as_it_was() {
    let root = good();
    let list = || fs::read_dir(root.path()).unwrap().count();
    let (before, found) = (list(), codes(root.path()));
    assert!(found.contains(&"address-kind"), "{found:?}");
    assert_eq!(list(), before);
}
