//! Starts of a member's disk, and whether a disk is an older copy of the one that voted.
//!
//! Why: a disk that was put back from a copy, or wiped, has forgotten what it acknowledged;
//! if it voted, a write that clients were told is done could be lost. Each start of a disk
//! has a number and a random session. Both are noted in the log, which every member
//! applies, and remembered on the disk, so that a copy is told from the original however
//! often each was started.
//!
//! Invariants (`lineage/model.rs` explores them): as a note counts as soon as it is in
//! the log, a member that has the note of a start is never taken in by a disk that forgot
//! what that start acknowledged; a disk that was never copied is never refused.
//! Not here: writing the starts down (`store/log/head`), comparing them with each message
//! (`store/receive`).

#[cfg(test)]
mod model;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::ids::BootCount;

/// Starts of one disk, each with its session, oldest first.
pub type Lineage = Vec<(BootCount, u64)>;

/// Which start of which disk. Of two copies of a disk the sessions tell one from the other,
/// however often each was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StartNote {
    /// Drawn at random when the disk's log was made.
    pub incarnation: u64,
    /// How often the disk was started.
    pub boot: BootCount,
    /// Drawn at random at each start; 0 in a note made before the member ever started as
    /// one.
    pub session: u64,
}

impl StartNote {
    /// Whether `noted` was a start of another copy of this disk, or of one that this is an
    /// older copy of: then this one may have forgotten what that one acknowledged.
    /// `lineage` holds this disk's own starts from the newest that its state knows of.
    pub fn is_overtaken_by(&self, lineage: &[(BootCount, u64)], noted: &StartNote) -> bool {
        if self.incarnation != noted.incarnation || self.boot < noted.boot {
            return true;
        }
        // A note from before the first start names no session.
        if noted.session == 0 {
            return false;
        }
        if self.boot == noted.boot {
            return self.session != noted.session;
        }
        match lineage.iter().find(|(boot, _)| *boot == noted.boot) {
            Some((_, session)) => *session != noted.session,
            // Only who knows of a later start may know nothing of this one.
            None => lineage.first().is_none_or(|(oldest, _)| *oldest < noted.boot),
        }
    }

    /// Whether this note, when it is applied, takes the place of the one `known`: a foreign
    /// incarnation is not written over the one that acknowledged.
    pub fn replaces(&self, known: &StartNote) -> bool {
        known.incarnation == self.incarnation && known.boot < self.boot
    }
}

/// A disk's `starts` from the newest that its own state knows of; that one comes first also
/// if it was before all that the disk remembers.
pub fn since(starts: &[(BootCount, u64)], known: Option<StartNote>) -> Lineage {
    let Some(known) = known else { return starts.to_vec() };
    let mut lineage: Lineage =
        starts.iter().filter(|(boot, _)| *boot >= known.boot).copied().collect();
    if lineage.first().is_none_or(|(oldest, _)| *oldest > known.boot) {
        lineage.insert(0, (known.boot, known.session));
    }
    lineage
}

impl fmt::Display for StartNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "start {} (session {:x}) of disk {:x}", self.boot, self.session, self.incarnation)
    }
}

#[cfg(test)]
mod tests {
    use super::StartNote;
    use crate::base::ids::BootCount;

    #[test]
    fn a_copy_is_overtaken_however_often_it_is_started() {
        let start = |boot, session| StartNote { incarnation: 1, boot: BootCount(boot), session };
        let noted = start(3, 33);
        let lineage = |starts: &[(u64, u64)]| -> Vec<_> {
            starts.iter().map(|(boot, session)| (BootCount(*boot), *session)).collect()
        };
        let own = lineage(&[(2, 22), (3, 33), (4, 44)]);
        let copy = lineage(&[(2, 22), (3, 66), (4, 77)]);
        assert!(!start(4, 44).is_overtaken_by(&own, &noted));
        assert!(!start(3, 33).is_overtaken_by(&own[..2], &noted));
        assert!(start(3, 66).is_overtaken_by(&copy[..2], &noted));
        assert!(start(4, 77).is_overtaken_by(&copy, &noted));
        assert!(start(2, 22).is_overtaken_by(&own[..1], &noted));
        // Its state knows of the fifth start, so the third is none of its business.
        assert!(!start(6, 88).is_overtaken_by(&lineage(&[(5, 55), (6, 88)]), &noted));
        // A gap is no proof.
        assert!(start(900, 99).is_overtaken_by(&lineage(&[(2, 22), (800, 1), (900, 99)]), &noted));
        assert!(!start(1, 11).is_overtaken_by(&lineage(&[(1, 11)]), &start(0, 0)));
        let foreign = StartNote { incarnation: 2, ..noted };
        assert!(start(4, 44).is_overtaken_by(&own, &foreign));
    }
}
