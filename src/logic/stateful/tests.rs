//! Kubernetes' order of steps, and random lives of sets to their end.

use proptest::prelude::*;

use super::*;

const ROLLING: Update = Update::Rolling { partition: 0, max_unavailable: None };

fn wanted(replicas: i32) -> Wanted {
    Wanted { start: 0, replicas, ordered: true, update: ROLLING }
}

fn parallel(replicas: i32) -> Wanted {
    Wanted { ordered: false, ..wanted(replicas) }
}

fn fine(ordinal: i32) -> Member {
    Member {
        ordinal,
        ended: false,
        terminating: false,
        ready: true,
        available: true,
        updated: true,
    }
}

fn sick(ordinal: i32) -> Member {
    Member { ready: false, available: false, ..fine(ordinal) }
}

fn old(ordinal: i32) -> Member {
    Member { updated: false, ..fine(ordinal) }
}

fn leaving(ordinal: i32) -> Member {
    Member { terminating: true, ..fine(ordinal) }
}

fn create(ordinal: i32) -> Step {
    Step::Create { ordinal, template: Template::Newest }
}

fn delete(ordinal: i32, reason: Reason) -> Step {
    Step::Delete { ordinal, reason }
}

#[test]
fn an_ordered_set_starts_one_after_the_other() {
    assert_eq!(plan(&wanted(3), &[]), [create(0)]);
    assert_eq!(plan(&wanted(3), &[sick(0)]), []);
    assert_eq!(plan(&wanted(3), &[Member { available: false, ..fine(0) }]), []);
    assert_eq!(plan(&wanted(3), &[fine(0)]), [create(1)]);
    assert_eq!(plan(&wanted(3), &[fine(0), leaving(1)]), []);
    assert_eq!(plan(&wanted(3), &[leaving(0), fine(1)]), []);
    assert_eq!(plan(&parallel(3), &[]), [create(0), create(1), create(2)]);
    let later = Wanted { start: 5, ..wanted(2) };
    assert_eq!(plan(&later, &[fine(5)]), [create(6)]);
}

#[test]
fn it_shrinks_from_the_highest_and_only_in_health() {
    let three = [fine(0), fine(1), fine(2)];
    assert_eq!(plan(&wanted(1), &three), [delete(2, Reason::ScaleDown)]);
    assert_eq!(plan(&wanted(1), &[fine(0), fine(1), leaving(2)]), []);
    assert_eq!(plan(&wanted(1), &[fine(0), sick(1), fine(2)]), [delete(2, Reason::ScaleDown)]);
    assert_eq!(plan(&wanted(1), &[fine(0), fine(1), sick(2)]), [delete(2, Reason::ScaleDown)]);
    assert_eq!(plan(&wanted(1), &[sick(0), fine(1)]), []);
    let both = [delete(2, Reason::ScaleDown), delete(1, Reason::ScaleDown)];
    assert_eq!(plan(&parallel(1), &[fine(0), fine(1), sick(2)]), both);
    // A later start condemns what stands before it.
    let later = Wanted { start: 1, ..wanted(1) };
    assert_eq!(plan(&later, &[fine(0), fine(1)]), [delete(0, Reason::ScaleDown)]);
}

#[test]
fn an_ended_pod_is_made_again_under_its_name() {
    let ended = Member { ended: true, ..sick(0) };
    assert_eq!(plan(&wanted(2), &[ended, fine(1)]), [delete(0, Reason::Ended)]);
    assert_eq!(plan(&wanted(2), &[Member { terminating: true, ..ended }, fine(1)]), []);
}

#[test]
fn a_rollout_goes_from_the_highest_to_the_partition() {
    let olds = [old(0), old(1), old(2)];
    assert_eq!(plan(&wanted(3), &olds), [delete(2, Reason::Outdated)]);
    assert_eq!(plan(&wanted(3), &[old(0), old(1), fine(2)]), [delete(1, Reason::Outdated)]);
    let update = Update::Rolling { partition: 2, max_unavailable: None };
    let parted = Wanted { update, ..wanted(3) };
    assert_eq!(plan(&parted, &[old(0), old(1), fine(2)]), []);
    let made = Step::Create { ordinal: 0, template: Template::Current };
    assert_eq!(plan(&parted, &[old(1), fine(2)]), [made]);
    let on_delete = Wanted { update: Update::OnDelete, ..wanted(3) };
    assert_eq!(plan(&on_delete, &olds), []);
    assert_eq!(plan(&on_delete, &[old(0), old(1)]), [create(2)]);
}

#[test]
fn a_parallel_set_may_take_several_at_once() {
    let olds = [old(0), old(1), old(2), old(3)];
    assert_eq!(plan(&parallel(4), &olds), [delete(3, Reason::Outdated)]);
    assert_eq!(plan(&parallel(4), &[old(0), old(1), old(2), sick(3)]), []);
    let update = Update::Rolling { partition: 0, max_unavailable: Some(2) };
    let two = Wanted { update, ..parallel(4) };
    assert_eq!(plan(&two, &olds), [delete(3, Reason::Outdated), delete(2, Reason::Outdated)]);
    assert_eq!(plan(&two, &[old(0), old(1), old(2), sick(3)]), [delete(2, Reason::Outdated)]);
    // What is down already costs nothing.
    let broken = Member { updated: false, ..sick(0) };
    let all = [broken, sick(1), old(2), fine(3)];
    assert_eq!(plan(&two, &all), [delete(0, Reason::Outdated)]);
}

