//! Every order of writes, messages, leaders and falls for a small city and its remote
//! center, without an end: no bound on time, leaders or entries written.
//!
//! The city's Raft is taken as given: entries are committed in order, a leader commits with
//! its own first entry all before it, a new leader has all that is committed and keeps or
//! loses the rest, and what was lost may come back while no entry of the new leader's is
//! committed. Each of C's three members is as far as it likes, and they are interchangeable.
//! Questions and promises may be lost, and arrive at any later time.
//!
//! What keeps it small: times are kept as ages and those past all lengths are the same;
//! entries that were answered and that two of C's members hold are cut off the log. Bounds:
//! 3 entries not cut off and 2 messages on the way; a tick is half a lease.
//! Each planted fault must be found, or the model proves nothing.

use stateright::{Checker, HasDiscoveries, Model, Property};

use super::{
    CLAIM_MS, CityLeader, CommitMode, Footing, HYSTERESIS_MS, Knowledge, LEASE_MS, RemoteClaim,
    durable_on_two,
};

const TICK_MS: u64 = LEASE_MS / 2;
/// It is always this time; a tick makes everything else older.
const NOW_MS: u64 = 4 * LEASE_MS;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Entry {
    Write,
    FallBack,
    Return,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Message {
    Question { asked_ms: u64 },
    Promise { asked_ms: u64 },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    /// What the entries that were cut off amount to.
    base: Footing,
    log: Vec<Entry>,
    committed: usize,
    /// A change that an earlier leader left on a minority, right behind what is committed.
    left_behind: Option<Entry>,
    /// The highest index that anybody was answered.
    answered: u64,
    leader: CityLeader,
    /// Whether the leader before, who may not know yet, would still promise.
    deposed_promises: bool,
    /// Highest first.
    remote: [u64; 3],
    messages: Vec<Message>,
    claim: RemoteClaim,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tail {
    Kept,
    Lost,
    /// What an earlier leader left comes back.
    Returns,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Tick,
    Append(Entry),
    Commit,
    Answer,
    /// A replica that has applied less than is committed answers by the footing it knows.
    AnswerBehind,
    Replicate(usize),
    NewLeader(Tail),
    Ask,
    Deliver(usize),
    Lose(usize),
}

/// What the model gets wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// C counts from when the promise came.
    ClaimFromReceipt,
    /// A leader promises although C lacks what was answered while it did not count.
    PromiseWhileBehind,
    /// A new leader thinks itself unbound.
    ForgetsPromises,
    /// A leader promises with a change of footing in its log.
    PromiseWithChangePending,
    /// A leader that no majority confirmed promises.
    PromiseUnconfirmed,
    /// The draft's rule: a leader goes by what it heard of earlier answers, here nothing,
    /// and does not wait for its own first entry.
    NotWaitingForOwnEntry,
    /// A leader waits for its first entry to be in C and not for it to be committed.
    PromiseBeforeCommit,
    /// A leader does not count what replicas answer that have not applied a change yet.
    ForgetsTheLagging,
}

struct City {
    fault: Fault,
    mode: CommitMode,
    /// Entries that are not cut off yet.
    entries: usize,
    /// Messages on the way.
    messages: usize,
}

impl State {
    fn footing(&self) -> Footing {
        self.footing_at(self.committed)
    }

    /// The footing as of the first `upto` entries.
    fn footing_at(&self, upto: usize) -> Footing {
        let changes = self.log[..upto].iter().rev();
        match changes.copied().find(|entry| *entry != Entry::Write) {
            Some(Entry::FallBack) => Footing::FallenBack,
            Some(_) => Footing::Synchronous,
            None => self.base,
        }
    }

    /// The most that a replica may answer by a footing that is not the newest any more.
    fn answered_behind(&self, mode: CommitMode) -> u64 {
        let alone = |upto: &usize| !mode.waits_for_remote(self.footing_at(*upto));
        (0..=self.committed).rev().find(alone).unwrap_or(0) as u64
    }

    fn known(&self, mode: CommitMode) -> Knowledge<'_> {
        Knowledge {
            mode,
            footing: self.footing(),
            change_pending: self.log[self.committed..].iter().any(|entry| *entry != Entry::Write),
            committed: self.committed as u64,
            remote: &self.remote,
        }
    }

    fn push(&mut self, message: Message) {
        self.messages.push(message);
        self.messages.sort_unstable();
    }

    /// Makes everything a tick older.
    fn age(&mut self) {
        let older = |at_ms: &mut u64| *at_ms = (*at_ms - TICK_MS).max(NOW_MS - LEASE_MS);
        older(&mut self.leader.bound_since_ms);
        for message in &mut self.messages {
            let (Message::Question { asked_ms } | Message::Promise { asked_ms }) = message;
            older(asked_ms);
        }
        self.messages.sort_unstable();
        let until = self.claim.proven_until_ms.map(|until_ms| until_ms - TICK_MS);
        self.claim.proven_until_ms = until.filter(|until_ms| *until_ms > NOW_MS);
    }

    /// Cuts off what nothing depends on any more.
    fn cut(&mut self) {
        let done = self.answered.min(durable_on_two(&self.remote)).min(self.committed as u64);
        let mut rest = self.clone();
        rest.log.truncate(self.committed);
        rest.committed = done as usize;
        self.base = rest.footing();
        self.log.drain(..done as usize);
        self.committed -= done as usize;
        self.answered -= done;
        self.remote = self.remote.map(|held| held.saturating_sub(done));
        self.leader.first = self.leader.first.saturating_sub(done);
        self.leader.safe = self.leader.safe.saturating_sub(done);
    }
}

