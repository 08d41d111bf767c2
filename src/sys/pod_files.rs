//! Files and mounts that the agent makes for pods.
//!
//! Why a switch of a symbolic link for whole directories: a program that reads several
//! files of a configMap must never see some old and some new (the kubelet does the same:
//! `..data` points to the current set, the visible names point through it).
//! Invariants: a path below a volume never leads out of it; removing is repeatable and
//! never crosses into what is still mounted.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{Gid, chown};

/// One file of a published set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedFile {
    pub content: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
}

const CURRENT: &str = "..data";

/// Creates a directory (and its parents) with exactly these permission bits.
pub fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path)?;
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
pub fn rewrite_file(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    if fs::read(path).is_ok_and(|old| old == content) {
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

/// Makes `dir` show exactly these files, all at once. Names may hold slashes, but no
/// `..`. Returns whether anything changed.
pub fn publish_directory(dir: &Path, files: &BTreeMap<String, PublishedFile>) -> io::Result<bool> {
    make_dir(dir, 0o755)?;
    if is_published(dir, files) {
        return Ok(false);
    }
    let version = next_version(dir)?;
    let fresh = dir.join(&version);
    make_dir(&fresh, 0o755)?;
    for (name, file) in files {
        let path = below(&fresh, name)?;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, &file.content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(file.mode))?;
    }
    let pending = dir.join("..data_tmp");
    remove_file(&pending)?;
    symlink(&version, &pending)?;
    fs::rename(&pending, dir.join(CURRENT))?;
    show_names(dir, files)?;
    for name in names_in(dir)? {
        if name.starts_with("..v") && name != version {
            fs::remove_dir_all(dir.join(name))?;
        }
    }
    Ok(true)
}

fn next_version(dir: &Path) -> io::Result<String> {
    let numbers = names_in(dir)?
        .into_iter()
        .filter_map(|name| name.strip_prefix("..v").and_then(|tail| tail.parse::<u64>().ok()));
    Ok(format!("..v{}", numbers.max().unwrap_or(0) + 1))
}

fn is_published(dir: &Path, files: &BTreeMap<String, PublishedFile>) -> bool {
    let current = dir.join(CURRENT);
    let mut count = 0;
    let mut pending = vec![current.clone()];
    while let Some(next) = pending.pop() {
        let Ok(entries) = fs::read_dir(&next) else { return false };
        for entry in entries.flatten() {
            if entry.path().is_dir() { pending.push(entry.path()) } else { count += 1 }
        }
    }
    count == files.len()
        && files.iter().all(|(name, file)| {
            let path = current.join(name);
            fs::read(&path).is_ok_and(|content| content == file.content)
                && fs::metadata(&path)
                    .is_ok_and(|meta| meta.permissions().mode() & 0o7777 == file.mode)
        })
}

/// The visible names: links through `..data`, so that one switch moves them all.
fn show_names(dir: &Path, files: &BTreeMap<String, PublishedFile>) -> io::Result<()> {
    let heads: std::collections::BTreeSet<&str> =
        files.keys().filter_map(|name| name.split('/').next()).collect();
    for name in names_in(dir)? {
        if !name.starts_with("..") && !heads.contains(name.as_str()) {
            remove_file(&dir.join(name))?;
        }
    }
    for head in heads {
        let visible = dir.join(head);
        if fs::symlink_metadata(&visible).is_err() {
            symlink(Path::new(CURRENT).join(head), visible)?;
        }
    }
    Ok(())
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

/// `root/sub` with every link resolved, created as a directory if missing, and refused
/// when it leads out of `root`.
pub fn resolve_below(root: &Path, sub: &str) -> io::Result<PathBuf> {
    let path = below(root, sub)?;
    if fs::symlink_metadata(&path).is_err() {
        fs::create_dir_all(&path)?;
    }
    let (real, real_root) = (fs::canonicalize(&path)?, fs::canonicalize(root)?);
    if real.starts_with(&real_root) {
        Ok(real)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{sub} leads out of the volume")))
    }
}

/// Gives a directory to a group whose members' new files stay in it (`fsGroup`).
pub fn give_to_group(path: &Path, group: u32) -> io::Result<()> {
    chown(path, None, Some(Gid::from_raw(group)))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o2777))
}

