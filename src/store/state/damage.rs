//! What is damage of the state, and the note on the disk that says so.
//!
//! Why a note: what was found may be on a page that the next start does not read, and a
//! state that was found damaged must not serve again.
//! Invariant: whatever finds damage of the state file, and whatever becomes of its error,
//! the note is written and whoever follows [`StateStore::damage`] is told.
//! Not here: what follows from it (`store/repair`).

use std::io;
use std::sync::Arc;

use redb::Database;
use tokio::sync::watch;

use super::StateError;
use super::apply::Step;
use super::store::{CACHE_BYTES, STATE_FILE, StateStore};
use crate::store::codec::CodecError;
use crate::store::disk::{StoreDisk, open_database};
use crate::store::types::{LogId, Reply};

/// On the disk of a member whose state is damaged; says what was found.
const DAMAGED_FILE: &str = "state.damaged";

pub(crate) fn is_noted_damaged(disk: &dyn StoreDisk) -> io::Result<bool> {
    disk.exists(DAMAGED_FILE)
}

/// Notes it, durably. That the file is there is the note, so one that a crash cut short
/// says the same.
pub(crate) fn note_damage(disk: &dyn StoreDisk, what: &str) -> io::Result<()> {
    let file = disk.open(DAMAGED_FILE)?;
    file.set_len(what.len() as u64)?;
    file.write(0, what.as_bytes())?;
    file.sync_data()
}

pub(crate) fn forget_damage(disk: &dyn StoreDisk) -> io::Result<()> {
    disk.remove(DAMAGED_FILE)
}

/// Where damage of the state that is open is told.
#[derive(Clone, Debug)]
pub(super) struct DamageNote {
    disk: Arc<dyn StoreDisk>,
    found: Arc<watch::Sender<Option<String>>>,
}

impl DamageNote {
    pub(super) fn new(disk: Arc<dyn StoreDisk>) -> Self {
        Self { disk, found: Arc::new(watch::Sender::new(None)) }
    }

    /// Opens the state file; whatever reads damage in it tells here.
    pub(super) fn open_state(&self) -> Result<Database, StateError> {
        let told = self.clone();
        let on_damage = Box::new(move |what: &str| told.tell(what));
        open_database(&*self.disk, STATE_FILE, CACHE_BYTES, on_damage).map_err(StateError::Open)
    }

    fn tell(&self, what: &str) {
        if let Err(error) = note_damage(&*self.disk, what) {
            tracing::error!(%error, what, "the damage was not noted; it will be found again");
        }
        self.found.send_if_modified(|found| {
            let first = found.is_none();
            found.get_or_insert_with(|| what.to_owned());
            first
        });
    }
}

/// For a file that is made anew: its damage is the failure of what makes it.
pub(super) fn is_told_by_its_error() -> crate::store::blocks::OnDamage {
    Box::new(|what| tracing::error!(what, "a file that is being made is damaged"))
}

fn garbled(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

impl StateError {
    /// Whether the file is not as it was written. What a disk refuses is none, nor what
    /// another release wrote.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            StateError::Decode { source, .. } => !matches!(source, CodecError::Version { .. }),
            StateError::Access { source, .. } => match source {
                redb::Error::Corrupted(_) => true,
                redb::Error::Io(error) => garbled(error),
                _ => false,
            },
            StateError::Open(redb::DatabaseError::Storage(error)) => match error {
                redb::StorageError::Corrupted(_) => true,
                redb::StorageError::Io(error) => garbled(error),
                _ => false,
            },
            StateError::Open(_) | StateError::File { .. } | StateError::Snapshot { .. } => false,
        }
    }
}

impl StateStore {
    /// Notes damage, so that this state is not opened again.
    pub(crate) fn note(&self, error: &StateError) {
        if error.is_damage() {
            self.note_what(&crate::base::chain::chain(error));
        }
    }

    /// Applies, and notes damage that was met.
    pub(super) fn apply_noting(&self, log_id: LogId, step: Step) -> Result<Reply, StateError> {
        self.apply(log_id, step).inspect_err(|error| self.note(error))
    }

    /// The same for what no error says.
    pub(crate) fn note_what(&self, what: &str) {
        self.damage.tell(what);
    }

    /// What was found, as soon as anything is.
    pub(crate) fn damage(&self) -> watch::Receiver<Option<String>> {
        self.damage.found.subscribe()
    }
}
