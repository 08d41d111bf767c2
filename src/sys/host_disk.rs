//! What a disk does, found by trying; what is written for that is gone afterwards.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::dir::Dir;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, major, minor};
use nix::unistd::{AccessFlags, access};

use super::files::nearest_existing;
use super::host_files::HostFiles;

/// Size of what is written and synced, bytes: a small entry of a log.
const WRITE_BYTES: usize = 2_048;

/// How long each of `count` small synced writes took, those of the time that is given. They
/// go over a file that has its size already, as members' logs do.
pub fn sync_times(dir: &Path, count: u32, patience: Duration) -> io::Result<Vec<Duration>> {
    let mut file = tempfile::tempfile_in(nearest_existing(dir))?;
    file.write_all(&vec![0; WRITE_BYTES * count as usize])?;
    file.sync_all()?;
    let started = Instant::now();
    let mut times = Vec::new();
    for number in 0..u64::from(count) {
        let begun = Instant::now();
        file.write_all_at(&[1; WRITE_BYTES], number * WRITE_BYTES as u64)?;
        file.sync_data()?;
        times.push(begun.elapsed());
        if started.elapsed() > patience {
            break;
        }
    }
    Ok(times)
}

/// Whether a directory says which kind each of its entries is.
pub fn has_typed_entries(dir: &Path) -> Option<bool> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let mut dir = Dir::open(&nearest_existing(dir), flags, Mode::empty()).ok()?;
    Some(dir.iter().flatten().all(|entry| entry.file_type().is_some()))
}

/// Whether the disk below a directory says that it rotates.
pub fn rotates(dir: &Path) -> bool {
    let Ok(found) = nearest_existing(dir).metadata() else { return false };
    let device = format!("/sys/dev/block/{}:{}", major(found.dev()), minor(found.dev()));
    let files = HostFiles::here();
    // A partition has no queue; its disk, above it, has one.
    let queues = ["queue/rotational", "../queue/rotational"].into_iter();
    let mut values = queues.filter_map(|path| files.value::<u8>(&format!("{device}/{path}")));
    values.next() == Some(1)
}

/// Whether files can be made in a directory, or in what there is of the way to it.
pub fn is_writable(dir: &Path) -> bool {
    access(&nearest_existing(dir), AccessFlags::W_OK).is_ok()
}

/// Whether a file can be made in a directory and written.
pub fn takes_files(dir: &Path) -> bool {
    let made: io::Result<File> = tempfile::tempfile_in(dir);
    made.and_then(|mut file| file.write_all(b"x")).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trying_leaves_nothing_behind() {
        let dir = tempfile::tempdir().expect("a directory");
        let below = dir.path().join("not/there");
        let times = sync_times(&below, 5, Duration::from_secs(60)).expect("writes");
        assert!(times.len() == 5 && times.iter().all(|time| !time.is_zero()));
        let cut = sync_times(&below, 5, Duration::ZERO).expect("writes");
        assert_eq!(cut.len(), 1);
        assert_eq!(has_typed_entries(&below), Some(true));
        assert!(is_writable(&below) && takes_files(dir.path()) && !takes_files(&below));
        assert_eq!(std::fs::read_dir(dir.path()).expect("lists").count(), 0);
    }
}
