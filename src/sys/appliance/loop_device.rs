//! A file as a block device.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

mod calls {
    nix::ioctl_none_bad!(get_free, 0x4c82);
    nix::ioctl_write_int_bad!(set_file, 0x4c00);
}

/// Gives a file a block device, for as long as that is mounted.
#[expect(unsafe_code, reason = "the kernel has no other way to ask for a loop device")]
pub fn attach(file: &Path) -> io::Result<PathBuf> {
    let control = File::open("/dev/loop-control")?;
    // SAFETY: both calls take a number and no memory; the descriptors live across them.
    let number = unsafe { calls::get_free(control.as_raw_fd()) }?;
    let path = PathBuf::from(format!("/dev/loop{number}"));
    let device = File::options().read(true).write(true).open(&path)?;
    let backing = File::open(file)?;
    // SAFETY: as above.
    unsafe { calls::set_file(device.as_raw_fd(), backing.as_raw_fd()) }?;
    Ok(path)
}
