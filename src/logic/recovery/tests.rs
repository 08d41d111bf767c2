//! Every distribution of logs over up to five voters, every set of survivors, every crash.

use super::*;
use crate::base::ids::{BootCount, ClusterId};

fn summary(member: u64, voters: &[u64], last: LogEnd) -> MemberSummary {
    let known = |id: &u64| KnownMember {
        member: MemberId(*id),
        name: format!("n{id}"),
        address: format!("h{id}:2380"),
    };
    MemberSummary {
        cluster: ClusterId(uuid::Uuid::nil()),
        generation: Generation(1),
        member: MemberId(member),
        name: format!("n{member}"),
        boot: BootCount(1),
        vote_term: last.term,
        last,
        committed: LogEnd::default(),
        applied: LogEnd::default(),
        revision: last.index as i64,
        compacted: 0,
        keys: 0,
        members: voters.iter().map(known).collect(),
        voters: vec![voters.iter().copied().map(MemberId).collect()],
        membership_at: LogEnd { term: 1, index: 1 },
        running: false,
    }
}

fn end(index: u64) -> LogEnd {
    LogEnd { term: 1, index }
}

/// All ways to give each of `n` members a log of 0 to 3 entries.
fn lengths(n: u32) -> impl Iterator<Item = Vec<u64>> {
    (0..4_u64.pow(n)).map(move |code| (0..n).map(|at| code / 4_u64.pow(at) % 4).collect())
}

#[test]
fn whoever_survives_the_longest_log_is_chosen_and_nothing_is_said_to_be_safe_that_is_not() {
    let mut plans = 0;
    for n in 1..=5_u32 {
        let ids: Vec<u64> = (1..=u64::from(n)).collect();
        for logs in lengths(n) {
            // What a majority has may have been acknowledged.
            let mut sorted = logs.clone();
            sorted.sort_unstable_by(|a, b| b.cmp(a));
            let acknowledged = sorted[majority(n as usize) - 1];
            for set in 1..(1_u32 << n) {
                let alive = |at: &usize| set & (1 << at) != 0;
                let found: Vec<MemberSummary> = (0..n as usize)
                    .filter(alive)
                    .map(|at| summary(ids[at], &ids, end(logs[at])))
                    .collect();
                match plan(&found) {
                    Err(NoPlan::Majority { .. }) => assert!(found.len() >= majority(n as usize)),
                    Err(error) => panic!("{error}"),
                    Ok(plan) => {
                        plans += 1;
                        assert!(found.len() < majority(n as usize));
                        let longest = found.iter().map(|one| one.last).max();
                        assert_eq!(Some(plan.last), longest);
                        assert!(plan.new_revision > plan.revision);
                        assert!(!ids.contains(&plan.new_member.0));
                        if plan.loss == Loss::Nothing {
                            assert!(plan.last.index >= acknowledged, "{logs:?} {set:b}");
                        }
                        assert_eq!(plan.lost.len() + found.len(), n as usize);
                    }
                }
            }
        }
    }
    assert!(plans > 10_000, "{plans}");
}

#[test]
fn an_even_group_that_lost_half_lost_nothing_and_cannot_elect_behind_its_back() {
    let found = [summary(1, &[1, 2, 3, 4], end(5)), summary(2, &[1, 2, 3, 4], end(7))];
    let plan = plan(&found).unwrap();
    assert_eq!(
        (plan.chosen, plan.loss, plan.lost_could_elect),
        (MemberId(2), Loss::Nothing, false)
    );
    assert_eq!(plan.rejoin.len(), 1);
}

#[test]
fn the_later_term_counts_before_the_longer_log() {
    let old = summary(1, &[1, 2, 3, 4, 5], LogEnd { term: 2, index: 90 });
    let new = summary(2, &[1, 2, 3, 4, 5], LogEnd { term: 3, index: 40 });
    let plan = plan(&[old, new]).unwrap();
    assert_eq!((plan.chosen, plan.loss), (MemberId(2), Loss::Unknown));
}

#[test]
fn a_majority_of_only_one_half_of_a_change_under_way_is_none() {
    let mut one = summary(1, &[1, 2, 3, 4, 5], end(9));
    one.voters = vec![vec![1, 2, 3], vec![1, 4, 5]]
        .into_iter()
        .map(|set| set.into_iter().map(MemberId).collect())
        .collect();
    let mut two = summary(2, &[1, 2, 3], end(8));
    two.membership_at = LogEnd::default();
    let plan = plan(&[one, two]).unwrap();
    // 4 and 5 may have finished the change and gone on alone, unseen by 1 and 2.
    assert_eq!((plan.loss, plan.lost_could_elect), (Loss::Unknown, true));
}

