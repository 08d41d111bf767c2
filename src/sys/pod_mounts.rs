//! What the agent mounts for pods: memory, parts of volumes, network file systems.
//!
//! Why a part of a volume (`subPath`) is opened and mounted, and not named: a program in the
//! pod may replace a directory by a link between the check and the engine's mount, and so
//! have the host mounted. The kernel resolves the path once, below the volume and nowhere
//! else (`openat2` with `RESOLVE_BENEATH`), and what it found is mounted by its descriptor.
//!
//! Invariants: everything that is mounted for a pod lies below the pod's directory, and
//! removing that unmounts first and deletes only when nothing is mounted there any more.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};

use super::mounts::mount_points;
use super::pod_files::{below, make_dir, touch_file};

/// Attempts to unmount what something mounts again and again.
const UNMOUNT_ATTEMPTS: usize = 16;

/// Whether something is mounted exactly here.
pub fn is_mounted(path: &Path) -> io::Result<bool> {
    Ok(mounts_at_or_below(path)?.iter().any(|target| target == path))
}

/// What is mounted in a directory, the outermost first.
pub fn mounts_at_or_below(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut mounts = mount_points().map_err(io::Error::other)?;
    mounts.retain(|at| at.starts_with(path));
    Ok(mounts)
}

/// Mounts memory here unless it is mounted already; `options` such as `mode=1777`.
pub fn mount_memory(path: &Path, size_bytes: Option<u64>, mode: u32) -> io::Result<()> {
    if is_mounted(path)? {
        return Ok(());
    }
    let options = match size_bytes {
        Some(size) => format!("mode={mode:o},size={size}"),
        None => format!("mode={mode:o}"),
    };
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some(options.as_str()))?;
    Ok(())
}

/// Opens `sub` below `root`, whatever links there are; makes directories that are missing.
fn open_below(root: &Path, sub: &str) -> io::Result<OwnedFd> {
    // Its own words for what is refused whatever stands there.
    below(root, sub)?;
    let root = open(root, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    match openat2(&root, sub, how) {
        Err(Errno::ENOENT) => {}
        other => return other.map_err(leads_out(sub)),
    }
    let mut at = root;
    for part in Path::new(sub).components() {
        let Component::Normal(name) = part else { continue };
        match mkdirat(&at, name, Mode::from_bits_truncate(0o750)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
        at = openat2(&at, name, how).map_err(leads_out(sub))?;
    }
    Ok(at)
}

fn leads_out(sub: &str) -> impl FnOnce(Errno) -> io::Error {
    move |error| match error {
        Errno::EXDEV => {
            io::Error::new(io::ErrorKind::InvalidInput, format!("{sub} leads out of the volume"))
        }
        other => other.into(),
    }
}

/// Mounts `sub` of the volume at `root` on `target`, over what was mounted there before.
pub fn mount_below(root: &Path, sub: &str, target: &Path) -> io::Result<()> {
    let opened = open_below(root, sub)?;
    unmount_all(target)?;
    let kind = SFlag::from_bits_truncate(fstat(&opened)?.st_mode & SFlag::S_IFMT.bits());
    if kind == SFlag::S_IFDIR {
        if target.is_file() {
            fs::remove_file(target)?;
        }
        make_dir(target, 0o755)?;
    } else {
        if target.is_dir() {
            fs::remove_dir(target)?;
        }
        touch_file(target, 0o644)?;
    }
    let source = format!("/proc/self/fd/{}", opened.as_raw_fd());
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(source.as_str()), target, None::<&str>, flags, None::<&str>)?;
    Ok(())
}

/// A file system of another machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NfsSource {
    /// Its address; the kernel resolves no names.
    pub address: std::net::IpAddr,
    pub path: String,
    pub read_only: bool,
    /// As `mount -o` has them, such as `nfsvers=4.1`.
    pub options: Vec<String>,
}

