//! Small files of a member's disk that are written whole.
//!
//! Invariant: after a crash a file has its old content or its new, and what was written is
//! durable when the call returns.

use std::io;

use super::disk::StoreDisk;

/// What a file is called until it is complete.
const SUFFIX: &str = ".new";

pub(super) fn write_whole(disk: &dyn StoreDisk, name: &str, content: &[u8]) -> io::Result<()> {
    let building = format!("{name}{SUFFIX}");
    disk.remove(&building)?;
    let file = disk.open(&building)?;
    file.set_len(content.len() as u64)?;
    file.write(0, content)?;
    file.sync_data()?;
    file.close()?;
    disk.rename(&building, name)
}

/// The content; `None` if there is no such file.
pub(super) fn read_whole(disk: &dyn StoreDisk, name: &str) -> io::Result<Option<Vec<u8>>> {
    if !disk.exists(name)? {
        return Ok(None);
    }
    let file = disk.open(name)?;
    let mut content = vec![0; usize::try_from(file.len()?).unwrap_or(0)];
    file.read(0, &mut content)?;
    file.close()?;
    Ok(Some(content))
}
