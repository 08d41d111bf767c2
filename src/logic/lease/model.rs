//! Explores every order of elections, pauses, keepalives and marks for one lease.
//!
//! Two members take turns to lead; the log is one list that only the newest term's leader
//! adds to. A member that is not scheduled is paused: it goes on believing what it
//! believed. A proposal may wait in its member for as long as it likes, over elections,
//! too, and then get into the log in a later term. Time is in steps of 150 s, so that the
//! remainder of a lease of 600 s is marked on the way.

use stateright::{Checker, Model, Property};

use super::{LeaseBook, LeaseClock, LeaseMark, LeaseRecord, Renewal};

const LEASE: i64 = 1;
const TTL_S: i64 = 600;
const STEP_MS: u64 = 150_000;
const TTL_STEPS: u64 = TTL_S as u64 * 1_000 / STEP_MS;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Entry {
    Ends { term: u64 },
    Mark { term: u64, mark: LeaseMark },
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Member {
    term: Option<u64>,
    book: LeaseBook,
    clock: LeaseClock,
    applied: usize,
    waiting: Vec<Entry>,
}

/// A keepalive on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct KeepAlive {
    at: usize,
    sent: u64,
    confirmed: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    now: u64,
    term: u64,
    log: Vec<(u64, Entry)>,
    /// What the log amounts to.
    truth: LeaseBook,
    members: [Member; 2],
    keep_alive: Option<KeepAlive>,
    sent: u8,
    /// When the last keepalive that was answered was sent.
    renewed: u64,
    ended: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Act {
    Time,
    Elect(usize),
    Promote(usize),
    Apply(usize),
    Tick(usize),
    MarkAll(usize),
    Commit(usize),
    Send(usize),
    Confirm,
    Renew,
}

struct Leases {
    steps: u64,
    terms: u64,
    keep_alives: u8,
    /// The planted fault: renewals are answered without asking who leads.
    trusting: bool,
}

fn apply(book: &mut LeaseBook, term: u64, entry: &Entry) -> Option<Option<LeaseRecord>> {
    let changed = match entry {
        Entry::Ends { term: of } if *of == term && book.get(LEASE).is_some() => None,
        Entry::Mark { term: of, mark } if *of == term => Some(book.mark(mark)?),
        Entry::Ends { .. } | Entry::Mark { .. } => return None,
    };
    book.set(LEASE, changed);
    Some(changed)
}

impl Member {
    fn propose(&mut self, entry: Entry) {
        if !self.waiting.contains(&entry) {
            self.waiting.push(entry);
        }
    }

    fn propose_marks(&mut self, marks: Vec<LeaseMark>) {
        if let Some(term) = self.clock.term() {
            marks.into_iter().for_each(|mark| self.propose(Entry::Mark { term, mark }));
        }
    }
}

impl Model for Leases {
    type State = World;
    type Action = Act;

    fn init_states(&self) -> Vec<World> {
        let record = LeaseRecord { ttl_s: TTL_S, remaining_s: None, epoch: 0 };
        let book = LeaseBook::load([(LEASE, record)]);
        let mut members = [Member::default(), Member::default()];
        for member in &mut members {
            member.book = book.clone();
        }
        members[0].term = Some(1);
        members[0].clock.promote(1, 0, &book);
        vec![World {
            now: 0,
            term: 1,
            log: Vec::new(),
            truth: book,
            members,
            keep_alive: None,
            sent: 0,
            renewed: 0,
            ended: None,
        }]
    }

    fn actions(&self, world: &World, acts: &mut Vec<Act>) {
        if world.ended.is_some() {
            return;
        }
        if world.now < self.steps {
            acts.push(Act::Time);
        }
        for (at, member) in world.members.iter().enumerate() {
            let leads = member.term == Some(world.term);
            let all = member.applied == world.log.len();
            if world.term < self.terms {
                acts.push(Act::Elect(at));
            }
            if leads && all && member.clock.term() != member.term {
                acts.push(Act::Promote(at));
            }
            if !all {
                acts.push(Act::Apply(at));
            }
            if member.clock.term().is_some() {
                acts.extend([Act::Tick(at), Act::MarkAll(at)]);
            }
            if leads && !member.waiting.is_empty() {
                acts.push(Act::Commit(at));
            }
            if world.keep_alive.is_none() && world.sent < self.keep_alives && member.term.is_some()
            {
                acts.push(Act::Send(at));
            }
        }
        if world.keep_alive.is_some() {
            acts.extend([Act::Confirm, Act::Renew]);
        }
    }

    fn next_state(&self, before: &World, act: Act) -> Option<World> {
        let mut world = before.clone();
        let now_ms = world.now * STEP_MS;
        match act {
            Act::Time => world.now += 1,
            Act::Elect(at) => {
                world.term += 1;
                world.members[at].term = Some(world.term);
            }
            Act::Promote(at) => {
                let member = &mut world.members[at];
                member.clock.promote(world.term, now_ms, &member.book);
            }
            Act::Apply(at) => {
                let member = &mut world.members[at];
                let (term, entry) = world.log[member.applied].clone();
                member.applied += 1;
                match apply(&mut member.book, term, &entry) {
                    Some(Some(record)) => member.clock.marked(LEASE, record),
                    Some(None) => member.clock.revoked(LEASE),
                    None => {}
                }
            }
            Act::Tick(at) => {
                let member = &mut world.members[at];
                let due = member.clock.tick(now_ms);
                if let (Some(term), false) = (member.clock.term(), due.expire.is_empty()) {
                    member.propose(Entry::Ends { term });
                }
                member.propose_marks(due.marks);
            }
            Act::MarkAll(at) => {
                let marks = world.members[at].clock.mark_all(now_ms);
                world.members[at].propose_marks(marks);
            }
            Act::Commit(at) => {
                let entry = world.members[at].waiting.remove(0);
                if apply(&mut world.truth, world.term, &entry) == Some(None) {
                    world.ended = Some(world.now);
                }
                world.log.push((world.term, entry));
            }
            Act::Send(at) => {
                world.sent += 1;
                let confirmed = if self.trusting { world.members[at].clock.term() } else { None };
                world.keep_alive = Some(KeepAlive { at, sent: world.now, confirmed });
            }
            Act::Confirm => {
                let keep_alive = world.keep_alive.as_mut()?;
                let leads = world.members[keep_alive.at].term == Some(world.term);
                keep_alive.confirmed = if leads { Some(world.term) } else { return None };
            }
            Act::Renew => {
                let KeepAlive { at, sent, confirmed } = world.keep_alive.clone()?;
                let member = &mut world.members[at];
                if confirmed.is_none() || member.clock.term() != confirmed {
                    return None;
                }
                match member.clock.renew(LEASE, now_ms) {
                    Renewal::Renewed { .. } => {
                        world.renewed = world.renewed.max(sent);
                        world.keep_alive = None;
                    }
                    Renewal::MarkFirst(mark) => member.propose_marks(vec![mark]),
                    Renewal::Gone | Renewal::Ending | Renewal::NotLeading => return None,
                }
            }
        }
        (world != *before).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no lease ends before its holder's time", |_, world: &World| {
                world.ended.is_none_or(|ended| ended >= world.renewed + TTL_STEPS)
            }),
            Property::sometimes("a lease ends", |_, world: &World| world.ended.is_some()),
            Property::sometimes("a renewed lease ends", |_, world: &World| {
                world.ended.is_some() && world.renewed > 0
            }),
        ]
    }
}