/// Mounts it here unless it is mounted already. A kernel without NFS says `ENODEV`.
pub fn mount_nfs(source: &NfsSource, path: &Path) -> io::Result<()> {
    if is_mounted(path)? {
        return Ok(());
    }
    make_dir(path, 0o755)?;
    let host = match source.address {
        std::net::IpAddr::V4(address) => address.to_string(),
        std::net::IpAddr::V6(address) => format!("[{address}]"),
    };
    let from = format!("{host}:{}", source.path);
    let mut options = source.options.clone();
    if !options.iter().any(|option| option.starts_with("vers=") || option.starts_with("nfsvers=")) {
        options.push("vers=4.2".into());
    }
    options.push(format!("addr={}", source.address));
    options.push("clientaddr=0.0.0.0".into());
    let mut flags = MsFlags::empty();
    if source.read_only {
        flags |= MsFlags::MS_RDONLY;
    }
    let options = options.join(",");
    mount(Some(from.as_str()), path, Some("nfs4"), flags, Some(options.as_str()))?;
    Ok(())
}

/// Whether the kernel has no such file system.
pub fn is_unknown_filesystem(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ENODEV as i32)
}

/// Unmounts everything at or below a path, the innermost first; that there is nothing is
/// no error.
pub fn unmount_all(path: &Path) -> io::Result<()> {
    for _ in 0..UNMOUNT_ATTEMPTS {
        let mut mounts = mounts_at_or_below(path)?;
        if mounts.is_empty() {
            return Ok(());
        }
        mounts.sort_by_key(|at| std::cmp::Reverse(at.components().count()));
        for at in mounts {
            match umount2(&at, MntFlags::MNT_DETACH) {
                Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Err(io::Error::other(format!("{} is mounted again and again", path.display())))
}

/// Removes a pod's directory: first what is mounted in it, then the files.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    unmount_all(path)?;
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Whether this process may mount; the claims below need it.
    fn may_mount() -> bool {
        let dir = tempfile::tempdir().unwrap();
        match mount_memory(dir.path(), Some(1 << 20), 0o777) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => false,
            outcome => {
                outcome.unwrap();
                unmount_all(dir.path()).unwrap();
                true
            }
        }
    }

    #[test]
    fn memory_is_mounted_once_and_removed_with_its_tree() {
        if !may_mount() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("pod/volume");
        make_dir(&volume, 0o777).unwrap();
        mount_memory(&volume, Some(1 << 20), 0o1777).unwrap();
        mount_memory(&volume, Some(1 << 20), 0o1777).unwrap();
        assert!(is_mounted(&volume).unwrap());
        remove_tree(&dir.path().join("pod")).unwrap();
        assert!(!dir.path().join("pod").exists());
        remove_tree(&dir.path().join("pod")).unwrap();
    }

    #[test]
    fn a_part_of_a_volume_never_leads_out_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("v");
        make_dir(&root.join("data"), 0o755).unwrap();
        fs::write(root.join("data/file"), "x").unwrap();
        symlink("/etc", root.join("absolute")).unwrap();
        symlink("../../..", root.join("climbs")).unwrap();
        symlink("data", root.join("inside")).unwrap();
        for bad in ["../x", "/etc", "absolute", "absolute/ssl", "climbs", "climbs/etc"] {
            assert!(open_below(&root, bad).is_err(), "{bad}");
        }
        for good in ["data", "data/file", "inside/file", "new/deep"] {
            assert!(open_below(&root, good).is_ok(), "{good}");
        }
        assert!(root.join("new/deep").is_dir());
    }

    #[test]
    fn a_part_is_mounted_and_its_volume_outlives_the_pod() {
        if !may_mount() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        // The kernel writes a blank in its table otherwise.
        let (volume, pod) = (dir.path().join("v"), dir.path().join("a pod"));
        make_dir(&volume.join("data"), 0o755).unwrap();
        fs::write(volume.join("data/file"), "x").unwrap();
        make_dir(&pod, 0o755).unwrap();
        mount_below(&volume, "data", &pod.join("s/0")).unwrap();
        mount_below(&volume, "data", &pod.join("s/0")).unwrap();
        mount_below(&volume, "data/file", &pod.join("s/1")).unwrap();
        assert_eq!(fs::read_to_string(pod.join("s/0/file")).unwrap(), "x");
        assert_eq!(fs::read_to_string(pod.join("s/1")).unwrap(), "x");
        assert_eq!(mounts_at_or_below(&pod).unwrap().len(), 2);
        remove_tree(&pod).unwrap();
        assert!(!pod.exists());
        assert_eq!(fs::read_to_string(volume.join("data/file")).unwrap(), "x");
    }
}
