//! Which members of the store vote, by where they stand.
//!
//! ```text
//!  one site          all
//!  several sites     two in each center of the primary site, one in each other site;
//!                    all others are learners, which can become voters without a copy
//!  center A is gone  its voters go, if those that are left can then bear a loss more
//! ```
//! Why not everybody: a write is acknowledged by a majority, so votes far away are paid for
//! with every write; yet no majority may lie within one center, and the other site holds
//! whole copies to go on from alone.
//! Invariants: with two centers in the primary site and one elsewhere no center alone has a
//! majority; who votes is not replaced by another as good; the result is never empty if anybody is alive.
//! Not here: how long a silence is a loss, making the change (`app/placement`), Raft.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::ids::MemberId;

/// Voters of one center of the primary site.
const IN_PRIMARY: usize = 2;
/// Voters of each other site.
const ELSEWHERE: usize = 1;

/// A member and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    pub member: MemberId,
    pub site: String,
    pub center: String,
    pub voter: bool,
    /// It answers, or its silence is too short to count.
    pub alive: bool,
}

/// Who should vote; `primary` is the site whose writes are not to wait for another.
pub fn wanted_voters(seats: &[Seat], primary: &str) -> BTreeSet<MemberId> {
    let sites: BTreeSet<&str> = seats.iter().map(|seat| seat.site.as_str()).collect();
    if sites.len() < 2 {
        return seats.iter().map(|seat| seat.member).collect();
    }
    // A center of the primary site has its own voters; of another site all centers share.
    let mut groups: BTreeMap<(&str, &str), Vec<&Seat>> = BTreeMap::new();
    for seat in seats {
        let center = if seat.site == primary { seat.center.as_str() } else { "" };
        groups.entry((&seat.site, center)).or_default().push(seat);
    }
    let mut chosen: Vec<Vec<&Seat>> = Vec::new();
    for ((site, _), mut group) in groups {
        let count = if site == primary { IN_PRIMARY } else { ELSEWHERE };
        group.sort_by_key(|seat| (!seat.alive, !seat.voter, seat.member));
        group.truncate(count);
        chosen.push(group);
    }
    without_the_lost(&mut chosen);
    chosen.iter().flatten().map(|seat| seat.member).collect()
}

/// Takes whole groups out of which nobody is alive, as long as that lets the others bear
/// the loss of one more.
fn without_the_lost(chosen: &mut Vec<Vec<&Seat>>) {
    while let Some(lost) = chosen.iter().position(|group| group.iter().all(|seat| !seat.alive)) {
        let mut without = chosen.clone();
        without.remove(lost);
        if bears(&without) <= bears(chosen) {
            return;
        }
        *chosen = without;
    }
}

/// How many of those alive may still be lost; `None` if there is no majority already.
fn bears(chosen: &[Vec<&Seat>]) -> Option<usize> {
    let voters = chosen.iter().flatten().count();
    let alive = chosen.iter().flatten().filter(|seat| seat.alive).count();
    alive.checked_sub(voters / 2 + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `a1 a2 b1 b2 c1 c2 c3`, members 1 to 7; those named vote, or are dead.
    fn seats(voters: &[u64], dead: &[u64]) -> Vec<Seat> {
        let places = ["a", "a", "b", "b", "c", "c", "c"];
        let seat = |(number, center): (usize, &&str)| {
            let member = number as u64 + 1;
            Seat {
                member: MemberId(member),
                site: if *center == "c" { "remote" } else { "city" }.to_owned(),
                center: (*center).to_owned(),
                voter: voters.contains(&member),
                alive: !dead.contains(&member),
            }
        };
        places.iter().enumerate().map(seat).collect()
    }

    fn wanted(voters: &[u64], dead: &[u64]) -> Vec<u64> {
        let wanted = wanted_voters(&seats(voters, dead), "city");
        wanted.into_iter().map(|member| member.0).collect()
    }

    const ALL: [u64; 5] = [1, 2, 3, 4, 5];

    #[test]
    fn two_vote_in_each_center_of_the_city_and_one_in_the_other() {
        assert_eq!(wanted(&[1], &[]), ALL);
        assert_eq!(wanted(&ALL, &[]), ALL);
        // Who votes already stays.
        assert_eq!(wanted(&[1, 2, 3, 4, 7], &[]), [1, 2, 3, 4, 7]);
    }

    #[test]
    fn the_loss_of_a_center_of_the_city_leaves_the_other_with_one_beside_it() {
        assert_eq!(wanted(&ALL, &[1, 2]), [3, 4, 5]);
        assert_eq!(wanted(&[3, 4, 5], &[1, 2]), [3, 4, 5]);
        assert_eq!(wanted(&ALL, &[3, 4]), [1, 2, 5]);
        // It is back.
        assert_eq!(wanted(&[3, 4, 5], &[]), ALL);
    }

    #[test]
    fn a_loss_that_costs_nothing_changes_nothing() {
        assert_eq!(wanted(&ALL, &[1]), ALL, "four of five bear one more, as would three of four");
        assert_eq!(wanted(&ALL, &[5, 6, 7]), ALL, "nor does the other city's vote make it worse");
    }

    #[test]
    fn a_dead_voter_is_replaced_by_a_learner_beside_it() {
        assert_eq!(wanted(&ALL, &[5]), [1, 2, 3, 4, 6]);
        assert_eq!(wanted(&[1, 2, 3, 4, 6], &[]), [1, 2, 3, 4, 6]);
    }

    #[test]
    fn in_one_site_everybody_votes() {
        let mut seats = seats(&[], &[2, 3]);
        seats.iter_mut().for_each(|seat| seat.site = "city".to_owned());
        assert_eq!(wanted_voters(&seats, "city").len(), 7);
    }

    #[test]
    fn another_primary_has_the_votes() {
        let wanted = wanted_voters(&seats(&ALL, &[]), "remote");
        let wanted: Vec<u64> = wanted.into_iter().map(|member| member.0).collect();
        assert_eq!(wanted, [1, 5, 6], "two at the primary and one in the city");
    }

    proptest! {
        #[test]
        fn the_choice_is_stable_and_never_bears_less(
            voters in proptest::collection::btree_set(1u64..8, 1..7),
            dead in proptest::collection::btree_set(1u64..8, 0..6),
        ) {
            let voters: Vec<u64> = voters.into_iter().collect();
            let dead: Vec<u64> = dead.into_iter().collect();
            let first = wanted(&voters, &dead);
            prop_assert!(!first.is_empty());
            prop_assert_eq!(&wanted(&first, &dead), &first);
            let bears = |chosen: &[u64]| {
                let alive = chosen.iter().filter(|one| !dead.contains(one)).count();
                alive as i64 - (chosen.len() as i64 / 2 + 1)
            };
            let plain = wanted(&ALL, &[]);
            prop_assert!(bears(&first) >= bears(&plain));
        }
    }
}