#[test]
fn ordinals_are_read_from_names() {
    assert_eq!(ordinal_of("web", "web-0"), Some(0));
    assert_eq!(ordinal_of("web", "web-12"), Some(12));
    for other in ["web-01", "web-", "web", "web--1", "web-+1", "web-a", "webs-1", "db-1"] {
        assert_eq!(ordinal_of("web", other), None, "{other}");
    }
}

/// A set of pods that behave: what is made comes up, what is deleted goes.
fn live(members: &mut Vec<Member>, steps: &[Step]) {
    members.retain(|one| !one.terminating);
    for one in members.iter_mut() {
        (one.ready, one.available) = (!one.ended, !one.ended);
    }
    for step in steps {
        match *step {
            Step::Create { ordinal, template } => {
                assert!(members.iter().all(|one| one.ordinal != ordinal), "made twice");
                let updated = template == Template::Newest;
                members.push(Member { updated, ..sick(ordinal) });
            }
            Step::Delete { ordinal, .. } => {
                let one = members.iter_mut().find(|one| one.ordinal == ordinal);
                one.expect("only what is there is deleted").terminating = true;
            }
        }
    }
}

fn any_member() -> impl Strategy<Value = Member> {
    (0..8_i32, any::<[bool; 5]>()).prop_map(
        |(ordinal, [ended, terminating, ready, up, updated])| {
            let ready = ready && !ended;
            Member { ordinal, ended, terminating, ready, available: ready && up, updated }
        },
    )
}

fn any_wanted() -> impl Strategy<Value = Wanted> {
    let update = prop_oneof![
        Just(Update::OnDelete),
        (0..4_i32, prop::option::of(1..4_i32)).prop_map(|(partition, max_unavailable)| {
            Update::Rolling { partition, max_unavailable }
        }),
    ];
    (0..3_i32, 0..6_i32, any::<bool>(), update)
        .prop_map(|(start, replicas, ordered, update)| Wanted { start, replicas, ordered, update })
}

proptest! {
    #[test]
    fn every_set_comes_to_its_end(
        wanted in any_wanted(),
        members in prop::collection::vec(any_member(), 0..8),
    ) {
        let mut members: Vec<Member> = members.into_iter()
            .map(|one| (one.ordinal, one)).collect::<BTreeMap<_, _>>().into_values().collect();
        let mut rounds = 0;
        loop {
            let steps = plan(&wanted, &members);
            if wanted.ordered {
                let many = matches!(wanted.update, Update::Rolling { max_unavailable: Some(_), .. });
                prop_assert!(steps.len() <= 1 || many, "{steps:?}");
            }
            let settled = steps.is_empty()
                && members.iter().all(|one| !one.terminating && one.available);
            if settled { break }
            live(&mut members, &steps);
            rounds += 1;
            prop_assert!(rounds < 100, "no end: {members:?}");
        }
        let range = wanted.start..wanted.start + wanted.replicas;
        let there: Vec<i32> = {
            let mut all: Vec<i32> = members.iter().map(|one| one.ordinal).collect();
            all.sort_unstable();
            all
        };
        prop_assert_eq!(there, range.collect::<Vec<_>>());
        if let Update::Rolling { partition, .. } = wanted.update {
            for one in &members {
                prop_assert!(one.updated || one.ordinal < wanted.start + partition);
            }
        }
    }

    /// By its own doing a rollout leaves at least what it must.
    #[test]
    fn a_rollout_takes_no_more_than_it_may(
        wanted in any_wanted(),
        members in prop::collection::vec(any_member(), 0..8),
    ) {
        let members: BTreeMap<i32, Member> =
            members.into_iter().map(|one| (one.ordinal, one)).collect();
        let all: Vec<Member> = members.values().copied().collect();
        let taken = plan(&wanted, &all).into_iter().filter(|step| {
            matches!(step, Step::Delete { ordinal, reason: Reason::Outdated }
                if members[ordinal].serves())
        }).count();
        let range = wanted.start..wanted.start + wanted.replicas;
        let serving = range.clone().filter(|o| members.get(o).is_some_and(Member::serves)).count();
        match wanted.update {
            Update::OnDelete => prop_assert_eq!(taken, 0),
            Update::Rolling { max_unavailable: None, .. } => prop_assert!(taken <= 1),
            Update::Rolling { max_unavailable: Some(most), .. } => {
                let left = serving as i32 - taken as i32;
                prop_assert!(taken == 0 || left >= wanted.replicas - most);
            }
        }
    }
}

#[test]
fn a_claim_goes_with_what_its_policy_says_and_with_nothing_else() {
    use ClaimOwner::{Nobody, Pod, Set};
    // When deleted, when scaled, and whether the set is too small for the pod.
    for (policy, kept, condemned) in [
        ((false, false), Nobody, Nobody),
        ((false, true), Nobody, Pod),
        ((true, false), Set, Set),
        ((true, true), Set, Pod),
    ] {
        assert_eq!(claim_owner(policy.0, policy.1, false), kept, "{policy:?}");
        assert_eq!(claim_owner(policy.0, policy.1, true), condemned, "{policy:?}");
    }
}
