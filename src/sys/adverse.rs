//! Adverse conditions made on purpose: a killed process, a disk that is nearly full.

use std::io;
use std::path::Path;

use nix::mount::{MsFlags, mount, umount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// SIGKILL: the process gets no chance to say goodbye.
pub fn kill_hard(pid: i32) -> io::Result<()> {
    kill(Pid::from_raw(pid), Signal::SIGKILL).map_err(io::Error::from)
}

/// Covers a directory by an empty file system of so many MiB.
pub fn mount_small_disk(path: &Path, mib: u32) -> io::Result<()> {
    let size = format!("size={mib}m");
    let size = Some(size.as_str());
    mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), size).map_err(io::Error::from)
}

/// Covers a directory by the ext4 file system on a device.
pub fn mount_device(device: &Path, path: &Path) -> io::Result<()> {
    let data = None::<&str>;
    mount(Some(device), path, Some("ext4"), MsFlags::empty(), data).map_err(io::Error::from)
}

/// Uncovers it again.
pub fn unmount(path: &Path) -> io::Result<()> {
    umount(path).map_err(io::Error::from)
}
