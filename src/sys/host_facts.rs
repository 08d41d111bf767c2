//! What this host is and how much of it is left, from `/proc` and the file systems.
//!
//! Not here: what to do about it (agent/node.rs), checks before an install (install/).

use std::fs;
use std::io;
use std::path::Path;

use nix::sys::statvfs::statvfs;
use procfs::{Current, CurrentSI};

/// What does not change while the host runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    pub cpus: u64,
    pub memory_bytes: u64,
    /// Size of the file system that holds the data directory.
    pub disk_bytes: u64,
    /// As Go names it: `amd64`, `arm64`.
    pub architecture: &'static str,
    pub kernel: String,
    pub os_image: String,
    pub machine_id: String,
    pub boot_id: String,
    pub system_uuid: String,
    /// The lowest OOM score that may be given to a process here. Without the capability
    /// SYS_RESOURCE (hosts inside containers) nobody may go below one's own.
    pub oom_score_min: i64,
}

/// What is left now, and of how much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostLevels {
    pub memory_bytes: (u64, u64),
    /// Of the file system that pods write to.
    pub disk_bytes: (u64, u64),
    pub inodes: (u64, u64),
    pub tasks: (u64, u64),
}

fn trimmed(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// Bit of CAP_SYS_RESOURCE in the capability sets.
const CAP_SYS_RESOURCE: u64 = 1 << 24;

fn oom_score_min() -> i64 {
    let status = procfs::process::Process::myself().and_then(|me| me.status());
    match status {
        Ok(status) if status.capeff & CAP_SYS_RESOURCE != 0 => -1_000,
        _ => trimmed("/proc/self/oom_score_adj").parse().unwrap_or(0),
    }
}

fn os_image() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let named = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        Some(line.trim_matches('"').to_owned())
    };
    named("PRETTY_NAME=").or_else(|| named("NAME=")).unwrap_or_else(|| "Linux".to_owned())
}

/// Reads the facts; `data` is a directory on the file system that pods write to.
pub fn read(data: &Path) -> io::Result<HostFacts> {
    let memory = procfs::Meminfo::current().map_err(io::Error::other)?;
    let cpus = procfs::CpuInfo::current().map_err(io::Error::other)?.num_cores();
    let disk = statvfs(data)?;
    Ok(HostFacts {
        cpus: cpus as u64,
        memory_bytes: memory.mem_total,
        disk_bytes: disk.blocks() * disk.fragment_size(),
        architecture: match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        },
        kernel: trimmed("/proc/sys/kernel/osrelease"),
        os_image: os_image(),
        machine_id: trimmed("/etc/machine-id"),
        boot_id: trimmed("/proc/sys/kernel/random/boot_id"),
        system_uuid: trimmed("/sys/class/dmi/id/product_uuid"),
        oom_score_min: oom_score_min(),
    })
}

/// Reads what is left; `data` as for [`read`].
pub fn levels(data: &Path) -> io::Result<HostLevels> {
    let memory = procfs::Meminfo::current().map_err(io::Error::other)?;
    let disk = statvfs(data)?;
    let load = procfs::LoadAverage::current().map_err(io::Error::other)?;
    let limit = trimmed("/proc/sys/kernel/pid_max").parse::<u64>().unwrap_or(32_768);
    let unit = disk.fragment_size();
    Ok(HostLevels {
        memory_bytes: (memory.mem_available.unwrap_or(memory.mem_free), memory.mem_total),
        disk_bytes: (disk.blocks_available() * unit, disk.blocks() * unit),
        inodes: (disk.files_available(), disk.files()),
        tasks: (limit.saturating_sub(u64::from(load.max)), limit),
    })
}

/// What the host uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostUsage {
    /// CPU time that was not idle since the start, nanoseconds, all processors together.
    pub cpu_total_ns: u64,
    /// Memory in use without what the kernel may take back first, as runc counts it for the
    /// root of all control groups.
    pub memory_working_set_bytes: u64,
}

/// Reads what the host uses.
pub fn usage() -> io::Result<HostUsage> {
    let memory = procfs::Meminfo::current().map_err(io::Error::other)?;
    let stat = procfs::KernelStats::current().map_err(io::Error::other)?;
    let cpu = &stat.total;
    let more = |time: Option<u64>| time.unwrap_or_default();
    // Guests' time is part of user and nice.
    let busy = cpu.user + cpu.nice + cpu.system + more(cpu.irq) + more(cpu.softirq);
    let tick_ns = 1_000_000_000 / procfs::ticks_per_second().max(1);
    let used = memory.mem_total.saturating_sub(memory.mem_free);
    Ok(HostUsage {
        cpu_total_ns: (busy + more(cpu.steal)) * tick_ns,
        memory_working_set_bytes: used.saturating_sub(memory.inactive_file.unwrap_or_default()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_processors_memory_and_disk() {
        let facts = read(Path::new("/")).unwrap();
        assert!(facts.cpus > 0 && facts.memory_bytes > 0 && facts.disk_bytes > 0);
        assert!(!facts.kernel.is_empty());
        let left = levels(Path::new("/")).unwrap();
        assert!(left.memory_bytes.0 > 0 && left.memory_bytes.0 <= left.memory_bytes.1);
        let used = usage().unwrap();
        assert!(used.cpu_total_ns > 0 && used.memory_working_set_bytes < facts.memory_bytes);
    }
}
