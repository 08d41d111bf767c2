//! What this host is: its system, its memory, its disks, its addresses.
//!
//! Only questions, no changes; each answer is read anew because preflight may be run
//! again after the operator changed something.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statvfs::FsFlags;

use super::host_files::HostFiles;

/// The file whose presence says that this host is a set of namespaces of a lab.
pub const LAB_HOST_FILE: &str = "/etc/holdfast-lab-host";
/// The same, as an environment variable.
pub const LAB_HOST_VARIABLE: &str = "HOLDFAST_LAB_HOST";

/// Differs from boot to boot of this host. The kernel's own mark is the same for all
/// hosts of a lab, so the start of PID 1 is part of it.
pub fn boot_mark() -> String {
    let text = |path| std::fs::read_to_string(path).unwrap_or_default();
    let first = text("/proc/1/stat");
    // The name in parentheses may hold blanks; the start is the 20th field behind it.
    let behind = first.rsplit_once(')').map_or("", |(_, behind)| behind);
    let started = behind.split_whitespace().nth(19).unwrap_or_default();
    format!("{} {started}", text("/proc/sys/kernel/random/boot_id").trim())
}

/// Effective user id.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether this host is a lab's, where some kernel settings are not the host's own.
pub fn is_lab_host() -> bool {
    Path::new(LAB_HOST_FILE).exists() || std::env::var_os(LAB_HOST_VARIABLE).is_some()
}

/// Name, kernel release and machine of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemName {
    pub hostname: String,
    /// `6.1.0-18-amd64`.
    pub kernel: String,
    /// `x86_64`.
    pub machine: String,
}

pub fn system_name() -> SystemName {
    let text = |value: &std::ffi::OsStr| value.to_string_lossy().into_owned();
    match nix::sys::utsname::uname() {
        Ok(name) => SystemName {
            hostname: text(name.nodename()),
            kernel: text(name.release()),
            machine: text(name.machine()),
        },
        Err(_) => SystemName {
            hostname: String::new(),
            kernel: String::new(),
            machine: std::env::consts::ARCH.to_owned(),
        },
    }
}

/// `(ID, VERSION_ID)` of os-release; empty on a host that has none.
pub fn distribution() -> (String, String) {
    let text = std::fs::read_to_string("/etc/os-release")
        .or_else(|_| std::fs::read_to_string("/usr/lib/os-release"))
        .unwrap_or_default();
    let field = |key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .map(|value| value.trim_matches('"').to_owned())
            .unwrap_or_default()
    };
    (field("ID"), field("VERSION_ID"))
}

/// `(total, available)` bytes of memory.
pub fn memory_bytes() -> Option<(u64, u64)> {
    let files = HostFiles::here();
    Some((files.memory("MemTotal")?, files.memory("MemAvailable")?))
}

/// The file system a path is on, or would be on once created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSystem {
    pub path: PathBuf,
    pub total_bytes: u64,
    pub free_bytes: u64,
    /// 0 where the type has no fixed number.
    pub inodes: u64,
    pub free_inodes: u64,
    /// Programs on it cannot be run.
    pub noexec: bool,
    /// Programs on it cannot change their user.
    pub nosuid: bool,
    /// Kernel magic number of the type.
    pub magic: i64,
    /// `ext4`, `xfs`, `overlay`, …; hexadecimal when unknown.
    pub kind: String,
}

/// Whether two places, or what exists of the way to them, share a file system.
pub fn same_file_system(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path| std::fs::metadata(crate::sys::files::nearest_existing(path));
    matches!((device(one), device(other)), (Ok(one), Ok(other)) if one.dev() == other.dev())
}

/// Whether both paths lead to one file that exists, through links of either kind too.
pub fn same_file(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |path: &Path| std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    identity(one).is_some_and(|one| identity(other) == Some(one))
}

pub fn file_system(path: &Path) -> std::io::Result<FileSystem> {
    let path = crate::sys::files::nearest_existing(path);
    let stat = nix::sys::statfs::statfs(&path)?;
    let magic = stat.filesystem_type().0 as i64;
    let kind = match magic {
        0xef53 => "ext4".to_owned(),
        0x5846_5342 => "xfs".to_owned(),
        0x9123_683e => "btrfs".to_owned(),
        0x794c_7630 => "overlay".to_owned(),
        0x0102_1994 => "tmpfs".to_owned(),
        0x6969 => "nfs".to_owned(),
        0x2fc1_2fc1 => "zfs".to_owned(),
        0xff53_4d42 | 0xfe53_4d42 => "cifs".to_owned(),
        0x6573_5546 => "fuse".to_owned(),
        other => format!("{other:#x}"),
    };
    Ok(FileSystem {
        total_bytes: stat.blocks() * stat.block_size() as u64,
        free_bytes: stat.blocks_available() * stat.block_size() as u64,
        inodes: stat.files(),
        free_inodes: stat.files_free(),
        noexec: stat.flags().contains(FsFlags::ST_NOEXEC),
        nosuid: stat.flags().contains(FsFlags::ST_NOSUID),
        path,
        magic,
        kind,
    })
}