#[test]
fn other_clusters_older_generations_and_doubles_are_told_apart() {
    let one = summary(1, &[1, 2, 3], end(5));
    let mut foreign = summary(2, &[1, 2, 3], end(5));
    foreign.cluster = ClusterId(uuid::Uuid::from_u128(7));
    assert!(matches!(plan(&[one.clone(), foreign]), Err(NoPlan::TwoClusters { .. })));
    let mut older = summary(2, &[1, 2, 3], end(50));
    older.generation = Generation(0);
    let made = plan(&[one.clone(), older]).unwrap();
    assert_eq!((made.chosen, made.ignored.len()), (MemberId(1), 1));
    assert!(plan(&[one.clone(), one.clone()]).is_ok());
    let double = summary(1, &[1, 2, 3], end(6));
    assert!(matches!(plan(&[one, double]), Err(NoPlan::Twice { .. })));
    assert_eq!(plan(&[]), Err(NoPlan::Nobody));
}

#[test]
fn only_a_record_that_descends_from_the_own_generation_fences() {
    let cluster = ClusterId(uuid::Uuid::nil());
    let record = GenerationRecord {
        cluster,
        generation: Generation(3),
        parents: vec![Generation(2), Generation(1)],
        fork: end(9),
        member: MemberId(3_001),
        name: "c1".into(),
        former: Vec::new(),
        reason: "test".into(),
        at: jiff::Timestamp::UNIX_EPOCH,
    };
    assert!(fences(&record, cluster, Generation(1)) && fences(&record, cluster, Generation(2)));
    assert!(!fences(&record, cluster, Generation(3)) && !fences(&record, cluster, Generation(4)));
    assert!(!fences(&record, ClusterId(uuid::Uuid::from_u128(1)), Generation(2)));
    let branched = GenerationRecord { parents: vec![Generation(1)], ..record };
    assert!(!fences(&branched, cluster, Generation(2)), "a sibling is no descendant");
}

/// Old members that learned of the new generation vote no more, and neither do the chosen
/// one's disk and its copies: from every set that learned of it, those that are left are a
/// majority only if the plan had said so.
#[test]
fn former_members_elect_only_where_the_plan_warned_and_enough_never_heard() {
    for n in 1..=7_usize {
        let ids: Vec<u64> = (1..=n as u64).collect();
        for survivors in 1..majority(n) {
            let found: Vec<MemberSummary> =
                ids[..survivors].iter().map(|id| summary(*id, &ids, end(1))).collect();
            let plan = plan(&found).unwrap();
            for told in 0_u32..(1 << n) {
                // Survivors are stopped before the plan is carried out.
                let votes = (survivors..n).filter(|at| told & (1 << at) == 0).count();
                assert!(votes < majority(n) || plan.lost_could_elect, "{n} {survivors} {told:b}");
            }
        }
    }
}

fn apply(step: Step, facts: &mut Facts) {
    match step {
        Step::WriteOrder => facts.ordered = true,
        Step::BuildNext => facts.next = Place::New,
        Step::SetOldAside => (facts.store, facts.kept) = (Place::Absent, Place::Old),
        Step::PutInPlace => (facts.store, facts.next) = (Place::New, Place::Absent),
        Step::TellNode => facts.told = true,
        Step::Close => facts.ordered = false,
        Step::Done | Step::Lost => {}
    }
}

#[test]
fn from_every_interruption_the_same_command_ends_in_the_new_generation() {
    let begin = Facts {
        ordered: false,
        store: Place::Old,
        next: Place::Absent,
        kept: Place::Absent,
        told: false,
    };
    // A crash leaves the facts before or after a step, so walking from each is enough.
    let mut facts = begin;
    let mut walked = Vec::new();
    loop {
        let step = next_step(facts);
        assert_ne!(step, Step::Lost, "{facts:?}");
        assert!(facts.store == Place::Old || facts.kept == Place::Old, "the old data is kept");
        assert!(!facts.told || facts.store == Place::New, "the node is told too early");
        if step == Step::Done {
            break;
        }
        walked.push(step);
        apply(step, &mut facts);
    }
    assert_eq!(walked.len(), 6);
    assert_eq!((facts.store, facts.kept, facts.told), (Place::New, Place::Old, true));
}

#[test]
fn directories_that_no_interruption_leaves_are_not_touched() {
    use Place::{Absent, New, Old};
    let mut lost = 0;
    for ordered in [false, true] {
        for store in [Absent, Old, New] {
            for next in [Absent, Old, New] {
                for kept in [Absent, Old, New] {
                    for told in [false, true] {
                        let facts = Facts { ordered, store, next, kept, told };
                        if next_step(facts) == Step::Lost {
                            lost += 1;
                        }
                        if store == Absent && next == Absent {
                            assert_eq!(next_step(facts), Step::Lost);
                        }
                    }
                }
            }
        }
    }
    assert!(lost > 80, "{lost}");
}
