//! What `/proc`, `/sys` and `/etc` tell of a host.
//!
//! Why below a root: tests look at trees that they made, with one thing wrong in each.
//! What cannot be read or understood is `None` or empty: whoever asks decides what that means.
//! Not here: questions that no file answers (`host.rs`).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};
use procfs::net::{RouteEntries, TcpNetEntries, TcpState};
use procfs::{FromBufRead, FromBufReadSI};

/// A host's files.
#[derive(Clone, Debug)]
pub struct HostFiles {
    root: PathBuf,
}

impl HostFiles {
    /// Those of the host that this runs on.
    pub fn here() -> Self {
        Self::below(Path::new("/"))
    }

    pub fn below(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    pub fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// A file's text without blanks around it.
    pub fn text(&self, path: &str) -> Option<String> {
        let bytes = std::fs::read(self.path(path)).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    pub fn value<T: FromStr>(&self, path: &str) -> Option<T> {
        self.text(path)?.parse().ok()
    }

    /// Two numbers with blanks between.
    pub fn pair<T: FromStr>(&self, path: &str) -> Option<(T, T)> {
        let text = self.text(path)?;
        let mut words = text.split_whitespace();
        Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    }

    /// The choice in brackets of a file like `always [madvise] never`.
    pub fn choice(&self, path: &str) -> Option<String> {
        let text = self.text(path)?;
        let (_, behind) = text.split_once('[')?;
        Some(behind.split_once(']')?.0.to_owned())
    }

    /// What a directory holds, by name, in order.
    pub fn names(&self, dir: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(dir)).into_iter().flatten().flatten();
        let names: BTreeSet<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.into_iter().collect()
    }

    /// Names of all programs that run, as the kernel cuts them.
    pub fn programs(&self) -> Vec<String> {
        let processes = self.names("/proc").into_iter();
        let numbers = processes.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        let names: BTreeSet<String> =
            numbers.filter_map(|pid| self.text(&format!("/proc/{pid}/comm"))).collect();
        names.into_iter().collect()
    }

    /// Bytes of a line of `/proc/meminfo`.
    pub fn memory(&self, name: &str) -> Option<u64> {
        let text = self.text("/proc/meminfo")?;
        let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1_024)
    }

