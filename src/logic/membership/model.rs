//! Every order of elections, appends, commits and changes of voters for four members: three
//! voters, one of them remote, and a remote learner.
//!
//! A small Raft of its own: what openraft does is taken from its paper, with joint
//! consensus. An election and an append are one step each, among any members that would
//! grant it; a member that takes no part in steps is cut off or down for as long as it
//! likes. Bounds: terms up to [`TERMS`], logs of [`ENTRIES`] entries, the voters of
//! [`TARGETS`].

use stateright::{Checker, HasDiscoveries, Model, Property};

use super::{Standing, standing};
use crate::logic::departure::majority;

const MEMBERS: usize = 4;
const TERMS: u8 = 3;
const ENTRIES: usize = 4;
/// Sets of voters, a bit for each member: the city's two and a remote one at first; the
/// remote two; one of the city and the remote two.
const TARGETS: [u8; 3] = [0b0111, 0b1100, 0b1101];

/// The voters; two sets while they are being changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Voters {
    old: u8,
    new: u8,
}

impl Voters {
    fn only(set: u8) -> Self {
        Self { old: set, new: set }
    }

    fn all(self) -> u8 {
        self.old | self.new
    }

    fn is_joint(self) -> bool {
        self.old != self.new
    }

    fn is_majority(self, who: u8) -> bool {
        let most =
            |set: u8| (set & who).count_ones() as usize >= majority(set.count_ones() as usize);
        most(self.old) && most(self.new)
    }
}

/// A term and the voters from then on; one that changes nothing is a leader's first entry.
type Entry = (u8, Voters);

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Member {
    term: u8,
    leads: bool,
    log: Vec<Entry>,
    committed: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    members: [Member; MEMBERS],
    /// What was ever committed, by anybody.
    decided: Vec<Entry>,
    /// Two logs were committed that contradict each other, or one was forgotten.
    parted: bool,
    /// A vote of a removed member was counted.
    removed_voted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Elect {
        candidate: usize,
        voters: u8,
    },
    Append {
        leader: usize,
        to: usize,
    },
    Commit(usize),
    Change {
        leader: usize,
        to: u8,
    },
    Finish(usize),
    /// A removed member's host comes back empty under its old id.
    Wipe(usize),
}

/// What the model gets wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// The new voters take the place of the old ones at once.
    NotJoint,
    /// A change begins while another one is under way.
    TwoAtOnce,
    ReusesIds,
}

struct Group {
    fault: Fault,
}

impl Member {
    fn voters(&self) -> Voters {
        self.log.last().map_or(Voters::only(TARGETS[0]), |(_, voters)| *voters)
    }

    fn end(&self) -> (u8, usize) {
        (self.log.last().map_or(0, |(term, _)| *term), self.log.len())
    }

    /// What this member makes of an id by all that it has applied, and by its log where it
    /// is about to change it.
    fn standing(&self, entries: &[Entry], id: usize) -> Standing {
        let known = [Voters::only(TARGETS[0])].into_iter();
        let mut known: Vec<Voters> =
            known.chain(entries.iter().map(|(_, voters)| *voters)).collect();
        let now = known.pop().map_or(0, Voters::all);
        let noted = (now | known.into_iter().map(Voters::all).fold(0, |all, set| all | set)) >> id;
        standing(noted & 1 == 1, (now >> id) & 1 == 1)
    }
}

impl World {
    /// The sets of others that would make this member leader, without any superfluous one.
    fn majorities(&self, candidate: usize) -> impl Iterator<Item = u8> {
        let one = &self.members[candidate];
        let term = self.members.iter().map(|member| member.term).max().unwrap_or(0) + 1;
        let voters = one.voters();
        let own = 1_u8 << candidate;
        let removed = one.standing(&one.log[..one.committed], candidate) == Standing::Removed;
        let grants = move |set: u8| {
            (0..MEMBERS)
                .filter(|at| set >> at & 1 == 1)
                .all(|at| self.members[at].end() <= one.end())
        };
        let minimal = move |set: u8| {
            let needed = |at: usize| !voters.is_majority(set & !(1 << at) | own);
            (0..MEMBERS).filter(|at| set >> at & 1 == 1).all(needed)
        };
        let may = !removed && voters.all() & own != 0 && term <= TERMS;
        (0..1_u8 << MEMBERS)
            .filter(move |set| may && set & own == 0)
            .filter(move |set| voters.is_majority(set | own) && minimal(*set) && grants(*set))
    }

    /// Members that a committed membership took out.
    fn removed(&self) -> u8 {
        let first = [Voters::only(TARGETS[0])].into_iter();
        let mut all = first.chain(self.decided.iter().map(|(_, voters)| *voters));
        let now = self.decided.last().map_or(TARGETS[0], |(_, voters)| voters.all());
        all.by_ref().fold(0, |ever, voters| ever | voters.all()) & !now
    }

    fn decide(&mut self, log: &[Entry]) {
        let shared = self.decided.len().min(log.len());
        self.parted |= self.decided[..shared] != log[..shared];
        if log.len() > self.decided.len() {
            self.decided = log.to_vec();
        }
    }

