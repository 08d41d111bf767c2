//! Which change of the commit mode a wish makes, or why none.
//!
//! Why pure: a wrong step here lets the city answer alone while the remote center says that
//! nothing is lost.
//! Invariants: whoever was promised that the city will not fall back keeps that: what frees
//! the city, or counts other members, waits until every promise has run out
//! ([`Step::after_promises`]); a city begins to wait for the remote center only after that
//! has kept up (`remote_sync`), never by a wish alone.

use std::collections::BTreeSet;

use super::remote_sync::{CommitMode, Footing};

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// An operator names the mode, and tells who stands in the remote center, which counts
    /// where none were counted before.
    Mode { mode: CommitMode, remote: BTreeSet<u64> },
    /// Where the members stand, and the mode that the cluster file names; it counts until an
    /// operator has named one.
    Places { mode: CommitMode, remote: BTreeSet<u64> },
}

/// What holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held<'a> {
    pub mode: CommitMode,
    pub footing: Footing,
    pub remote: &'a BTreeSet<u64>,
    /// An operator named the mode once.
    pub chosen: bool,
}

/// What to put in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub mode: CommitMode,
    pub footing: Footing,
    pub remote: BTreeSet<u64>,
    pub chosen: bool,
    /// It may be proposed only when no promise to the remote center runs any more.
    pub after_promises: bool,
}

/// Members that the remote center needs, so that one of them may fail.
const NEEDED: usize = 2;

/// The step that the wish takes now; none if it is fulfilled as far as it can be.
pub fn step(held: &Held<'_>, wish: &Wish) -> Result<Option<Step>, String> {
    match wish {
        Wish::Mode { mode, remote } => named(held, *mode, remote),
        Wish::Places { mode, remote } => Ok(placed(held, *mode, remote)),
    }
}

fn named(
    held: &Held<'_>,
    mode: CommitMode,
    remote: &BTreeSet<u64>,
) -> Result<Option<Step>, String> {
    if mode == held.mode && held.chosen {
        return Ok(None);
    }
    // Whoever is counted already is changed by `placed` only, which waits for the promises.
    let counts_none = held.mode == CommitMode::Majority;
    let remote = if counts_none { remote } else { held.remote };
    let to = |footing, after_promises| {
        let remote = remote.clone();
        Ok(Some(Step { mode, footing, remote, chosen: true, after_promises }))
    };
    if mode != CommitMode::Majority && remote.len() < NEEDED {
        return Err(format!(
            "{} needs at least {NEEDED} control nodes in a second site, and there are {}; join \
             them first (`holdfast token create`, then `holdfast join` there)",
            mode.name(),
            remote.len()
        ));
    }
    match mode {
        CommitMode::Majority => to(Footing::FallenBack, held.mode.waits_for_remote(held.footing)),
        CommitMode::RemoteSync => match held.mode {
            CommitMode::Majority => to(Footing::FallenBack, false),
            CommitMode::RemoteSync | CommitMode::MaxProtection => to(held.footing, false),
        },
        CommitMode::MaxProtection if held.mode == mode => to(held.footing, false),
        CommitMode::MaxProtection => {
            let synchronous =
                held.mode == CommitMode::RemoteSync && held.footing == Footing::Synchronous;
            if synchronous {
                return to(Footing::Synchronous, false);
            }
            Err(format!(
                "max-protection begins only where the remote center holds everything, and now \
                 the mode is {}, {}; {}",
                held.mode.name(),
                held.footing.name(),
                if held.mode == CommitMode::Majority {
                    "set remote-sync first, and wait until `holdfast dr status` says synchronous"
                } else {
                    "wait until `holdfast dr status` says synchronous"
                }
            ))
        }
    }
}

