//! Directories of files that change all at once, as pods see configMaps and secrets.
//!
//! Why a switch of a symbolic link for whole directories: a program that reads several
//! files of a configMap must never see some old and some new (the kubelet does the same:
//! `..data` points to the current set, the visible names point through it).
//! Invariant: a reader sees the old set or the new one, also when the writer is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;

use nix::unistd::{Gid, Uid, chown};

use super::pod_files::{below, make_dir, names_in, remove_file};

/// One file of a published set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedFile {
    pub content: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Who owns it, if not root.
    pub owner: Option<u32>,
}

const CURRENT: &str = "..data";
/// What a group gets on files that it is given: to read them.
const GROUP_READS: u32 = 0o440;
/// Directories that a group was given: new files stay in it.
const GROUP_DIRECTORY: u32 = 0o2755;

/// Makes `dir` show exactly these files, all at once, readable for the group if one is
/// named. Names may hold slashes, but no `..`. Returns whether anything changed.
pub fn publish_directory(
    dir: &Path,
    files: &BTreeMap<String, PublishedFile>,
    group: Option<u32>,
) -> io::Result<bool> {
    own_directory(dir, group)?;
    if is_published(dir, files, group) {
        return Ok(false);
    }
    let version = next_version(dir)?;
    let fresh = dir.join(&version);
    own_directory(&fresh, group)?;
    for (name, file) in files {
        let path = below(&fresh, name)?;
        if let Some(parent) = path.parent() {
            own_parents(&fresh, parent, group)?;
        }
        // Nobody reads it before its owner and mode are set.
        let mut made =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        made.write_all(&file.content)?;
        if file.owner.is_some() || group.is_some() {
            chown(&path, file.owner.map(Uid::from_raw), group.map(Gid::from_raw))?;
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(mode_of(file, group)))?;
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

fn mode_of(file: &PublishedFile, group: Option<u32>) -> u32 {
    if group.is_some() { file.mode | GROUP_READS } else { file.mode }
}

fn own_directory(dir: &Path, group: Option<u32>) -> io::Result<()> {
    make_dir(dir, 0o755)?;
    if let Some(group) = group {
        chown(dir, None, Some(Gid::from_raw(group)))?;
        fs::set_permissions(dir, fs::Permissions::from_mode(GROUP_DIRECTORY))?;
    }
    Ok(())
}

/// Every directory between the set's root and a file's.
fn own_parents(root: &Path, parent: &Path, group: Option<u32>) -> io::Result<()> {
    let mut at = root.to_owned();
    for part in parent.strip_prefix(root).unwrap_or(Path::new("")).components() {
        at.push(part);
        own_directory(&at, group)?;
    }
    Ok(())
}

fn next_version(dir: &Path) -> io::Result<String> {
    let numbers = names_in(dir)?
        .into_iter()
        .filter_map(|name| name.strip_prefix("..v").and_then(|tail| tail.parse::<u64>().ok()));
    Ok(format!("..v{}", numbers.max().unwrap_or(0) + 1))
}

fn is_published(dir: &Path, files: &BTreeMap<String, PublishedFile>, group: Option<u32>) -> bool {
    let current = dir.join(CURRENT);
    let mut count = 0;
    let mut pending = vec![current.clone()];
    while let Some(next) = pending.pop() {
        let Ok(entries) = fs::read_dir(&next) else { return false };
        for entry in entries.flatten() {
            if entry.path().is_dir() { pending.push(entry.path()) } else { count += 1 }
        }
    }
    let visible = heads(files).iter().all(|head| fs::symlink_metadata(dir.join(head)).is_ok());
    visible
        && count == files.len()
        && files.iter().all(|(name, file)| {
            let path = current.join(name);
            let right = |meta: fs::Metadata| {
                meta.permissions().mode() & 0o7777 == mode_of(file, group)
                    && file.owner.is_none_or(|owner| meta.uid() == owner)
                    && group.is_none_or(|group| meta.gid() == group)
            };
            fs::read(&path).is_ok_and(|content| content == file.content)
                && fs::metadata(&path).is_ok_and(right)
        })
}

fn heads(files: &BTreeMap<String, PublishedFile>) -> BTreeSet<&str> {
    files.keys().filter_map(|name| name.split('/').next()).collect()
}

/// The visible names: links through `..data`, so that one switch moves them all.
fn show_names(dir: &Path, files: &BTreeMap<String, PublishedFile>) -> io::Result<()> {
    let heads = heads(files);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[(&str, &str)]) -> BTreeMap<String, PublishedFile> {
        pairs
            .iter()
            .map(|(name, text)| {
                let content = text.as_bytes().to_vec();
                ((*name).to_owned(), PublishedFile { content, mode: 0o644, owner: None })
            })
            .collect()
    }

    #[test]
    fn a_published_set_is_switched_whole() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("v");
        let publish = |files: &[(&str, &str)]| publish_directory(&volume, &set(files), None);
        assert!(publish(&[("a", "1"), ("sub/b", "2")]).unwrap());
        assert_eq!(fs::read_to_string(volume.join("a")).unwrap(), "1");
        assert_eq!(fs::read_to_string(volume.join("sub/b")).unwrap(), "2");
        assert!(!publish(&[("a", "1"), ("sub/b", "2")]).unwrap());
        assert!(publish(&[("a", "3"), ("c", "4")]).unwrap());
        assert_eq!(fs::read_to_string(volume.join("a")).unwrap(), "3");
        assert_eq!(fs::read_to_string(volume.join("c")).unwrap(), "4");
        assert!(!volume.join("sub").exists());
        let versions = names_in(&volume).unwrap();
        assert_eq!(versions.iter().filter(|name| name.starts_with("..v")).count(), 1);
    }

    #[test]
    fn a_visible_name_that_a_killed_writer_left_out_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let files = set(&[("a", "1")]);
        publish_directory(dir.path(), &files, None).unwrap();
        fs::remove_file(dir.path().join("a")).unwrap();
        assert!(publish_directory(dir.path(), &files, None).unwrap());
        assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "1");
    }

    #[test]
    fn a_group_may_read_and_an_owner_alone_keeps_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let own = nix::unistd::getuid().as_raw();
        let group = nix::unistd::getgid().as_raw();
        let file = PublishedFile { content: b"t".to_vec(), mode: 0o600, owner: Some(own) };
        let files = BTreeMap::from([("deep/token".to_owned(), file)]);
        let mode =
            |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o7777;
        publish_directory(dir.path(), &files, None).unwrap();
        assert_eq!(mode("deep/token"), 0o600);
        assert!(publish_directory(dir.path(), &files, Some(group)).unwrap());
        assert_eq!(mode("deep/token"), 0o640);
        assert_eq!(mode("deep"), 0o2755);
        assert!(!publish_directory(dir.path(), &files, Some(group)).unwrap());
    }
}