    /// What the first processor can do.
    pub fn cpu_flags(&self) -> Vec<String> {
        let text = self.text("/proc/cpuinfo").unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("flags")?.split_once(':'));
        let words = line.map_or("", |(_, words)| words).split_whitespace();
        words.map(str::to_owned).collect()
    }

    /// Ports that somebody listens on by TCP.
    pub fn listening(&self) -> Vec<u16> {
        let tables = ["/proc/net/tcp", "/proc/net/tcp6"].into_iter();
        let texts = tables.filter_map(|table| self.text(table));
        let system = procfs::current_system_info();
        let entries = texts.filter_map(|text| {
            let read = TcpNetEntries::from_buf_read(text.as_bytes(), system);
            read.ok()
        });
        let ports: BTreeSet<u16> = entries
            .flat_map(|entries| entries.0)
            .filter(|entry| entry.state == TcpState::Listen)
            .map(|entry| entry.local_address.port())
            .collect();
        ports.into_iter().collect()
    }

    /// Networks of the main IPv4 routing table; that of the default route has prefix 0.
    pub fn routes(&self) -> Vec<IpNet> {
        let text = self.text("/proc/net/route").unwrap_or_default();
        let entries = RouteEntries::from_buf_read(text.as_bytes());
        let nets = entries.into_iter().flat_map(|entries| entries.0).filter_map(|entry| {
            let net = Ipv4Net::with_netmask(entry.destination, entry.mask).ok()?;
            Some(IpNet::from(net))
        });
        nets.collect()
    }

    /// The addresses that `/etc/hosts` has for a name.
    pub fn hosts(&self, name: &str) -> Vec<IpAddr> {
        let text = self.text("/etc/hosts").unwrap_or_default();
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
        let found = lines.filter_map(|line| {
            let mut words = line.split_whitespace();
            let address = words.next()?.parse().ok()?;
            words.any(|word| word == name).then_some(address)
        });
        found.collect()
    }

    /// The last of the files of `sysctl --system` that sets a key, and the value there.
    pub fn sysctl_set(&self, key: &str) -> Option<(String, String)> {
        let dirs = ["/usr/lib/sysctl.d", "/run/sysctl.d", "/etc/sysctl.d"];
        // Sorted by name whatever their directory; the old single file comes last.
        let mut files: Vec<(String, String)> = dirs
            .iter()
            .flat_map(|dir| {
                let names = self.names(dir).into_iter().filter(|name| name.ends_with(".conf"));
                names.map(move |name| (name.clone(), format!("{dir}/{name}")))
            })
            .collect();
        files.sort();
        let paths = files.into_iter().map(|(_, path)| path).chain(["/etc/sysctl.conf".to_owned()]);
        let mut set = paths.filter_map(|path| {
            let text = self.text(&path)?;
            let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
            let mut values = lines.filter_map(|line| {
                let (name, value) = line.split_once('=')?;
                let name = name.trim().trim_start_matches('-').replace('/', ".");
                (name == key).then(|| value.trim().to_owned())
            });
            Some((path, values.next_back()?))
        });
        set.next_back()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, HostFiles) {
        let dir = tempfile::tempdir().expect("a directory");
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().expect("has one")).expect("makes it");
            std::fs::write(path, text).expect("writes");
        }
        let files = HostFiles::below(dir.path());
        (dir, files)
    }

    #[test]
    fn the_last_file_that_sets_a_key_counts() {
        let key = "net.ipv4.ip_forward";
        let (_dir, files) = tree(&[
            ("etc/sysctl.d/10-a.conf", "net.ipv4.ip_forward = 0\n"),
            ("usr/lib/sysctl.d/90-z.conf", "# net.ipv4.ip_forward = 0\nnet/ipv4/ip_forward=1\n"),
            ("etc/sysctl.d/95-other", "net.ipv4.ip_forward = 0\n"),
            ("etc/sysctl.conf", "vm.swappiness=1\n"),
        ]);
        let found = files.sysctl_set(key);
        assert_eq!(found, Some(("/usr/lib/sysctl.d/90-z.conf".into(), "1".into())));
        assert_eq!(files.sysctl_set("vm.swappiness").map(|(_, value)| value), Some("1".into()));
        assert_eq!(files.sysctl_set("kernel.panic"), None);
    }

    #[test]
    fn tables_of_the_kernel_are_read() {
        let (_dir, files) = tree(&[
            (
                "proc/net/route",
                "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                 eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                 eth0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n",
            ),
            (
                "proc/net/tcp",
                "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                 0: 00000000:01BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 20 1 0 100 0 0 10 0\n   \
                 1: 0100007F:1F90 0100007F:C000 01 00000000:00000000 00:00000000 00000000     0        0 21 1 0 100 0 0 10 0\n",
            ),
            ("proc/meminfo", "MemTotal:       2048 kB\nSwapTotal:         4 kB\n"),
            (
                "proc/cpuinfo",
                "processor\t: 0\nflags\t\t: fpu aes\n\nprocessor\t: 1\nflags\t\t: fpu\n",
            ),
            ("proc/12/comm", "chronyd\n"),
            ("proc/self/comm", "test\n"),
            ("etc/hosts", "127.0.0.1 localhost\n10.0.0.1 a1 a1.bank # own\n# 10.0.0.2 a1\n"),
            ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
            ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
        ]);
        let routes: Vec<String> = files.routes().iter().map(ToString::to_string).collect();
        assert_eq!(routes, ["0.0.0.0/0", "10.0.0.0/24"]);
        assert_eq!(files.listening(), [443]);
        assert_eq!(files.memory("MemTotal"), Some(2 << 20));
        assert_eq!(files.memory("SwapTotal"), Some(4 << 10));
        assert_eq!(files.memory("Swap"), None);
        assert_eq!(files.cpu_flags(), ["fpu", "aes"]);
        assert_eq!(files.programs(), ["chronyd"]);
        assert_eq!(files.hosts("a1"), ["10.0.0.1".parse::<IpAddr>().expect("one")]);
        let huge = files.choice("/sys/kernel/mm/transparent_hugepage/enabled");
        assert_eq!(huge.as_deref(), Some("madvise"));
        let ports = files.pair::<u16>("/proc/sys/net/ipv4/ip_local_port_range");
        assert_eq!(ports, Some((32_768, 60_999)));
    }

    #[test]
    fn what_is_not_there_is_not_guessed() {
        let (_dir, files) = tree(&[("proc/net/route", "rubbish\n\u{1}\n")]);
        assert!(files.routes().is_empty() && files.listening().is_empty());
        assert_eq!((files.text("/none"), files.value::<u64>("/none")), (None, None));
        assert!(files.programs().is_empty() && files.names("/none").is_empty());
    }
}
