//! Mounts of the first program, the step into another root, and the end of the machine.

use std::ffi::CString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};

use crate::sys::mounts::{MountError, mount_fs};

/// Why another root could not be entered.
#[derive(Debug, thiserror::Error)]
#[error("cannot go on in the root at {root}: {step}")]
pub struct SwitchError {
    root: PathBuf,
    step: &'static str,
    #[source]
    source: nix::Error,
}

/// Mounts the kernel's views and memory for what is written.
pub fn mount_kernel_views() -> Result<(), MountError> {
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount_fs("proc", Path::new("/proc"), quiet, "")?;
    mount_fs("sysfs", Path::new("/sys"), quiet, "")?;
    mount_fs("devtmpfs", Path::new("/dev"), MsFlags::MS_NOSUID, "mode=755")?;
    mount_fs("tmpfs", Path::new("/run"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=755")
}

/// Mounts a device so that nothing on it can change.
pub fn mount_read_only(device: &Path, kind: &str, target: &Path) -> Result<(), MountError> {
    fs::create_dir_all(target)
        .map_err(|source| MountError::Make { path: target.to_owned(), source })?;
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some(device), target, Some(kind), flags, None::<&str>).map_err(|source| {
        MountError::Mount {
            kind: format!("{} ({kind})", device.display()),
            target: target.to_owned(),
            source,
        }
    })
}

/// Makes `root` the machine's root, takes the kernel's views and `/run` along and goes on as
/// `program` of it. Returns only if that fails.
pub fn enter_program(root: &Path, program: &str) -> SwitchError {
    match switch(root, program) {
        Ok(never) => match never {},
        Err((step, source)) => SwitchError { root: root.to_owned(), step, source },
    }
}

fn switch(
    root: &Path,
    program: &str,
) -> Result<std::convert::Infallible, (&'static str, nix::Error)> {
    let none = None::<&str>;
    for view in ["proc", "sys", "dev", "run"] {
        let from = Path::new("/").join(view);
        mount(Some(&from), &root.join(view), none, MsFlags::MS_MOVE, none)
            .map_err(|error| ("take along what is mounted", error))?;
    }
    // The kernel keeps the first file system for ever; its memory is given back this way.
    for used in ["/init", "/modules"] {
        let path = Path::new(used);
        let _only_memory =
            if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    }
    nix::unistd::chdir(root).map_err(|error| ("enter it", error))?;
    mount(Some("."), "/", none, MsFlags::MS_MOVE, none).map_err(|error| ("move it", error))?;
    nix::unistd::chroot(".").map_err(|error| ("make it the root", error))?;
    nix::unistd::chdir("/").map_err(|error| ("enter it", error))?;
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), "/tmp", Some("tmpfs"), quiet, Some("mode=1777"))
        .map_err(|error| ("mount /tmp", error))?;
    let program = CString::new(program).expect("a program's path has no zero");
    nix::unistd::execv(&program, &[&program]).map_err(|error| ("start its first program", error))
}

/// Starts the machine anew.
pub fn restart() -> io::Error {
    end(RebootMode::RB_AUTOBOOT)
}

/// Turns the machine off.
pub fn turn_off() -> io::Error {
    end(RebootMode::RB_POWER_OFF)
}

fn end(mode: RebootMode) -> io::Error {
    nix::unistd::sync();
    match reboot(mode) {
        Ok(never) => match never {},
        Err(error) => error.into(),
    }
}
