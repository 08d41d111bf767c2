//! A member's directory without a running member: look at it, read it out, make a new one.
//!
//! ```text
//!  directory ──OverlayDisk──► StoppedMember ──image──► snapshot file, new directory
//!            (never written)    log replayed
//! ```
//! Invariants: nothing here writes to a directory that a member ran on; a directory that
//! is in use is refused.

mod check;
mod error;
mod found;
mod overlay;
mod stopped;
mod summary;
#[cfg(test)]
mod tests;

pub use check::{CheckReport, Finding};
pub use error::OfflineError;
pub use found::{Founding, found_member};
pub(crate) use overlay::OverlayDisk;
pub use stopped::{Replay, StoppedMember};
pub(crate) use summary::{end, known, voters};