fn placed(held: &Held<'_>, mode: CommitMode, remote: &BTreeSet<u64>) -> Option<Step> {
    if held.mode == CommitMode::Majority && (held.chosen || mode == CommitMode::Majority) {
        // Nobody is counted, so nothing is written that older versions could not read.
        return None;
    }
    let waits = held.mode.waits_for_remote(held.footing);
    let to = |mode, footing| Step {
        mode,
        footing,
        remote: remote.clone(),
        chosen: held.chosen,
        after_promises: waits,
    };
    if remote.len() < NEEDED {
        // Whoever is missing is waited for; who counts changes only to who can count.
        return None;
    }
    if held.mode == CommitMode::Majority {
        return Some(to(CommitMode::RemoteSync, Footing::FallenBack));
    }
    let protect = !held.chosen
        && mode == CommitMode::MaxProtection
        && held.mode == CommitMode::RemoteSync
        && held.footing == Footing::Synchronous;
    if protect {
        let same = Step { after_promises: remote != held.remote, ..to(mode, held.footing) };
        return Some(same);
    }
    (remote != held.remote).then(|| to(held.mode, held.footing))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CITY_C: [u64; 3] = [5, 6, 7];

    fn held(mode: CommitMode, footing: Footing, remote: &BTreeSet<u64>, chosen: bool) -> Held<'_> {
        Held { mode, footing, remote, chosen }
    }

    fn to(mode: CommitMode, remote: &BTreeSet<u64>) -> Wish {
        Wish::Mode { mode, remote: remote.clone() }
    }

    #[test]
    fn two_sites_begin_fallen_back_and_one_site_stays_with_its_majority() {
        let (none, three) = (BTreeSet::new(), BTreeSet::from(CITY_C));
        let fresh = held(CommitMode::Majority, Footing::FallenBack, &none, false);
        let places = |mode, remote: &BTreeSet<u64>| Wish::Places { mode, remote: remote.clone() };
        let first = step(&fresh, &places(CommitMode::RemoteSync, &three)).unwrap().unwrap();
        assert_eq!((first.mode, first.footing), (CommitMode::RemoteSync, Footing::FallenBack));
        assert!(!first.after_promises);
        assert_eq!(step(&fresh, &places(CommitMode::Majority, &none)), Ok(None));
        let one = BTreeSet::from([5]);
        let one = step(&fresh, &places(CommitMode::RemoteSync, &one)).unwrap();
        assert_eq!(one, None, "one remote member is too few");
        let synchronous = held(CommitMode::RemoteSync, Footing::Synchronous, &three, false);
        assert_eq!(step(&synchronous, &places(CommitMode::RemoteSync, &three)), Ok(None));
        let all = step(&synchronous, &places(CommitMode::MaxProtection, &three)).unwrap().unwrap();
        assert_eq!(all.mode, CommitMode::MaxProtection, "the file's mode follows in its time");
    }

    #[test]
    fn while_a_majority_is_enough_nothing_is_written_of_who_stands_where() {
        let (none, three) = (BTreeSet::new(), BTreeSet::from(CITY_C));
        let places = Wish::Places { mode: CommitMode::Majority, remote: three.clone() };
        for chosen in [false, true] {
            let held = held(CommitMode::Majority, Footing::FallenBack, &none, chosen);
            assert_eq!(step(&held, &places), Ok(None), "{chosen}");
            let first = step(&held, &to(CommitMode::RemoteSync, &three)).unwrap().unwrap();
            assert_eq!((first.remote, first.footing), (three.clone(), Footing::FallenBack));
        }
        // Who counts is not changed by the way, past the promises.
        let others = BTreeSet::from([8, 9]);
        let held = held(CommitMode::RemoteSync, Footing::Synchronous, &three, true);
        let strict = step(&held, &to(CommitMode::MaxProtection, &others)).unwrap().unwrap();
        assert_eq!((strict.remote, strict.after_promises), (three, false));
    }

    #[test]
    fn an_operators_mode_is_not_undone_by_the_cluster_file() {
        let three = BTreeSet::from(CITY_C);
        let chosen = held(CommitMode::Majority, Footing::FallenBack, &three, true);
        let file = Wish::Places { mode: CommitMode::RemoteSync, remote: three.clone() };
        assert_eq!(step(&chosen, &file), Ok(None));
    }

    #[test]
    fn what_frees_the_city_waits_for_its_promises() {
        let three = BTreeSet::from(CITY_C);
        for mode in [CommitMode::RemoteSync, CommitMode::MaxProtection] {
            let held = held(mode, Footing::Synchronous, &three, true);
            let free = step(&held, &to(CommitMode::Majority, &three)).unwrap().unwrap();
            assert!(free.after_promises, "{mode:?}");
            let others = BTreeSet::from([5, 6, 8]);
            let others = Wish::Places { mode, remote: others };
            assert!(step(&held, &others).unwrap().unwrap().after_promises, "{mode:?}");
        }
        let alone = held(CommitMode::RemoteSync, Footing::FallenBack, &three, true);
        let free = step(&alone, &to(CommitMode::Majority, &three)).unwrap().unwrap();
        assert!(!free.after_promises);
    }

    #[test]
    fn refusals_say_what_is_missing() {
        let one = BTreeSet::from([5]);
        let few = held(CommitMode::Majority, Footing::FallenBack, &one, false);
        let refused = step(&few, &to(CommitMode::RemoteSync, &one)).unwrap_err();
        assert!(refused.contains("at least 2 control nodes in a second site"), "{refused}");
        let three = BTreeSet::from(CITY_C);
        let behind = held(CommitMode::RemoteSync, Footing::FallenBack, &three, true);
        let refused = step(&behind, &to(CommitMode::MaxProtection, &three)).unwrap_err();
        assert!(refused.contains("wait until `holdfast dr status`"), "{refused}");
    }

    #[test]
    fn who_counts_never_shrinks_below_two() {
        let three = BTreeSet::from(CITY_C);
        let held = held(CommitMode::RemoteSync, Footing::Synchronous, &three, true);
        let lost = Wish::Places { mode: CommitMode::RemoteSync, remote: BTreeSet::from([5]) };
        assert_eq!(step(&held, &lost), Ok(None));
    }
}