impl City {
    fn promise(&self, state: &mut State) -> bool {
        let mut leader = state.leader.clone();
        let mut known = state.known(self.mode);
        let level = [u64::MAX; 3];
        match self.fault {
            Fault::PromiseWhileBehind => known.remote = &level,
            Fault::PromiseWithChangePending => known.change_pending = false,
            Fault::PromiseBeforeCommit => known.committed = known.committed.max(leader.first),
            _ => {}
        }
        let promised = leader.promise(NOW_MS, &known);
        state.leader = leader;
        promised
    }

    fn deliver(&self, state: &mut State, at: usize) {
        match state.messages.remove(at) {
            Message::Question { asked_ms } => {
                let promised = self.promise(state) || state.deposed_promises;
                if promised {
                    state.push(Message::Promise { asked_ms });
                }
            }
            Message::Promise { asked_ms } => {
                let late = self.fault == Fault::ClaimFromReceipt;
                state.claim.promised(if late { NOW_MS } else { asked_ms });
                let until = state.claim.proven_until_ms;
                state.claim.proven_until_ms = until.filter(|until_ms| *until_ms > NOW_MS);
            }
        }
    }

    fn elect(&self, state: &mut State, tail: Tail) {
        let mut asked = state.clone();
        state.deposed_promises =
            self.fault == Fault::PromiseUnconfirmed && self.promise(&mut asked);
        let mut uncommitted = state.log[state.committed..].iter().copied();
        let change = uncommitted.find(|entry| *entry != Entry::Write);
        match tail {
            Tail::Kept => {}
            Tail::Lost => {
                state.log.truncate(state.committed);
                state.left_behind = change.or(state.left_behind);
            }
            Tail::Returns => {
                state.log.truncate(state.committed);
                state.log.extend(state.left_behind.take());
            }
        }
        if tail != Tail::Kept {
            state.remote = state.remote.map(|held| held.min(state.committed as u64));
        }
        state.log.push(Entry::Write);
        let waits = self.fault != Fault::NotWaitingForOwnEntry;
        let first = if waits { state.log.len() as u64 } else { 0 };
        let forgets = self.fault == Fault::ForgetsPromises;
        state.leader = CityLeader::elected(NOW_MS - if forgets { LEASE_MS } else { 0 }, first);
    }
}

