//! The starts of members that the log notes, applied or not.
//!
//! Why: a note must count as soon as it is in this member's log. Until it is applied, which
//! takes as long as an election does, an older copy of the noted disk could be taken in by
//! a member that has the note.
//! Invariant: a note counts as long as its entry is in the log; one that another leader
//! overwrites was never a start that anything was committed in.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use openraft::EntryPayload;

use crate::logic::lineage::StartNote;
use crate::store::types::{Command, Entry};

/// Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct NotedStarts(Arc<Mutex<BTreeMap<u64, (u64, StartNote)>>>);

impl NotedStarts {
    fn by_index(&self) -> MutexGuard<'_, BTreeMap<u64, (u64, StartNote)>> {
        self.0.lock().expect("no holder of the noted starts panics")
    }

    /// Takes up an entry of the log.
    pub(super) fn note(&self, entry: &Entry) {
        if let EntryPayload::Normal(Command::Boot { member, note }) = &entry.payload {
            self.by_index().insert(entry.log_id.index, (member.0, *note));
        }
    }

    /// Forgets the entries from here on.
    pub(super) fn truncate_from(&self, index: u64) {
        self.by_index().split_off(&index);
    }

    /// Forgets entries that are applied and durable.
    pub(super) fn purge(&self, upto: u64) {
        let mut by_index = self.by_index();
        *by_index = by_index.split_off(&(upto + 1));
    }

    /// A member's newest start, `applied` being what the state knows of it.
    pub(crate) fn newest(&self, member: u64, applied: Option<StartNote>) -> Option<StartNote> {
        let by_index = self.by_index();
        let noted = by_index.values().filter(|(of, _)| *of == member).map(|(_, note)| *note);
        noted.fold(applied, |newest, note| match newest {
            Some(known) if !note.replaces(&known) => Some(known),
            _ => Some(note),
        })
    }
}
