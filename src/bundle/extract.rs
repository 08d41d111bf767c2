//! Writes parts of a bundle to a host, whole or not at all.
//!
//! Invariants: every entry is checked while it is written, before its tree takes its
//! place; repeating an extraction changes nothing and says so.
//! Not here: deciding where and whether (`install/`), service files (`playbook/`).

use std::path::Path;

use super::error::BundleError;
use super::open::{Bundle, plain_bytes};
use super::progress::Progress;
use crate::model::bundle_manifest::{Entry, EntryBody};
use crate::sys::bundle_file;
use crate::sys::bundle_tree::{self, TreeDraft};

/// Where the binary stands in a bundle.
pub(super) const BINARY_ENTRY: &str = "bin/holdfast";

/// Bytes that extraction needs, rounded up to disk blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// The engine's tree. A second one stands beside it while it is replaced.
    pub engine: u64,
    /// Image blobs, as a registry stores them.
    pub images: u64,
    pub playbooks: u64,
    pub binary: u64,
}

impl Space {
    /// All parts together.
    pub fn total(&self) -> u64 {
        self.engine + self.images + self.playbooks + self.binary
    }
}

/// Whether an extraction had to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The destination was already exactly this.
    Unchanged,
    /// The destination is now this.
    Written,
}

impl Bundle {
    /// What the parts need on disk.
    pub fn space_needed(&self) -> Space {
        const DISK_BLOCK: u64 = 4096;
        let part = |folder: &str| {
            let size = |entry: &Entry| match &entry.body {
                EntryBody::File { size, .. } => size.next_multiple_of(DISK_BLOCK),
                EntryBody::Link { .. } => DISK_BLOCK,
            };
            self.manifest().below(folder).map(|(_, entry)| size(entry)).sum()
        };
        Space {
            engine: part("engine"),
            images: part("images"),
            playbooks: part("playbooks"),
            binary: part("bin"),
        }
    }

    /// Makes `prefix` the engine's tree. Its programs run only where
    /// `manifest().engine_prefix` leads to this tree.
    pub fn extract_engine(
        &self,
        prefix: &Path,
        progress: &dyn Progress,
    ) -> Result<Outcome, BundleError> {
        self.extract_tree("engine", prefix, progress)
    }

    /// Whether exactly this bundle's engine stands at `prefix`; reads all of it.
    pub fn engine_stands_at(&self, prefix: &Path) -> Result<bool, BundleError> {
        let entries: Vec<(&str, &Entry)> = self.manifest().below("engine").collect();
        tree_on_disk(prefix, &entries)
    }

    /// Makes `folder` the playbooks' tree.
    pub fn extract_playbooks(
        &self,
        folder: &Path,
        progress: &dyn Progress,
    ) -> Result<Outcome, BundleError> {
        self.extract_tree("playbooks", folder, progress)
    }

    /// Makes `path` the bundle's holdfast binary.
    pub fn extract_binary(&self, path: &Path) -> Result<Outcome, BundleError> {
        let missing =
            || BundleError::NoEntry { path: self.path.clone(), name: BINARY_ENTRY.into() };
        let entry = self.manifest().entry(BINARY_ENTRY).ok_or_else(missing)?;
        if on_disk(path, entry)? {
            return Ok(Outcome::Unchanged);
        }
        let EntryBody::File { mode, .. } = &entry.body else { return Err(missing()) };
        let mut reader = self.reader(entry)?;
        bundle_file::replace_from(path, mode.0, &mut reader)
            .map_err(|source| reader.blame().unwrap_or_else(|| write_error(path, source)))?;
        Ok(Outcome::Written)
    }

    fn extract_tree(
        &self,
        folder: &str,
        place: &Path,
        progress: &dyn Progress,
    ) -> Result<Outcome, BundleError> {
        let entries: Vec<(&str, &Entry)> = self.manifest().below(folder).collect();
        let failed = |source| write_error(place, source);
        if tree_on_disk(place, &entries)? {
            // A run that was killed right after the swap left its leavings.
            bundle_tree::sweep(place).map_err(failed)?;
            return Ok(Outcome::Unchanged);
        }
        let draft = TreeDraft::start(place).map_err(failed)?;
        progress.begin("extract", plain_bytes(entries.iter().map(|(_, entry)| *entry)));
        for (name, entry) in entries {
            progress.item(name);
            match &entry.body {
                EntryBody::Link { target } => draft.link(name, target).map_err(failed)?,
                EntryBody::File { mode, size, .. } => {
                    let mut reader = self.reader(entry)?;
                    draft
                        .file(name, mode.0, &mut reader)
                        .map_err(|source| reader.blame().unwrap_or_else(|| failed(source)))?;
                    progress.advance(*size);
                }
            }
        }
        draft.commit().map_err(failed)?;
        progress.end();
        Ok(Outcome::Written)
    }
}

fn write_error(path: &Path, source: std::io::Error) -> BundleError {
    BundleError::Io { action: "extract to", path: path.into(), source }
}

/// Whether `place` holds exactly these entries.
fn tree_on_disk(place: &Path, entries: &[(&str, &Entry)]) -> Result<bool, BundleError> {
    let io = |source| BundleError::Io { action: "read", path: place.into(), source };
    let there = bundle_tree::list(place).map_err(io)?;
    if !place.is_dir() || !there.iter().map(String::as_str).eq(entries.iter().map(|(n, _)| *n)) {
        return Ok(false);
    }
    for (name, entry) in entries {
        if !on_disk(&place.join(name), entry)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether `path` is exactly this entry.
fn on_disk(path: &Path, entry: &Entry) -> Result<bool, BundleError> {
    match &entry.body {
        EntryBody::Link { target } => {
            Ok(bundle_tree::link_target(path).is_some_and(|there| there == Path::new(target)))
        }
        EntryBody::File { mode, size, sha256, .. } => {
            if bundle_tree::file_mode(path) != Some(mode.0) {
                return Ok(false);
            }
            let io = |source| BundleError::Io { action: "read", path: path.into(), source };
            let found = bundle_file::digest(path).map_err(io)?;
            Ok(found == (sha256.clone(), *size))
        }
    }
}
