//! The opened bundle as installations and playbooks see it.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use crate::base::chain::chain;
use crate::bundle::{Bundle, Progress, Silent};
use crate::playbook::{BundleFileError, BundleFiles};
use crate::sys::files;

use super::ports::{BundleSource, ByteProgress, Release};

/// Repository of the pause image in every bundle.
const PAUSE_REPOSITORY: &str = "holdfast/pause";

/// A bundle whose signature holds.
#[derive(Debug)]
pub struct OpenedBundle {
    bundle: Bundle,
    digest: String,
    pause_image: String,
}

fn failed(name: &str, error: &(dyn std::error::Error + 'static)) -> BundleFileError {
    BundleFileError { name: name.to_owned(), reason: chain(error) }
}

impl OpenedBundle {
    /// Reads the index of images; the contents are checked by `verify` and on every read.
    pub fn new(bundle: Bundle) -> Result<Self, BundleFileError> {
        let manifest = serde_json::to_vec(bundle.manifest()).expect("a manifest serializes");
        let digest = format!("sha256:{}", hex::encode(Sha256::digest(manifest)));
        let images = bundle.images().map_err(|error| failed("images", &error))?;
        let pause = images.list().iter().find(|image| image.name == PAUSE_REPOSITORY);
        let pause_image = match pause {
            Some(image) => format!("{}:{}", image.name, image.tag),
            None => {
                let reason = format!("it holds no image {PAUSE_REPOSITORY}");
                return Err(BundleFileError { name: "images".into(), reason });
            }
        };
        Ok(Self { bundle, digest, pause_image })
    }
}

/// Turns the bundle's progress into bytes of a total.
struct Bytes<'a> {
    show: ByteProgress<'a>,
    done: AtomicU64,
    total: AtomicU64,
}

impl<'a> Bytes<'a> {
    fn new(show: ByteProgress<'a>) -> Self {
        Self { show, done: AtomicU64::new(0), total: AtomicU64::new(0) }
    }
}

impl Progress for Bytes<'_> {
    fn begin(&self, _: &str, total_bytes: u64) {
        self.total.store(total_bytes, Ordering::Relaxed);
    }

    fn item(&self, _: &str) {}

    fn advance(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        (self.show)(done, self.total.load(Ordering::Relaxed));
    }

    fn end(&self) {}
}

impl BundleFiles for OpenedBundle {
    fn digest(&self) -> String {
        self.digest.clone()
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, BundleFileError> {
        self.bundle.read_entry(name).map_err(|error| failed(name, &error))
    }

    fn extract_tree(&self, name: &str, dest: &Path) -> Result<(), BundleFileError> {
        if name != "engine" {
            let reason = "there is no such tree".to_owned();
            return Err(BundleFileError { name: name.to_owned(), reason });
        }
        let extracted = self.bundle.extract_engine(dest, &Silent);
        extracted.map(drop).map_err(|error| failed(name, &error))
    }
}

impl BundleSource for OpenedBundle {
    fn verify(&self, progress: ByteProgress<'_>) -> Result<(), BundleFileError> {
        let name = self.bundle.path().display().to_string();
        self.bundle.verify_all(&Bytes::new(progress)).map_err(|error| failed(&name, &error))
    }

    fn space_needed(&self) -> u64 {
        self.bundle.space_needed().total()
    }

    fn write_images(&self, dest: &Path, progress: ByteProgress<'_>) -> Result<(), BundleFileError> {
        let images = self.bundle.images().map_err(|error| failed("images", &error))?;
        let wrong = |error: files::FileError| failed("images", &error);
        let blobs = dest.join("blobs/sha256");
        files::create_dir(&blobs, 0o700).map_err(wrong)?;
        let total: u64 = images.blobs().map(|blob| blob.size).sum();
        let mut done = 0;
        for blob in images.blobs() {
            let hex = blob.digest.trim_start_matches("sha256:");
            let open = images.open_blob(&blob.digest);
            let mut reader = open.map_err(|error| failed(&blob.digest, &error))?;
            files::write_stream(&blobs.join(hex), &mut reader, 0o600).map_err(wrong)?;
            done += blob.size;
            progress(done, total);
        }
        let index = self.read("images/index.json")?;
        files::write_atomic(&dest.join("index.json"), &index, 0o600).map_err(wrong)?;
        let layout = br#"{"imageLayoutVersion":"1.0.0"}"#;
        files::write_atomic(&dest.join("oci-layout"), layout, 0o600).map_err(wrong)
    }

    fn release(&self) -> Release {
        Release { version: self.bundle.version().to_owned(), serial: self.bundle.serial() }
    }

    fn pause_image(&self) -> String {
        self.pause_image.clone()
    }
}
