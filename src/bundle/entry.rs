//! Reads one entry of a bundle and checks it on the way.
//!
//! ```text
//!  file ─ section ─ SHA-256 (packed) ─ zstd ─ SHA-256 (plain) ─ reader
//! ```
//!
//! Why on the way: an entry is read once, at the moment it is used, and a disk that lies
//! between verification and extraction is caught.
//! Invariants: a reader that reached its end without an error gave exactly the signed
//! bytes; it never gives more bytes than the manifest says.

use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::error::BundleError;
use crate::model::bundle_manifest::{Entry, EntryBody};
use crate::sys::bundle_file::Section;

/// A checked stream of one entry. Whoever stops before its end has checked nothing.
pub struct EntryReader {
    path: PathBuf,
    name: String,
    size: u64,
    sha256: String,
    packed_sha256: String,
    given: u64,
    hash: Sha256,
    inner: zstd::Decoder<'static, BufReader<Hashing>>,
    failed: Option<String>,
    ended: bool,
}

impl std::fmt::Debug for EntryReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EntryReader").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Counts a digest of all that passes.
struct Hashing {
    inner: Section,
    hash: Sha256,
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.hash.update(&buffer[..got]);
        Ok(got)
    }
}

impl EntryReader {
    pub(super) fn new(path: &Path, entry: &Entry, section: Section) -> Result<Self, BundleError> {
        let EntryBody::File { size, sha256, packed_sha256, .. } = &entry.body else {
            return Err(BundleError::NoEntry { path: path.into(), name: entry.name.clone() });
        };
        let source = BufReader::new(Hashing { inner: section, hash: Sha256::new() });
        let decoder = zstd::Decoder::with_buffer(source).map_err(|error| BundleError::Entry {
            path: path.into(),
            name: entry.name.clone(),
            reason: error.to_string(),
        })?;
        Ok(Self {
            path: path.into(),
            name: entry.name.clone(),
            size: *size,
            sha256: sha256.clone(),
            packed_sha256: packed_sha256.clone(),
            given: 0,
            hash: Sha256::new(),
            inner: decoder.single_frame(),
            failed: None,
            ended: false,
        })
    }

    /// Plain bytes of the entry.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads the rest and drops it; for verification.
    pub fn finish(mut self) -> Result<(), BundleError> {
        let mut buffer = vec![0; 128 * 1024];
        loop {
            match self.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(self.error(&error)),
            }
        }
    }

    /// Reads the rest into memory.
    pub fn read_all(mut self) -> Result<Vec<u8>, BundleError> {
        let mut bytes = Vec::with_capacity(self.size.min(1 << 20) as usize);
        match self.read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => Err(self.error(&error)),
        }
    }

    /// What to report when handing this reader to someone failed with `error`: the entry
    /// if it was wrong, `None` if the reader is innocent.
    pub fn blame(&self) -> Option<BundleError> {
        self.failed.as_ref().map(|reason| BundleError::Entry {
            path: self.path.clone(),
            name: self.name.clone(),
            reason: reason.clone(),
        })
    }

    fn error(&self, error: &io::Error) -> BundleError {
        self.blame().unwrap_or_else(|| BundleError::Entry {
            path: self.path.clone(),
            name: self.name.clone(),
            reason: error.to_string(),
        })
    }

    fn fail<T>(&mut self, reason: String) -> io::Result<T> {
        let text = format!("entry {} of {}: {reason}", self.name, self.path.display());
        self.failed = Some(reason);
        Err(io::Error::new(io::ErrorKind::InvalidData, text))
    }

    /// All bytes were given: both digests must now be right.
    fn check_end(&mut self) -> io::Result<usize> {
        if self.given != self.size {
            return self.fail(format!("it unpacks to {} bytes of {}", self.given, self.size));
        }
        // Bytes after the frame belong to the packed digest; a right one leaves none.
        let rest = io::copy(self.inner.get_mut(), &mut io::sink())?;
        let packed = std::mem::take(&mut self.inner.get_mut().get_mut().hash);
        if rest != 0 || hex::encode(packed.finalize()) != self.packed_sha256 {
            return self.fail("the packed bytes are not the signed ones".into());
        }
        let plain = std::mem::take(&mut self.hash);
        if hex::encode(plain.finalize()) != self.sha256 {
            return self.fail("the content is not the signed one".into());
        }
        self.ended = true;
        Ok(0)
    }
}

impl Read for EntryReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(reason) = self.failed.take() {
            return self.fail(reason);
        }
        if self.ended || buffer.is_empty() {
            return Ok(0);
        }
        let got = match self.inner.read(buffer) {
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => return self.fail(format!("it does not unpack ({error})")),
        };
        if got == 0 {
            return self.check_end();
        }
        self.given += got as u64;
        if self.given > self.size {
            return self.fail(format!("it unpacks to more than {} bytes", self.size));
        }
        self.hash.update(&buffer[..got]);
        Ok(got)
    }
}
