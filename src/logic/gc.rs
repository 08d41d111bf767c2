//! What becomes of an object whose owners are gone, going or waiting for it.
//!
//! Source: Kubernetes' garbage collector. An object lives as long as one owner lives.
//! Invariants: an owner whose kind nobody can look up counts as living (to delete on a
//! guess would lose data); an owner of the same name but another uid is not the owner.
//! Not here: looking owners up and deleting (controllers/gc.rs).

/// The state of one owner, as looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// It exists (or cannot be looked up).
    Living,
    /// It exists, is being deleted in the foreground and waits for this dependent.
    Waiting,
    /// It does not exist, or its name belongs to another object now.
    Gone,
}

/// What to do with a dependent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Keep,
    /// Keep the object, take the references to gone and waiting owners away.
    Unlink,
    /// Delete it; its own dependents follow in the background.
    Delete,
    /// Delete it in the foreground, because an owner waits for the whole tree.
    DeleteForeground,
}

/// Judges an object by all its owners. `has_dependents` says whether others name it as
/// their owner and block its deletion.
pub fn judge(owners: &[Owner], has_dependents: bool) -> Verdict {
    let living = owners.contains(&Owner::Living);
    let waiting = owners.contains(&Owner::Waiting);
    let gone = owners.contains(&Owner::Gone);
    match (owners.is_empty(), living, waiting, gone) {
        (true, ..) | (_, true, false, false) => Verdict::Keep,
        (_, true, ..) => Verdict::Unlink,
        (_, false, true, _) if has_dependents => Verdict::DeleteForeground,
        (_, false, ..) => Verdict::Delete,
    }
}

/// The finalizer of an owner that waits for its dependents.
pub const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of an owner that lets its dependents go.
pub const ORPHAN: &str = "orphan";

/// The next step for an owner that is being deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerStep {
    Nothing,
    /// Delete these dependents, wait, look again.
    AwaitDependents,
    /// Take the owner's references out of all dependents, then drop the finalizer.
    Release,
    /// No dependent blocks any more: drop the finalizer.
    DropForeground,
}

/// Judges an owner by its finalizers and by how many dependents block it.
pub fn owner_step(deleting: bool, finalizers: &[String], blocking: usize) -> OwnerStep {
    let has = |name: &str| finalizers.iter().any(|finalizer| finalizer == name);
    if !deleting {
        OwnerStep::Nothing
    } else if has(ORPHAN) {
        OwnerStep::Release
    } else if has(FOREGROUND) && blocking > 0 {
        OwnerStep::AwaitDependents
    } else if has(FOREGROUND) {
        OwnerStep::DropForeground
    } else {
        OwnerStep::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_living_owner_is_enough() {
        assert_eq!(judge(&[], false), Verdict::Keep);
        assert_eq!(judge(&[Owner::Living], false), Verdict::Keep);
        assert_eq!(judge(&[Owner::Living, Owner::Gone], false), Verdict::Unlink);
        assert_eq!(judge(&[Owner::Gone], true), Verdict::Delete);
        assert_eq!(judge(&[Owner::Waiting], true), Verdict::DeleteForeground);
        assert_eq!(judge(&[Owner::Waiting, Owner::Gone], false), Verdict::Delete);
    }

    #[test]
    fn orphaning_goes_before_waiting() {
        let both = [FOREGROUND.to_owned(), ORPHAN.to_owned()];
        assert_eq!(owner_step(true, &both, 3), OwnerStep::Release);
        assert_eq!(owner_step(true, &both[..1], 3), OwnerStep::AwaitDependents);
        assert_eq!(owner_step(true, &both[..1], 0), OwnerStep::DropForeground);
        assert_eq!(owner_step(false, &both, 0), OwnerStep::Nothing);
        assert_eq!(owner_step(true, &[], 2), OwnerStep::Nothing);
    }

    proptest! {
        #[test]
        fn nothing_with_a_living_owner_is_ever_deleted(
            owners in prop::collection::vec(0_u8..3, 0..5),
            dependents in any::<bool>(),
        ) {
            let owners: Vec<Owner> = owners.into_iter()
                .map(|n| [Owner::Living, Owner::Waiting, Owner::Gone][n as usize]).collect();
            let verdict = judge(&owners, dependents);
            let deleted = matches!(verdict, Verdict::Delete | Verdict::DeleteForeground);
            prop_assert_eq!(deleted, !owners.is_empty() && !owners.contains(&Owner::Living));
        }
    }
}
