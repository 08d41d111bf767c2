//! Whether a member may leave the store's group without the group losing its majority.
//!
//! Why both sides: the change is committed by a majority of the old voters and of the new
//! ones (joint consensus), and afterwards only the new ones count. A group that looked
//! well before can be without a majority after: of three voters, one of them dead, a live
//! one must not be taken away.
//! Invariant: nobody's wish waives this; what is lost here only recovery brings back.
//! Not here: asking who answers (store/), making the change (store/membership).

use crate::base::ids::MemberId;

/// One member of the group, as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    pub member: MemberId,
    pub name: String,
    pub voter: bool,
    /// It answered the leader a moment ago.
    pub answers: bool,
}

/// What is left after a departure that may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remaining {
    pub voters: usize,
    /// How many more of those that answer may fail before the majority is gone.
    pub tolerates: usize,
}

/// Why a member must stay.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MustStay {
    #[error(
        "no majority of the store's voters answers, so nothing can be changed: {answering} of \
         {voters} do ({list}); bring back one that is silent first"
    )]
    NoMajority { answering: usize, voters: usize, list: String },
    #[error(
        "without {name} the store would lose its majority: of the {voters} voters that would be \
         left, {answering} would answer ({list}). Bring back a silent one, or remove the silent \
         one first, or join another control node"
    )]
    Needed { name: String, answering: usize, voters: usize, list: String },
    #[error("{name} is the only voter of the store; the cluster's state is nowhere else")]
    Last { name: String },
}

/// How many make a majority of so many.
pub fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

fn list<'a>(voters: impl Iterator<Item = &'a Seat>) -> String {
    let words = voters.map(|seat| {
        format!("{} {}", seat.name, if seat.answers { "answers" } else { "is silent" })
    });
    words.collect::<Vec<_>>().join(", ")
}

/// Judges the departure of `leaving`; somebody who is no voter costs no majority.
pub fn judge(group: &[Seat], leaving: MemberId) -> Result<Remaining, MustStay> {
    let voters: Vec<&Seat> = group.iter().filter(|seat| seat.voter).collect();
    let answering = voters.iter().filter(|seat| seat.answers).count();
    if answering < majority(voters.len()) {
        let list = list(voters.iter().copied());
        return Err(MustStay::NoMajority { answering, voters: voters.len(), list });
    }
    let left: Vec<&Seat> = voters.iter().copied().filter(|seat| seat.member != leaving).collect();
    let name = voters.iter().find(|seat| seat.member == leaving).map(|seat| seat.name.clone());
    if left.is_empty() {
        return Err(MustStay::Last { name: name.unwrap_or_default() });
    }
    let answering = left.iter().filter(|seat| seat.answers).count();
    if answering < majority(left.len()) {
        let (name, list) = (name.unwrap_or_default(), list(left.iter().copied()));
        return Err(MustStay::Needed { name, answering, voters: left.len(), list });
    }
    Ok(Remaining { voters: left.len(), tolerates: answering - majority(left.len()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(seats: &[(u64, bool, bool)]) -> Vec<Seat> {
        let seat = |(member, voter, answers): &(u64, bool, bool)| Seat {
            member: MemberId(*member),
            name: format!("n{member}"),
            voter: *voter,
            answers: *answers,
        };
        seats.iter().map(seat).collect()
    }

    #[test]
    fn a_dead_one_of_three_may_go_and_a_live_one_beside_it_may_not() {
        let three = group(&[(1, true, true), (2, true, false), (3, true, true)]);
        assert_eq!(judge(&three, MemberId(2)), Ok(Remaining { voters: 2, tolerates: 0 }));
        let refused = judge(&three, MemberId(1)).unwrap_err();
        let text = refused.to_string();
        assert!(matches!(refused, MustStay::Needed { answering: 1, voters: 2, .. }), "{text}");
        assert!(text.contains("n2 is silent") && text.contains("n3 answers"), "{text}");
    }

    #[test]
    fn the_last_voter_stays_and_a_learner_may_go() {
        let one = group(&[(1, true, true), (2, false, false)]);
        assert!(matches!(judge(&one, MemberId(1)), Err(MustStay::Last { .. })));
        assert_eq!(judge(&one, MemberId(2)), Ok(Remaining { voters: 1, tolerates: 0 }));
        assert_eq!(judge(&one, MemberId(9)), Ok(Remaining { voters: 1, tolerates: 0 }));
    }

    #[test]
    fn a_departure_is_allowed_exactly_where_both_majorities_answer() {
        for count in 1..=5_u64 {
            for answering in 0..(1_u32 << count) {
                let seats: Vec<_> =
                    (0..count).map(|m| (m, true, answering & (1 << m) != 0)).collect();
                let seats = group(&seats);
                for leaving in 0..count {
                    let yes = |seats: &[&Seat]| {
                        let live = seats.iter().filter(|seat| seat.answers).count();
                        !seats.is_empty() && 2 * live > seats.len()
                    };
                    let all: Vec<&Seat> = seats.iter().collect();
                    let left: Vec<&Seat> =
                        seats.iter().filter(|seat| seat.member.0 != leaving).collect();
                    let allowed = judge(&seats, MemberId(leaving)).is_ok();
                    assert_eq!(allowed, yes(&all) && yes(&left), "{seats:?} without {leaving}");
                }
            }
        }
    }
}
