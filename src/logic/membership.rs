//! Whether an id may be, or still is, a member of the store's group.
//!
//! Why: an id that votes again after it was removed may stand on another disk, and a
//! majority that counts it has not the entries that its old disk acknowledged. So an id is
//! noted in the log before it can vote, for good, and who is noted and no more in the
//! membership was removed.
//! Invariants (`membership/model.rs` explores them with joint changes of voters): a removed
//! id never comes back; no two majorities of different memberships decide apart.
//! Not here: making a change (`store/membership`, openraft), which departure is bearable
//! (`logic/departure`), which disk an id stands on (`logic/lineage`).

#[cfg(test)]
mod model;

/// What an id is to the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It never took part and may be added.
    New,
    Member,
    /// It took part once; it never may again.
    Removed,
}

/// Tells from all that is applied: `noted` is whether the id ever announced itself or could
/// vote, `listed` whether the membership has it.
pub fn standing(noted: bool, listed: bool) -> Standing {
    match (noted, listed) {
        (_, true) => Standing::Member,
        (true, false) => Standing::Removed,
        (false, false) => Standing::New,
    }
}
