//! Builds, signs, verifies and opens the one file that an installation needs.
//!
//! ```text
//!  appliance.yaml ─┐                         ┌─ manifest.json   signed, plain JSON
//!  packages.lock  ─┼─ build ─ FILE (tar) ────┼─ manifest.sig    64 bytes of ed25519
//!  images/ + key  ─┘                         └─ NAME.zst …      one zstd frame an entry
//!                                                    │
//!             Bundle::open ── verify_all ── extract_engine / images / playbooks / write_medium
//! ```
//!
//! Why a plain tar with plain ed25519: `tar` and `openssl` can check and unpack it without
//! us, which is what an auditor asks for.
//! Invariants: nothing of a bundle is used before its signature and structure hold; every
//! entry is checked again while it is read; every byte of the file is covered, by the
//! signature, by a digest, or by being the only byte possible in its place.
//! Not here: deciding whether a host takes it (`install/`), storing images (`registry/`).

pub mod build;
mod entry;
mod error;
mod extract;
mod format;
mod images;
mod keys;
mod media;
mod open;
mod progress;
#[cfg(test)]
mod proof;
#[cfg(test)]
mod tests;
mod write;

pub use entry::EntryReader;
pub use error::BundleError;
pub use extract::{Outcome, Space};
pub use images::{BlobInfo, BundleImages, ImageRef};
pub use keys::{KeyError, KeyPair, TrustedKeys};
pub use media::{MediaError, Shape, write_medium};
pub use open::Bundle;
pub use progress::{Progress, Silent};
pub use write::{Input, InputBody, Release, WriteError, write_bundle};