    /// How far a leader can commit.
    fn reached(&self, leader: usize) -> usize {
        let one = &self.members[leader];
        let reached = |many: &usize| {
            let have = |at: &usize| {
                let member = &self.members[*at];
                member.term == one.term
                    && member.log.len() >= *many
                    && member.log[..*many] == one.log[..*many]
            };
            let who = (0..MEMBERS).filter(have).fold(0, |who, at| who | 1_u8 << at);
            one.log[*many - 1].0 == one.term && one.voters().is_majority(who)
        };
        (one.committed + 1..=one.log.len()).rev().find(reached).unwrap_or(one.committed)
    }
}

impl Group {
    fn actions_of_leader(&self, world: &World, at: usize, acts: &mut Vec<Act>) {
        let one = &world.members[at];
        for (to, member) in world.members.iter().enumerate() {
            let listed =
                (one.voters().all() >> to) & 1 == 1 || one.standing(&one.log, to) == Standing::New;
            if to != at && listed && member.term <= one.term && member.log != one.log {
                acts.push(Act::Append { leader: at, to });
            }
        }
        if world.reached(at) > one.committed {
            acts.push(Act::Commit(at));
        }
        if one.log.len() >= ENTRIES {
            return;
        }
        let voters = one.voters();
        // The first entry of its own term comes first, so all before it is committed, too.
        let settled = one.committed == one.log.len();
        if voters.is_joint() && settled {
            acts.push(Act::Finish(at));
        }
        if settled && !voters.is_joint() || self.fault == Fault::TwoAtOnce {
            let new = TARGETS.into_iter().filter(|to| *to != voters.new);
            let may = |to: &u8| {
                (0..MEMBERS)
                    .filter(|id| to >> id & 1 == 1)
                    .all(|id| one.standing(&one.log, id) != Standing::Removed)
            };
            acts.extend(new.filter(may).map(|to| Act::Change { leader: at, to }));
        }
    }
}

impl Model for Group {
    type State = World;
    type Action = Act;

    fn init_states(&self) -> Vec<World> {
        let members = [(); MEMBERS].map(|()| Member::default());
        vec![World { members, decided: Vec::new(), parted: false, removed_voted: false }]
    }

    fn actions(&self, world: &World, acts: &mut Vec<Act>) {
        for (at, member) in world.members.iter().enumerate() {
            let majorities = world.majorities(at);
            if member.log.len() < ENTRIES {
                acts.extend(majorities.map(|voters| Act::Elect { candidate: at, voters }));
            }
            if member.leads {
                self.actions_of_leader(world, at, acts);
            }
            let wiped = member.term == 0;
            if self.fault == Fault::ReusesIds && (world.removed() >> at) & 1 == 1 && !wiped {
                acts.push(Act::Wipe(at));
            }
        }
    }

    fn next_state(&self, before: &World, act: Act) -> Option<World> {
        let mut world = before.clone();
        match act {
            Act::Elect { candidate, voters } => {
                let term = world.members.iter().map(|member| member.term).max()? + 1;
                let who = voters | 1 << candidate;
                world.removed_voted |= who & world.removed() != 0;
                for at in (0..MEMBERS).filter(|at| who >> at & 1 == 1) {
                    world.members[at].term = term;
                    world.members[at].leads = at == candidate;
                }
                let one = &mut world.members[candidate];
                let voters = one.voters();
                world.parted |= !one.log.starts_with(&world.decided);
                one.log.push((term, voters));
            }
            Act::Append { leader, to } => {
                let Member { term, log, committed, .. } = world.members[leader].clone();
                let committed = committed.max(world.members[to].committed);
                world.members[to] = Member { term, leads: false, log, committed };
            }
            Act::Commit(at) => {
                let reached = world.reached(at);
                world.members[at].committed = reached;
                let log = world.members[at].log[..reached].to_vec();
                world.decide(&log);
            }
            Act::Change { leader, to } => {
                let one = &mut world.members[leader];
                let old = if self.fault == Fault::NotJoint { to } else { one.voters().new };
                one.log.push((one.term, Voters { old, new: to }));
            }
            Act::Finish(at) => {
                let one = &mut world.members[at];
                one.log.push((one.term, Voters::only(one.voters().new)));
            }
            Act::Wipe(at) => world.members[at] = Member::default(),
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(PARTED, |_, world: &World| !world.parted),
            Property::always(REMOVED, |_, world: &World| !world.removed_voted),
            Property::sometimes("a change is finished", |_, world: &World| world.removed() != 0),
        ]
    }
}

const PARTED: &str = "what a majority decided every later leader has";
const REMOVED: &str = "no vote of a removed member counts";

fn explore(fault: Fault) -> Option<&'static str> {
    let until = HasDiscoveries::AnyFailures;
    let checker = Group { fault }.checker().threads(2).finish_when(until).spawn_bfs().join();
    let broken = [PARTED, REMOVED].into_iter().find(|name| checker.discovery(name).is_some());
    println!("{fault:?}: {} states, broken: {broken:?}", checker.unique_state_count());
    if broken.is_none() {
        checker.assert_any_discovery("a change is finished");
    }
    broken
}

#[test]
fn no_order_of_changes_makes_two_majorities_or_counts_a_removed_member() {
    assert_eq!(explore(Fault::None), None);
}

#[test]
fn every_planted_fault_of_changing_members_is_found() {
    for fault in [Fault::NotJoint, Fault::TwoAtOnce, Fault::ReusesIds] {
        assert!(explore(fault).is_some(), "{fault:?} was not found");
    }
}
