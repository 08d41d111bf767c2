//! Memory and disks.

use super::Severity::{Error, Info, Warning};
use super::{Check, Faults, Seen, check, known, mib, of_machine, when};

/// Below this nothing works; with less than the double it is tight. Bytes.
const MEMORY_MIN_BYTES: u64 = 768 * 1024 * 1024;
/// Room that must stay beside what the bundle needs. Bytes.
const SPACE_RESERVE_BYTES: u64 = 1024 * 1024 * 1024;
/// The same on a file system that holds the engine alone, which does not grow. Bytes.
const ENGINE_RESERVE_BYTES: u64 = 64 * 1024 * 1024;
/// With fewer an image cannot be unpacked.
const INODES_MIN: u64 = 20_000;
/// etcd's advice for members; with more, leaders are taken for dead. Microseconds.
const SYNC_MAX_US: u64 = 50_000;
/// What logs and other programs need. Bytes.
const SMALL_BYTES: u64 = 256 * 1024 * 1024;

/// The file system under one of our directories.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileSystemFacts {
    pub dir: String,
    /// `ext4`, `xfs`, …
    pub kind: String,
    pub total_bytes: u64,
    pub free_bytes: u64,
    /// 0 where the kind has no fixed number.
    pub inodes: u64,
    pub free_inodes: u64,
    pub noexec: bool,
    pub nosuid: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomFacts {
    pub memory_bytes: u64,
    pub memory_available_bytes: u64,
    pub swap_bytes: u64,
    pub data: FileSystemFacts,
    /// Where the engine is unpacked, if that is another file system.
    pub engine: Option<FileSystemFacts>,
    /// The data directory's file system is the root's.
    pub data_on_root: bool,
    pub root_free_bytes: Option<u64>,
    pub log_free_bytes: Option<u64>,
    /// `/tmp` can be written.
    pub temporary: bool,
    /// Directories say of their entries which kind they are.
    pub typed_entries: Option<bool>,
    /// A disk with moving parts, or one that says nothing else.
    pub rotational: bool,
    /// The 99th of a hundred small synced writes to the data directory. Microseconds.
    pub sync_p99_us: Option<u64>,
    /// Devices of file systems that noted errors.
    pub damaged: Vec<String>,
    /// Arrays of disks that lack one.
    pub degraded: Vec<String>,
}

fn space(seen: &Seen<'_>, of: &FileSystemFacts, reserve: u64) -> Faults {
    let wanted = seen.needs.space_bytes + reserve;
    when(!seen.needs.resuming && of.free_bytes < wanted, &of.dir, || {
        format!("{} MiB are free, {} are needed", mib(of.free_bytes), mib(wanted))
    })
}

fn each(seen: &Seen<'_>, look: impl Fn(&FileSystemFacts) -> Faults) -> Faults {
    let room = &seen.host.room;
    std::iter::once(&room.data).chain(&room.engine).flat_map(look).collect()
}

