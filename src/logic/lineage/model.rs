//! Every order of starts, copies, crashes, notes and acknowledgements of one member's disk
//! among three members.
//!
//! The two others are honest and interchangeable. The log is one list; a leader is one of
//! them that has all of it, and an entry is committed by it and one more. Once, at any
//! moment, also while it runs, the disk is copied or an empty one is put beside it; from
//! then on either may run, one at a time. The others get entries as late as they like, the
//! disk applies what it gets.
//! Bounds: [`ENTRIES`] entries, notes among them, and [`STARTS`] starts.

use stateright::{Checker, HasDiscoveries, Model, Property};

use super::{Lineage, StartNote, since};
use crate::base::ids::BootCount;

const ENTRIES: usize = 4;
const STARTS: u64 = 4;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Entry {
    /// Data; `by` is the session of the disk's start that acknowledged it, if one did.
    Write {
        by: u64,
    },
    Note {
        note: StartNote,
        by: u64,
    },
}

impl Entry {
    fn by(&self) -> u64 {
        match self {
            Entry::Write { by } | Entry::Note { by, .. } => *by,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Disk {
    note: StartNote,
    starts: Lineage,
    /// Entries on it.
    has: usize,
    up: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Peer {
    has: usize,
    applied: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    log: Vec<Entry>,
    peers: [Peer; 2],
    disks: Vec<Disk>,
    sessions: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Copy,
    Wipe,
    Start(usize),
    Stop(usize),
    /// The leader and the disk commit an entry.
    WriteWith {
        disk: usize,
        leader: usize,
    },
    Note {
        disk: usize,
        leader: usize,
    },
    CatchUp(usize),
    Apply(usize),
    CatchUpDisk {
        disk: usize,
        leader: usize,
    },
}

/// How starts are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// As the store does: a note counts as soon as it is in a member's log.
    Logged,
    /// Planted: a note counts only once a member has applied it.
    Applied,
    /// Planted: only the numbers are compared.
    Numbers,
    /// Planted: sessions are compared, but only of equal numbers.
    NewestSession,
    /// Planted: a disk remembers no start but the newest.
    OneStart,
    /// Planted: only the start that is noted is taken.
    OnlyNoted,
    /// The product's, and a start counts only once both others have applied its note.
    Waits,
}

struct Boots {
    rule: Rule,
}

impl Entry {
    fn notes(&self, session: u64) -> bool {
        matches!(self, Entry::Note { note, .. } if note.session == session)
    }
}

impl World {
    fn remembered(&self, applied: usize) -> Option<StartNote> {
        let mut known: Option<StartNote> = None;
        for entry in &self.log[..applied] {
            if let Entry::Note { note, .. } = entry
                && known.as_ref().is_none_or(|known| note.replaces(known))
            {
                known = Some(*note);
            }
        }
        known
    }

    fn admits(&self, rule: Rule, peer: usize, disk: &Disk) -> bool {
        let Some(noted) = self.remembered(self.peers[peer].applied) else { return true };
        let same = disk.note.incarnation == noted.incarnation;
        let forgets = if rule == Rule::OneStart { disk.starts.len().saturating_sub(1) } else { 0 };
        let starts = &disk.starts[forgets..];
        let lineage = since(starts, self.remembered(disk.has));
        match rule {
            Rule::Numbers => same && disk.note.boot >= noted.boot,
            Rule::NewestSession => {
                let (own, noted) = (disk.note, noted);
                same && (own.boot > noted.boot || own.session == noted.session)
            }
            Rule::OnlyNoted => disk.note == noted,
            Rule::Logged | Rule::Applied | Rule::OneStart | Rule::Waits => {
                !disk.note.is_overtaken_by(&lineage, &noted)
            }
        }
    }

    /// Whether no disk but the first was ever started.
    fn is_original(&self) -> bool {
        self.disks.get(1).is_none_or(|copy| {
            let own = &self.disks[0].starts;
            copy.starts.iter().all(|start| own.contains(start))
        })
    }

    /// Whether what this disk and this leader agree on counts.
    fn counts(&self, rule: Rule, peer: usize, disk: &Disk) -> bool {
        let noted = |peer: &Peer| {
            let mut applied = self.log[..peer.applied].iter();
            applied.any(|entry| entry.notes(disk.note.session))
        };
        let waits = rule == Rule::Waits && !self.peers.iter().all(noted);
        disk.up && !waits && self.admits(rule, peer, disk)
    }

    /// Starts that are not this disk's and acknowledged what it lacks.
    fn forgotten(&self, disk: &Disk) -> impl Iterator<Item = u64> {
        let own = |session: &u64| disk.starts.iter().any(|(_, start)| start == session);
        let later = self.log[disk.has..].iter().map(Entry::by);
        later.filter(move |by| *by != 0 && !own(by))
    }

    fn knows(&self, peer: usize, session: u64) -> bool {
        self.log[..self.peers[peer].applied].iter().any(|entry| entry.notes(session))
    }

    fn pairs(&self) -> impl Iterator<Item = (usize, &Disk)> {
        [0, 1].into_iter().flat_map(|peer| self.disks.iter().map(move |disk| (peer, disk)))
    }
}

impl Boots {
    fn actions_of_disk(&self, world: &World, at: usize, acts: &mut Vec<Act>) {
        let disk = &world.disks[at];
        if !disk.up {
            if world.sessions < STARTS && world.disks.iter().all(|other| !other.up) {
                acts.push(Act::Start(at));
            }
            return;
        }
        acts.push(Act::Stop(at));
        for (leader, peer) in world.peers.iter().enumerate() {
            if peer.has < world.log.len() || !world.admits(self.rule, leader, disk) {
                continue;
            }
            if disk.has < world.log.len() {
                acts.push(Act::CatchUpDisk { disk: at, leader });
            }
            if world.log.len() < ENTRIES {
                if !world.log.iter().any(|entry| entry.notes(disk.note.session)) {
                    acts.push(Act::Note { disk: at, leader });
                }
                if world.counts(self.rule, leader, disk) {
                    acts.push(Act::WriteWith { disk: at, leader });
                }
            }
        }
    }

    fn step_of_disk(&self, world: &mut World, act: Act) {
        let len = world.log.len();
        match act {
            Act::Start(at) => {
                world.sessions += 1;
                let (disk, session) = (&mut world.disks[at], world.sessions);
                disk.note.boot.0 += 1;
                disk.note.session = session;
                disk.starts.push((disk.note.boot, session));
                disk.up = true;
            }
            Act::Stop(at) => world.disks[at].up = false,
            Act::WriteWith { disk, leader } => {
                world.log.push(Entry::Write { by: world.disks[disk].note.session });
                world.peers[leader].has = len + 1;
                world.disks[disk].has = len + 1;
            }
            Act::Note { disk: at, leader } => {
                let disk = &world.disks[at];
                // It is committed by the disk if it counts, else by the other one.
                let counts = world.counts(self.rule, leader, disk);
                let by = if counts { disk.note.session } else { 0 };
                world.log.push(Entry::Note { note: disk.note, by });
                world.peers[leader].has = len + 1;
                if counts {
                    world.disks[at].has = len + 1;
                } else {
                    world.peers[1 - leader].has = len + 1;
                }
            }
            Act::CatchUpDisk { disk, .. } => world.disks[disk].has = len,
            _ => {}
        }
    }
}

impl Model for Boots {
    type State = World;
    type Action = Act;

    fn init_states(&self) -> Vec<World> {
        let note = StartNote { incarnation: 1, boot: BootCount(0), session: 0 };
        let disk = Disk { note, starts: Vec::new(), has: 0, up: false };
        let peers = [Peer::default(); 2];
        vec![World { log: Vec::new(), peers, disks: vec![disk], sessions: 0 }]
    }

    fn actions(&self, world: &World, acts: &mut Vec<Act>) {
        if world.disks.len() == 1 {
            acts.extend([Act::Copy, Act::Wipe]);
        }
        let len = world.log.len();
        for (at, peer) in world.peers.iter().enumerate() {
            if peer.has < len {
                acts.push(Act::CatchUp(at));
            }
            if peer.applied < peer.has {
                acts.push(Act::Apply(at));
            }
        }
        (0..world.disks.len()).for_each(|at| self.actions_of_disk(world, at, acts));
    }

    fn next_state(&self, before: &World, act: Act) -> Option<World> {
        let mut world = before.clone();
        let len = world.log.len();
        match act {
            Act::Copy => world.disks.push(Disk { up: false, ..world.disks[0].clone() }),
            Act::Wipe => {
                let note = StartNote { incarnation: 2, boot: BootCount(0), session: 0 };
                let empty = Disk { note, starts: Vec::new(), has: 0, up: false };
                world.disks.push(empty);
            }
            Act::CatchUp(at) => world.peers[at].has = len,
            Act::Apply(at) => world.peers[at].applied = world.peers[at].has,
            act => self.step_of_disk(&mut world, act),
        }
        if self.rule != Rule::Applied {
            world.peers.iter_mut().for_each(|peer| peer.applied = peer.has);
        }
        world.peers.sort_unstable();
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(REFUSED, |model: &Self, world: &World| {
                world.pairs().all(|(peer, disk)| {
                    let knows = world.forgotten(disk).any(|session| world.knows(peer, session));
                    !knows || !world.counts(model.rule, peer, disk)
                })
            }),
            Property::always(HONEST, |model: &Self, world: &World| {
                !world.is_original()
                    || (0..2).all(|peer| world.admits(model.rule, peer, &world.disks[0]))
            }),
            Property::always(LOST, |model: &Self, world: &World| {
                // One that lacks the newest entry and the disk that lacks it elect.
                let len = world.log.len();
                world.pairs().all(|(peer, disk)| {
                    let elect = world.counts(model.rule, peer, disk);
                    !elect || world.peers[peer].has == len || disk.has == len
                })
            }),
            Property::sometimes("a disk is refused", |model: &Self, world: &World| {
                world.pairs().any(|(peer, disk)| !world.admits(model.rule, peer, disk))
            }),
        ]
    }
}

const REFUSED: &str = "who knows of a start is not taken in by a disk that forgot it";
const HONEST: &str = "a disk that was never copied is never refused";
const LOST: &str = "nothing that is committed is lost";

/// Whether the property is broken.
fn explore(rule: Rule, property: &'static str) -> bool {
    let until = HasDiscoveries::AnyOf([property].into());
    let checker = Boots { rule }.checker().threads(2).finish_when(until).spawn_bfs().join();
    let broken = [REFUSED, HONEST, LOST].into_iter();
    let broken: Vec<_> = broken.filter(|name| checker.discovery(name).is_some()).collect();
    println!("{rule:?}: {} states, broken: {broken:?}", checker.unique_state_count());
    broken.contains(&property)
}

#[test]
fn a_disk_that_forgot_takes_in_nobody_who_knows_and_an_honest_one_is_never_refused() {
    let checker = Boots { rule: Rule::Logged }.checker().threads(2);
    let checker = checker.finish_when(HasDiscoveries::All).spawn_bfs().join();
    println!("{} states", checker.unique_state_count());
    checker.assert_no_discovery(REFUSED);
    checker.assert_no_discovery(HONEST);
    checker.assert_any_discovery("a disk is refused");
    // The limit of the rule: who has not heard of a start can be taken in by a copy from
    // before it, and then what was acknowledged in that start can be lost.
    checker.assert_any_discovery(LOST);
}

/// What it would take to lose nothing to a copy; the price is that no restarted member counts
/// while any other is down.
#[test]
fn nothing_is_lost_if_a_start_counts_only_once_all_others_know_of_it() {
    assert!(!explore(Rule::Waits, LOST));
}

#[test]
fn every_planted_fault_of_comparing_starts_is_found() {
    assert!(explore(Rule::Applied, REFUSED));
    assert!(explore(Rule::Numbers, REFUSED));
    assert!(explore(Rule::NewestSession, REFUSED));
    assert!(explore(Rule::OneStart, REFUSED));
    assert!(explore(Rule::OnlyNoted, HONEST));
}
