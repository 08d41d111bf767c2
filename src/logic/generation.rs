//! Which generation accepts writes: who ends another, for how long a witness's word holds,
//! and in what order a forced failover goes. Nothing drives the witness and the failover
//! yet: these are the rules that two sites will.
//!
//! ```text
//!  a side                       witness D             the side that takes over
//!    │ ──who holds?──────────►  (generation)
//!    │ ◄──you────────────────                         two signatures over the record
//!    │ may write until                     ◄──swap──  own generation for the new one
//!    │ asked + TENURE                      ──done──►  waits TAKEOVER from the answer
//!    ┆ over: nothing renews it                        begins the generation, reads logs,
//!    │ ◄──────────────── signed record, any time ──── sets voters, asks D, may write
//! ```
//! Why pure: two sides that both accept writes lose one side's, so every order of messages,
//! restarts, handovers and takeovers is explored (`model`).
//! Why a generation has a mark beside its number: without a witness two sides can begin a
//! generation of the same number. They must not take each other's messages for their own,
//! and a child of the one must not end the other, whose writes nobody has looked at.
//!
//! Invariants: with a witness, never do two generations accept writes at a time, whoever
//! restarts or returns; nothing ends a generation but a signed record of its own cluster
//! that names it among its parents; an ended side never writes again.
//! Not here: signatures (`pki/`), keeping the record (`store/`), a recovery on one host
//! (`logic/recovery`). Times are milliseconds of one monotonic clock of each side.

#[cfg(test)]
mod model;

use crate::base::ids::{ClusterId, Generation};

/// For how long a side may write on the witness's word.
pub const TENURE_MS: u64 = 5_000;
/// How long a side that took over waits: longer by more than clocks drift apart.
pub const TAKEOVER_MS: u64 = TENURE_MS / 10 * 11;
/// Operators that sign a generation.
pub const SIGNATURES: usize = 2;

/// Which generation. The number says how many there were before; the mark, a part of the
/// digest of its record, tells apart two that were begun from the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GenerationName {
    pub number: Generation,
    /// 0 for the first generation, which has no record.
    pub mark: u64,
}

/// What a generation's signed record says of its descent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Descent {
    pub cluster: ClusterId,
    pub generation: GenerationName,
    /// All generations that end with it.
    pub parents: Vec<GenerationName>,
}

/// Whether a record ends the generation `own` of a cluster. A higher number alone says
/// nothing.
pub fn fences(record: &Descent, cluster: ClusterId, own: GenerationName) -> bool {
    record.cluster == cluster && record.generation > own && record.parents.contains(&own)
}

/// One side's right to accept writes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tenure {
    cluster: ClusterId,
    own: GenerationName,
    ended: bool,
    until_ms: Option<u64>,
}

impl Tenure {
    /// A side that has just started; `ended` is what it noted on its disk.
    pub fn started(cluster: ClusterId, own: GenerationName, ended: bool) -> Self {
        Self { cluster, own, ended, until_ms: None }
    }

    /// The witness, asked at `asked_ms`, named the generation that holds.
    pub fn answered(&mut self, asked_ms: u64, holder: GenerationName) {
        if !self.ended && holder == self.own {
            self.until_ms = self.until_ms.max(Some(asked_ms + TENURE_MS));
        }
    }

    /// A record came; whether it ends this side, which the caller notes on disk.
    pub fn heard(&mut self, record: &Descent, signed: bool) -> bool {
        if signed && fences(record, self.cluster, self.own) {
            self.ended = true;
            self.until_ms = None;
        }
        self.ended
    }

    /// Whether a write may be accepted where there is a witness.
    pub fn may_write(&self, now_ms: u64) -> bool {
        !self.ended && self.until_ms.is_some_and(|until| now_ms < until)
    }

    /// The same where there is none: nothing but a record stops a side.
    pub fn may_write_unwitnessed(&self) -> bool {
        !self.ended
    }
}

/// How the other side was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fence {
    /// The witness gave the new generation the hold.
    Witness,
    /// Its power was cut.
    Power,
    /// An operator says so.
    Word,
}