/// Whether something is mounted exactly here.
pub fn is_mounted(path: &Path) -> io::Result<bool> {
    Ok(mounts_at_or_below(path)?.iter().any(|target| target == path))
}

fn mounts_at_or_below(path: &Path) -> io::Result<Vec<PathBuf>> {
    let table = procfs::process::Process::myself()
        .and_then(|me| me.mountinfo())
        .map_err(io::Error::other)?;
    Ok(table.into_iter().map(|m| m.mount_point).filter(|at| at.starts_with(path)).collect())
}

/// Mounts memory here unless it is mounted already.
pub fn mount_memory(path: &Path, size_bytes: Option<u64>) -> io::Result<()> {
    if is_mounted(path)? {
        return Ok(());
    }
    let options = match size_bytes {
        Some(size) => format!("mode=1777,size={size}"),
        None => "mode=1777".to_owned(),
    };
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some(options.as_str()))?;
    Ok(())
}

/// Removes a pod's directory: first what is mounted in it, then the files.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let mut mounts = mounts_at_or_below(path)?;
    mounts.sort_by_key(|at| std::cmp::Reverse(at.components().count()));
    for at in mounts {
        umount2(&at, MntFlags::MNT_DETACH)?;
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[(&str, &str)]) -> BTreeMap<String, PublishedFile> {
        pairs
            .iter()
            .map(|(name, text)| {
                let content = text.as_bytes().to_vec();
                ((*name).to_owned(), PublishedFile { content, mode: 0o644 })
            })
            .collect()
    }

    #[test]
    fn a_published_set_is_switched_whole() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("v");
        assert!(publish_directory(&volume, &set(&[("a", "1"), ("sub/b", "2")])).unwrap());
        assert_eq!(fs::read_to_string(volume.join("a")).unwrap(), "1");
        assert_eq!(fs::read_to_string(volume.join("sub/b")).unwrap(), "2");
        assert!(!publish_directory(&volume, &set(&[("a", "1"), ("sub/b", "2")])).unwrap());
        assert!(publish_directory(&volume, &set(&[("a", "3"), ("c", "4")])).unwrap());
        assert_eq!(fs::read_to_string(volume.join("a")).unwrap(), "3");
        assert_eq!(fs::read_to_string(volume.join("c")).unwrap(), "4");
        assert!(!volume.join("sub").exists());
        let versions = names_in(&volume).unwrap();
        assert_eq!(versions.iter().filter(|name| name.starts_with("..v")).count(), 1);
    }

    #[test]
    fn paths_stay_inside_their_volume() {
        let dir = tempfile::tempdir().unwrap();
        assert!(below(dir.path(), "../x").is_err());
        assert!(below(dir.path(), "/etc").is_err());
        symlink("/etc", dir.path().join("out")).unwrap();
        assert!(resolve_below(dir.path(), "out/ssl").is_err());
        assert!(resolve_below(dir.path(), "deep/er").unwrap().is_dir());
    }

    #[test]
    fn memory_is_mounted_once_and_removed_with_its_tree() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("pod/volume");
        make_dir(&volume, 0o777).unwrap();
        match mount_memory(&volume, Some(1 << 20)) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return,
            outcome => outcome.unwrap(),
        }
        mount_memory(&volume, Some(1 << 20)).unwrap();
        assert!(is_mounted(&volume).unwrap());
        remove_tree(&dir.path().join("pod")).unwrap();
        assert!(!dir.path().join("pod").exists());
        remove_tree(&dir.path().join("pod")).unwrap();
    }
}
