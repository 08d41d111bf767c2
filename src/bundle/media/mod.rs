//! Bootable media: one file that starts an empty machine, made of a bundle and nothing else.
//!
//! ```text
//!  bundle ── system/kernel, early ────────────┐
//!     │      bin/holdfast + trusted keys ─────┼─ tree ─┬─ iso: ISO 9660, El Torito, GPT and MBR
//!     │      system/loader ───────────────────┤        └─ disk: GPT, FAT
//!     └───── the bundle itself ───────────────┘
//! ```
//!
//! Why the keys go into the kernel's first file system and not beside the bundle: what boots
//! decides which bundle it takes; a bundle that was exchanged on the medium is refused by it.
//! Invariants: nothing is written before the signature and every entry of the bundle hold; the
//! same bundle and keys give the same bytes; the output is complete or as it was before; what
//! was written of the bundle was read back.
//! Not here: how the parts were made (`bundle/build/system`), what the medium does
//! (`install/live`).

mod disk;
mod error;
mod iso;
mod parts;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

pub use error::MediaError;

use self::error::failed;
use self::parts::Parts;
use super::keys::TrustedKeys;
use super::open::Bundle;
use super::progress::Progress;
use crate::sys::bundle_file::{self, SharedFile};
use crate::sys::host::same_file;

/// How an image is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// For CDs and virtual media; written to a stick, it boots as a disk too.
    Iso,
    /// For sticks that people put files onto: partitioned, with a FAT file system.
    Disk,
}

/// Writes a medium with `bundle` to `output` and answers its size in bytes. The machine that
/// starts from it accepts bundles of `trusted` keys, which were read from `key_files`.
pub fn write_medium(
    shape: Shape,
    bundle: &Bundle,
    trusted: &TrustedKeys,
    key_files: &[PathBuf],
    output: &Path,
    progress: &dyn Progress,
) -> Result<u64, MediaError> {
    if output.exists() && !output.is_file() {
        return Err(MediaError::NotAFile { path: output.into() });
    }
    let mut inputs = [bundle.path()].into_iter().chain(key_files.iter().map(PathBuf::as_path));
    if let Some(input) = inputs.find(|input| same_file(input, output)) {
        return Err(MediaError::OverInput { output: output.into(), input: input.into() });
    }
    if bundle.manifest().entry("system/kernel").is_none() {
        return Err(MediaError::NoSystem { path: bundle.path().into() });
    }
    bundle.verify_all(progress)?;
    let parts = Parts::of(bundle, trusted)?;
    progress.begin("write the medium", 0);
    progress.item(&output.display().to_string());
    let draft =
        bundle_file::Draft::start(output).map_err(failed("create a file beside", output))?;
    match shape {
        Shape::Iso => iso::write(&parts, draft.path())?,
        Shape::Disk => disk::write(&parts, draft.path())?,
    }
    let size = draft.settle(0o644).map_err(failed("write", output))?;
    progress.end();
    Ok(size)
}

/// Whether `copy` yields the very bytes of the bundle that was verified.
fn same_as_bundle(
    parts: &Parts<'_>,
    copy: &mut dyn FnMut(u64, &mut [u8]) -> std::io::Result<()>,
) -> Result<(), MediaError> {
    let file = parts.bundle.file();
    let (mut ours, mut theirs) = (Sha256::new(), Sha256::new());
    let mut at = 0;
    let mut buffer = vec![0; 1 << 20];
    while at < file.size() {
        let len = usize::try_from(file.size() - at).map_or(buffer.len(), |n| n.min(buffer.len()));
        let part = &mut buffer[..len];
        file.read_exact_at(part, at).map_err(failed("read", parts.bundle.path()))?;
        ours.update(&*part);
        copy(at, part).map_err(|source| MediaError::ReadBack { source: Some(source) })?;
        theirs.update(&*part);
        at += len as u64;
    }
    if ours.finalize() == theirs.finalize() {
        return Ok(());
    }
    Err(MediaError::ReadBack { source: None })
}

/// The written image, to be read back.
fn reopened(path: &Path) -> Result<SharedFile, MediaError> {
    SharedFile::open(path).map_err(failed("read back", path))
}
