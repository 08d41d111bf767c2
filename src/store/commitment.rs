//! What the log says of answering: the commit mode, the footing, whom they count, and the
//! journal of their changes.
//!
//! Why in the log: whoever leads next, and the remote center without anybody, must know
//! what an answer of that time waited for.
//! Invariants: it changes by entries of the log only, each made for the one before it and in
//! the term it was decided in; a store that never had one commits by majority.
//! Not here: deciding (`logic/remote_sync`, `logic/commit_change`), driving (`modes`).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::logic::remote_sync::{CommitMode, Footing};

/// The version of a change's record in the log.
pub(crate) const CHANGE_VERSION: u8 = 1;
/// Changes that the journal keeps.
const JOURNAL: usize = 50;

/// What answers wait for, as of what is applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Commitment {
    pub mode: CommitMode,
    pub footing: Footing,
    /// The members of the remote center.
    pub remote: BTreeSet<u64>,
    /// Log index of the newest change, 0 if there was none.
    pub changed: u64,
    /// Whether an operator ever chose the mode; until then the cluster file does.
    pub chosen: bool,
    /// The newest changes, the oldest first.
    pub journal: Vec<CommitmentNote>,
}

/// One change as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommitmentNote {
    /// Its place in the log.
    pub index: u64,
    /// When it was proposed, Unix milliseconds; 0 if its member had no clock of the day.
    pub at_ms: u64,
    pub mode: CommitMode,
    pub footing: Footing,
    /// Members of the remote center from then on.
    pub remote: usize,
    /// Who wanted it: an operator, the leader, or the cluster file.
    pub by: String,
    pub reason: String,
}

/// A change as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CommitmentChange {
    pub(crate) version: u8,
    /// It is void in the log of another term: it was decided by what a leader of this one
    /// had promised.
    pub(crate) term: u64,
    /// The newest change that it was made for.
    pub(crate) after: u64,
    pub(crate) mode: CommitMode,
    pub(crate) footing: Footing,
    pub(crate) remote: BTreeSet<u64>,
    pub(crate) chosen: bool,
    pub(crate) by: String,
    pub(crate) reason: String,
    pub(crate) at_ms: u64,
}

/// A wish on its way to the leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum CommitmentWish {
    Mode { mode: CommitMode, remote: BTreeSet<u64>, by: String, reason: String },
    Places { mode: CommitMode, remote: BTreeSet<u64> },
}

impl Commitment {
    /// Whether an answer waits for the remote center.
    pub fn waits_for_remote(&self) -> bool {
        self.mode.waits_for_remote(self.footing)
    }

    /// What the change at `index` of `term` makes of it; none if it is void.
    pub(crate) fn changed_by(
        &self,
        index: u64,
        term: u64,
        change: &CommitmentChange,
    ) -> Option<Self> {
        if change.term != term || change.after != self.changed {
            return None;
        }
        let note = CommitmentNote {
            index,
            at_ms: change.at_ms,
            mode: change.mode,
            footing: change.footing,
            remote: change.remote.len(),
            by: change.by.clone(),
            reason: change.reason.clone(),
        };
        let kept = self.journal.len().saturating_sub(JOURNAL - 1);
        let journal = self.journal[kept..].iter().cloned().chain([note]).collect();
        Some(Self {
            mode: change.mode,
            footing: change.footing,
            remote: change.remote.clone(),
            changed: index,
            chosen: change.chosen,
            journal,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(term: u64, after: u64) -> CommitmentChange {
        CommitmentChange {
            version: CHANGE_VERSION,
            term,
            after,
            mode: CommitMode::RemoteSync,
            footing: Footing::FallenBack,
            remote: BTreeSet::from([5, 6, 7]),
            chosen: false,
            by: "the leader".into(),
            reason: "a test".into(),
            at_ms: 1,
        }
    }

    #[test]
    fn a_change_of_another_term_or_for_another_state_is_void() {
        let first = Commitment::default().changed_by(7, 2, &change(2, 0)).unwrap();
        assert_eq!((first.changed, first.journal.len()), (7, 1));
        assert_eq!(first.changed_by(8, 3, &change(2, 7)), None, "it came into a later log");
        assert_eq!(first.changed_by(8, 2, &change(2, 0)), None, "another one came before it");
        assert!(first.changed_by(8, 2, &change(2, 7)).is_some());
    }

    #[test]
    fn the_journal_keeps_the_newest_changes() {
        let mut now = Commitment::default();
        for index in 1..=JOURNAL as u64 + 9 {
            now = now.changed_by(index, 1, &change(1, index - 1)).unwrap();
        }
        assert_eq!(now.journal.len(), JOURNAL);
        assert_eq!(now.journal.last().map(|note| note.index), Some(JOURNAL as u64 + 9));
    }
}
