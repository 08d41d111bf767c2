//! An opened bundle: signature and structure hold, entries can be read.
//!
//! Why [`Bundle::open`] does both at once: there is no way to hold a `Bundle` whose
//! manifest was not signed by a trusted key, so no caller can forget the check.
//! Invariants: the file handle that was checked is the one that is read.
//! Not here: the check of contents ([`Bundle::verify_all`] and every reader do it, by
//! `entry.rs`), writing to hosts (`extract.rs`).

use std::path::{Path, PathBuf};

use super::entry::EntryReader;
use super::error::BundleError;
use super::format::{self, BLOCK, MANIFEST_NAME, SIGNATURE_NAME, padding, read_array};
use super::keys::{SIGNATURE_BYTES, TrustedKeys};
use super::progress::Progress;
use crate::base::limits::BUNDLE_MANIFEST_MAX_BYTES;
use crate::model::bundle_manifest::{BUNDLE_FORMAT, BUNDLE_KIND, Entry, EntryBody, Manifest};
use crate::sys::bundle_file::SharedFile;

/// A verified bundle; cheap to share behind an `Arc`, readable by many threads at once.
#[derive(Debug)]
pub struct Bundle {
    pub(super) path: PathBuf,
    file: SharedFile,
    manifest: Manifest,
    offsets: Vec<u64>,
    signer: String,
}

impl Bundle {
    /// Opens a bundle: its signature by one of `trusted`, then its structure. Nothing of
    /// it is used before both hold. Contents are checked as they are read.
    pub fn open(path: &Path, trusted: &TrustedKeys) -> Result<Self, BundleError> {
        let io = |source| BundleError::Io { action: "open", path: path.into(), source };
        let file = SharedFile::open(path).map_err(io)?;
        let (bytes, signature) = read_front(&file, path)?;
        let signer = match trusted.signer(&bytes, &signature) {
            Some(signer) => signer.to_string(),
            None => return Err(unsigned(path, &bytes, trusted)),
        };
        let manifest = parse(path, &bytes)?;
        let (offsets, total) = format::layout(&manifest, bytes.len() as u64);
        let have = file.size();
        if have < total {
            return Err(BundleError::Truncated { path: path.into(), have, need: total });
        }
        if have > total {
            return Err(BundleError::TrailingBytes { path: path.into(), extra: have - total });
        }
        format::check_frame_borders(&file, path, &manifest, &offsets, total)?;
        Ok(Self { path: path.into(), file, manifest, offsets, signer })
    }

    /// The signed manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The release's name for people.
    pub fn version(&self) -> &str {
        &self.manifest.version
    }

    /// The release's number; a host refuses a smaller one than it has.
    pub fn serial(&self) -> u64 {
        self.manifest.serial
    }

    /// Identity of the trusted key that signed.
    pub fn signer(&self) -> &str {
        &self.signer
    }

    /// Where the file was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The handle that was checked.
    pub(super) fn file(&self) -> &SharedFile {
        &self.file
    }

    /// Bytes of the whole file.
    pub fn file_size(&self) -> u64 {
        self.file.size()
    }

    /// Reads every entry to its end and stops at the first wrong one, which it names.
    pub fn verify_all(&self, progress: &dyn Progress) -> Result<(), BundleError> {
        progress.begin("verify", plain_bytes(&self.manifest.entries));
        for entry in &self.manifest.entries {
            progress.item(&entry.name);
            if let EntryBody::File { size, .. } = &entry.body {
                self.reader(entry)?.finish()?;
                progress.advance(*size);
            }
        }
        progress.end();
        Ok(())
    }

    /// One whole entry in memory; for small ones.
    pub fn read_entry(&self, name: &str) -> Result<Vec<u8>, BundleError> {
        self.open_entry(name)?.read_all()
    }

    /// A stream of one entry that fails instead of ending if a byte of it is wrong.
    pub fn open_entry(&self, name: &str) -> Result<EntryReader, BundleError> {
        let missing = || BundleError::NoEntry { path: self.path.clone(), name: name.into() };
        let entry = self.manifest.entry(name).ok_or_else(missing)?;
        self.reader(entry)
    }

    /// The playbook files: name below `playbooks/`, checked content.
    pub fn playbooks(&self) -> Result<Vec<(String, Vec<u8>)>, BundleError> {
        let below = self.manifest.below("playbooks");
        below.map(|(name, entry)| Ok((name.to_string(), self.reader(entry)?.read_all()?))).collect()
    }