/// How far a takeover is. All but the last is durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Takeover {
    pub signatures: usize,
    pub fence: Option<Fence>,
    /// The generation is durable on two of the center's members; they take nothing of the
    /// old one from then on.
    pub begun: bool,
    /// The longest log of two members is taken over.
    pub log_taken: bool,
    pub voters_set: bool,
    /// When this run of the program learned that the witness had turned; not durable,
    /// because the clock is not.
    pub turned_ms: Option<u64>,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TakeoverStep {
    /// The side itself was ended meanwhile; somebody else took over first.
    Refused,
    Sign,
    Fence,
    /// Ask the witness again who holds: this run does not know since when.
    AskWitness,
    /// Until the old side's tenure is over.
    Wait,
    Begin,
    TakeLog,
    SetVoters,
    /// Writes may be accepted, on the witness's word where there is one.
    Done,
}

impl Takeover {
    /// The next step of a side with this tenure; each is durable before the one after it.
    pub fn next_step(&self, own: &Tenure, now_ms: u64) -> TakeoverStep {
        if own.ended {
            return TakeoverStep::Refused;
        }
        if self.signatures < SIGNATURES {
            return TakeoverStep::Sign;
        }
        let Some(fence) = self.fence else { return TakeoverStep::Fence };
        if !self.begun {
            return match (fence, self.turned_ms) {
                (Fence::Witness, None) => TakeoverStep::AskWitness,
                (Fence::Witness, Some(at)) if now_ms < at + TAKEOVER_MS => TakeoverStep::Wait,
                _ => TakeoverStep::Begin,
            };
        }
        match (self.log_taken, self.voters_set) {
            (false, _) => TakeoverStep::TakeLog,
            (true, false) => TakeoverStep::SetVoters,
            (true, true) => TakeoverStep::Done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u64, mark: u64) -> GenerationName {
        GenerationName { number: Generation(number), mark }
    }

    fn cluster(number: u128) -> ClusterId {
        ClusterId(uuid::Uuid::from_u128(number))
    }

    #[test]
    fn only_a_signed_record_of_the_own_cluster_that_descends_ends_a_generation() {
        let record = |parents: &[GenerationName]| Descent {
            cluster: cluster(1),
            generation: name(3, 7),
            parents: parents.to_vec(),
        };
        let heard = |own, of, record: &Descent, signed| {
            Tenure::started(cluster(of), own, false).heard(record, signed)
        };
        let (first, second, twin) = (name(1, 0), name(2, 5), name(2, 6));
        let child = record(&[second, first]);
        assert!(heard(first, 1, &child, true) && heard(second, 1, &child, true));
        assert!(!heard(twin, 1, &child, true), "a twin's child");
        assert!(!heard(first, 2, &child, true), "a restored copy under another id");
        assert!(!heard(first, 1, &child, false), "unsigned");
        assert!(!heard(first, 1, &record(&[]), true), "a higher number alone");
        assert!(!heard(name(3, 7), 1, &child, true), "itself");
        assert!(heard(twin, 1, &record(&[second, twin, first]), true), "named by the operators");
    }

    #[test]
    fn a_takeover_takes_its_steps_in_order_and_waits_again_after_a_restart() {
        let own = Tenure::started(cluster(1), name(1, 0), false);
        let mut takeover = Takeover { signatures: 1, ..Takeover::default() };
        assert_eq!(takeover.next_step(&own, 0), TakeoverStep::Sign);
        takeover.signatures = SIGNATURES;
        assert_eq!(takeover.next_step(&own, 0), TakeoverStep::Fence);
        takeover.fence = Some(Fence::Witness);
        assert_eq!(takeover.next_step(&own, 0), TakeoverStep::AskWitness);
        takeover.turned_ms = Some(100);
        assert_eq!(takeover.next_step(&own, 99 + TAKEOVER_MS), TakeoverStep::Wait);
        assert_eq!(takeover.next_step(&own, 100 + TAKEOVER_MS), TakeoverStep::Begin);
        let restarted = Takeover { turned_ms: None, ..takeover };
        assert_eq!(restarted.next_step(&own, 100 + TAKEOVER_MS), TakeoverStep::AskWitness);
        takeover.begun = true;
        assert_eq!(takeover.next_step(&own, 0), TakeoverStep::TakeLog);
        takeover.log_taken = true;
        assert_eq!(takeover.next_step(&own, 0), TakeoverStep::SetVoters);
        takeover.voters_set = true;
        assert_eq!(takeover.next_step(&own, 0), TakeoverStep::Done);
        let ended = Tenure::started(cluster(1), name(1, 0), true);
        assert_eq!(takeover.next_step(&ended, 0), TakeoverStep::Refused);
    }
}
