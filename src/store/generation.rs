//! How a member learns that its generation has ended.
//!
//! ```text
//!  new generation's member                       member of an old one
//!    │ Fence(signed record) ─────────────────────► verified, descends from the own
//!    │ ◄───────────────────────── Fenced             generation: noted on disk, stops
//!    │ ◄── any message of the old generation (at its start it greets all it knows)
//!    │ Rejected(Fenced(signed record)) ──────────► the same
//! ```
//! Why signed: a number alone must not end a generation, or a restored copy of the whole
//! cluster in a test room could stop production.
//! Invariants: a member that learned of a later generation never votes again, and says that
//! it has learned only when it will know it after a restart; nothing but a verified record that has its generation among the parents makes
//! it stop. Not here: who makes a generation (`logic/recovery`, `install/recover`).

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use tokio::sync::watch;

use super::disk::StoreDisk;
use super::health::Health;
use super::log::Identity;
use super::small_file::{read_whole, write_whole};
use crate::base::chain::chain;
use crate::logic::recovery::fences;
use crate::model::recovery::{GenerationRecord, SignedGeneration};
use crate::store::codec::{decode, encode};

/// On the disk of a member whose generation has ended: the record that says so.
const FENCED_FILE: &str = "fenced";

/// Whether a record was signed by the cluster's authority; wired to `pki`.
pub trait GenerationTrust: Send + Sync + Debug + 'static {
    fn is_signed(&self, record: &SignedGeneration) -> bool;
}

/// What a member knows of generations, and what ends its own.
#[derive(Debug)]
pub(super) struct Generations {
    identity: Identity,
    disk: Arc<dyn StoreDisk>,
    health: watch::Sender<Health>,
    known: RwLock<Known>,
    /// The record that ended the own generation and could not be written down yet.
    owed: Mutex<Option<SignedGeneration>>,
    /// Whether the end of the own generation is on the disk.
    noted: AtomicBool,
}

#[derive(Debug, Default)]
struct Known {
    trust: Option<Arc<dyn GenerationTrust>>,
    /// The record of its own generation, if it was made by a recovery.
    own: Option<SignedGeneration>,
}

const POISON: &str = "no holder of the generations panics";

/// Why the note that a generation has ended cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} the note that this generation has ended")]
pub struct FenceError {
    action: &'static str,
    #[source]
    source: std::io::Error,
}

fn text(record: &GenerationRecord) -> String {
    format!(
        "generation {} was made from {} at {} ({}); this member is of a generation that has \
         ended: its data is kept, it serves nothing; take it out and let it join again",
        record.generation, record.name, record.at, record.reason
    )
}

/// The record that ended this disk's generation, if one did.
pub(super) fn noted(disk: &dyn StoreDisk) -> Result<Option<String>, FenceError> {
    let failed = |source| FenceError { action: "read", source };
    let Some(bytes) = read_whole(disk, FENCED_FILE).map_err(failed)? else { return Ok(None) };
    let record = decode::<SignedGeneration>(&bytes).ok().and_then(|signed| signed.parse().ok());
    // A note that cannot be read was written for a reason, too.
    Ok(Some(record.map_or_else(|| "a later generation was made".into(), |record| text(&record))))
}

fn note(disk: &dyn StoreDisk, record: &SignedGeneration) -> Result<(), FenceError> {
    let written = write_whole(disk, FENCED_FILE, &encode(record));
    written.map_err(|source| FenceError { action: "write", source })
}

impl Generations {
    /// Lets signed records end this member's generation; `own` is the record of its own.
    pub(super) fn know(&self, trust: Arc<dyn GenerationTrust>, own: Option<SignedGeneration>) {
        *self.known.write().expect(POISON) = Known { trust: Some(trust), own };
    }

    pub(super) fn new(
        identity: Identity,
        disk: Arc<dyn StoreDisk>,
        health: watch::Sender<Health>,
    ) -> Self {
        let noted = AtomicBool::new(health.borrow().check().is_err());
        Self { identity, disk, health, known: RwLock::default(), owed: Mutex::default(), noted }
    }

    /// The record of the own generation, for members of older ones.
    pub(super) fn own(&self) -> Option<SignedGeneration> {
        self.known.read().expect(POISON).own.clone()
    }

    /// Ends this member's generation if the record says so. True when that is on the disk,
    /// so that whoever tells it goes on telling until then.
    pub(super) fn fence(&self, signed: &SignedGeneration) -> bool {
        let trust = self.known.read().expect(POISON).trust.clone();
        let Ok(record) = signed.parse() else { return false };
        let trusted = trust.is_some_and(|trust| trust.is_signed(signed));
        if !trusted || !fences(&record, self.identity.cluster, self.identity.generation) {
            return false;
        }
        if !self.noted.load(Ordering::Relaxed) {
            tracing::error!("{}", text(&record));
            *self.owed.lock().expect(POISON) = Some(signed.clone());
            self.note_owed();
        }
        Health::removed(&self.health);
        self.noted.load(Ordering::Relaxed)
    }

    /// Writes down that the own generation has ended, if that is still to be done.
    pub(super) fn note_owed(&self) {
        let mut owed = self.owed.lock().expect(POISON);
        let Some(signed) = &*owed else { return };
        match note(&*self.disk, signed) {
            Ok(()) => {
                self.noted.store(true, Ordering::Relaxed);
                *owed = None;
            }
            Err(error) => tracing::error!(error = chain(&error), "it is tried again"),
        }
    }
}