impl Model for City {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            base: Footing::Synchronous,
            log: Vec::new(),
            committed: 0,
            left_behind: None,
            answered: 0,
            leader: CityLeader::elected(NOW_MS, 0),
            deposed_promises: false,
            remote: [0; 3],
            messages: Vec::new(),
            claim: RemoteClaim::default(),
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend([Action::Tick, Action::Answer, Action::AnswerBehind]);
        let len = state.log.len();
        if len < self.entries {
            actions.push(Action::Append(Entry::Write));
            if state.leader.may_fall_back(NOW_MS, &state.known(self.mode)) {
                actions.push(Action::Append(Entry::FallBack));
            }
            // Hysteresis is a matter of comfort; coming back must be safe at any time.
            if state.footing() == Footing::FallenBack && !state.known(self.mode).change_pending {
                actions.push(Action::Append(Entry::Return));
            }
            actions.push(Action::NewLeader(Tail::Kept));
        }
        if state.committed < len {
            actions.push(Action::Commit);
        }
        if state.committed < self.entries {
            actions.push(Action::NewLeader(Tail::Lost));
        }
        if state.left_behind.is_some() && state.committed + 2 <= self.entries {
            actions.push(Action::NewLeader(Tail::Returns));
        }
        let behind = (0..3).filter(|member| state.remote[*member] < len as u64);
        actions.extend(behind.map(Action::Replicate));
        if state.messages.len() < self.messages {
            actions.push(Action::Ask);
        }
        actions.extend(
            (0..state.messages.len()).flat_map(|at| [Action::Deliver(at), Action::Lose(at)]),
        );
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        match action {
            Action::Tick => state.age(),
            Action::Append(entry) => state.log.push(entry),
            Action::Commit => {
                let before = state.committed;
                state.committed = (state.committed + 1).max(state.leader.first as usize);
                state.left_behind = None;
                if self.fault != Fault::ForgetsTheLagging {
                    for at in before..state.committed {
                        if state.log[at] != Entry::Write {
                            let waited = self.mode.waits_for_remote(state.footing_at(at));
                            state.leader.changed(at as u64 + 1, waited);
                        }
                    }
                }
            }
            Action::AnswerBehind => {
                state.answered = state.answered.max(state.answered_behind(self.mode));
            }
            Action::Answer => {
                let mut leader = state.leader.clone();
                state.answered = state.answered.max(leader.safe(&state.known(self.mode)));
                state.leader = leader;
            }
            Action::Replicate(member) => state.remote[member] += 1,
            Action::NewLeader(tail) => self.elect(&mut state, tail),
            Action::Ask => state.push(Message::Question { asked_ms: NOW_MS }),
            Action::Deliver(at) => self.deliver(&mut state, at),
            Action::Lose(at) => drop(state.messages.remove(at)),
        }
        state.remote.sort_unstable_by(|one, other| other.cmp(one));
        state.cut();
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(PROVEN, |_, state: &State| {
                // Any two of C's three members hold what the worse of the best two holds.
                !state.claim.is_proven(NOW_MS) || state.answered <= durable_on_two(&state.remote)
            }),
            Property::always(COMMITTED, |_, state: &State| {
                state.answered <= state.committed as u64
            }),
            Property::always(NO_LESS, |city: &City, state: &State| {
                let safe = state.leader.clone().safe(&state.known(city.mode));
                safe == 0 || safe >= state.answered
            }),
            Property::sometimes("C can prove it", |_, state: &State| state.claim.is_proven(NOW_MS)),
        ]
    }
}

const PROVEN: &str = "what is proven is there";
const COMMITTED: &str = "nothing is answered before it is committed";
const NO_LESS: &str = "no leader answers from less than was answered";

fn explore(city: City) -> (usize, Option<&'static str>) {
    let checker = city.checker().threads(2);
    let checker = checker.finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let broken = [PROVEN, COMMITTED, NO_LESS].into_iter();
    let broken = broken.filter(|name| checker.discovery(name).is_some()).collect::<Vec<_>>();
    if broken.is_empty() {
        checker.assert_any_discovery("C can prove it");
    }
    (checker.unique_state_count(), broken.first().copied())
}

fn explore_both_modes(entries: usize, messages: usize) {
    for mode in [CommitMode::RemoteSync, CommitMode::MaxProtection] {
        let city = City { fault: Fault::None, mode, entries, messages };
        let (states, broken) = explore(city);
        println!("{mode:?}, {entries} entries, {messages} messages: {states} states");
        assert_eq!(broken, None, "{mode:?}");
    }
}

#[test]
fn what_the_remote_center_proves_is_there_in_every_order() {
    explore_both_modes(3, 2);
}

#[test]
#[ignore = "the same with longer logs takes as long again"]
fn what_the_remote_center_proves_is_there_with_longer_logs() {
    explore_both_modes(4, 1);
}

#[test]
fn every_planted_fault_of_the_promise_is_found() {
    for fault in [
        Fault::ClaimFromReceipt,
        Fault::PromiseWhileBehind,
        Fault::ForgetsPromises,
        Fault::PromiseWithChangePending,
        Fault::PromiseUnconfirmed,
        Fault::NotWaitingForOwnEntry,
        Fault::PromiseBeforeCommit,
        Fault::ForgetsTheLagging,
    ] {
        let mode = CommitMode::RemoteSync;
        let (states, broken) = explore(City { fault, mode, entries: 3, messages: 1 });
        println!("{fault:?}: {states} states, {broken:?}");
        assert!(broken.is_some(), "{fault:?} was not found");
    }
}

/// The lengths that the model relies on.
#[test]
fn a_claim_ends_before_its_promise() {
    const { assert!(CLAIM_MS < LEASE_MS && HYSTERESIS_MS > LEASE_MS) };
}
