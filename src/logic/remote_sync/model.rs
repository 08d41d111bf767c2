//! Every order of writes, messages, leaders and falls for a small city and its remote
//! center.
//!
//! The city's Raft is taken as given: entries are committed in order, a new leader has all
//! that is committed and keeps or loses the rest. Questions and promises may be lost, and
//! arrive at any later time. One tick is half a lease.
//! Each planted fault must be found, or the model proves nothing.

use stateright::{Checker, Model, Property};

use super::{
    CLAIM_MS, CityLeader, CommitMode, Footing, HYSTERESIS_MS, Knowledge, LEASE_MS, RemoteClaim,
};

const TICK_MS: u64 = LEASE_MS / 2;
/// Ticks, entries and leaders that are explored.
const TICKS: u64 = 5;
const ENTRIES: usize = 3;
const LEADERS: u8 = 3;
/// Messages that are on the way at a time; one can take as long as all time there is.
const MESSAGES: usize = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Entry {
    Write,
    FallBack,
    Return,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Message {
    /// Asked at this time, for the leader of this number to promise.
    Question { asked_ms: u64 },
    /// What leader `leader` promised; it knew that it led when it said so.
    Promise { asked_ms: u64 },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    now_ms: u64,
    log: Vec<Entry>,
    committed: usize,
    /// The highest index that anybody was answered.
    answered: u64,
    leader: CityLeader,
    leaders: u8,
    remote: [u64; 3],
    messages: Vec<Message>,
    claim: RemoteClaim,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Tick,
    Write,
    Commit,
    Answer,
    Replicate(usize),
    NewLeader { keeps_tail: bool },
    FallBack,
    Return,
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
}

struct City {
    fault: Fault,
    mode: CommitMode,
}

impl State {
    fn footing(&self) -> Footing {
        let changes = self.log[..self.committed].iter().rev();
        let newest = changes.copied().find(|entry| *entry != Entry::Write);
        if newest == Some(Entry::FallBack) { Footing::FallenBack } else { Footing::Synchronous }
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
        // The order on the way means nothing.
        self.messages.sort_unstable();
    }
}

impl City {
    fn deliver(&self, state: &mut State, at: usize) {
        match state.messages.remove(at) {
            Message::Question { asked_ms } => {
                let answered = state.answered;
                let mut known = state.known(self.mode);
                let level = [u64::MAX; 3];
                match self.fault {
                    Fault::PromiseWhileBehind => known.remote = &level,
                    Fault::PromiseWithChangePending => known.change_pending = false,
                    _ => {}
                }
                let mut leader = state.leader.clone();
                // It has answered no more than it let be answered.
                debug_assert!(answered <= leader.safe);
                let promised = leader.promise(state.now_ms, &known);
                state.leader = leader;
                if promised {
                    state.push(Message::Promise { asked_ms });
                }
            }
            Message::Promise { asked_ms } => {
                let from = if self.fault == Fault::ClaimFromReceipt { state.now_ms } else { asked_ms };
                state.claim.promised(from);
            }
        }
    }
}

impl Model for City {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            now_ms: 0,
            log: Vec::new(),
            committed: 0,
            answered: 0,
            leader: CityLeader::elected(0, 0),
            leaders: 1,
            remote: [0; 3],
            messages: Vec::new(),
            claim: RemoteClaim::default(),
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.now_ms < TICKS * TICK_MS {
            actions.push(Action::Tick);
        }
        if state.log.len() < ENTRIES {
            actions.push(Action::Write);
            if state.leader.may_fall_back(state.now_ms, &state.known(self.mode)) {
                actions.push(Action::FallBack);
            }
            // Hysteresis is a matter of comfort; coming back must be safe at any time.
            if state.footing() == Footing::FallenBack {
                actions.push(Action::Return);
            }
        }
        if state.committed < state.log.len() {
            actions.push(Action::Commit);
        }
        actions.push(Action::Answer);
        // One member of C never gets anything: the other two are what counts.
        for member in 0..2 {
            if state.remote[member] < state.committed as u64 {
                actions.push(Action::Replicate(member));
            }
        }
        if state.leaders < LEADERS {
            actions.push(Action::NewLeader { keeps_tail: true });
            actions.push(Action::NewLeader { keeps_tail: false });
        }
        if state.messages.len() < MESSAGES {
            actions.push(Action::Ask);
        }
        actions.extend((0..state.messages.len()).map(Action::Deliver));
        actions.extend((0..state.messages.len()).map(Action::Lose));
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        match action {
            Action::Tick => state.now_ms += TICK_MS,
            Action::Write => state.log.push(Entry::Write),
            Action::FallBack => state.log.push(Entry::FallBack),
            Action::Return => state.log.push(Entry::Return),
            Action::Commit => state.committed += 1,
            Action::Answer => {
                let mut leader = state.leader.clone();
                state.answered = state.answered.max(leader.safe(&state.known(self.mode)));
                state.leader = leader;
            }
            Action::Replicate(member) => state.remote[member] += 1,
            Action::NewLeader { keeps_tail } => {
                if !keeps_tail {
                    state.log.truncate(state.committed);
                }
                state.leaders += 1;
                let elected = if self.fault == Fault::ForgetsPromises { 0 } else { state.now_ms };
                state.leader = CityLeader::elected(elected, state.answered);
            }
            Action::Ask => state.push(Message::Question { asked_ms: state.now_ms }),
            Action::Deliver(at) => self.deliver(&mut state, at),
            Action::Lose(at) => drop(state.messages.remove(at)),
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("what is proven is there", |_, state: &State| {
                // Any two of C's three members hold what the worse of the best two holds.
                let held = super::durable_on_two(&state.remote);
                !state.claim.is_proven(state.now_ms) || state.answered <= held
            }),
            Property::always("nothing is answered before it is committed", |_, state: &State| {
                state.answered <= state.committed as u64
            }),
            Property::sometimes("C can prove it", |_, state: &State| {
                state.answered > 0 && state.claim.is_proven(state.now_ms)
            }),
        ]
    }
}

fn explore(fault: Fault, mode: CommitMode) -> (usize, bool) {
    let checker = City { fault, mode }.checker().threads(2).spawn_bfs().join();
    let broken = checker.discovery("what is proven is there").is_some()
        || checker.discovery("nothing is answered before it is committed").is_some();
    assert!(checker.discovery("C can prove it").is_some(), "the model never proves anything");
    (checker.unique_state_count(), broken)
}

#[test]
fn what_the_remote_center_proves_is_there_in_every_order() {
    for mode in [CommitMode::RemoteSync, CommitMode::MaxProtection] {
        let (states, broken) = explore(Fault::None, mode);
        println!("{mode:?}: {states} states");
        assert!(!broken, "{mode:?}");
    }
}

#[test]
fn every_planted_fault_of_the_promise_is_found() {
    for fault in [
        Fault::ClaimFromReceipt,
        Fault::PromiseWhileBehind,
        Fault::ForgetsPromises,
        Fault::PromiseWithChangePending,
    ] {
        assert!(explore(fault, CommitMode::RemoteSync).1, "{fault:?} was not found");
    }
}

/// The lengths that the model relies on.
#[test]
fn a_claim_ends_before_its_promise() {
    const { assert!(CLAIM_MS < LEASE_MS && HYSTERESIS_MS > LEASE_MS) };
}
