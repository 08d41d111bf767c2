//! The steps that turn a member's directory into the new generation's, each of them
//! durable before the next.
//!
//! ```text
//!  order written ► next built ► old set aside ► next put in place ► node told ► closed
//!  (journal)       store.next   store ► kept    store.next ► store  node.yaml   journal
//! ```
//! Why from facts and not from a counter: what is on the disk is what a crash leaves, so
//! the same command goes on from wherever an earlier one stopped.
//! Invariants: the old directory is never changed or removed; the node is told only when
//! the new one is in its place.

/// Whose store stands in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    Absent,
    /// Of the generation that ends.
    Old,
    /// Of the generation that begins, complete.
    New,
}

/// What is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Facts {
    /// The order of this recovery is written.
    pub ordered: bool,
    pub store: Place,
    pub next: Place,
    pub kept: Place,
    /// `node.yaml` names the new generation.
    pub told: bool,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    WriteOrder,
    BuildNext,
    SetOldAside,
    PutInPlace,
    TellNode,
    Close,
    /// Nothing is left to do.
    Done,
    /// The directories are not as any interruption leaves them.
    Lost,
}

/// The next step from what is on the disk.
pub fn next_step(facts: Facts) -> Step {
    use Place::{Absent, New, Old};
    match (facts.store, facts.next, facts.kept) {
        _ if !facts.ordered => match (facts.store, facts.told) {
            (Old, false) => Step::WriteOrder,
            (New, true) => Step::Done,
            _ => Step::Lost,
        },
        (Old, Absent, Absent) => Step::BuildNext,
        (Old, New, Absent) => Step::SetOldAside,
        (Absent, New, Old) => Step::PutInPlace,
        (New, Absent, Old) if !facts.told => Step::TellNode,
        (New, Absent, Old) => Step::Close,
        _ => Step::Lost,
    }
}
