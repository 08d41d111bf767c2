//! Block devices, and the label of what is on them.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::model::live::MEDIUM_LABEL;

/// Every block device with content of its own, disks before their partitions; no loops.
pub fn block_devices() -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir("/sys/class/block") else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names
        .filter(|name| !["loop", "ram", "fd"].iter().any(|kind| name.starts_with(kind)))
        .collect();
    names.sort();
    names.into_iter().map(|name| Path::new("/dev").join(name)).collect()
}

/// The kind of file system on a device that calls itself as our media do: an ISO 9660 or a
/// FAT32 one.
pub fn holdfast_label(device: &Path) -> Option<&'static str> {
    let file = File::open(device).ok()?;
    let read = |at: u64, len: usize| {
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, at).ok().map(|()| bytes)
    };
    let labelled =
        |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches([' ', '\0']) == MEDIUM_LABEL;
    // The primary descriptor stands in the sector at 16 × 2048, its label 40 bytes further.
    if let Some(descriptor) = read(32_768, 72)
        && descriptor.get(1..6) == Some(b"CD001".as_slice())
    {
        return labelled(&descriptor[40..72]).then_some("iso9660");
    }
    let sector = read(0, 512)?;
    (sector.get(82..87) == Some(b"FAT32".as_slice()) && labelled(&sector[71..82])).then_some("vfat")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_media_that_call_themselves_so_are_taken() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, at: usize, parts: &[(usize, &[u8])]| {
            let mut bytes = vec![0; 34_816];
            for (offset, part) in parts {
                bytes[at + offset..at + offset + part.len()].copy_from_slice(part);
            }
            let path = dir.path().join(name);
            fs::write(&path, bytes).unwrap();
            holdfast_label(&path)
        };
        let iso: &[(usize, &[u8])] = &[(1, b"CD001"), (40, b"HOLDFAST                        ")];
        assert_eq!(write("iso", 32_768, iso), Some("iso9660"));
        let other: &[(usize, &[u8])] = &[(1, b"CD001"), (40, b"HOLDFASTER                      ")];
        assert_eq!(write("other", 32_768, other), None);
        assert_eq!(write("fat", 0, &[(82, b"FAT32   "), (71, b"HOLDFAST   ")]), Some("vfat"));
        assert_eq!(write("empty", 0, &[]), None);
        assert_eq!(holdfast_label(&dir.path().join("absent")), None);
    }
}
