//! The kernel's first file system: a cpio archive, packed with zstd.
//!
//! Why several archives and not one: the kernel unpacks all that the boot loader hands it,
//! one after the other. So the modules are packed once with the bundle, and program, key and
//! answers are packed when a medium is made, without the packages.
//! Invariants: owner root, time zero, numbers by place: the same files give the same bytes.

use std::io::{self, Write};

use cpio::newc::{Builder, trailer};

const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_000;
const DEVICE: u32 = 0o020_600;
/// zstd's level: what a higher one saves, the loader of a BIOS does not notice.
const LEVEL: i32 = 12;

/// An archive in the making.
#[derive(Debug, Default)]
pub(in crate::bundle) struct Archive {
    bytes: Vec<u8>,
    count: u32,
}

impl Archive {
    fn add(&mut self, entry: Builder, content: &[u8]) -> io::Result<()> {
        self.count += 1;
        let size = u32::try_from(content.len()).map_err(io::Error::other)?;
        let mut writer = entry.ino(self.count).write(&mut self.bytes, size);
        writer.write_all(content)?;
        writer.finish().map(drop)
    }

    /// A folder; those above it must have been added before.
    pub(in crate::bundle) fn folder(&mut self, name: &str) -> io::Result<()> {
        self.add(Builder::new(name).mode(FOLDER).nlink(2), &[])
    }

    pub(in crate::bundle) fn file(
        &mut self,
        name: &str,
        mode: u32,
        content: &[u8],
    ) -> io::Result<()> {
        self.add(Builder::new(name).mode(FILE | mode).nlink(1), content)
    }

    /// A character device.
    pub(in crate::bundle) fn device(&mut self, name: &str, number: (u32, u32)) -> io::Result<()> {
        let (major, minor) = number;
        let entry = Builder::new(name).mode(DEVICE).nlink(1).rdev_major(major).rdev_minor(minor);
        self.add(entry, &[])
    }
}

/// The finished archive as the boot loader hands it to the kernel.
pub(in crate::bundle) fn pack(archive: Archive) -> io::Result<Vec<u8>> {
    let plain = trailer(archive.bytes)?;
    let mut packed = zstd::encode_all(plain.as_slice(), LEVEL)?;
    // The next archive must begin where the kernel looks for one.
    packed.resize(packed.len().next_multiple_of(4), 0);
    Ok(packed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive() -> Archive {
        let mut archive = Archive::default();
        archive.folder("dev").unwrap();
        archive.device("dev/console", (5, 1)).unwrap();
        archive.file("init", 0o755, b"program").unwrap();
        archive
    }

    #[test]
    fn an_archive_reads_back_and_is_the_same_each_time() {
        let packed = pack(archive()).unwrap();
        assert_eq!(packed, pack(archive()).unwrap());
        assert_eq!(packed.len() % 4, 0);
        let frame = zstd::Decoder::new(packed.as_slice()).unwrap().single_frame();
        let plain = io::read_to_string(frame).unwrap();
        let mut rest = io::Cursor::new(plain.into_bytes());
        let mut found = Vec::new();
        loop {
            let reader = cpio::NewcReader::new(rest).unwrap();
            let entry = reader.entry();
            if entry.is_trailer() {
                break;
            }
            found.push((entry.name().to_owned(), entry.mode(), entry.file_size()));
            rest = reader.finish().unwrap();
        }
        let expected = [
            ("dev".to_owned(), 0o040_755, 0),
            ("dev/console".to_owned(), 0o020_600, 0),
            ("init".to_owned(), 0o100_755, 7),
        ];
        assert_eq!(found, expected);
    }
}
