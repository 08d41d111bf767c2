//! Takes a lab down so that nothing is left of it.
//!
//! Why it trusts no record: it must also work after a crash in the middle of `lab up` or
//! of itself. Processes are found by control group, groups by their name, which follows
//! from the directory. The namespaces and the mounts in them end with their processes.
//! Invariant: the record goes last, so that an interrupted `lab down` can be repeated.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::error::{LabError, files};
use super::record::LabDir;
use super::require_root;
use crate::sys::cgroup::Group;
use crate::sys::{mounts, tree};

/// How long the kernel may take to end all processes.
const KILL_LIMIT: Duration = Duration::from_secs(60);

/// What was there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DownReport {
    pub processes: usize,
    pub mounts: usize,
}

/// Ends and removes everything of the lab in `dir`; a directory without a lab is no error.
pub fn down(dir: &Path) -> Result<DownReport, LabError> {
    require_root()?;
    if !dir.exists() {
        return Ok(DownReport::default());
    }
    let dir = LabDir::open(dir)?;
    let record = dir.read().unwrap_or_else(|error| {
        tracing::warn!(error = %error, "the lab's record is of no use; going by names");
        None
    });
    let groups = Group::discover(&dir.group_name())?;
    let processes = groups.processes().len();
    groups.clear(KILL_LIMIT)?;
    let mounts = mounts::unmount_below(&dir.hosts())?;
    // Without a record, whole or torn, nothing in there was made by a lab.
    let record_path = dir.record_path();
    if !record_path.exists() && !tree::beside(&record_path).exists() {
        return Ok(DownReport { processes, mounts });
    }
    for path in dir.contents() {
        for path in [tree::beside(&path), path] {
            tree::remove(&path).map_err(files("remove the lab's files"))?;
        }
    }
    let empty = tree::list(dir.path()).map_err(files("read the lab's directory"))?.is_empty();
    if empty && record.is_some_and(|record| record.made_dir) {
        tree::remove(dir.path()).map_err(files("remove the lab's directory"))?;
    }
    Ok(DownReport { processes, mounts })
}
