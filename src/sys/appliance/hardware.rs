//! What the machine is made of, as its kernel tells.
//!
//! Invariant: looking writes nothing, to no disk and to no card.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::sys::host_files::HostFiles;

/// How much of a disk's beginning and end is looked at, bytes.
const LOOK_BYTES: u64 = 1 << 20;

/// A machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Maker, product and serial number, as far as the firmware tells.
    pub model: String,
    /// Whether it was started by UEFI.
    pub uefi: bool,
    pub processors: usize,
    pub memory_bytes: u64,
    /// The clock, seconds since 1970.
    pub clock_seconds: i64,
    pub disks: Vec<Disk>,
    pub cards: Vec<NetworkCard>,
}

/// A disk that can be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    pub name: String,
    pub bytes: u64,
    pub model: String,
    pub serial: String,
    /// What was seen on it; `None` when its beginning and its end are all zero.
    pub content: Option<String>,
}

/// A network card.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkCard {
    pub name: String,
    pub address: String,
    pub driver: String,
}

/// Looks at this machine.
pub fn survey() -> Machine {
    let files = HostFiles::here();
    let told = |path: &str| files.text(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    let dmi = ["sys_vendor", "product_name", "product_serial"];
    let model: Vec<String> = dmi
        .iter()
        .map(|field| told(&format!("/sys/class/dmi/id/{field}")))
        .filter(|text| !text.is_empty())
        .collect();
    Machine {
        model: model.join(" "),
        uefi: files.exists("/sys/firmware/efi"),
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        memory_bytes: files.memory("MemTotal").unwrap_or_default(),
        clock_seconds: crate::sys::clock::now().as_second(),
        disks: names("/sys/block").iter().filter_map(|name| disk(&files, name)).collect(),
        cards: names("/sys/class/net").iter().filter_map(|name| card(&files, name)).collect(),
    }
}

fn names(folder: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// A disk, unless it is none that holds a system: a CD, a memory disk, a read-only one.
fn disk(files: &HostFiles, name: &str) -> Option<Disk> {
    let below = |path: &str| format!("/sys/block/{name}/{path}");
    let other = ["loop", "ram", "sr", "fd", "dm-", "md", "zram"];
    if other.iter().any(|kind| name.starts_with(kind)) || files.value(&below("ro")) == Some(1_u8) {
        return None;
    }
    let bytes = files.value::<u64>(&below("size"))? * 512;
    let first = |paths: &[&str]| {
        let mut texts = paths.iter().filter_map(|path| files.text(&below(path)));
        texts.find(|text| !text.trim().is_empty()).unwrap_or_default().trim().to_owned()
    };
    Some(Disk {
        name: name.to_owned(),
        bytes,
        model: first(&["device/model", "device/device/model"]),
        serial: first(&["serial", "device/serial"]),
        content: content(Path::new(&format!("/dev/{name}")), bytes),
    })
}

/// What stands at the beginning and at the end of a disk; what lies between is not looked at.
fn content(device: &Path, bytes: u64) -> Option<String> {
    let Ok(file) = File::open(device) else { return Some("unreadable".to_owned()) };
    let read = |at: u64, len: u64| {
        let mut part = vec![0; usize::try_from(len).ok()?];
        file.read_exact_at(&mut part, at).ok().map(|()| part)
    };
    let len = LOOK_BYTES.min(bytes);
    let (Some(front), Some(back)) = (read(0, len), read(bytes - len, len)) else {
        return Some("unreadable".to_owned());
    };
    let at = |place: usize, magic: &[u8]| front.get(place..place + magic.len()) == Some(magic);
    let known = [
        (512, b"EFI PART".as_slice(), "GPT partitions"),
        (4096, b"EFI PART", "GPT partitions"),
        (1080, &[0x53, 0xef], "an ext file system"),
        (0, b"XFSB", "an XFS file system"),
        (0x1_0040, b"_BHRfS_M", "a btrfs file system"),
        (512, b"LABELONE", "an LVM volume"),
        (0, b"LUKS\xba\xbe", "an encrypted volume"),
        (4096, &[0xfc, 0x4e, 0x2b, 0xa9], "a RAID member"),
        (32_769, b"CD001", "an ISO 9660 file system"),
        (510, &[0x55, 0xaa], "MBR partitions or a FAT file system"),
    ];
    let found = known.iter().find(|(place, magic, _)| at(*place, magic));
    match found {
        Some((_, _, what)) => Some((*what).to_owned()),
        None if front.iter().chain(&back).all(|byte| *byte == 0) => None,
        None => Some("data of an unknown kind".to_owned()),
    }
}

/// A card, not a link that the kernel made up.
fn card(files: &HostFiles, name: &str) -> Option<NetworkCard> {
    let below = |path: &str| format!("/sys/class/net/{name}/{path}");
    let driver = fs::read_link(below("device/driver")).ok()?;
    Some(NetworkCard {
        name: name.to_owned(),
        address: files.text(&below("address")).unwrap_or_default().trim().to_owned(),
        driver: driver.file_name().unwrap_or_default().to_string_lossy().into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_a_disk_is_told_and_only_zeros_are_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let look = |bytes: u64, at: u64, text: &[u8]| {
            let file = File::create(&path).unwrap();
            file.set_len(bytes).unwrap();
            file.write_all_at(text, at).unwrap();
            content(&path, bytes)
        };
        let big = 3 << 20;
        assert_eq!(look(big, 0, &[]), None);
        assert_eq!(look(big, 512, b"EFI PART").as_deref(), Some("GPT partitions"));
        assert_eq!(look(big, 1080, &[0x53, 0xef]).as_deref(), Some("an ext file system"));
        let unknown = Some("data of an unknown kind");
        assert_eq!(look(big, big - 1, b"x").as_deref(), unknown);
        assert_eq!(look(4096, 7, b"x").as_deref(), unknown);
        assert_eq!(content(&dir.path().join("gone"), big).as_deref(), Some("unreadable"));
    }
}