    pub(super) fn reader(&self, entry: &Entry) -> Result<EntryReader, BundleError> {
        let missing = || BundleError::NoEntry { path: self.path.clone(), name: entry.name.clone() };
        let found = self.manifest.entries.binary_search_by(|other| other.name.cmp(&entry.name));
        let index = found.map_err(|_| missing())?;
        let EntryBody::File { packed_size, .. } = &entry.body else { return Err(missing()) };
        let section = self.file.section(self.offsets[index], *packed_size);
        EntryReader::new(&self.path, entry, section)
    }
}

/// Plain bytes of all file entries.
pub(super) fn plain_bytes<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> u64 {
    let size = |entry: &Entry| match &entry.body {
        EntryBody::File { size, .. } => *size,
        EntryBody::Link { .. } => 0,
    };
    entries.into_iter().map(size).fold(0, u64::saturating_add)
}

/// The manifest's bytes and the signature, as yet untrusted.
fn read_front(
    file: &SharedFile,
    path: &Path,
) -> Result<(Vec<u8>, [u8; SIGNATURE_BYTES]), BundleError> {
    let foreign = || BundleError::NotABundle { path: path.into() };
    let damaged = |part: &str| BundleError::Damaged { path: path.into(), part: part.into() };
    let have = file.size();
    if have < BLOCK {
        return Err(foreign());
    }
    let first: [u8; BLOCK as usize] = read_array(file, path, 0)?;
    if !first.starts_with(MANIFEST_NAME.as_bytes()) || first[MANIFEST_NAME.len()] != 0 {
        return Err(foreign());
    }
    let size = tar::Header::from_byte_slice(&first).entry_size();
    let size = size.map_err(|_| damaged("tar header of the manifest"))?;
    if size > BUNDLE_MANIFEST_MAX_BYTES || format::header(MANIFEST_NAME, size) != Some(first) {
        return Err(damaged("tar header of the manifest"));
    }
    let signature_at = BLOCK + size + padding(size);
    let need = signature_at + 2 * BLOCK;
    if have < need {
        return Err(BundleError::Truncated { path: path.into(), have, need });
    }
    let mut manifest = vec![0; size as usize];
    let io = |source| BundleError::Io { action: "read", path: path.into(), source };
    file.read_exact_at(&mut manifest, BLOCK).map_err(io)?;
    if !format::all_zero(file, path, BLOCK + size, padding(size))? {
        return Err(damaged("padding after the manifest"));
    }
    let second: [u8; BLOCK as usize] = read_array(file, path, signature_at)?;
    if format::header(SIGNATURE_NAME, SIGNATURE_BYTES as u64) != Some(second) {
        return Err(damaged("tar header of the signature"));
    }
    let signature = read_array(file, path, signature_at + BLOCK)?;
    let rest = BLOCK - SIGNATURE_BYTES as u64;
    if !format::all_zero(file, path, signature_at + BLOCK + SIGNATURE_BYTES as u64, rest)? {
        return Err(damaged("padding after the signature"));
    }
    Ok((manifest, signature))
}

/// Says whether the key is foreign or the content was altered. What the manifest claims
/// is used for the wording only.
fn unsigned(path: &Path, bytes: &[u8], trusted: &TrustedKeys) -> BundleError {
    let claimed = serde_json::from_slice::<serde_json::Value>(bytes).ok();
    let key_id = claimed.as_ref().and_then(|json| json.get("keyId")?.as_str());
    match key_id {
        Some(id) if id.len() <= 64 && !trusted.ids().any(|known| known == id) => {
            let known: Vec<&str> = trusted.ids().collect();
            BundleError::UntrustedKey {
                path: path.into(),
                key_id: id.escape_default().to_string(),
                trusted: if known.is_empty() { "none".into() } else { known.join(", ") },
            }
        }
        _ => BundleError::BadSignature { path: path.into() },
    }
}

/// Parses a manifest that is known to be signed.
fn parse(path: &Path, bytes: &[u8]) -> Result<Manifest, BundleError> {
    let invalid = |reason: String| BundleError::Manifest { path: path.into(), reason };
    let json: serde_json::Value =
        serde_json::from_slice(bytes).map_err(|error| invalid(error.to_string()))?;
    if json.get("kind").and_then(|kind| kind.as_str()) != Some(BUNDLE_KIND) {
        return Err(BundleError::NotABundle { path: path.into() });
    }
    let found = json.get("format").and_then(|format| format.as_u64());
    if found != Some(u64::from(BUNDLE_FORMAT)) {
        return Err(BundleError::WrongFormat {
            path: path.into(),
            found: found.unwrap_or(0),
            supported: BUNDLE_FORMAT,
        });
    }
    let manifest: Manifest =
        serde_json::from_value(json).map_err(|error| invalid(error.to_string()))?;
    match manifest.problem() {
        None => Ok(manifest),
        Some(reason) => Err(invalid(reason)),
    }
}
