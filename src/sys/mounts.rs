//! Mounts and device nodes of a host that starts from an empty directory.
//!
//! Why by hand: a lab host and the appliance have no init system that would do it, and
//! nothing here may come from the machine's own distribution.
//! Invariant: [`enter_root`] leaves no mount of the machine reachable.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("cannot mount {kind} on {target}")]
    Mount {
        kind: String,
        target: PathBuf,
        #[source]
        source: nix::Error,
    },
    #[error("cannot unmount {target}")]
    Unmount {
        target: PathBuf,
        #[source]
        source: nix::Error,
    },
    #[error("cannot make {path}")]
    Make {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot make {root} the root directory")]
    Pivot {
        root: PathBuf,
        #[source]
        source: nix::Error,
    },
    #[error("cannot read the mount table")]
    Table(#[source] io::Error),
}

/// Mounts a file system; `data` are its own options.
pub fn mount_fs(kind: &str, target: &Path, flags: MsFlags, data: &str) -> Result<(), MountError> {
    make_dir(target)?;
    mount(Some(kind), target, Some(kind), flags, Some(data)).map_err(|source| MountError::Mount {
        kind: kind.to_owned(),
        target: target.to_owned(),
        source,
    })
}

/// Shows a file or directory at a second place, read-only when asked.
pub fn bind(from: &Path, to: &Path, read_only: bool) -> Result<(), MountError> {
    if from.is_dir() {
        make_dir(to)?;
    } else if !to.exists() {
        to.parent().map_or(Ok(()), make_dir)?;
        fs::File::create(to).map_err(|source| MountError::Make { path: to.to_owned(), source })?;
    }
    let fail = |source| MountError::Mount {
        kind: from.display().to_string(),
        target: to.to_owned(),
        source,
    };
    let none = None::<&str>;
    mount(Some(from), to, none, MsFlags::MS_BIND | MsFlags::MS_REC, none).map_err(fail)?;
    if read_only {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(none, to, none, flags, none).map_err(fail)?;
    }
    Ok(())
}

/// Cuts this mount namespace off: what is mounted here shows nowhere else, nor the other
/// way round.
pub fn isolate() -> Result<(), MountError> {
    propagate(Path::new("/"), MsFlags::MS_PRIVATE)
}

/// Lets mount namespaces that are made from this one see what is mounted here later, as
/// container engines expect.
pub fn share() -> Result<(), MountError> {
    propagate(Path::new("/"), MsFlags::MS_SHARED)
}

fn propagate(target: &Path, flags: MsFlags) -> Result<(), MountError> {
    let none = None::<&str>;
    mount(none, target, none, MsFlags::MS_REC | flags, none).map_err(|source| MountError::Mount {
        kind: "propagation".to_owned(),
        target: target.to_owned(),
        source,
    })
}

/// Lays a minimal `/dev` below `root`: a small tmpfs with the nodes that programs expect.
pub fn lay_devices(root: &Path) -> Result<(), MountError> {
    let dev = root.join("dev");
    mount_fs("tmpfs", &dev, MsFlags::MS_NOSUID | MsFlags::MS_STRICTATIME, "mode=755,size=1m")?;
    let nodes = [
        ("null", 1, 3, 0o666),
        ("zero", 1, 5, 0o666),
        ("full", 1, 7, 0o666),
        ("random", 1, 8, 0o666),
        ("urandom", 1, 9, 0o666),
        ("tty", 5, 0, 0o666),
        ("kmsg", 1, 11, 0o600),
        ("net/tun", 10, 200, 0o666),
        ("fuse", 10, 229, 0o666),
    ];
    make_dir(&dev.join("net"))?;
    for (name, major, minor, mode) in nodes {
        let path = dev.join(name);
        let mode = Mode::from_bits_truncate(mode);
        mknod(&path, SFlag::S_IFCHR, mode, makedev(major, minor))
            .and_then(|()| {
                nix::sys::stat::fchmodat(
                    nix::fcntl::AT_FDCWD,
                    &path,
                    mode,
                    nix::sys::stat::FchmodatFlags::FollowSymlink,
                )
            })
            .map_err(|source| MountError::Make { path, source: source.into() })?;
    }
    let links = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ];
    for (name, target) in links {
        let path = dev.join(name);
        std::os::unix::fs::symlink(target, &path)
            .map_err(|source| MountError::Make { path, source })?;
    }
    Ok(())
}

/// Makes `root` this mount namespace's root and lets go of everything else.
pub fn enter_root(root: &Path) -> Result<(), MountError> {
    let fail = |source| MountError::Pivot { root: root.to_owned(), source };
    nix::unistd::chdir(root).map_err(fail)?;
    // Both names are the same directory: the old root lands on top of the new one and is
    // taken off, so that no directory for it is needed.
    nix::unistd::pivot_root(".", ".").map_err(fail)?;
    umount2(".", MntFlags::MNT_DETACH).map_err(fail)?;
    nix::unistd::chdir("/").map_err(fail)
}

/// Whether something is mounted exactly at `path`.
pub fn is_mount_point(path: &Path) -> Result<bool, MountError> {
    Ok(mount_points()?.iter().any(|point| point == path))
}

/// Takes every mount at or below `prefix` off this namespace, innermost first; returns how
/// many there were.
pub fn unmount_below(prefix: &Path) -> Result<usize, MountError> {
    let mut found: Vec<PathBuf> =
        mount_points()?.into_iter().filter(|point| point.starts_with(prefix)).collect();
    found.reverse();
    for target in &found {
        umount2(target, MntFlags::MNT_DETACH)
            .map_err(|source| MountError::Unmount { target: target.clone(), source })?;
    }
    Ok(found.len())
}

/// Everything that is mounted in this namespace, in the order of the kernel's table.
pub(super) fn mount_points() -> Result<Vec<PathBuf>, MountError> {
    let table = fs::read_to_string("/proc/self/mountinfo").map_err(MountError::Table)?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    Ok(points.map(|point| PathBuf::from(unescape(point))).collect())
}

/// The kernel writes blanks in paths as `\040` and the like.
fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                out.push(char::from(code));
                rest = &rest[at + 4..];
            }
            None => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out + rest
}

fn make_dir(path: &Path) -> Result<(), MountError> {
    fs::create_dir_all(path).map_err(|source| MountError::Make { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_mount_points_are_read() {
        assert_eq!(unescape("/a\\040b\\134c"), "/a b\\c");
        assert_eq!(unescape("/plain"), "/plain");
    }

    #[test]
    fn proc_is_a_mount_point_and_its_files_are_not() {
        assert!(is_mount_point(Path::new("/proc")).unwrap());
        assert!(!is_mount_point(Path::new("/proc/version")).unwrap());
    }
}