pub(super) const CHECKS: &[Check] = &[
    check("memory", Error, "give the host more memory", |seen| {
        let bytes = seen.host.room.memory_bytes;
        when(bytes < MEMORY_MIN_BYTES, "/proc/meminfo", || {
            format!("{} MiB of memory, at least {} are needed", mib(bytes), mib(MEMORY_MIN_BYTES))
        })
    }),
    check("memory", Warning, "give the host more memory for more than a trial", |seen| {
        let bytes = seen.host.room.memory_bytes;
        let tight = (MEMORY_MIN_BYTES..2 * MEMORY_MIN_BYTES).contains(&bytes);
        when(tight, "/proc/meminfo", || format!("{} MiB of memory is tight", mib(bytes)))
    }),
    of_machine("memory-available", Warning, "end what takes the memory (top -o %MEM)", |seen| {
        let bytes = seen.host.room.memory_available_bytes;
        when(bytes < MEMORY_MIN_BYTES / 2, "/proc/meminfo", || {
            format!("only {} MiB of memory are not in use", mib(bytes))
        })
    }),
    of_machine("swap", Warning, "swapoff -a, and remove it from /etc/fstab", |seen| {
        let bytes = seen.host.room.swap_bytes;
        when(bytes > 0, "/proc/swaps", || {
            format!("{} MiB of swap: a member that is swapped out counts as dead", mib(bytes))
        })
    }),
    check("disk-space", Error, "free or add disk space", |seen| {
        let room = &seen.host.room;
        let mut found = space(seen, &room.data, SPACE_RESERVE_BYTES);
        if let Some(engine) = &room.engine {
            found.extend(space(seen, engine, ENGINE_RESERVE_BYTES));
        }
        found
    }),
    check(
        "disk-pressure",
        Warning,
        "free or add disk space, or lower spec.eviction.nodefsAvailable of the cluster",
        |seen| {
            let (data, needs) = (&seen.host.room.data, seen.needs);
            let kept = needs.pods_need_free.of(data.total_bytes);
            let left = data.free_bytes.saturating_sub(needs.space_bytes);
            when(!needs.resuming && left < kept, &data.dir, || {
                format!(
                    "{} MiB of {} will be free; with less than {} ({} MiB) the node takes no pods",
                    mib(left),
                    mib(data.total_bytes),
                    String::from(needs.pods_need_free),
                    mib(kept)
                )
            })
        },
    ),
    check("file-system", Error, "put it on ext4 or xfs (--data-dir)", |seen| {
        let data = &seen.host.room.data;
        let kind = data.kind.as_str();
        let unfit = ["tmpfs", "nfs", "cifs", "overlay", "fuse"].contains(&kind);
        when(unfit, &data.dir, || {
            format!("the data directory is on {kind}, which is not durable or not fit")
        })
    }),
    check(
        "inodes",
        Error,
        "remove small files, or make the file system anew with more inodes",
        |seen| {
            each(seen, |one| {
                when(one.inodes > 0 && one.free_inodes < INODES_MIN, &one.dir, || {
                    format!("{} inodes are free, {INODES_MIN} are needed", one.free_inodes)
                })
            })
        },
    ),
    check("noexec", Error, "mount it without noexec", |seen| {
        each(seen, |one| {
            when(one.noexec, &one.dir, || "mounted with noexec: no program could run".into())
        })
    }),
    check("nosuid", Warning, "mount it without nosuid", |seen| {
        let data = &seen.host.room.data;
        when(data.nosuid, &data.dir, || {
            "mounted with nosuid: programs in containers cannot change their user".into()
        })
    }),
    check(
        "directory-types",
        Error,
        "make the file system anew (xfs: mkfs.xfs -n ftype=1)",
        |seen| {
            let data = &seen.host.room.data;
            when(seen.host.room.typed_entries == Some(false), &data.dir, || {
                format!("{} does not say what its entries are, which overlay needs", data.kind)
            })
        },
    ),
    of_machine(
        "sync-time",
        Warning,
        "use a disk with a protected write cache (SSD, RAID with battery)",
        |seen| {
            let room = &seen.host.room;
            known(
                room.sync_p99_us,
                &room.data.dir,
                |us| us > SYNC_MAX_US,
                |us| format!("one synced write in a hundred takes {} ms and more", us / 1_000),
            )
        },
    ),
    of_machine("rotating-disk", Info, "put the data directory on an SSD", |seen| {
        let room = &seen.host.room;
        when(room.rotational, &room.data.dir, || "the disk says that it rotates".into())
    }),
    of_machine("data-on-root", Info, "give the data directory a file system of its own", |seen| {
        let room = &seen.host.room;
        when(room.data_on_root, &room.data.dir, || {
            "it shares the root's file system: whoever fills one fills both".into()
        })
    }),
    of_machine("root-space", Warning, "free disk space on the root", |seen| {
        known(
            seen.host.room.root_free_bytes,
            "/",
            |free| free < SMALL_BYTES,
            |free| format!("{} MiB are free", mib(free)),
        )
    }),
    of_machine("log-space", Warning, "free disk space under /var/log", |seen| {
        known(
            seen.host.room.log_free_bytes,
            "/var/log",
            |free| free < SMALL_BYTES,
            |free| format!("{} MiB are free", mib(free)),
        )
    }),
    check("temporary", Warning, "mount /tmp for writing, mode 1777", |seen| {
        when(!seen.host.room.temporary, "/tmp", || "it cannot be written".into())
    }),
    of_machine(
        "damaged-file-system",
        Warning,
        "check it (fsck) before trusting it with data",
        |seen| {
            let all = &seen.host.room.damaged;
            let say =
                |name: &String| (format!("{name} noted errors"), format!("/sys/fs/ext4/{name}"));
            all.iter().map(say).collect()
        },
    ),
    of_machine("degraded-array", Warning, "replace the disk and let the array rebuild", |seen| {
        let all = &seen.host.room.degraded;
        let say = |name: &String| (format!("{name} lacks a disk"), format!("/sys/block/{name}/md"));
        all.iter().map(say).collect()
    }),
];
