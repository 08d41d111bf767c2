//! Directory trees that appear whole: written beside their place, synced, then swapped in.
//!
//! Why a swap: a killed extraction must leave the old engine, which may be running
//! containers, and the same command again must finish the job.
//! Invariants: the destination is the old tree or the new one; what an earlier, killed
//! run left beside it is removed by the next one.
//!
//! ```text
//!  .NAME.partial  ──files, fsync──►  exchange with NAME  ──►  remove the old one
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A tree in the making; dropped before [`commit`](Self::commit) it removes itself.
#[derive(Debug)]
pub struct TreeDraft {
    place: PathBuf,
    draft: PathBuf,
    done: bool,
}

impl TreeDraft {
    /// Starts an empty tree that will stand at `place`.
    pub fn start(place: &Path) -> io::Result<Self> {
        fs::create_dir_all(super::bundle_file::folder_of(place))?;
        sweep(place)?;
        let draft = beside(place, "partial")?;
        fs::create_dir(&draft)?;
        Ok(Self { place: place.to_path_buf(), draft, done: false })
    }

    /// Writes one file; `name` must be a clean relative path.
    pub fn file(&self, name: &str, mode: u32, source: &mut dyn Read) -> io::Result<u64> {
        let path = self.draft.join(name);
        fs::create_dir_all(super::bundle_file::folder_of(&path))?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let written = io::copy(source, &mut file)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        Ok(written)
    }

    /// Makes one symbolic link.
    pub fn link(&self, name: &str, target: &str) -> io::Result<()> {
        let path = self.draft.join(name);
        fs::create_dir_all(super::bundle_file::folder_of(&path))?;
        std::os::unix::fs::symlink(target, path)
    }

    /// Puts the tree in its place.
    pub fn commit(mut self) -> io::Result<()> {
        settle_folders(&self.draft)?;
        if self.place.symlink_metadata().is_ok() {
            exchange(&self.draft, &self.place)?;
        } else {
            fs::rename(&self.draft, &self.place)?;
        }
        self.done = true;
        File::open(super::bundle_file::folder_of(&self.place))?.sync_all()?;
        remove(&self.draft)
    }
}

impl Drop for TreeDraft {
    fn drop(&mut self) {
        if !self.done
            && let Err(error) = remove(&self.draft)
        {
            tracing::warn!(path = %self.draft.display(), %error, "cannot remove a partial tree");
        }
    }
}

/// Removes what a killed run left beside `place`; the tree itself stays as it is.
pub fn sweep(place: &Path) -> io::Result<()> {
    remove(&beside(place, "partial")?)?;
    remove(&beside(place, "old")?)
}

/// The hidden neighbour of `place` for a purpose.
fn beside(place: &Path, purpose: &str) -> io::Result<PathBuf> {
    let name = place.file_name().ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "the destination has no name")
    })?;
    let hidden = format!(".{}.{purpose}", name.to_string_lossy());
    Ok(super::bundle_file::folder_of(place).join(hidden))
}

/// All files and links below `root`, relative, sorted; empty when it does not exist.
pub fn list(root: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    if root.is_dir() {
        walk(root, "", &mut found)?;
    }
    found.sort();
    Ok(found)
}

fn walk(folder: &Path, prefix: &str, found: &mut Vec<String>) -> io::Result<()> {
    for item in fs::read_dir(folder)? {
        let item = item?;
        let name = item.file_name().into_string().map_err(|name| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{name:?} is not UTF-8"))
        })?;
        let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        if item.file_type()?.is_dir() {
            walk(&item.path(), &path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}

/// Permission bits of a file itself; `None` when it is a link or not there.
pub fn file_mode(path: &Path) -> Option<u32> {
    let meta = path.symlink_metadata().ok()?;
    meta.is_file().then(|| meta.permissions().mode() & 0o7777)
}

/// Where a link points; `None` when `path` is not one.
pub fn link_target(path: &Path) -> Option<PathBuf> {
    fs::read_link(path).ok()
}

fn remove(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Syncs every folder and gives it the mode that no umask of the caller can spoil.
fn settle_folders(folder: &Path) -> io::Result<()> {
    for item in fs::read_dir(folder)? {
        let item = item?;
        if item.file_type()?.is_dir() {
            settle_folders(&item.path())?;
        }
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    File::open(folder)?.sync_all()
}

/// Swaps two directories in one step. File systems without exchange get two renames; a
/// kill between them leaves no tree, which the next run repairs.
fn exchange(draft: &Path, place: &Path) -> io::Result<()> {
    match renameat2_exchange(draft, place) {
        Ok(()) => Ok(()),
        Err(error)
            if matches!(error.raw_os_error(), Some(nix::libc::EINVAL | nix::libc::ENOSYS)) =>
        {
            let aside = beside(place, "old")?;
            remove(&aside)?;
            fs::rename(place, &aside)?;
            fs::rename(draft, place)?;
            remove(&aside)
        }
        Err(error) => Err(error),
    }
}

#[expect(unsafe_code, reason = "musl has no wrapper for renameat2")]
fn renameat2_exchange(a: &Path, b: &Path) -> io::Result<()> {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;
    let a = CString::new(a.as_os_str().as_bytes())?;
    let b = CString::new(b.as_os_str().as_bytes())?;
    // SAFETY: both pointers are NUL-terminated strings that outlive the call.
    let result = unsafe {
        nix::libc::syscall(
            nix::libc::SYS_renameat2,
            nix::libc::AT_FDCWD,
            a.as_ptr(),
            nix::libc::AT_FDCWD,
            b.as_ptr(),
            nix::libc::RENAME_EXCHANGE,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
