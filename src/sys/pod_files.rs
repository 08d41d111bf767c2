//! Files that the agent makes for pods.
//!
//! Invariant: a path below a volume is never named in a way that leads out of it.
//! Not here: sets of files that change all at once (`published_files`), mounts
//! (`pod_mounts`).

use std::fs;
use std::io::{self, Read, Seek};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use nix::unistd::{Gid, chown};

/// Creates a directory (and its parents) with exactly these permission bits.
pub fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Creates one directory, whose parent must be there, with exactly these permission bits.
pub fn make_one_dir(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().mode(mode).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Writes a file so that a reader sees the old or the new content, never a part.
pub fn replace_file(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    let fresh = path.with_file_name(name);
    fs::write(&fresh, content)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(mode))?;
    fs::rename(&fresh, path)
}

/// Writes into the same inode, because a bind mount of the file would keep the old one.
/// Containers may write to it, so no more of it is read than is expected there.
pub fn rewrite_file(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let is_as_long = |found: fs::Metadata| found.len() == content.len() as u64;
    if fs::metadata(path).is_ok_and(is_as_long) && read_end(path, content.len())? == content {
        return Ok(());
    }
    fs::write(path, content)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Creates an empty file unless there is one.
pub fn touch_file(path: &Path, mode: u32) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::OpenOptions::new().append(true).create(true).open(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Reads a file; `None` when there is none.
pub fn read_file(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The end of a file, at most so many bytes; empty when there is no such file. For what
/// containers write, which may be of any length.
pub fn read_end(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let mut file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    file.seek(io::SeekFrom::Start(length.saturating_sub(most as u64)))?;
    let mut end = Vec::new();
    file.take(most as u64).read_to_end(&mut end)?;
    Ok(end)
}

/// Removes a file; that there is none is no error.
pub fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Names in a directory; none when there is no such directory.
pub fn names_in(path: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// What the files below a directory take of its own file system, bytes; what cannot be read
/// does not count. What is mounted below is not even looked at: a dead server of files would
/// never answer.
pub fn tree_bytes(root: &Path, mounts: &[PathBuf]) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(own) = fs::symlink_metadata(root) else { return 0 };
    let (mut sum, mut open) = (0_u64, vec![root.to_owned()]);
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if mounts.contains(&entry.path()) {
                continue;
            }
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.dev() != own.dev() {
                continue;
            }
            sum = sum.saturating_add(metadata.blocks().saturating_mul(512));
            if metadata.is_dir() {
                open.push(entry.path());
            }
        }
    }
    sum
}

/// `root/sub`, refused when `sub` is absolute or climbs.
pub fn below(root: &Path, sub: &str) -> io::Result<PathBuf> {
    let plain = Path::new(sub)
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if plain {
        Ok(root.join(sub))
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{sub} leads out of the volume")))
    }
}

/// What stands at a path, links followed; `None` for nothing.
pub fn kind_of(path: &Path) -> io::Result<Option<fs::FileType>> {
    match fs::metadata(path) {
        Ok(found) => Ok(Some(found.file_type())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Gives a directory to a group whose members' new files stay in it (`fsGroup`).
pub fn give_to_group(path: &Path, group: u32) -> io::Result<()> {
    chown(path, None, Some(Gid::from_raw(group)))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o2777))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_file_that_grew_without_bound_only_the_end_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("words");
        assert_eq!(read_end(&path, 8).unwrap(), b"");
        fs::write(&path, "the last words").unwrap();
        assert_eq!(read_end(&path, 5).unwrap(), b"words");
        assert_eq!(read_end(&path, 100).unwrap(), b"the last words");
        // As large as a container can make it without taking any space.
        fs::File::options().write(true).open(&path).unwrap().set_len(1 << 42).unwrap();
        assert_eq!(read_end(&path, 4).unwrap(), [0; 4]);
        rewrite_file(&path, b"short again", 0o644).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"short again");
    }

    #[test]
    fn paths_stay_inside_their_volume() {
        let dir = tempfile::tempdir().unwrap();
        assert!(below(dir.path(), "../x").is_err());
        assert!(below(dir.path(), "/etc").is_err());
        assert!(below(dir.path(), "a/./b").is_ok());
    }
}