/// States looked at with several leaders, shortest histories first; all of them are too
/// many for every run of the tests.
const STATES: usize = 250_000;

#[test]
fn under_one_leader_a_lease_ends_but_never_early() {
    let model = Leases { steps: 6, terms: 1, keep_alives: 1, trusting: false };
    let checker = model.checker().target_state_count(STATES).spawn_bfs().join();
    println!("one term: {} states", checker.unique_state_count());
    checker.assert_no_discovery("no lease ends before its holder's time");
    assert!(checker.discovery("a lease ends").is_some());
}

#[test]
fn no_order_of_elections_pauses_and_proposals_ends_a_lease_early() {
    for terms in [2, 3] {
        let model = Leases { steps: 6, terms, keep_alives: 1, trusting: false };
        let checker = model.checker().target_state_count(STATES).spawn_bfs().join();
        println!("{terms} terms: {} states", checker.unique_state_count());
        checker.assert_no_discovery("no lease ends before its holder's time");
    }
}

#[test]
fn a_leader_that_does_not_ask_whether_it_leads_is_caught() {
    let model = Leases { steps: 7, terms: 2, keep_alives: 1, trusting: true };
    let checker = model.checker().spawn_bfs().join();
    assert!(checker.discovery("no lease ends before its holder's time").is_some());
}