/// Addresses that this host's interfaces carry.
pub fn interface_addresses() -> Vec<(String, IpAddr)> {
    let Ok(all) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    all.filter_map(|entry| {
        let address = entry.address?;
        let ip = address
            .as_sockaddr_in()
            .map(|v4| IpAddr::V4(v4.ip()))
            .or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))?;
        Some((entry.interface_name, ip))
    })
    .collect()
}

/// The address this host would talk to `server` from. Asks the routing table; no packet
/// is sent.
pub fn source_address(server: SocketAddr) -> std::io::Result<IpAddr> {
    let any: SocketAddr = if server.is_ipv4() {
        (std::net::Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = std::net::UdpSocket::bind(any)?;
    socket.connect(server)?;
    Ok(socket.local_addr()?.ip())
}

/// Whether a TCP listener could be opened there now; an error is its reason.
pub fn try_listen(address: SocketAddr) -> std::io::Result<()> {
    TcpListener::bind(address).map(drop)
}

/// Whether the kernel has a file system type, built in or loaded.
pub fn knows_file_system(kind: &str) -> bool {
    std::fs::read_to_string("/proc/filesystems")
        .is_ok_and(|text| text.lines().any(|line| line.split_whitespace().last() == Some(kind)))
}

/// Whether a kernel module is loaded or built in.
pub fn has_module(name: &str) -> bool {
    let name = name.replace('-', "_");
    if Path::new("/sys/module").join(&name).exists() {
        return true;
    }
    let release = system_name().kernel;
    let builtin = format!("/lib/modules/{release}/modules.builtin");
    std::fs::read_to_string(builtin).is_ok_and(|text| {
        text.lines().any(|line| {
            let file = line.rsplit('/').next().unwrap_or_default();
            file.trim_end_matches(".ko").replace('-', "_") == name
        })
    })
}

/// Whether the running kernel has a function, built in or from a loaded module. This
/// finds what is built in on hosts that carry no list of built-in modules.
pub fn has_kernel_symbol(name: &str) -> bool {
    std::fs::read_to_string("/proc/kallsyms")
        .is_ok_and(|text| text.lines().any(|line| line.split_whitespace().nth(2) == Some(name)))
}

/// Where a distribution puts its programs, and our services look for them.
const PROGRAM_DIRS: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Whether the host has a program of that name, whatever this process's PATH says.
pub fn has_program(name: &str) -> bool {
    PROGRAM_DIRS.iter().any(|dir| Path::new(dir).join(name).is_file())
}

/// Whether a kernel module could be loaded: its file is there.
pub fn can_load_module(name: &str) -> bool {
    let release = system_name().kernel;
    let wanted = [format!("/{}.ko", name), format!("/{}.ko", name.replace('_', "-"))];
    std::fs::read_to_string(format!("/lib/modules/{release}/modules.dep")).is_ok_and(|text| {
        text.lines().any(|line| {
            let file = line.split(':').next().unwrap_or_default();
            wanted.iter().any(|end| file.contains(end.as_str()))
        })
    })
}

/// How many files this process and those that it starts may have open at most.
pub fn open_files_max() -> Option<u64> {
    getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(_, hard)| hard)
}

/// Names of the environment's variables that are set to something.
pub fn set_variables(names: &[&str]) -> Vec<String> {
    let is_set = |name: &&&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    names.iter().filter(is_set).map(|name| (*name).to_owned()).collect()
}

/// Which cgroup hierarchy is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cgroups {
    V2,
    V1,
    None,
}

pub fn cgroups() -> Cgroups {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        Cgroups::V2
    } else if Path::new("/sys/fs/cgroup/memory").is_dir()
        && Path::new("/sys/fs/cgroup/cpu").exists()
    {
        Cgroups::V1
    } else {
        Cgroups::None
    }
}

/// Mount points at or below a directory, deepest first.
pub fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut points: Vec<PathBuf> = text
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(unescape(point)))
        .filter(|point| point.starts_with(dir))
        .collect();
    points.sort_by_key(|point| std::cmp::Reverse(point.as_os_str().len()));
    points
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"]
        .iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// Detaches a mount.
pub fn unmount(point: &Path) -> std::io::Result<()> {
    nix::mount::umount2(point, nix::mount::MntFlags::MNT_DETACH).map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_can_be_described() {
        let name = system_name();
        assert!(!name.kernel.is_empty() && !name.machine.is_empty());
        let (total, available) = memory_bytes().expect("has memory");
        assert!(total >= available && available > 0);
        assert!(file_system(Path::new("/tmp/none/such")).expect("has disks").free_bytes > 0);
        assert!(interface_addresses().iter().any(|(_, ip)| ip.is_loopback()));
        assert!(mounts_below(Path::new("/proc")).contains(&PathBuf::from("/proc")));
        assert!(has_program("sh") && !has_program("no-such-program"));
    }

    #[test]
    fn a_taken_port_cannot_be_listened_on() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let address = listener.local_addr().expect("has an address");
        assert!(try_listen(address).is_err());
        drop(listener);
        try_listen(address).expect("free again");
    }
}
