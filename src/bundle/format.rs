//! The bytes of a bundle around its contents: tar headers, padding, offsets.
//!
//! ```text
//!  [header manifest.json][manifest, padded to 512]
//!  [header manifest.sig ][64 bytes, padded to 512]
//!  [header NAME.zst     ][zstd frame, padded to 512]   … one per file entry, in order
//!  [1024 zero bytes]
//! ```
//!
//! Why headers are made again instead of parsed: a header has exactly one right content
//! for a given manifest, so comparing it leaves no byte of the file unchecked.

use std::path::Path;

use super::error::BundleError;
use super::keys::SIGNATURE_BYTES;
use crate::model::bundle_manifest::{EntryBody, Manifest};
use crate::sys::bundle_file::SharedFile;

/// The unit of tar.
pub(super) const BLOCK: u64 = 512;
/// Zero bytes at the end.
pub(super) const END_BYTES: u64 = 2 * BLOCK;
pub(super) const MANIFEST_NAME: &str = "manifest.json";
pub(super) const SIGNATURE_NAME: &str = "manifest.sig";

/// The header of a member; `None` when the name does not fit into tar's fields.
pub(super) fn header(name: &str, size: u64) -> Option<[u8; BLOCK as usize]> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).ok()?;
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    Some(*header.as_bytes())
}

/// The member name of an entry's frame.
pub(super) fn member_name(entry: &str) -> String {
    format!("{entry}.zst")
}

/// Zero bytes that follow `size` bytes of content.
pub(super) fn padding(size: u64) -> u64 {
    size.next_multiple_of(BLOCK) - size
}

/// Where the frames of a manifest of `manifest_bytes` bytes stand: one offset an entry
/// (0 for links), and the length of the whole file.
pub(super) fn layout(manifest: &Manifest, manifest_bytes: u64) -> (Vec<u64>, u64) {
    let member = |size: u64| BLOCK + size + padding(size);
    let mut at = member(manifest_bytes) + member(SIGNATURE_BYTES as u64);
    let mut offsets = Vec::with_capacity(manifest.entries.len());
    for entry in &manifest.entries {
        match &entry.body {
            EntryBody::File { packed_size, .. } => {
                offsets.push(at + BLOCK);
                at = at.saturating_add(member(*packed_size));
            }
            EntryBody::Link { .. } => offsets.push(0),
        }
    }
    (offsets, at.saturating_add(END_BYTES))
}

/// Checks that all bytes between the frames are the ones that must stand there.
pub(super) fn check_frame_borders(
    file: &SharedFile,
    path: &Path,
    manifest: &Manifest,
    offsets: &[u64],
    total: u64,
) -> Result<(), BundleError> {
    let damaged = |part: String| BundleError::Damaged { path: path.into(), part };
    for (entry, offset) in manifest.entries.iter().zip(offsets) {
        let EntryBody::File { packed_size, .. } = &entry.body else { continue };
        let expected = header(&member_name(&entry.name), *packed_size);
        let found: [u8; BLOCK as usize] = read_array(file, path, offset - BLOCK)?;
        if expected != Some(found) {
            return Err(damaged(format!("tar header of entry {}", entry.name)));
        }
        if !all_zero(file, path, offset + packed_size, padding(*packed_size))? {
            return Err(damaged(format!("padding after entry {}", entry.name)));
        }
    }
    if all_zero(file, path, total - END_BYTES, END_BYTES)? {
        return Ok(());
    }
    Err(damaged("end mark".into()))
}

/// Reads a fixed number of bytes.
pub(super) fn read_array<const N: usize>(
    file: &SharedFile,
    path: &Path,
    offset: u64,
) -> Result<[u8; N], BundleError> {
    let mut bytes = [0; N];
    file.read_exact_at(&mut bytes, offset).map_err(|source| BundleError::Io {
        action: "read",
        path: path.into(),
        source,
    })?;
    Ok(bytes)
}

/// Whether `len` (at most [`END_BYTES`]) bytes at `offset` are zero.
pub(super) fn all_zero(
    file: &SharedFile,
    path: &Path,
    offset: u64,
    len: u64,
) -> Result<bool, BundleError> {
    let mut bytes = [0; END_BYTES as usize];
    let part = &mut bytes[..len as usize];
    file.read_exact_at(part, offset).map_err(|source| BundleError::Io {
        action: "read",
        path: path.into(),
        source,
    })?;
    Ok(part.iter().all(|byte| *byte == 0))
}
